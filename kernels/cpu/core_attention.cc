// kernels/cpu/core_attention.cc: plain attention, whole rows of scores, probabilities if wanted.
#include <algorithm>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/core_attention.cc"
#include "hwy/foreach_target.h"
//
#include "kernels/cpu/attention-inl.h"

HWY_BEFORE_NAMESPACE();
namespace rc {
namespace HWY_NAMESPACE {

// scores[rows, stride] = q k^T for all keys that any row of the tile sees.
template <class IO>
HWY_INLINE void all_scores(const cpu::AttentionTile& t, int64_t seen, float* scores,
                           int64_t stride) {
  using T = typename IO::T;
  const int64_t D = t.q->shape[3], lda = D + kStridePad;
  float* q = cpu::scratch<1>(pad_to(cpu::kPlainQueries, kRowPad) * lda);
  float* k = cpu::scratch<2>(cpu::kKeyTile * D);
  pack_a<IO>(static_cast<const T*>(t.q->data) + t.q_at(t.row), t.q->stride[2], t.rows, D, q, lda);
  for (int64_t k0 = 0; k0 < seen; k0 += cpu::kKeyTile) {
    const int64_t keys = std::min(cpu::kKeyTile, seen - k0);
    pack_b_transposed<IO>(static_cast<const T*>(t.k->data) + t.k_at(k0), t.k->stride[2], D, keys,
                          k);
    multiply_tile(q, lda, k, t.rows, keys, D, scores + k0, stride, false);
  }
}

// Scores of one query to probabilities, 0 for the keys it does not see.
HWY_INLINE void probabilities(float* row, int64_t seen, int64_t n, float scale) {
  const float max = row_max<F32>(row, seen, scale);
  const float sum = exp_row<F32>(row, row, seen, scale, max);
  scale_to<F32>(row, row, seen, seen > 0 ? 1.0f / sum : 0.0f);
  std::fill(row + seen, row + n, 0.0f);
}

template <class IO>
HWY_INLINE void weighted_values(const cpu::AttentionTile& t, int64_t seen, const float* p,
                                int64_t stride) {
  using T = typename IO::T;
  const int64_t E = t.v->shape[3], ldc = pad_to(E, panel_cols());
  float* v = cpu::scratch<1>(cpu::kKeyTile * ldc);
  float* sums = cpu::scratch<2>(pad_to(cpu::kPlainQueries, kRowPad) * ldc);
  for (int64_t k0 = 0; k0 < seen; k0 += cpu::kKeyTile) {
    const int64_t keys = std::min(cpu::kKeyTile, seen - k0);
    pack_b<IO>(static_cast<const T*>(t.v->data) + t.v_at(k0), t.v->stride[2], keys, E, v);
    multiply_tile(p + k0, stride, v, t.rows, E, keys, sums, ldc, k0 > 0);
  }
  for (int64_t r = 0; r < t.rows; ++r) {
    T* o = static_cast<T*>(t.o->data) + t.o_at(t.row + r);
    scale_to<IO>(sums + r * ldc, o, E, 1.0f);
  }
}

template <class IO>
void core_attention_tile(const cpu::AttentionTile& t) {
  using T = typename IO::T;
  const int64_t S = t.keys(), seen = t.seen(t.row + t.rows - 1);
  const int64_t stride = pad_to(S, panel_cols()) + kStridePad;
  float* scores = cpu::scratch<0>(pad_to(cpu::kPlainQueries, kRowPad) * stride);
  all_scores<IO>(t, seen, scores, stride);
  for (int64_t r = 0; r < t.rows; ++r) {
    float* row = scores + r * stride;
    const int64_t s = t.row + r;
    probabilities(row, t.seen(s), S, t.scale);
    if (t.saved) {
      const Tensor& probs = *t.saved;
      T* out = static_cast<T*>(probs.data) + t.batch * probs.stride[0] + t.head * probs.stride[1] +
               s * probs.stride[2];
      scale_to<IO>(row, out, S, 1.0f);
    }
    if (t.dropout && t.o->data) drop_row(*t.dropout, t.element(s), t.seen(s), row);
  }
  if (!t.o->data) return;
  if (seen > 0) {
    weighted_values<IO>(t, seen, scores, stride);
  } else {
    zero_outputs<IO>(t);
  }
}

void core_attention_f32(const cpu::AttentionTile& t) {
  core_attention_tile<F32>(t);
}
void core_attention_bf16(const cpu::AttentionTile& t) {
  core_attention_tile<BF16>(t);
}

}  // namespace HWY_NAMESPACE
}  // namespace rc
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rc::cpu {

void core_attention(const KernelDesc& desc, const KernelArgs& args, PhiloxRecord philox,
                    Parallel& parallel) {
  run_attention(RC_PICK_KERNEL(core_attention, args.inputs[0].dtype), kPlainQueries, desc, args,
                philox, parallel);
}

}  // namespace rc::cpu
#endif
