// kernels/cpu/fused_attention.cc: attention by tiles of keys with a running softmax; saves lse.
//
// Source: Dao et al., "FlashAttention", arXiv 2205.14135, algorithm 1, with queries in the outer
// loop and the division at the end as in arXiv 2307.08691. Memory is one tile, whatever the
// sequence.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/fused_attention.cc"
#include "hwy/foreach_target.h"
//
#include "kernels/cpu/attention-inl.h"

HWY_BEFORE_NAMESPACE();
namespace rc {
namespace HWY_NAMESPACE {

// Running maximum and sum of each query of the tile, and the unnormalised outputs.
struct RunningSoftmax {
  float max[cpu::kFusedQueries];
  float sum[cpu::kFusedQueries];
  float* out;
  int64_t stride;
};

HWY_INLINE float exp_one(float x) {
  return hn::GetLane(exp_of<VectorMath>(hn::Set(DF(), x)));
}

// Scores of one query against `n` keys of which it sees `seen`: to weights, in place.
HWY_INLINE void absorb_row(RunningSoftmax& state, int64_t r, float* scores, int64_t seen, int64_t n,
                           float scale, int64_t width) {
  if (seen == 0) {
    std::fill(scores, scores + n, 0.0f);
    return;
  }
  const float before = state.max[r];
  const float max = std::max(before, row_max<F32>(scores, seen, scale));
  const float sum = exp_row<F32>(scores, scores, seen, scale, max);
  std::fill(scores + seen, scores + n, 0.0f);
  if (max != before) {
    // The first tile finds sum 0 and outputs not yet written.
    const float shrink = exp_one(before - max);
    state.sum[r] *= shrink;
    if (before > -std::numeric_limits<float>::infinity()) {
      float* out = state.out + r * state.stride;
      scale_to<F32>(out, out, width, shrink);
    }
    state.max[r] = max;
  }
  state.sum[r] += sum;
}

template <class IO>
HWY_INLINE void finish(const cpu::AttentionTile& t, const RunningSoftmax& state) {
  using T = typename IO::T;
  for (int64_t r = 0; r < t.rows; ++r) {
    const int64_t s = t.row + r;
    const bool any = t.seen(s) > 0;
    if (t.saved) {
      float* lse = static_cast<float*>(t.saved->data);
      lse[(t.batch * t.q->shape[1] + t.head) * t.queries() + s] =
          any ? state.max[r] + std::log(state.sum[r]) : -std::numeric_limits<float>::infinity();
    }
    if (!t.o->data) continue;
    T* o = static_cast<T*>(t.o->data) + t.o_at(s);
    scale_to<IO>(state.out + r * state.stride, o, t.v->shape[3], any ? 1.0f / state.sum[r] : 0.0f);
  }
}

template <class IO>
void fused_attention_tile(const cpu::AttentionTile& t) {
  using T = typename IO::T;
  const int64_t D = t.q->shape[3], E = t.v->shape[3], lda = D + kStridePad;
  const int64_t lds = cpu::kKeyTile + kStridePad;
  float* q = cpu::scratch<0>(cpu::kFusedQueries * lda);
  float* kv = cpu::scratch<1>(cpu::kKeyTile * pad_to(std::max(D, E), panel_cols()));
  float* scores = cpu::scratch<2>(cpu::kFusedQueries * lds);
  RunningSoftmax state;
  state.stride = pad_to(E, panel_cols());
  state.out = cpu::scratch<3>(cpu::kFusedQueries * state.stride);
  std::fill_n(state.max, cpu::kFusedQueries, -std::numeric_limits<float>::infinity());
  std::fill_n(state.sum, cpu::kFusedQueries, 0.0f);
  std::fill_n(state.out, cpu::kFusedQueries * state.stride, 0.0f);

  pack_a<IO>(static_cast<const T*>(t.q->data) + t.q_at(t.row), t.q->stride[2], t.rows, D, q, lda);
  const int64_t all_seen = t.seen(t.row + t.rows - 1);
  for (int64_t k0 = 0; k0 < all_seen; k0 += cpu::kKeyTile) {
    const int64_t keys = std::min(cpu::kKeyTile, all_seen - k0);
    pack_b_transposed<IO>(static_cast<const T*>(t.k->data) + t.k_at(k0), t.k->stride[2], D, keys,
                          kv);
    multiply_tile(q, lda, kv, t.rows, keys, D, scores, lds, false);
    for (int64_t r = 0; r < t.rows; ++r) {
      const int64_t seen = std::clamp<int64_t>(t.seen(t.row + r) - k0, 0, keys);
      float* row = scores + r * lds;
      absorb_row(state, r, row, seen, keys, t.scale, E);
      if (t.dropout) drop_row(*t.dropout, t.element(t.row + r) + k0, seen, row);
    }
    if (!t.o->data) continue;
    pack_b<IO>(static_cast<const T*>(t.v->data) + t.v_at(k0), t.v->stride[2], keys, E, kv);
    multiply_tile(scores, lds, kv, t.rows, E, keys, state.out, state.stride, true);
  }
  finish<IO>(t, state);
}

void fused_attention_f32(const cpu::AttentionTile& t) {
  fused_attention_tile<F32>(t);
}
void fused_attention_bf16(const cpu::AttentionTile& t) {
  fused_attention_tile<BF16>(t);
}

}  // namespace HWY_NAMESPACE
}  // namespace rc
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rc::cpu {

void fused_attention(const KernelDesc& desc, const KernelArgs& args, PhiloxRecord philox,
                     Parallel& parallel) {
  run_attention(RC_PICK_KERNEL(fused_attention, args.inputs[0].dtype), kFusedQueries, desc, args,
                philox, parallel);
}

}  // namespace rc::cpu
#endif
