// kernels/cpu/rmsnorm.cc: RMSNorm, x * rstd * gamma with rstd = 1 / sqrt(mean(x^2) + epsilon).
//
// Source: Zhang and Sennrich, "Root mean square layer normalization", arXiv 1910.07467.
#include <cmath>

#include "kernels/cpu/norm.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rmsnorm.cc"
#include "hwy/foreach_target.h"
//
#include "kernels/cpu/norm-inl.h"

HWY_BEFORE_NAMESPACE();
namespace rc {
namespace HWY_NAMESPACE {

template <class IO, bool kGamma>
HWY_INLINE void scale_row(const typename IO::T* x, typename IO::T* y, int64_t n, float rstd,
                          const float* gamma, bool stream) {
  const VF r = hn::Set(DF(), rstd);
  const int64_t N = lanes();
  const auto apply = [&](VF v, VF g) HWY_ATTR {
    v = hn::Mul(v, r);
    return kGamma ? hn::Mul(v, g) : v;
  };
  const auto part = [&](int64_t i, int64_t k) HWY_ATTR {
    const VF g = kGamma ? load_part<F32>(gamma + i, k) : r;
    store_part<IO>(apply(load_part<IO>(x + i, k), g), y + i, k);
  };
  int64_t i = 0;
  const int64_t head = stream ? stream_head<IO>(y, n) : -1;
  if (head > 0) part(0, head);
  if (head >= 0) {
    for (i = head; i + N <= n; i += N) {
      IO::stream(apply(IO::load(x + i), kGamma ? F32::load(gamma + i) : r), y + i);
    }
  } else {
    for (; i + N <= n; i += N) {
      IO::store(apply(IO::load(x + i), kGamma ? F32::load(gamma + i) : r), y + i);
    }
  }
  if (i < n) part(i, n - i);
}

template <class IO>
void rmsnorm_rows(const cpu::NormRows& a) {
  using T = typename IO::T;
  const int64_t n = a.x->cols();
  const float inverse_n = 1.0f / static_cast<float>(n > 0 ? n : 1);
  const float* gamma = static_cast<const float*>(a.gamma);
  if (gamma && (!a.gamma_f32 || a.gamma_plus != 0)) {
    float* wide = cpu::scratch<0>(n);
    a.gamma_f32 ? widen<F32>(gamma, wide, n, a.gamma_plus)
                : widen<BF16>(static_cast<const uint16_t*>(a.gamma), wide, n, a.gamma_plus);
    gamma = wide;
  }
  for (int64_t row = a.begin; row < a.end; ++row) {
    const T* x = static_cast<const T*>(a.x->data) + a.x->row_offset(row);
    const float mean_square = row_sum<IO>(x, n, SquareSum()) * inverse_n;
    const float rstd = 1.0f / std::sqrt(mean_square + a.epsilon);
    if (a.rstd) a.rstd[row] = rstd;
    if (!a.y->data) continue;
    T* y = static_cast<T*>(a.y->data) + a.y->row_offset(row);
    gamma ? scale_row<IO, true>(x, y, n, rstd, gamma, a.stream)
          : scale_row<IO, false>(x, y, n, rstd, gamma, a.stream);
  }
  if (a.stream) hwy::FlushStream();
}

void rmsnorm_f32(const cpu::NormRows& a) { rmsnorm_rows<F32>(a); }
void rmsnorm_bf16(const cpu::NormRows& a) { rmsnorm_rows<BF16>(a); }

}  // namespace HWY_NAMESPACE
}  // namespace rc
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rc::cpu {

void rmsnorm(const KernelDesc& desc, const KernelArgs& args, Parallel& parallel) {
  const bool f32 = args.inputs[0].dtype == DType::f32;
  run_norm(f32 ? RC_PICK_SIMD(rmsnorm_f32) : RC_PICK_SIMD(rmsnorm_bf16), desc, args, parallel);
}

}  // namespace rc::cpu
#endif
