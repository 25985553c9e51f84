// kernels/cpu/norm-inl.h: the row operations that LayerNorm and RMSNorm share.
#if defined(RC_KERNELS_CPU_NORM_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef RC_KERNELS_CPU_NORM_INL_H
#undef RC_KERNELS_CPU_NORM_INL_H
#else
#define RC_KERNELS_CPU_NORM_INL_H
#endif

#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace rc {
namespace HWY_NAMESPACE {

// Sum over a row of f(x), in an order fixed by n alone: four partial sums per lane, then a tree.
// The lanes beyond n in the last vector are cleared after f, which need not map 0 to 0.
template <class IO, class F>
HWY_INLINE float row_sum(const typename IO::T* x, int64_t n, F f) {
  const int64_t N = lanes();
  VF s0 = hn::Zero(DF()), s1 = s0, s2 = s0, s3 = s0;
  int64_t i = 0;
  for (; i + 4 * N <= n; i += 4 * N) {
    s0 = f(s0, IO::load(x + i));
    s1 = f(s1, IO::load(x + i + N));
    s2 = f(s2, IO::load(x + i + 2 * N));
    s3 = f(s3, IO::load(x + i + 3 * N));
  }
  for (; i + N <= n; i += N) s0 = f(s0, IO::load(x + i));
  if (i < n) {
    const VF last = f(hn::Zero(DF()), load_part<IO>(x + i, n - i));
    s1 = hn::Add(s1, hn::IfThenElseZero(hn::FirstN(DF(), static_cast<size_t>(n - i)), last));
  }
  const VF sum = hn::Add(hn::Add(s0, s1), hn::Add(s2, s3));
  return hn::GetLane(hn::SumOfLanes(DF(), sum));
}

struct PlainSum {
  HWY_INLINE VF operator()(VF sum, VF x) const { return hn::Add(sum, x); }
};
struct SquareSum {
  HWY_INLINE VF operator()(VF sum, VF x) const { return hn::MulAdd(x, x, sum); }
};
struct CentredSquareSum {
  VF mean;
  HWY_INLINE VF operator()(VF sum, VF x) const {
    const VF d = hn::Sub(x, mean);
    return hn::MulAdd(d, d, sum);
  }
};

// gamma as float32, with 1 added where it is stored as gamma - 1.
template <class IO>
HWY_INLINE void widen(const typename IO::T* in, float* out, int64_t n, float plus) {
  const VF offset = hn::Set(DF(), plus);
  const int64_t N = lanes();
  int64_t i = 0;
  for (; i + N <= n; i += N) F32::store(hn::Add(IO::load(in + i), offset), out + i);
  if (i < n) store_part<F32>(hn::Add(load_part<IO>(in + i, n - i), offset), out + i, n - i);
}

}  // namespace HWY_NAMESPACE
}  // namespace rc
HWY_AFTER_NAMESPACE();

#endif  // per-target guard
