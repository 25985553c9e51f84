// kernels/arith/philox.h: the counter-based generator Philox-4x32-10 and the dropout rule on top.
//
// Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11.
//
// The element-to-counter map of every kernel with dropout. Let i be the index of an element in the
// row-major order of the logical shape (strides do not matter; attention: [batch, heads, q, k]).
//   counter = {lo32(offset + i / 8), hi32(offset + i / 8), 0, 0},  key = {lo32(seed), hi32(seed)}
//   The counter's four words are eight draws of 16 bits, a word's lower half before its upper one.
//   The element has draw i % 8, and is kept if draw >= drop_threshold(p).
// A mask is thus a function of {seed, offset, i, p} and is never stored. One use of n elements
// consumes ceil(n / 8) counters: the next use takes its offset behind them.
//
// A draw of 16 bits makes p a multiple of 2^-16: the nearest (halves go up), at most 65535 / 65536.
// Below 2^-17 nothing is dropped. What is kept is divided by the share that this p keeps, so the
// mean of the outputs is the input's. (32 bits for each element would double the multiplications,
// which then take longer than the memory's traffic.)
#pragma once

#include <cstdint>

#include "kernels/arith/bf16.h"
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

inline constexpr uint64_t kDrawsPerCounter = 8;

RC_HD PhiloxWords philox_counter(PhiloxRecord r, uint64_t counter) {
  counter += r.offset;
  return philox_4x32_10(
      {{static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32), 0u, 0u}},
      static_cast<uint32_t>(r.seed), static_cast<uint32_t>(r.seed >> 32));
}

// The draw of element i.
RC_HD uint16_t philox_draw(PhiloxRecord r, uint64_t i) {
  const PhiloxWords c = philox_counter(r, i / kDrawsPerCounter);
  return static_cast<uint16_t>(c.w[i % kDrawsPerCounter / 2] >> (i % 2 * 16));
}

// P(draw < threshold) = threshold / 2^16, the nearest to p that 16 bits can say; p in [0, 1).
RC_HD uint16_t drop_threshold(float p) {
  const double t = static_cast<double>(p) * 65536.0 + 0.5;
  return t >= 65535.0 ? uint16_t{65535} : static_cast<uint16_t>(t);
}

// One over the share that is kept.
RC_HD float keep_scale(float p) {
  return 65536.0f / static_cast<float>(65536 - drop_threshold(p));
}

// What a kernel needs to drop.
struct DropoutRule {
  PhiloxRecord record;
  uint16_t threshold;
  float scale;
};

RC_HD DropoutRule dropout_rule(PhiloxRecord record, float p) {
  return {record, drop_threshold(p), keep_scale(p)};
}

// A dropped element is +0, whatever it was.
RC_HD float dropped(const DropoutRule& rule, uint16_t draw, float x) {
  return draw < rule.threshold ? 0.0f : x * rule.scale;
}

// bfloat16: the float32 product to the nearest, ties away from zero. Of 65,536 scales times 256
// mantissas, 45 products end in a tie, and no exact one does: their own rounding makes it. A NaN's
// lower half is 0, as x's is, so that the sum does not carry into its sign.
RC_HD uint16_t dropped(const DropoutRule& rule, uint16_t draw, uint16_t x) {
  const uint32_t product = std::bit_cast<uint32_t>(bf16_to_f32(x) * rule.scale);
  return draw < rule.threshold ? uint16_t{0} : static_cast<uint16_t>((product + 0x8000u) >> 16);
}

RC_HD uint64_t philox_counters(uint64_t elements) {
  return (elements + kDrawsPerCounter - 1) / kDrawsPerCounter;
}

}  // namespace rc
