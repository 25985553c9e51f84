// kernels/cpu/rmsnorm.cc: RMSNorm, x * rstd * gamma with rstd = 1 / sqrt(mean(x^2) + epsilon).
//
// Source: Zhang and Sennrich, "Root mean square layer normalization", arXiv 1910.07467.
#include <cmath>

#include "kernels/cpu/norm.h"
#include "kernels/cpu/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rmsnorm.cc"
#include "hwy/foreach_target.h"
//
#include "kernels/cpu/norm-inl.h"

HWY_BEFORE_NAMESPACE();
namespace rc {
namespace HWY_NAMESPACE {

template <bool kGamma>
struct ScaleRow {
  VF rstd;
  const float* gamma;
  HWY_INLINE VF operator()(VF x, int64_t i) const {
    const VF v = hn::Mul(x, rstd);
    if constexpr (kGamma) return hn::Mul(v, F32::load(gamma + i));
    return v;
  }
};

template <class IO, bool kGamma>
HWY_INLINE void rmsnorm_block(const cpu::NormRows& a, const float* gamma) {
  using T = typename IO::T;
  const int64_t n = a.x->cols();
  const float inverse_n = 1.0f / static_cast<float>(n > 0 ? n : 1);
  for (int64_t row = a.begin; row < a.end; row += 2) {
    const RowPair<T> rows = row_pair<T>(a, row);
    float rstd[2];
    for (int k = 0; k < 2; ++k) {
      const float mean_square = row_sum<IO>(rows.x[k], n, SquareSum()) * inverse_n;
      rstd[k] = 1.0f / std::sqrt(mean_square + a.epsilon);
      if (a.rstd) a.rstd[rows.row[k]] = rstd[k];
    }
    if (!a.y->data) continue;
    using Finish = ScaleRow<kGamma>;
    finish_rows<IO>(rows, n, a.stream, Finish{hn::Set(DF(), rstd[0]), gamma},
                    Finish{hn::Set(DF(), rstd[1]), gamma});
  }
  if (a.stream) hwy::FlushStream();
}

template <class IO>
void rmsnorm_rows(const cpu::NormRows& a) {
  const float* gamma = row_param<IO, 0>(a.gamma, a.gamma_f32, a.x->cols(), a.gamma_plus);
  gamma ? rmsnorm_block<IO, true>(a, gamma) : rmsnorm_block<IO, false>(a, gamma);
}

void rmsnorm_f32(const cpu::NormRows& a) {
  rmsnorm_rows<F32>(a);
}
void rmsnorm_bf16(const cpu::NormRows& a) {
  rmsnorm_rows<BF16>(a);
}

}  // namespace HWY_NAMESPACE
}  // namespace rc
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rc::cpu {

void rmsnorm(const KernelDesc& desc, const KernelArgs& args, Parallel& parallel) {
  run_norm(RC_PICK_KERNEL(rmsnorm, args.inputs[0].dtype), desc, args, parallel);
}

}  // namespace rc::cpu
#endif
