// kernels/cpu/simd.h: includes Highway with the instruction sets that rcore ships, and picks one.
//
// Highway's vectors, compiled once per instruction set by foreach_target.h, but chosen by our own
// three-line detection: the choice then needs no libhwy, which Debian and Ubuntu ship only shared.
// x86-64: AVX-512 (F VL DQ BW CD), AVX2 + FMA, SSE4.2, and the compiler's baseline.
#pragma once

#if defined(__x86_64__) && !defined(HWY_DISABLED_TARGETS)
// Bits of hwy/detect_targets.h by value, since older versions lack some of the names: SPR, ZEN4 and
// DL (nothing in the kernels needs them) and SSSE3 would only add code.
#define HWY_DISABLED_TARGETS ((1LL << 4) | (1LL << 6) | (1LL << 7) | (1LL << 12))
#endif

#include <cstdint>

namespace rc {

enum class SimdLevel : int { baseline, sse4, avx2, avx512 };

// What this processor has; fixed for the life of the process unless a test lowers it.
SimdLevel simd_level();
const char* simd_level_name(SimdLevel level);
// For tests: forces a level, at most the detected one; returns the level in force.
SimdLevel set_simd_level_for_test(SimdLevel level);

template <class F>
F pick_simd(F avx512, F avx2, F sse4, F baseline) {
  switch (simd_level()) {
    case SimdLevel::avx512:
      if (avx512) return avx512;
      [[fallthrough]];
    case SimdLevel::avx2:
      if (avx2) return avx2;
      [[fallthrough]];
    case SimdLevel::sse4:
      if (sse4) return sse4;
      [[fallthrough]];
    case SimdLevel::baseline:
      break;
  }
  return baseline;
}

}  // namespace rc

// The best compiled variant of FUNC, a name inside rc::HWY_NAMESPACE; used after HWY_ONCE in rc.
#if defined(__x86_64__)
#define RC_PICK_SIMD(FUNC)                                                 \
  ::rc::pick_simd<decltype(&HWY_STATIC_DISPATCH(FUNC))>(                   \
      HWY_CHOOSE_AVX3(FUNC), HWY_CHOOSE_AVX2(FUNC), HWY_CHOOSE_SSE4(FUNC), \
      &HWY_STATIC_DISPATCH(FUNC))
#else
#define RC_PICK_SIMD(FUNC) (&HWY_STATIC_DISPATCH(FUNC))
#endif

// The same of FUNC_f32 or FUNC_bf16, by the dtype of the tensors.
#define RC_PICK_KERNEL(FUNC, DTYPE) \
  ((DTYPE) == ::rc::DType::f32 ? RC_PICK_SIMD(FUNC##_f32) : RC_PICK_SIMD(FUNC##_bf16))
