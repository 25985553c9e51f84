// kernels/cpu/simd-inl.h: per-instruction-set loads, stores, math and loops of the CPU kernels.
//
// Tails go through the same vector operations as the body (a partial load fills with zeros), so an
// element's bits do not depend on where in a chunk it stands.
#if defined(RC_KERNELS_CPU_SIMD_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef RC_KERNELS_CPU_SIMD_INL_H
#undef RC_KERNELS_CPU_SIMD_INL_H
#else
#define RC_KERNELS_CPU_SIMD_INL_H
#endif

#include <cstdint>
#include <cstring>

#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "kernels/arith/bf16.h"
#include "kernels/arith/hd.h"

// Before a loop of at most 16 rounds known at compile time: unrolled in full.
#undef RC_UNROLL
#if defined(__clang__)
#define RC_UNROLL _Pragma("clang loop unroll(full)")
#else
#define RC_UNROLL _Pragma("GCC unroll 16")
#endif

HWY_BEFORE_NAMESPACE();
namespace rc {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::ScalableTag<float>;
using DI = hn::ScalableTag<int32_t>;
using DU = hn::ScalableTag<uint32_t>;
using DH = hn::Rebind<uint16_t, DF>;
using VF = hn::Vec<DF>;
using VI = hn::Vec<DI>;
using VU = hn::Vec<DU>;

HWY_INLINE int64_t lanes() {
  return static_cast<int64_t>(hn::Lanes(DF()));
}

// The vector policy of formulas-inl.h.
struct VectorMath {
  using V = VF;
  static HWY_INLINE V set(float c) { return hn::Set(DF(), c); }
  static HWY_INLINE V add(V a, V b) { return hn::Add(a, b); }
  static HWY_INLINE V sub(V a, V b) { return hn::Sub(a, b); }
  static HWY_INLINE V mul(V a, V b) { return hn::Mul(a, b); }
  static HWY_INLINE V div(V a, V b) { return hn::Div(a, b); }
  static HWY_INLINE V mul_add(V a, V b, V c) { return hn::MulAdd(a, b, c); }
  static HWY_INLINE V neg_mul_add(V a, V b, V c) { return hn::NegMulAdd(a, b, c); }
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128  // their Min and Max lose a NaN in b
  static HWY_INLINE V min(V a, V b) { return hn::IfThenElse(hn::Lt(a, b), a, b); }
  static HWY_INLINE V max(V a, V b) { return hn::IfThenElse(hn::Gt(a, b), a, b); }
#else
  static HWY_INLINE V min(V a, V b) { return hn::Min(a, b); }
  static HWY_INLINE V max(V a, V b) { return hn::Max(a, b); }
#endif
  static HWY_INLINE V abs(V a) { return hn::Abs(a); }
  static HWY_INLINE V exponent(V t) {
    return hn::BitCast(DF(), hn::ShiftLeft<23>(hn::BitCast(DU(), t)));
  }
};

#include "kernels/arith/formulas-inl.h"

// How numbers are loaded and stored. Row kernels work on pairs of vectors, 2 * lanes() elements at
// a time, whose order inside the pair is the type's own: natural for float32; even elements, then
// odd ones for bfloat16, where widening then takes one shift or mask, and narrowing no lane
// crossing.
struct F32 {
  using T = float;
  static constexpr bool kNaturalOrder = true;
  static HWY_INLINE VF load(const T* p) { return hn::LoadU(DF(), p); }
  static HWY_INLINE void store(VF v, T* p) { hn::StoreU(v, DF(), p); }
  static HWY_INLINE void load2(const T* p, VF& a, VF& b) {
    a = load(p);
    b = load(p + lanes());
  }
  static HWY_INLINE void store2(VF a, VF b, T* p) {
    store(a, p);
    store(b, p + lanes());
  }
  static HWY_INLINE void stream2(VF a, VF b, T* p) {
    hn::Stream(a, DF(), p);
    hn::Stream(b, DF(), p + lanes());
  }
  // Of the first n elements of a pair, how many lie in each vector.
  static HWY_INLINE void counts(int64_t n, int64_t& a, int64_t& b) {
    a = n < lanes() ? n : lanes();
    b = n - a;
  }
  // Per-element words in natural order, to this order.
  static HWY_INLINE void order(VU&, VU&) {}
};

struct BF16 {
  using T = uint16_t;
  static constexpr bool kNaturalOrder = false;
  using DW = hn::Repartition<uint16_t, DU>;
  static HWY_INLINE VF load(const T* p) {
    const VU wide = hn::PromoteTo(DU(), hn::LoadU(DH(), p));
    return hn::BitCast(DF(), hn::ShiftLeft<16>(wide));
  }
  static HWY_INLINE void store(VF v, T* p) {
    hn::StoreU(hn::DemoteTo(DH(), hn::BitCast(DI(), hn::ShiftRight<16>(round(v)))), DH(), p);
  }
#if HWY_TARGET == HWY_SCALAR
  static HWY_INLINE void load2(const T* p, VF& a, VF& b) {
    a = load(p);
    b = load(p + 1);
  }
  static HWY_INLINE void store2(VF a, VF b, T* p) {
    store(a, p);
    store(b, p + 1);
  }
  static HWY_INLINE void stream2(VF a, VF b, T* p) { store2(a, b, p); }
  static HWY_INLINE void order(VU&, VU&) {}
#else
  static HWY_INLINE void load2(const T* p, VF& a, VF& b) {
    const VU both = hn::BitCast(DU(), hn::LoadU(DW(), p));
    a = hn::BitCast(DF(), hn::ShiftLeft<16>(both));
    b = hn::BitCast(DF(), hn::And(both, hn::Set(DU(), 0xFFFF0000u)));
  }
  static HWY_INLINE void store2(VF a, VF b, T* p) { hn::StoreU(join(a, b), DW(), p); }
  static HWY_INLINE void stream2(VF a, VF b, T* p) { hn::Stream(join(a, b), DW(), p); }
  static HWY_INLINE void order(VU& a, VU& b) {
    const VU even = hn::ConcatEven(DU(), b, a);
    b = hn::ConcatOdd(DU(), b, a);
    a = even;
  }
#endif
  static HWY_INLINE void counts(int64_t n, int64_t& a, int64_t& b) {
    a = (n + 1) / 2;
    b = n / 2;
  }

 private:
  // The upper 16 bits are the bfloat16: nearest, ties to even; a NaN keeps its sign and upper
  // payload and is quiet (arith/bf16.h).
  static HWY_INLINE VU round(VF v) {
    const VU bits = hn::BitCast(DU(), v);
    const VU quiet = hn::Or(bits, hn::Set(DU(), 0x400000u));
    return hn::IfThenElse(hn::RebindMask(DU(), hn::IsNaN(v)), quiet, round_number(bits));
  }
  static HWY_INLINE VU round_number(VU bits) {
    const VU odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(DU(), 1u));
    return hn::Add(hn::Add(bits, hn::Set(DU(), 0x7FFFu)), odd);
  }
#if HWY_TARGET != HWY_SCALAR
  // Both vectors rounded, in 16-bit lanes. Upper and lower halves apart, nearest even adds to the
  // upper one bit 16 of lower + 0x7FFF + (upper & 1), which is bit 15 of the average below. a and b
  // are results of arithmetic, so that a NaN is quiet; it stays one, since the signed saturation
  // at 0x7FFF keeps it from wrapping to zero, but its payload may be rounded.
  static HWY_INLINE hn::Vec<DW> join(VF a, VF b) {
    const DW dw;
    const VU ua = hn::BitCast(DU(), a), ub = hn::BitCast(DU(), b);
    const auto upper = hn::OddEven(hn::BitCast(dw, ub), hn::BitCast(dw, hn::ShiftRight<16>(ua)));
    const auto lower = hn::OddEven(hn::BitCast(dw, hn::ShiftLeft<16>(ub)), hn::BitCast(dw, ua));
    const auto odd = hn::OrAnd(hn::Set(dw, 0x7FFE), upper, hn::Set(dw, 1));
    const auto carry = hn::ShiftRight<15>(hn::AverageRound(lower, odd));
    const hn::RebindToSigned<DW> di;
    const auto magnitude = hn::And(upper, hn::Set(dw, 0x7FFF));
    const auto rounded = hn::SaturatedAdd(hn::BitCast(di, magnitude), hn::BitCast(di, carry));
    return hn::OrAnd(hn::BitCast(dw, rounded), upper, hn::Set(dw, 0x8000));
  }
#endif
};

inline constexpr int64_t kPrefetchBytes = 2048;  // ahead of an element-wise loop
inline constexpr size_t kMaxLanes = HWY_MAX_BYTES / sizeof(float);

HWY_INLINE float widen_one(float v) {
  return v;
}
HWY_INLINE float widen_one(uint16_t v) {
  return bf16_to_f32(v);
}

template <class IO>
HWY_INLINE VF load_part(const typename IO::T* p, int64_t n) {
  HWY_ALIGN typename IO::T buffer[kMaxLanes] = {};
  std::memcpy(buffer, p, static_cast<size_t>(n) * sizeof(typename IO::T));
  return IO::load(buffer);
}

template <class IO>
HWY_INLINE void store_part(VF v, typename IO::T* p, int64_t n) {
  HWY_ALIGN typename IO::T buffer[kMaxLanes];
  IO::store(v, buffer);
  std::memcpy(p, buffer, static_cast<size_t>(n) * sizeof(typename IO::T));
}

template <class IO>
HWY_INLINE void load2_part(const typename IO::T* p, int64_t n, VF& a, VF& b) {
  HWY_ALIGN typename IO::T buffer[2 * kMaxLanes] = {};
  std::memcpy(buffer, p, static_cast<size_t>(n) * sizeof(typename IO::T));
  IO::load2(buffer, a, b);
}

template <class IO>
HWY_INLINE void store2_part(VF a, VF b, typename IO::T* p, int64_t n) {
  HWY_ALIGN typename IO::T buffer[2 * kMaxLanes];
  IO::store2(a, b, buffer);
  std::memcpy(p, buffer, static_cast<size_t>(n) * sizeof(typename IO::T));
}

// Elements before p has the alignment of a streaming store, at most n; -1 if it never has.
template <class IO>
HWY_INLINE int64_t stream_head(const typename IO::T* p, int64_t n) {
  const uintptr_t unit = sizeof(typename IO::T);
  const uintptr_t vector = static_cast<uintptr_t>(lanes()) * sizeof(float);
  const uintptr_t address = reinterpret_cast<uintptr_t>(p);
  if (address % unit != 0) return -1;
  const int64_t head = static_cast<int64_t>((vector - address % vector) % vector / unit);
  return head < n ? head : n;
}

// Asks for the lines of p[0, 2 * lanes()), which may lie behind the end of a buffer: the
// second-level cache, where the first is full of the present row, or (kLevel 1) the first.
template <int kLevel = 2, class T>
HWY_INLINE void prefetch2(const T* p) {
  const char* line = reinterpret_cast<const char*>(p);
  const int64_t bytes = 2 * lanes() * static_cast<int64_t>(sizeof(T));
  for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(line + at, 0, 4 - kLevel);
}

// out[i] = f(a[i], b[i]), with streaming stores if asked and possible.
template <class IO, class F>
HWY_INLINE void map_vectors(const typename IO::T* a, const typename IO::T* b, typename IO::T* out,
                            int64_t n, bool stream, F f) {
  const int64_t N2 = 2 * lanes();
  VF a0, a1, b0, b1;
  int64_t i = 0;
  const int64_t head = stream ? stream_head<IO>(out, n) : -1;
  const auto part = [&](int64_t k) HWY_ATTR {
    load2_part<IO>(a + i, k, a0, a1);
    load2_part<IO>(b + i, k, b0, b1);
    store2_part<IO>(f(a0, b0), f(a1, b1), out + i, k);
    i += k;
  };
  if (head > 0) part(head);
  if (head >= 0) {
    for (; i + N2 <= n; i += N2) {
      IO::load2(a + i, a0, a1);
      IO::load2(b + i, b0, b1);
      prefetch2(a + i + kPrefetchBytes / sizeof(typename IO::T));
      if (b != a) prefetch2(b + i + kPrefetchBytes / sizeof(typename IO::T));
      IO::stream2(f(a0, b0), f(a1, b1), out + i);
    }
    hwy::FlushStream();
  } else {
    for (; i + N2 <= n; i += N2) {
      IO::load2(a + i, a0, a1);
      IO::load2(b + i, b0, b1);
      IO::store2(f(a0, b0), f(a1, b1), out + i);
    }
  }
  if (i < n) part(n - i);
}

}  // namespace HWY_NAMESPACE
}  // namespace rc
HWY_AFTER_NAMESPACE();

#endif  // per-target guard
