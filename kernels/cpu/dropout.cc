// kernels/cpu/dropout.cc: dropout whose mask is a function of a Philox record and is never stored.
#include "kernels/cpu/launch.h"
#include "kernels/cpu/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/dropout.cc"
#include "hwy/foreach_target.h"
//
#include "kernels/cpu/philox-inl.h"

HWY_BEFORE_NAMESPACE();
namespace rc {
namespace HWY_NAMESPACE {

// What a pair of vectors, 2 * lanes() elements, becomes by the draws of its elements.
#if HWY_TARGET == HWY_SCALAR
template <class IO>
struct Rule {
  using T = typename IO::T;
  explicit Rule(const DropoutRule& r) : one(r) {}
  static const uint16_t* load(const uint16_t* draws) { return draws; }
  template <bool kStream>
  void apply(const T* x, const uint16_t* draws, T* y) const {
    for (int i = 0; i < 2; ++i) y[i] = dropped(one, draws[i], x[i]);
  }
  DropoutRule one;
};
#else
template <class IO>
struct Rule;

template <>
struct Rule<F32> {
  explicit Rule(const DropoutRule& r)
      : threshold(hn::Set(DI(), r.threshold)), scale(hn::Set(DF(), r.scale)) {}
  static HWY_INLINE VW load(const uint16_t* draws) { return hn::LoadU(DW(), draws); }
  template <bool kStream>
  HWY_INLINE void apply(const float* x, VW draws, float* y) const {
    const hn::Half<DW> half;
    VF a, b;
    F32::load2(x, a, b);
    a = keep(a, hn::PromoteTo(DI(), hn::LowerHalf(half, draws)), threshold, scale);
    b = keep(b, hn::PromoteTo(DI(), hn::UpperHalf(half, draws)), threshold, scale);
    if constexpr (kStream) {
      F32::stream2(a, b, y);
    } else {
      F32::store2(a, b, y);
    }
  }
  VI threshold;
  VF scale;
};

// Rounded as dropped() is, which is cheaper than the join of other kernels.
template <>
struct Rule<BF16> {
  explicit Rule(const DropoutRule& r)
      : threshold(hn::Set(DW(), r.threshold)), scale(hn::Set(DF(), r.scale)) {}
  static HWY_INLINE VW load(const uint16_t* draws) { return hn::LoadU(DW(), draws); }
  template <bool kStream>
  HWY_INLINE void apply(const uint16_t* x, VW draws, uint16_t* y) const {
    VF a, b;
    BF16::load2(x, a, b);
    const VW upper = hn::BitCast(DW(), rounded(b));
    const VW lower = hn::BitCast(DW(), hn::ShiftRight<16>(rounded(a)));
    const VW out = hn::IfThenZeroElse(hn::Lt(draws, threshold), hn::OddEven(upper, lower));
    if constexpr (kStream) {
      hn::Stream(out, DW(), y);
    } else {
      hn::StoreU(out, DW(), y);
    }
  }
  HWY_INLINE VU rounded(VF x) const {
    return hn::Add(hn::BitCast(DU(), hn::Mul(x, scale)), hn::Set(DU(), 0x8000u));
  }
  VW threshold;
  VF scale;
};

// As many elements as whole steps of counters hold; returns how many. first is a multiple of 8. Not
// inlined, so that the keys stay operands in memory: the compiler would take them into registers,
// of which it has too few.
template <class IO, bool kStream>
HWY_NOINLINE int64_t dropout_steps(const typename IO::T* x, typename IO::T* y, int64_t n,
                                   int64_t first, const Rule<IO>& rule,
                                   const PhiloxVectors& philox) {
  constexpr int kPairs = 2 * PhiloxVectors::kChains;
  constexpr int64_t kAhead = kPrefetchBytes / sizeof(typename IO::T);
  const int64_t step = PhiloxVectors::step<PhiloxVectors::kChains>(), N2 = 2 * lanes();
  int64_t i = 0;
  for (; i + step <= n; i += step) {
    VW draws[kPairs];
    philox.draws<PhiloxVectors::kChains>(static_cast<uint64_t>(first + i), draws);
    RC_UNROLL
    for (int k = 0; k < kPairs; ++k) {
      if (kStream) prefetch2<1>(x + i + k * N2 + kAhead);
      rule.template apply<kStream>(x + i + k * N2, draws[k], y + i + k * N2);
    }
  }
  return i;
}
#endif

// Any first element, through a buffer of draws; n at most its size.
template <class IO, bool kStream>
HWY_INLINE void dropout_part(const typename IO::T* x, typename IO::T* y, int64_t n, int64_t first,
                             const Rule<IO>& rule, PhiloxVectors& philox) {
  using T = typename IO::T;
  const int64_t N2 = 2 * lanes();
  DrawBuffer buffer;
  const uint16_t* draws = buffer.get(philox, first, n);
  int64_t i = 0;
  for (; i + N2 <= n; i += N2) rule.template apply<kStream>(x + i, rule.load(draws + i), y + i);
  if (i < n) {
    HWY_ALIGN T in[2 * kMaxLanes] = {}, out[2 * kMaxLanes];
    const size_t bytes = static_cast<size_t>(n - i) * sizeof(T);
    std::memcpy(in, x + i, bytes);
    rule.template apply<false>(in, rule.load(draws + i), out);
    std::memcpy(y + i, out, bytes);
  }
}

template <class IO, bool kStream>
HWY_NOINLINE void dropout_run(const typename IO::T* x, typename IO::T* y, int64_t n, int64_t first,
                              const Rule<IO>& rule, PhiloxVectors& philox) {
  for (int64_t i = 0; i < n;) {
#if HWY_TARGET != HWY_SCALAR
    if ((first + i) % static_cast<int64_t>(kDrawsPerCounter) == 0) {
      const int64_t allowed = philox.prepare(static_cast<uint64_t>(first + i), n - i);
      i += dropout_steps<IO, kStream>(x + i, y + i, allowed, first + i, rule, philox);
    }
#endif
    const int64_t part = n - i < DrawBuffer::kDraws ? n - i : DrawBuffer::kDraws;
    dropout_part<IO, kStream>(x + i, y + i, part, first + i, rule, philox);
    i += part;
  }
  if (kStream) hwy::FlushStream();
}

template <class IO>
void dropout_slice(const cpu::Slice& s) {
  using T = typename IO::T;
  const T* x = static_cast<const T*>(s.a);
  T* y = static_cast<T*>(s.out);
  const DropoutRule& desc = *static_cast<const DropoutRule*>(s.context);
  const Rule<IO> rule(desc);
  PhiloxVectors philox(desc.record);
  const int64_t head = s.stream ? stream_head<IO>(y, s.n) : -1;
  if (head < 0) {
    dropout_run<IO, false>(x, y, s.n, s.first, rule, philox);
  } else {
    if (head > 0) dropout_run<IO, false>(x, y, head, s.first, rule, philox);
    dropout_run<IO, true>(x + head, y + head, s.n - head, s.first + head, rule, philox);
  }
}

void dropout_f32(const cpu::Slice& s) {
  dropout_slice<F32>(s);
}
void dropout_bf16(const cpu::Slice& s) {
  dropout_slice<BF16>(s);
}

}  // namespace HWY_NAMESPACE
}  // namespace rc
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rc::cpu {

void dropout(const KernelDesc& desc, const KernelArgs& args, PhiloxRecord philox,
             Parallel& parallel) {
  const Tensor &x = args.inputs[0], &y = args.outputs[0];
  if (!y.data) return;
  const DropoutRule rule = dropout_rule(philox, desc.dropout);
  run_elementwise(RC_PICK_KERNEL(dropout, x.dtype), x, x, y, &rule, parallel);
}

}  // namespace rc::cpu
#endif
