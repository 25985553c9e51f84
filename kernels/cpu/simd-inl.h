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
#include "kernels/arith/hd.h"

HWY_BEFORE_NAMESPACE();
namespace rc {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::ScalableTag<float>;
using DI = hn::ScalableTag<int32_t>;
using DU = hn::ScalableTag<uint32_t>;
using DH = hn::Rebind<uint16_t, DF>;
using VF = hn::Vec<DF>;
using VU = hn::Vec<DU>;

HWY_INLINE int64_t lanes() { return static_cast<int64_t>(hn::Lanes(DF())); }

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
  static HWY_INLINE V min(V a, V b) { return hn::Min(a, b); }
  static HWY_INLINE V max(V a, V b) { return hn::Max(a, b); }
  static HWY_INLINE V abs(V a) { return hn::Abs(a); }
  static HWY_INLINE V round(V a) { return hn::Round(a); }
  static HWY_INLINE V pow2(V n) {
    const auto e = hn::Add(hn::NearestInt(n), hn::Set(DI(), 127));
    return hn::BitCast(DF(), hn::ShiftLeft<23>(e));
  }
};

#include "kernels/arith/formulas-inl.h"

struct F32 {
  using T = float;
  static HWY_INLINE VF load(const T* p) { return hn::LoadU(DF(), p); }
  static HWY_INLINE void store(VF v, T* p) { hn::StoreU(v, DF(), p); }
  static HWY_INLINE void stream(VF v, T* p) { hn::Stream(v, DF(), p); }
};

struct BF16 {
  using T = uint16_t;
  static HWY_INLINE VF load(const T* p) {
    const VU wide = hn::PromoteTo(DU(), hn::LoadU(DH(), p));
    return hn::BitCast(DF(), hn::ShiftLeft<16>(wide));
  }
  // Round to nearest even; a NaN keeps its sign and upper payload and is quiet (arith/bf16.h).
  static HWY_INLINE hn::Vec<DH> narrow(VF v) {
    const VU bits = hn::BitCast(DU(), v);
    const VU odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(DU(), 1u));
    const VU rounded = hn::Add(hn::Add(bits, hn::Set(DU(), 0x7FFFu)), odd);
    const VU quiet = hn::Or(bits, hn::Set(DU(), 0x400000u));
    const auto is_nan = hn::RebindMask(DU(), hn::IsNaN(v));
    const VU chosen = hn::ShiftRight<16>(hn::IfThenElse(is_nan, quiet, rounded));
    return hn::DemoteTo(DH(), hn::BitCast(DI(), chosen));
  }
  static HWY_INLINE void store(VF v, T* p) { hn::StoreU(narrow(v), DH(), p); }
  // Highway's Stream writes whole 16-byte vectors even for the half vector of a 128-bit target.
  static HWY_INLINE void stream(VF v, T* p) {
    if (hn::Lanes(DH()) * sizeof(T) < 16) {
      store(v, p);
    } else {
      hn::Stream(narrow(v), DH(), p);
    }
  }
};

template <class IO>
HWY_INLINE VF load_part(const typename IO::T* p, int64_t n) {
  HWY_ALIGN typename IO::T buffer[HWY_MAX_BYTES / sizeof(float)] = {};
  std::memcpy(buffer, p, static_cast<size_t>(n) * sizeof(typename IO::T));
  return IO::load(buffer);
}

template <class IO>
HWY_INLINE void store_part(VF v, typename IO::T* p, int64_t n) {
  HWY_ALIGN typename IO::T buffer[HWY_MAX_BYTES / sizeof(float)];
  IO::store(v, buffer);
  std::memcpy(p, buffer, static_cast<size_t>(n) * sizeof(typename IO::T));
}

// Elements before p reaches the alignment that a streaming store needs, or -1 if it never does.
template <class IO>
HWY_INLINE int64_t stream_head(const typename IO::T* p, int64_t n) {
  const uintptr_t unit = sizeof(typename IO::T);
  const uintptr_t vector = static_cast<uintptr_t>(lanes()) * unit;
  const uintptr_t address = reinterpret_cast<uintptr_t>(p);
  if (address % unit != 0) return -1;
  const int64_t head = static_cast<int64_t>((vector - address % vector) % vector / unit);
  return head < n ? head : n;
}

// out[i] = f(in[i]) and out[i] = f(a[i], b[i]), with streaming stores if asked and possible.
template <class IO, class F>
HWY_INLINE void map_vectors(const typename IO::T* a, const typename IO::T* b, typename IO::T* out,
                            int64_t n, bool stream, F f) {
  const int64_t N = lanes();
  int64_t i = 0;
  const int64_t head = stream ? stream_head<IO>(out, n) : -1;
  if (head >= 0) {
    if (head > 0) {
      store_part<IO>(f(load_part<IO>(a, head), load_part<IO>(b, head)), out, head);
      i = head;
    }
    for (; i + 2 * N <= n; i += 2 * N) {
      const VF y0 = f(IO::load(a + i), IO::load(b + i));
      const VF y1 = f(IO::load(a + i + N), IO::load(b + i + N));
      IO::stream(y0, out + i);
      IO::stream(y1, out + i + N);
    }
  } else {
    for (; i + 2 * N <= n; i += 2 * N) {
      const VF y0 = f(IO::load(a + i), IO::load(b + i));
      const VF y1 = f(IO::load(a + i + N), IO::load(b + i + N));
      IO::store(y0, out + i);
      IO::store(y1, out + i + N);
    }
  }
  for (; i + N <= n; i += N) IO::store(f(IO::load(a + i), IO::load(b + i)), out + i);
  if (i < n) store_part<IO>(f(load_part<IO>(a + i, n - i), load_part<IO>(b + i, n - i)), out + i, n - i);
  if (head >= 0) hwy::FlushStream();
}

}  // namespace HWY_NAMESPACE
}  // namespace rc
HWY_AFTER_NAMESPACE();

#endif  // per-target guard
