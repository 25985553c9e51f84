/* examples/gpt/philox.h: Philox-4x32-10 (Salmon et al., SC'11) and the dropout mask that it writes,
 * zero bytes stored. */
#ifndef EXAMPLES_GPT_PHILOX_H
#define EXAMPLES_GPT_PHILOX_H
#include <stddef.h>
#include <stdint.h>

#ifdef _OPENMP
#define LANES_ARE_INDEPENDENT _Pragma("omp simd")
#else
#define LANES_ARE_INDEPENDENT
#endif

/* Element i of a tensor uses word i % 4 of counter block `offset + i / 4`, keyed by `seed`. */
typedef struct Rng {
  uint64_t seed;
  uint64_t offset;
} Rng;

enum { PHILOX_LANES = 16, PHILOX_GROUP = 4 * PHILOX_LANES };

/* Sixteen blocks from `block`, words in element order. A compiler without OpenMP may run the lanes
 * one by one. */
static inline void philox_group(Rng rng, uint64_t block, uint32_t words[PHILOX_GROUP]) {
  uint32_t c0[PHILOX_LANES], c1[PHILOX_LANES], c2[PHILOX_LANES], c3[PHILOX_LANES];
  uint32_t key0 = (uint32_t)rng.seed, key1 = (uint32_t)(rng.seed >> 32);
  LANES_ARE_INDEPENDENT
  for (int l = 0; l < PHILOX_LANES; l++) {
    const uint64_t counter = rng.offset + block + (uint64_t)l;
    c0[l] = (uint32_t)counter;
    c1[l] = (uint32_t)(counter >> 32);
    c2[l] = 0;
    c3[l] = 0;
  }
  for (int round = 0; round < 10; round++) {
    LANES_ARE_INDEPENDENT
    for (int l = 0; l < PHILOX_LANES; l++) {
      const uint64_t p0 = (uint64_t)0xD2511F53u * c0[l];
      const uint64_t p1 = (uint64_t)0xCD9E8D57u * c2[l];
      c0[l] = (uint32_t)(p1 >> 32) ^ c1[l] ^ key0;
      c1[l] = (uint32_t)p1;
      c2[l] = (uint32_t)(p0 >> 32) ^ c3[l] ^ key1;
      c3[l] = (uint32_t)p0;
    }
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  LANES_ARE_INDEPENDENT
  for (int l = 0; l < PHILOX_LANES; l++) {
    words[4 * l] = c0[l];
    words[4 * l + 1] = c1[l];
    words[4 * l + 2] = c2[l];
    words[4 * l + 3] = c3[l];
  }
}

/* One word; for draws that are not hot. */
static inline uint32_t philox_word(Rng rng, uint64_t element) {
  uint32_t words[PHILOX_GROUP];
  philox_group(rng, element / 4, words);
  return words[element % 4];
}

/* Counter blocks that a tensor of n elements takes. */
static inline uint64_t philox_blocks(uint64_t n) {
  return (n + 3) / 4;
}

#endif
