// kernels/arith/philox.h: the counter-based generator Philox-4x32-10 and the dropout rule on top.
//
// Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11.
//
// The element-to-counter map of every kernel with dropout. Let i be the index of an element in the
// row-major order of the logical shape (strides do not matter; attention: [batch, heads, q, k]).
//   counter = {lo32(offset + i / 4), hi32(offset + i / 4), 0, 0},  key = {lo32(seed), hi32(seed)}
//   the element uses word i % 4 of the counter's four words, and is kept if word >=
//   keep_threshold(p).
// A mask is thus a function of {seed, offset, i, p} and is never stored. One use of n elements
// consumes ceil(n / 4) counters: the next use takes its offset behind them.
#pragma once

#include <cstdint>

#include "kernels/arith/hd.h"

namespace rc {

struct PhiloxRecord {
  uint64_t seed = 0;
  uint64_t offset = 0;
};

inline constexpr uint32_t kPhiloxMul0 = 0xD2511F53u, kPhiloxMul1 = 0xCD9E8D57u;
inline constexpr uint32_t kPhiloxWeyl0 = 0x9E3779B9u, kPhiloxWeyl1 = 0xBB67AE85u;
inline constexpr int kPhiloxRounds = 10;

struct PhiloxWords {
  uint32_t w[4];
};

RC_HD PhiloxWords philox_4x32_10(PhiloxWords c, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const uint64_t p0 = static_cast<uint64_t>(kPhiloxMul0) * c.w[0];
    const uint64_t p1 = static_cast<uint64_t>(kPhiloxMul1) * c.w[2];
    c = {{static_cast<uint32_t>(p1 >> 32) ^ c.w[1] ^ key0, static_cast<uint32_t>(p1),
          static_cast<uint32_t>(p0 >> 32) ^ c.w[3] ^ key1, static_cast<uint32_t>(p0)}};
    key0 += kPhiloxWeyl0;
    key1 += kPhiloxWeyl1;
  }
  return c;
}

// The word of element i.
RC_HD uint32_t philox_word(PhiloxRecord r, uint64_t i) {
  const uint64_t counter = r.offset + i / 4;
  const PhiloxWords c = philox_4x32_10(
      {{static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32), 0u, 0u}},
      static_cast<uint32_t>(r.seed), static_cast<uint32_t>(r.seed >> 32));
  return c.w[i % 4];
}

// P(word < threshold) = threshold / 2^32, the nearest to p that 32 bits can say; p in [0, 1).
RC_HD uint32_t keep_threshold(float p) {
  const double t = static_cast<double>(p) * 4294967296.0 + 0.5;
  return t >= 4294967295.0 ? 4294967295u : static_cast<uint32_t>(t);
}

RC_HD float keep_scale(float p) {
  return 1.0f / (1.0f - p);
}

// What a kernel needs to drop: element i becomes word(i) >= threshold ? x * scale : 0.
struct DropoutRule {
  PhiloxRecord record;
  uint32_t threshold;
  float scale;
};

RC_HD DropoutRule dropout_rule(PhiloxRecord record, float p) {
  return {record, keep_threshold(p), keep_scale(p)};
}

RC_HD uint64_t philox_counters(uint64_t elements) {
  return (elements + 3) / 4;
}

}  // namespace rc
