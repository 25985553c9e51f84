// kernels/cpu/softmax-inl.h: the row operations of softmax, shared with both attentions.
#if defined(RC_KERNELS_CPU_SOFTMAX_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef RC_KERNELS_CPU_SOFTMAX_INL_H
#undef RC_KERNELS_CPU_SOFTMAX_INL_H
#else
#define RC_KERNELS_CPU_SOFTMAX_INL_H
#endif

#include <cmath>
#include <limits>

#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace rc {
namespace HWY_NAMESPACE {

// Largest x[i] * scale; -inf for n = 0. A NaN may be passed over: it returns through exp_row. The
// sign of scale goes to x before the comparison, its magnitude once to the result.
template <class IO>
HWY_INLINE float row_max(const typename IO::T* x, int64_t n, float scale) {
  const int64_t N2 = 2 * lanes();
  const VF low = hn::Set(DF(), -std::numeric_limits<float>::infinity());
  const VF sign = hn::And(hn::Set(DF(), scale), hn::Set(DF(), -0.0f));
  VF m0 = low, m1 = low, a, b;
  int64_t i = 0;
  for (; i + N2 <= n; i += N2) {
    IO::load2(x + i, a, b);
    m0 = hn::Max(m0, hn::Xor(a, sign));
    m1 = hn::Max(m1, hn::Xor(b, sign));
  }
  if (i < n) {
    int64_t na, nb;
    IO::counts(n - i, na, nb);
    load2_part<IO>(x + i, n - i, a, b);
    a = hn::IfThenElse(hn::FirstN(DF(), static_cast<size_t>(na)), hn::Xor(a, sign), low);
    b = hn::IfThenElse(hn::FirstN(DF(), static_cast<size_t>(nb)), hn::Xor(b, sign), low);
    m0 = hn::Max(m0, a);
    m1 = hn::Max(m1, b);
  }
  return hn::GetLane(hn::MaxOfLanes(DF(), hn::Max(m0, m1))) * std::fabs(scale);
}

// e = exp(x * scale - max) in IO's pair order; returns the sum, in an order fixed by n alone. e may
// be x for float32, and is written up to the next multiple of 2 * lanes(). max is row_max or more,
// and the product is rounded as there, so that no exponent is positive.
// Meanwhile the n elements at `next`, if any, are fetched: this pass is all arithmetic.
template <class IO>
HWY_INLINE float exp_row(const typename IO::T* x, float* e, int64_t n, float scale, float max,
                         const typename IO::T* next = nullptr) {
  const int64_t N = lanes();
  const VF c = hn::Set(DF(), scale), m = hn::Set(DF(), max);
  VF s0 = hn::Zero(DF()), s1 = s0, a, b;
  int64_t i = 0;
  for (; i + 2 * N <= n; i += 2 * N) {
    if (next) prefetch2(next + i);
    IO::load2(x + i, a, b);
    const VF e0 = exp_of_negative<VectorMath>(hn::Sub(hn::Mul(a, c), m));
    const VF e1 = exp_of_negative<VectorMath>(hn::Sub(hn::Mul(b, c), m));
    F32::store2(e0, e1, e + i);
    s0 = hn::Add(s0, e0);
    s1 = hn::Add(s1, e1);
  }
  if (i < n) {
    int64_t na, nb;
    IO::counts(n - i, na, nb);
    load2_part<IO>(x + i, n - i, a, b);
    const VF e0 = exp_of_negative<VectorMath>(hn::Sub(hn::Mul(a, c), m));
    const VF e1 = exp_of_negative<VectorMath>(hn::Sub(hn::Mul(b, c), m));
    F32::store2(e0, e1, e + i);
    s0 = hn::Add(s0, hn::IfThenElseZero(hn::FirstN(DF(), static_cast<size_t>(na)), e0));
    s1 = hn::Add(s1, hn::IfThenElseZero(hn::FirstN(DF(), static_cast<size_t>(nb)), e1));
  }
  return hn::GetLane(hn::SumOfLanes(DF(), hn::Add(s0, s1)));
}

// y = e * factor, e in natural order.
template <class IO>
HWY_INLINE void scale_to(const float* e, typename IO::T* y, int64_t n, float factor) {
  const VF f = hn::Set(DF(), factor);
  const int64_t N = lanes();
  int64_t i = 0;
  for (; i + N <= n; i += N) IO::store(hn::Mul(F32::load(e + i), f), y + i);
  if (i < n) store_part<IO>(hn::Mul(load_part<F32>(e + i, n - i), f), y + i, n - i);
}

}  // namespace HWY_NAMESPACE
}  // namespace rc
HWY_AFTER_NAMESPACE();

#endif  // per-target guard
