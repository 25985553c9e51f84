/* examples/gpt/simd.h: what lets one portable source run at the machine's vector width. */
#ifndef EXAMPLES_GPT_SIMD_H
#define EXAMPLES_GPT_SIMD_H
#include <stdint.h>
#include <string.h>

/* One compiled body per instruction set, chosen when the program starts. Sanitizers cannot run its
 * resolvers. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define PER_CPU __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define PER_CPU
#endif

/* e^x without a branch or a call, so that loops over it vectorize: x = n ln2 + r, a degree-6
 * polynomial on r (relative error 2e-7), then n goes into the exponent bits. Below -87 the result
 * is 0 for our purposes (1e-38). */
static inline float exp_lane(float x) {
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  const float shifted = x * 1.44269504f + 12582912.0f; /* 1.5 * 2^23 rounds to an integer */
  const float n = shifted - 12582912.0f;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float e = 1.0f / 720;
  e = e * r + 1.0f / 120;
  e = e * r + 1.0f / 24;
  e = e * r + 1.0f / 6;
  e = e * r + 0.5f;
  e = e * r + 1.0f;
  e = e * r + 1.0f;
  int32_t bits;
  memcpy(&bits, &shifted, 4);
  bits = (bits - 0x4B400000 + 127) << 23;
  float power;
  memcpy(&power, &bits, 4);
  return e * power;
}

#endif
