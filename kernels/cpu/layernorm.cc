// kernels/cpu/layernorm.cc: LayerNorm, (x - mean) * rstd * gamma + beta over the last dimension.
//
// Mean and variance in two passes (the row is in the first-level cache by the second), so that a
// large mean does not cancel the variance. Source: Ba, Kiros, Hinton, arXiv 1607.06450.
#include <cmath>

#include "kernels/cpu/norm.h"
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
template <bool kGamma, bool kBeta>
struct Normalise {
  VF mean, rstd;
  const float* gamma;
  const float* beta;
  HWY_INLINE VF operator()(VF x, int64_t i) const {
    const VF v = hn::Mul(hn::Sub(x, mean), rstd);
    if constexpr (kGamma && kBeta) return hn::MulAdd(v, F32::load(gamma + i), F32::load(beta + i));
    if constexpr (kGamma) return hn::Mul(v, F32::load(gamma + i));
    if constexpr (kBeta) return hn::Add(v, F32::load(beta + i));
    return v;
  }
};

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
    const T* next =
        static_cast<const T*>(a.x->data) + a.x->row_offset(row + 1 < a.end ? row + 1 : row);
    const Normalise<kGamma, kBeta> f{hn::Set(DF(), mean), hn::Set(DF(), rstd), gamma, beta};
    finish_row<IO>(x, y, n, a.stream, next, f);
  }
  if (a.stream) hwy::FlushStream();
}

template <class IO>
void layernorm_rows(const cpu::NormRows& a) {
  const int64_t n = a.x->cols();
  const float* gamma = row_param<IO, 0>(a.gamma, a.gamma_f32, n, a.gamma_plus);
  const float* beta = row_param<IO, 1>(a.beta, a.beta_f32, n, 0.0f);
  if (gamma) {
    beta ? layernorm_block<IO, true, true>(a, gamma, beta)
         : layernorm_block<IO, true, false>(a, gamma, beta);
  } else {
    beta ? layernorm_block<IO, false, true>(a, gamma, beta)
         : layernorm_block<IO, false, false>(a, gamma, beta);
  }
}

void layernorm_f32(const cpu::NormRows& a) {
  layernorm_rows<F32>(a);
}
void layernorm_bf16(const cpu::NormRows& a) {
  layernorm_rows<BF16>(a);
}

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
