// kernels/cpu/simd.cc: detection of the instruction set, once per process.
#include "kernels/cpu/simd.h"

#include <algorithm>
#include <atomic>

namespace rc {
namespace {

#if defined(__x86_64__)
bool has_f16c() {
#if defined(__clang__) && __clang_major__ < 18
  return true;  // older clang does not know the name; every processor with AVX2 has it
#else
  return __builtin_cpu_supports("f16c");
#endif
}
#endif

SimdLevel detect() {
#if defined(__x86_64__)
  // The lists are what the attributes of Highway's targets let the compiler emit. The builtin
  // also checks that the operating system saves the wide registers.
  __builtin_cpu_init();
  const bool sse4 = __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("aes") &&
                    __builtin_cpu_supports("pclmul");
  const bool avx2 = sse4 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") && has_f16c();
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd");
  if (avx512) return SimdLevel::avx512;
  if (avx2) return SimdLevel::avx2;
  if (sse4) return SimdLevel::sse4;
#endif
  return SimdLevel::baseline;
}

SimdLevel detected() {
  static const SimdLevel level = detect();
  return level;
}

std::atomic<int> forced{-1};

}  // namespace

SimdLevel simd_level() {
  const int f = forced.load(std::memory_order_relaxed);
  return f < 0 ? detected() : static_cast<SimdLevel>(f);
}

const char* simd_level_name(SimdLevel level) {
  switch (level) {
    case SimdLevel::baseline:
      return "baseline";
    case SimdLevel::sse4:
      return "sse4.2";
    case SimdLevel::avx2:
      return "avx2";
    case SimdLevel::avx512:
      return "avx512";
  }
  return "unknown";
}

SimdLevel set_simd_level_for_test(SimdLevel level) {
  const SimdLevel in_force = std::min(level, detected());
  forced.store(static_cast<int>(in_force), std::memory_order_relaxed);
  return in_force;
}

}  // namespace rc
