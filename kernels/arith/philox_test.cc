// kernels/arith/philox_test.cc: the generator against published vectors, the keep rule, bfloat16.
#include "kernels/arith/philox.h"

#include <gtest/gtest.h>

#include <cmath>
#include <iterator>
#include <limits>
#include <vector>

#include "kernels/arith/bf16.h"
#include "kernels/arith/scalar_math.h"

namespace rc {
namespace {

void expect_words(PhiloxWords counter, uint32_t key0, uint32_t key1, PhiloxWords want) {
  const PhiloxWords got = philox_4x32_10(counter, key0, key1);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(got.w[i], want.w[i]) << i;
}

// The known-answer vectors of Random123 (kat_vectors, philox4x32 10).
TEST(Philox, GivesThePublishedVectors) {
  expect_words({{0, 0, 0, 0}}, 0, 0, {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}});
  expect_words({{~0u, ~0u, ~0u, ~0u}}, ~0u, ~0u,
               {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}});
  expect_words({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0xa4093822, 0x299f31d0,
               {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}});
}

TEST(Philox, MapsElementsToHalvesOfTheWordsOfConsecutiveCounters) {
  const PhiloxRecord r{0x1234567890abcdefull, 0xfffffffeull};
  for (uint64_t i = 0; i < 32; ++i) {
    const uint64_t c = r.offset + i / 8;  // passes 2^32: the carry goes to the second word
    const PhiloxWords w =
        philox_4x32_10({{uint32_t(c), uint32_t(c >> 32), 0, 0}}, 0x90abcdef, 0x12345678);
    const uint32_t word = w.w[i % 8 / 2];
    EXPECT_EQ(philox_draw(r, i), i % 2 == 0 ? word & 0xffff : word >> 16) << i;
  }
  // The first published vector, by halves.
  const uint16_t want[] = {0xe8d5, 0x6627, 0xc58d, 0xe169, 0xac4c, 0xbc57, 0xdbd8, 0x9b00};
  for (uint64_t i = 0; i < 8; ++i) EXPECT_EQ(philox_draw({0, 0}, i), want[i]) << i;
  EXPECT_EQ(philox_counters(0), 0u);
  EXPECT_EQ(philox_counters(1), 1u);
  EXPECT_EQ(philox_counters(8), 1u);
  EXPECT_EQ(philox_counters(9), 2u);
}

TEST(DropoutRule, ThresholdIsTheNearestShareOf16BitsAndTheScaleBelongsToIt) {
  EXPECT_EQ(drop_threshold(0.0f), 0);
  EXPECT_EQ(drop_threshold(0.5f), 0x8000);
  EXPECT_EQ(drop_threshold(0.25f), 0x4000);
  EXPECT_EQ(drop_threshold(0.1f), 6554);  // 6553.6
  // Below half a step nothing is dropped, from there on one of 65,536.
  EXPECT_EQ(drop_threshold(std::ldexp(1.0f, -17)), 1);
  EXPECT_EQ(drop_threshold(std::nextafter(std::ldexp(1.0f, -17), 0.0f)), 0);
  EXPECT_EQ(drop_threshold(1e-30f), 0);
  EXPECT_EQ(keep_scale(1e-30f), 1.0f);
  EXPECT_EQ(keep_scale(0.0f), 1.0f);
  EXPECT_EQ(keep_scale(0.5f), 2.0f);
  EXPECT_EQ(keep_scale(0.1f), 65536.0f / 58982.0f);
  // Something is always kept.
  EXPECT_EQ(drop_threshold(std::nextafter(1.0f, 0.0f)), 65535);
  EXPECT_EQ(keep_scale(std::nextafter(1.0f, 0.0f)), 65536.0f);
  for (uint32_t t = 0; t < 65536; ++t) {
    ASSERT_EQ(drop_threshold(static_cast<float>(t) / 65536.0f), t);
  }
}

// The share kept by draws of one seed, five standard deviations of a binomial count wide: for
// 2^23 draws and p = 0.1 that is 0.0005.
TEST(DropoutRule, KeepsTheShareThatItsScaleSays) {
  const uint64_t n = 1 << 23;
  const float ps[] = {1e-4f, 0.1f, 0.3f, 0.5f, 0.9f, 0.999f};
  uint64_t kept[std::size(ps)][8] = {};
  const PhiloxRecord r{2026, 11};
  for (uint64_t c = 0; c < n / 8; ++c) {
    const PhiloxWords w = philox_counter(r, c);
    for (uint64_t k = 0; k < 8; ++k) {
      const uint32_t draw = w.w[k / 2] >> (k % 2 * 16) & 0xffff;
      for (size_t j = 0; j < std::size(ps); ++j) kept[j][k] += draw >= drop_threshold(ps[j]);
    }
  }
  for (size_t j = 0; j < std::size(ps); ++j) {
    const double share = 1 / double{keep_scale(ps[j])};
    double all = 0;
    for (uint64_t count : kept[j]) {  // each of the eight draws of a counter, and all of them
      all += double(count);
      EXPECT_NEAR(double(count) * 8 / double(n), share, 5 * std::sqrt(share * (1 - share) * 8 / n));
    }
    EXPECT_NEAR(all / double(n), share, 5 * std::sqrt(share * (1 - share) / n)) << ps[j];
  }
}

// Two elements are dropped together as often as chance says: halves of a word, neighbours across
// words and counters, elements one counter apart; and draws are uncorrelated as numbers.
TEST(DropoutRule, DropsNeighboursIndependently) {
  const int64_t n = 1 << 22;
  const PhiloxRecord r{7, 1ull << 40};
  std::vector<uint16_t> draws(size_t(n) + 8);
  for (size_t i = 0; i < draws.size(); i += 8) {
    const PhiloxWords w = philox_counter(r, i / 8);
    for (size_t k = 0; k < 8; ++k) draws[i + k] = uint16_t(w.w[k / 2] >> (k % 2 * 16));
  }
  for (float p : {0.1f, 0.5f}) {
    const uint16_t threshold = drop_threshold(p);
    const double q = threshold / 65536.0;
    for (int64_t distance = 1; distance <= 8; ++distance) {
      // Pairs that begin at an even element apart from those at an odd one: at distance 1 these are
      // the halves of one word, and of two.
      for (int64_t parity : {0, 1}) {
        int64_t together = 0;
        double product = 0;
        for (int64_t i = parity; i < n; i += 2) {
          const uint16_t a = draws[size_t(i)], b = draws[size_t(i + distance)];
          together += a < threshold && b < threshold;
          product += (a - 32767.5) * (b - 32767.5);
        }
        const double pairs = double(n) / 2, sigma = std::sqrt(q * q * (1 - q * q) / pairs);
        EXPECT_NEAR(double(together) / pairs, q * q, 5 * sigma) << distance << " " << parity;
        // The variance of a draw is (2^32 - 1) / 12.
        EXPECT_NEAR(product / pairs / (4294967295.0 / 12), 0, 5 / std::sqrt(pairs)) << distance;
      }
    }
  }
}

// Ties go away from zero, elsewhere to even; a product of a bfloat16 and a scale that ends in one
// is so rare that the rounding is that of the other kernels for all but a few pairs.
TEST(DropoutRule, RoundsBf16ProductsToTheNearest) {
  int64_t others = 0;
  for (uint32_t threshold = 0; threshold < 65536; ++threshold) {
    const DropoutRule rule = dropout_rule({}, static_cast<float>(threshold) / 65536.0f);
    for (uint32_t x = 0; x < 256; ++x) {  // denormal numbers and 1 to 2
      const uint16_t in = static_cast<uint16_t>(x < 128 ? x : 0x3f00 + x);
      const uint16_t got = dropped(rule, 0xffff, in),
                     even = f32_to_bf16(bf16_to_f32(in) * rule.scale);
      others += got != even;
      ASSERT_LE(got - even, 1);
    }
  }
  EXPECT_LE(others, 32);
  const DropoutRule rule = dropout_rule({}, 0.1f);
  for (uint32_t x = 0; x < 65536; ++x) {
    const uint16_t in = static_cast<uint16_t>(x), got = dropped(rule, 0xffff, in);
    ASSERT_EQ(dropped(rule, 0, in), 0) << "a dropped NaN is zero too";
    ASSERT_EQ(std::isnan(bf16_to_f32(got)), std::isnan(bf16_to_f32(in))) << x;
    ASSERT_EQ(got >> 15, in >> 15) << x;
  }
  EXPECT_EQ(dropped(rule, 0xffff, uint16_t{0x7f80}), 0x7f80);
  EXPECT_EQ(dropped(rule, 0xffff, uint16_t{0xff7f}), 0xff80) << "beyond the largest is infinite";
  EXPECT_EQ(dropped(rule, 0xffff, uint16_t{0x8000}), 0x8000);
}

TEST(Bf16, RoundsToNearestEvenAndKeepsNan) {
  EXPECT_EQ(f32_to_bf16(1.0f), 0x3f80);
  EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(0x3f808000u)), 0x3f80);  // tie to even
  EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(0x3f818000u)), 0x3f82);  // tie to even
  EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(0x3f808001u)), 0x3f81);
  EXPECT_EQ(f32_to_bf16(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(std::bit_cast<float>(0x7f800001u)))));
  EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(std::bit_cast<float>(0xffffffffu)))));
}

TEST(Formulas, KeepTheirStatedErrorsAsScalars) {
  using scalar::ScalarMath;
  double exp_error = 0, erf_error = 0, tail_error = 0, tanh_error = 0;
  for (double x = -87; x < 88; x += 0.00137) {
    const float f = static_cast<float>(x);
    exp_error =
        std::max(exp_error, std::fabs(scalar::exp_of<ScalarMath>(f) / std::exp(double{f}) - 1));
  }
  for (double x = -12; x < 12; x += 0.000173) {
    const float f = static_cast<float>(x);
    const double d = f, want = 0.5 * d * std::erfc(-d / std::sqrt(2.0));
    const double got = scalar::gelu_erf_of<ScalarMath>(f);
    erf_error = std::max(erf_error, std::fabs(got - want) / (1 + std::fabs(d)));
    if (d < 0) tail_error = std::max(tail_error, std::fabs(got / want - 1));
    const double u = std::sqrt(2 / M_PI) * (d + 0.044715 * d * d * d);
    const double want_tanh = d / (1 + std::exp(-2 * u));
    tanh_error = std::max(tanh_error, std::fabs(scalar::gelu_tanh_of<ScalarMath>(f) - want_tanh) /
                                          (1 + std::fabs(d)));
  }
  EXPECT_LT(exp_error, 1.3e-7);
  EXPECT_LT(erf_error, 1.2e-7);
  EXPECT_LT(tail_error, 5e-6);
  EXPECT_LT(tanh_error, 1.5e-7);
}

TEST(Formulas, SurviveInfinitiesAndNan) {
  using scalar::ScalarMath;
  const float inf = std::numeric_limits<float>::infinity(), nan = std::nanf("");
  EXPECT_EQ(scalar::exp_of<ScalarMath>(-inf), 0.0f);
  EXPECT_EQ(scalar::exp_of<ScalarMath>(inf), inf);
  EXPECT_TRUE(std::isnan(scalar::exp_of<ScalarMath>(nan)));
  EXPECT_EQ(scalar::gelu_erf_of<ScalarMath>(inf), inf);
  EXPECT_EQ(std::fabs(scalar::gelu_erf_of<ScalarMath>(-inf)), 0.0f);
  EXPECT_TRUE(std::isnan(scalar::gelu_erf_of<ScalarMath>(nan)));
  EXPECT_EQ(scalar::gelu_tanh_of<ScalarMath>(inf), inf);
  EXPECT_EQ(std::fabs(scalar::gelu_tanh_of<ScalarMath>(-1e38f)), 0.0f);
  EXPECT_EQ(scalar::silu_of<ScalarMath>(inf), inf);
  EXPECT_EQ(std::fabs(scalar::silu_of<ScalarMath>(-1e30f)), 0.0f);
}

}  // namespace
}  // namespace rc
