// kernels/arith/philox_test.cc: the generator against published vectors, the keep rule, bfloat16.
#include "kernels/arith/philox.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

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

TEST(Philox, MapsElementsToWordsOfConsecutiveCounters) {
  const PhiloxRecord r{0x1234567890abcdefull, 0xfffffffeull};
  for (uint64_t i = 0; i < 16; ++i) {
    const uint64_t c = r.offset + i / 4;  // passes 2^32: the carry goes to the second word
    const PhiloxWords w =
        philox_4x32_10({{uint32_t(c), uint32_t(c >> 32), 0, 0}}, 0x90abcdef, 0x12345678);
    EXPECT_EQ(philox_word(r, i), w.w[i % 4]) << i;
  }
}

TEST(Philox, ThresholdIsTheNearestShareOf32Bits) {
  EXPECT_EQ(keep_threshold(0.0f), 0u);
  EXPECT_EQ(keep_threshold(0.5f), 0x80000000u);
  EXPECT_EQ(keep_threshold(0.25f), 0x40000000u);
  EXPECT_EQ(keep_threshold(std::nextafter(1.0f, 0.0f)), 0xffffff00u);
  EXPECT_EQ(philox_counters(0), 0u);
  EXPECT_EQ(philox_counters(1), 1u);
  EXPECT_EQ(philox_counters(8), 2u);
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
