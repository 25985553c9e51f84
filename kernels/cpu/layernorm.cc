// kernels/cpu/layernorm.cc: LayerNorm, (x - mean) * rstd * gamma + beta over the last dimension.
//
// Mean and variance in two passes (the row is in the first-level cache by the second), so that a
// large mean does not cancel the variance. Source: Ba, Kiros, Hinton, arXiv 1607.06450.
#include <cmath>

#include "kernels/cpu/norm.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/layernorm.cc"
#include "hwy/foreach_target.h"
//
#include "kernels/cpu/norm-inl.h"

HWY_BEFORE_NAMESPACE();
namespace rc {
namespace HWY_NAMESPACE {

// y = (x - mean) * rstd, then * gamma and + beta where present.
template <class IO, bool kGamma, bool kBeta>
HWY_INLINE void normalise_row(const typename IO::T* x, typename IO::T* y, int64_t n, float mean,
                              float rstd, const float* gamma, const float* beta, bool stream) {
  const VF m = hn::Set(DF(), mean), r = hn::Set(DF(), rstd);
  const int64_t N = lanes();
  const auto apply = [&](VF v, VF g, VF b) HWY_ATTR {
    v = hn::Mul(hn::Sub(v, m), r);
    if (kGamma && kBeta) return hn::MulAdd(v, g, b);
    if (kGamma) return hn::Mul(v, g);
    if (kBeta) return hn::Add(v, b);
    return v;
  };
  const auto part = [&](int64_t i, int64_t k) HWY_ATTR {
    const VF g = kGamma ? load_part<F32>(gamma + i, k) : m;
    const VF b = kBeta ? load_part<F32>(beta + i, k) : m;
    store_part<IO>(apply(load_part<IO>(x + i, k), g, b), y + i, k);
  };
  int64_t i = 0;
  const int64_t head = stream ? stream_head<IO>(y, n) : -1;
  if (head > 0) part(0, head);
  if (head >= 0) {
    for (i = head; i + N <= n; i += N) {
      const VF g = kGamma ? F32::load(gamma + i) : m;
      const VF b = kBeta ? F32::load(beta + i) : m;
      IO::stream(apply(IO::load(x + i), g, b), y + i);
    }
  } else {
    for (; i + N <= n; i += N) {
      const VF g = kGamma ? F32::load(gamma + i) : m;
      const VF b = kBeta ? F32::load(beta + i) : m;
      IO::store(apply(IO::load(x + i), g, b), y + i);
    }
  }
  if (i < n) part(i, n - i);
}

template <class IO, bool kGamma, bool kBeta>
HWY_INLINE void layernorm_block(const cpu::NormRows& a, const float* gamma, const float* beta) {
  using T = typename IO::T;
  const int64_t n = a.x->cols();
  const float inverse_n = 1.0f / static_cast<float>(n > 0 ? n : 1);
  for (int64_t row = a.begin; row < a.end; ++row) {
    const T* x = static_cast<const T*>(a.x->data) + a.x->row_offset(row);
    const float mean = row_sum<IO>(x, n, PlainSum()) * inverse_n;
    const float variance = row_sum<IO>(x, n, CentredSquareSum{hn::Set(DF(), mean)}) * inverse_n;
    const float rstd = 1.0f / std::sqrt(variance + a.epsilon);
    if (a.mean) a.mean[row] = mean;
    if (a.rstd) a.rstd[row] = rstd;
    if (!a.y->data) continue;
    T* y = static_cast<T*>(a.y->data) + a.y->row_offset(row);
    normalise_row<IO, kGamma, kBeta>(x, y, n, mean, rstd, gamma, beta, a.stream);
  }
  if (a.stream) hwy::FlushStream();
}

template <class IO>
void layernorm_rows(const cpu::NormRows& a) {
  const int64_t n = a.x->cols();
  const float* gamma = static_cast<const float*>(a.gamma);
  const float* beta = static_cast<const float*>(a.beta);
  if (gamma && (!a.gamma_f32 || a.gamma_plus != 0)) {
    float* wide = cpu::scratch<0>(n);
    a.gamma_f32 ? widen<F32>(gamma, wide, n, a.gamma_plus)
                : widen<BF16>(static_cast<const uint16_t*>(a.gamma), wide, n, a.gamma_plus);
    gamma = wide;
  }
  if (beta && !a.beta_f32) {
    float* wide = cpu::scratch<1>(n);
    widen<BF16>(static_cast<const uint16_t*>(a.beta), wide, n, 0.0f);
    beta = wide;
  }
  if (gamma) {
    beta ? layernorm_block<IO, true, true>(a, gamma, beta)
         : layernorm_block<IO, true, false>(a, gamma, beta);
  } else {
    beta ? layernorm_block<IO, false, true>(a, gamma, beta)
         : layernorm_block<IO, false, false>(a, gamma, beta);
  }
}

void layernorm_f32(const cpu::NormRows& a) { layernorm_rows<F32>(a); }
void layernorm_bf16(const cpu::NormRows& a) { layernorm_rows<BF16>(a); }

}  // namespace HWY_NAMESPACE
}  // namespace rc
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rc::cpu {

void layernorm(const KernelDesc& desc, const KernelArgs& args, Parallel& parallel) {
  const bool f32 = args.inputs[0].dtype == DType::f32;
  run_norm(f32 ? RC_PICK_SIMD(layernorm_f32) : RC_PICK_SIMD(layernorm_bf16), desc, args, parallel);
}

}  // namespace rc::cpu
#endif
