// kernels/cpu/norm-inl.h: the row operations that LayerNorm and RMSNorm share.
#if defined(RC_KERNELS_CPU_NORM_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef RC_KERNELS_CPU_NORM_INL_H
#undef RC_KERNELS_CPU_NORM_INL_H
#else
#define RC_KERNELS_CPU_NORM_INL_H
#endif

#include <algorithm>

#include "kernels/cpu/norm.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace rc {
namespace HWY_NAMESPACE {

// Sum over a row of what f adds, in an order fixed by n alone: four partial sums per lane, then a
// tree. The lanes beyond n in the last pair are cleared after f, which need not map 0 to 0.
template <class IO, class F>
HWY_INLINE float row_sum(const typename IO::T* x, int64_t n, F f) {
  const int64_t N2 = 2 * lanes();
  VF s0 = hn::Zero(DF()), s1 = s0, s2 = s0, s3 = s0, a, b;
  int64_t i = 0;
  for (; i + 2 * N2 <= n; i += 2 * N2) {
    IO::load2(x + i, a, b);
    s0 = f(s0, a);
    s1 = f(s1, b);
    IO::load2(x + i + N2, a, b);
    s2 = f(s2, a);
    s3 = f(s3, b);
  }
  for (; i + N2 <= n; i += N2) {
    IO::load2(x + i, a, b);
    s0 = f(s0, a);
    s1 = f(s1, b);
  }
  if (i < n) {
    int64_t na, nb;
    IO::counts(n - i, na, nb);
    load2_part<IO>(x + i, n - i, a, b);
    a = hn::IfThenElseZero(hn::FirstN(DF(), static_cast<size_t>(na)), f(hn::Zero(DF()), a));
    b = hn::IfThenElseZero(hn::FirstN(DF(), static_cast<size_t>(nb)), f(hn::Zero(DF()), b));
    s2 = hn::Add(s2, a);
    s3 = hn::Add(s3, b);
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

// A parameter as float32 plus `plus`, in pairs of the order of X, the type of the row it scales.
// `out` has room for n up to the next multiple of 2 * lanes().
template <class X, class P>
HWY_INLINE void widen_param(const typename P::T* in, int64_t n, float plus, float* out) {
  const int64_t N = lanes();
  const VF offset = hn::Set(DF(), plus);
  const auto put = [&](VF first, VF second, int64_t i) HWY_ATTR {
    VU a = hn::BitCast(DU(), first), b = hn::BitCast(DU(), second);
    X::order(a, b);
    F32::store2(hn::Add(hn::BitCast(DF(), a), offset), hn::Add(hn::BitCast(DF(), b), offset),
                out + i);
  };
  int64_t i = 0;
  for (; i + 2 * N <= n; i += 2 * N) put(P::load(in + i), P::load(in + i + N), i);
  if (i < n) {
    const int64_t first = n - i < N ? n - i : N;
    put(load_part<P>(in + i, first), load_part<P>(in + i + first, n - i - first), i);
  }
}

// gamma or beta in the form that finish_row reads, in the scratch of the given slot.
template <class X, int kSlot>
HWY_INLINE const float* row_param(const void* p, bool f32, int64_t n, float plus) {
  if (!p) return nullptr;
  if (f32 && X::kNaturalOrder && plus == 0 && n % (2 * lanes()) == 0)
    return static_cast<const float*>(p);
  float* wide = cpu::scratch<kSlot>(n + 2 * lanes());
  if (f32) {
    widen_param<X, F32>(static_cast<const float*>(p), n, plus, wide);
  } else {
    widen_param<X, BF16>(static_cast<const uint16_t*>(p), n, plus, wide);
  }
  return wide;
}

// Two rows of a task and the two after them. At the end of a task rows repeat: an odd last row is
// its own partner, which writes it twice with the same bits.
template <class T>
struct RowPair {
  int64_t row[2];
  const T* x[2];
  const T* next[2];
  T* y[2];
};

template <class T>
HWY_INLINE RowPair<T> row_pair(const cpu::NormRows& a, int64_t row) {
  RowPair<T> pair;
  for (int64_t k = 0; k < 2; ++k) {
    const int64_t here = std::min(row + k, a.end - 1), after = std::min(row + k + 2, a.end - 1);
    pair.row[k] = here;
    pair.x[k] = static_cast<const T*>(a.x->data) + a.x->row_offset(here);
    pair.next[k] = static_cast<const T*>(a.x->data) + a.x->row_offset(after);
    pair.y[k] = static_cast<T*>(a.y->data) + a.y->row_offset(here);
  }
  return pair;
}

template <class IO, bool kStream, class F>
HWY_INLINE void finish_pair(const RowPair<typename IO::T>& rows, int64_t n, F f0, F f1) {
  const int64_t N = lanes();
  VF a, b, c, d;
  int64_t i = 0;
  for (; i + 2 * N <= n; i += 2 * N) {
    prefetch2(rows.next[0] + i);
    prefetch2(rows.next[1] + i);
    IO::load2(rows.x[0] + i, a, b);
    IO::load2(rows.x[1] + i, c, d);
    const VF a_out = f0(a, i), c_out = f1(c, i), b_out = f0(b, i + N), d_out = f1(d, i + N);
    if constexpr (kStream) {
      IO::stream2(a_out, b_out, rows.y[0] + i);
      IO::stream2(c_out, d_out, rows.y[1] + i);
    } else {
      IO::store2(a_out, b_out, rows.y[0] + i);
      IO::store2(c_out, d_out, rows.y[1] + i);
    }
  }
  if (i < n) {
    load2_part<IO>(rows.x[0] + i, n - i, a, b);
    load2_part<IO>(rows.x[1] + i, n - i, c, d);
    store2_part<IO>(f0(a, i), f0(b, i + N), rows.y[0] + i, n - i);
    store2_part<IO>(f1(c, i), f1(d, i + N), rows.y[1] + i, n - i);
  }
}

// y = f(x, i) per vector of either row, where f reads its parameters at pair offset i: two rows at
// once, since gamma, beta and a row of 4096 are more than a first-level cache. Meanwhile the next
// rows are fetched: several passes over a row leave the memory idle otherwise.
template <class IO, class F>
HWY_INLINE void finish_rows(const RowPair<typename IO::T>& rows, int64_t n, bool stream, F f0,
                            F f1) {
  if (stream && stream_head<IO>(rows.y[0], n) == 0 && stream_head<IO>(rows.y[1], n) == 0) {
    finish_pair<IO, true>(rows, n, f0, f1);
  } else {
    finish_pair<IO, false>(rows, n, f0, f1);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace rc
HWY_AFTER_NAMESPACE();

#endif  // per-target guard
