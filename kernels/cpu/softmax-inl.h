// kernels/cpu/softmax-inl.h: the row operations of softmax, shared with both attentions.
#if defined(RC_KERNELS_CPU_SOFTMAX_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef RC_KERNELS_CPU_SOFTMAX_INL_H
#undef RC_KERNELS_CPU_SOFTMAX_INL_H
#else
#define RC_KERNELS_CPU_SOFTMAX_INL_H
#endif

#include <limits>

#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace rc {
namespace HWY_NAMESPACE {

// Largest x[i] * scale; -inf for n = 0. A NaN may be passed over: it returns through exp_row.
template <class IO>
HWY_INLINE float row_max(const typename IO::T* x, int64_t n, float scale) {
  const int64_t N = lanes();
  const VF c = hn::Set(DF(), scale);
  VF m0 = hn::Set(DF(), -std::numeric_limits<float>::infinity()), m1 = m0;
  int64_t i = 0;
  for (; i + 2 * N <= n; i += 2 * N) {
    m0 = hn::Max(m0, hn::Mul(IO::load(x + i), c));
    m1 = hn::Max(m1, hn::Mul(IO::load(x + i + N), c));
  }
  for (; i + N <= n; i += N) m0 = hn::Max(m0, hn::Mul(IO::load(x + i), c));
  if (i < n) {
    const VF last = hn::Mul(load_part<IO>(x + i, n - i), c);
    const VF low = hn::Set(DF(), -std::numeric_limits<float>::infinity());
    m1 = hn::Max(m1, hn::IfThenElse(hn::FirstN(DF(), static_cast<size_t>(n - i)), last, low));
  }
  return hn::GetLane(hn::MaxOfLanes(DF(), hn::Max(m0, m1)));
}

// e[i] = exp(x[i] * scale - max); returns the sum, in an order fixed by n alone. e may be x.
template <class IO>
HWY_INLINE float exp_row(const typename IO::T* x, float* e, int64_t n, float scale, float max) {
  const int64_t N = lanes();
  const VF c = hn::Set(DF(), scale), m = hn::Set(DF(), max);
  VF s0 = hn::Zero(DF()), s1 = s0;
  int64_t i = 0;
  for (; i + 2 * N <= n; i += 2 * N) {
    const VF e0 = exp_of<VectorMath>(hn::Sub(hn::Mul(IO::load(x + i), c), m));
    const VF e1 = exp_of<VectorMath>(hn::Sub(hn::Mul(IO::load(x + i + N), c), m));
    F32::store(e0, e + i);
    F32::store(e1, e + i + N);
    s0 = hn::Add(s0, e0);
    s1 = hn::Add(s1, e1);
  }
  for (; i < n; i += N) {
    const int64_t k = n - i < N ? n - i : N;
    const VF e0 = exp_of<VectorMath>(hn::Sub(hn::Mul(load_part<IO>(x + i, k), c), m));
    store_part<F32>(e0, e + i, k);
    s0 = hn::Add(s0, hn::IfThenElseZero(hn::FirstN(DF(), static_cast<size_t>(k)), e0));
  }
  return hn::GetLane(hn::SumOfLanes(DF(), hn::Add(s0, s1)));
}

// y = e * factor, narrowed to IO.
template <class IO>
HWY_INLINE void scale_to(const float* e, typename IO::T* y, int64_t n, float factor, bool stream) {
  const VF f = hn::Set(DF(), factor);
  const int64_t N = lanes();
  int64_t i = 0;
  const int64_t head = stream ? stream_head<IO>(y, n) : -1;
  if (head > 0) store_part<IO>(hn::Mul(load_part<F32>(e, head), f), y, head);
  if (head >= 0) {
    for (i = head; i + N <= n; i += N) IO::stream(hn::Mul(F32::load(e + i), f), y + i);
  } else {
    for (; i + N <= n; i += N) IO::store(hn::Mul(F32::load(e + i), f), y + i);
  }
  if (i < n) store_part<IO>(hn::Mul(load_part<F32>(e + i, n - i), f), y + i, n - i);
}

}  // namespace HWY_NAMESPACE
}  // namespace rc
HWY_AFTER_NAMESPACE();

#endif  // per-target guard
