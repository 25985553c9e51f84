// kernels/cpu/norm_test.cc: LayerNorm and RMSNorm against float64.
#include <bit>

#include "kernels/kernel_test.h"
#include "kernels/select.h"

namespace rc {
namespace {

struct NormCase {
  bool layer, gamma, beta, zero_centered;
  DType params;
};

void check_norm(const NormCase& c, DType dtype, int64_t rows, int64_t cols, int64_t gap,
                float mean_shift) {
  HostTensor x(dtype, {rows, cols}, gap, 1), y(dtype, {rows, cols}, gap + 2, 3);
  HostTensor gamma(c.params, {cols}, 0, 1), beta(c.params, {cols}, 0, 2);
  HostTensor mean(DType::f32, {rows}), rstd(DType::f32, {rows});
  x.fill(1, mean_shift - 2, mean_shift + 2);
  gamma.fill(2, 0.5, 1.5);
  beta.fill(3);
  KernelDesc d{.kind = c.layer ? KernelKind::layernorm : KernelKind::rmsnorm, .epsilon = 1e-6f};
  d.zero_centered_gamma = c.zero_centered;
  std::vector<Tensor> params, saved;
  if (c.gamma) params.push_back(gamma);
  if (c.beta) params.push_back(beta);
  if (c.layer) saved.push_back(mean);
  saved.push_back(rstd);
  SerialParallel serial;
  ASSERT_TRUE(run(d, {x}, params, {y}, saved, {}, serial).ok());
  for (int64_t r = 0; r < rows; ++r) {
    double m = 0, v = 0;
    for (int64_t i = 0; i < cols; ++i) m += x.get(r * cols + i) / static_cast<double>(cols);
    if (!c.layer) m = 0;
    for (int64_t i = 0; i < cols; ++i)
      v += std::pow(x.get(r * cols + i) - m, 2) / static_cast<double>(cols);
    const double s = 1 / std::sqrt(v + 1e-6);
    // A row's mean is off by its own rounding, about |mean| 2^-23, which rstd then scales.
    const double slack = std::fabs(double{mean_shift}) * 2.4e-7;
    if (c.layer) {
      ASSERT_NEAR(mean.get(r), m, 1e-6 + slack);
    }
    ASSERT_NEAR(rstd.get(r), s, s * (3e-6 + slack * slack * s * s));
    for (int64_t i = 0; i < cols; ++i) {
      const double g = (c.gamma ? gamma.get(i) : 1.0) + (c.zero_centered && c.gamma ? 1 : 0);
      const double want = (x.get(r * cols + i) - m) * s * g + (c.beta ? beta.get(i) : 0.0);
      ASSERT_TRUE(close(dtype, y.get(r * cols + i), want, 4e-6 + slack * s * g * 1.5, 4e-6))
          << "row " << r << " col " << i << " got " << y.get(r * cols + i) << " want " << want;
    }
  }
  EXPECT_TRUE(y.intact() && mean.intact() && rstd.intact());
}

TEST(Norms, MatchFloat64OnAllShapesAndLevels) {
  for_each_level([] {
    for (DType t : kDTypes) {
      for (const NormCase& c : {NormCase{true, true, true, false, t},
                                {true, true, false, true, DType::f32},
                                {true, false, false, false, t},
                                {true, true, true, true, t},
                                {false, true, false, false, t},
                                {false, true, false, true, DType::f32},
                                {false, false, false, false, t}}) {
        for (int64_t cols : {2, 15, 16, 67, 300}) check_norm(c, t, 19, cols, cols % 3, 0);
        check_norm(c, t, 0, 8, 0, 0);
        check_norm(c, t, 3, 1024, 0, 0);
      }
    }
  });
}

TEST(Norms, ALargeMeanDoesNotCancelTheVariance) {
  check_norm({true, true, true, false, DType::f32}, DType::f32, 4, 4096, 0, 1000);
}

TEST(Norms, BitsDoNotDependOnThreadsOrOnWhatIsWanted) {
  ThreadPool two(2), three(3);
  SerialParallel serial;
  for (DType t : kDTypes) {
    for (KernelKind kind : {KernelKind::layernorm, KernelKind::rmsnorm}) {
      HostTensor x(t, {301, 517}), g(t, {517}), a(t, {301, 517}), b(t, {301, 517}),
          c(t, {301, 517}, 3, 1);
      HostTensor s1(DType::f32, {301}), s2(DType::f32, {301}), s3(DType::f32, {301});
      x.fill(1);
      g.fill(2);
      KernelDesc d{.kind = kind};
      Tensor none = s1;
      none.data = nullptr;
      const auto saved = [&](const Tensor& rstd) {
        return kind == KernelKind::layernorm ? std::vector<Tensor>{none, rstd}
                                             : std::vector<Tensor>{rstd};
      };
      ASSERT_TRUE(run(d, {x}, {g}, {a}, saved(s1), {}, serial).ok());
      ASSERT_TRUE(run(d, {x}, {g}, {b}, saved(s2), {}, two).ok());
      ASSERT_TRUE(run(d, {x}, {g}, {c}, {}, {}, three).ok());
      Tensor no_y = a;
      no_y.data = nullptr;
      ASSERT_TRUE(run(d, {x}, {g}, {no_y}, saved(s3), {}, three).ok());
      EXPECT_EQ(a.bytes(), b.bytes());
      EXPECT_EQ(a.bytes(), c.bytes());
      EXPECT_EQ(s1.bytes(), s2.bytes());
      EXPECT_EQ(s1.bytes(), s3.bytes());
      ASSERT_TRUE(run(d, {x}, {g}, {x}, {}, {}, two).ok());
      EXPECT_EQ(a.bytes(), x.bytes()) << "in place";
    }
  }
}

TEST(Norms, StreamingStoresGiveTheSameBits) {
  for_each_level([] {
    ThreadPool two(2);
    for (DType t : kDTypes) {
      HostTensor x(t, {65, 2051}, 1), g(t, {2051}), cached(t, {65, 2051}),
          streamed(t, {65, 2051}, 2, 1);
      x.fill(1);
      g.fill(2);
      for (KernelKind kind : {KernelKind::layernorm, KernelKind::rmsnorm}) {
        ASSERT_TRUE(run({.kind = kind}, {x}, {g}, {cached}, {}, {}, two).ok());
        set_last_level_cache_for_test(4096);
        ASSERT_TRUE(run({.kind = kind}, {x}, {g}, {streamed}, {}, {}, two).ok());
        set_last_level_cache_for_test(0);
        ASSERT_EQ(cached.bytes(), streamed.bytes());
        ASSERT_TRUE(streamed.intact());
      }
    }
  });
}

// A row of ones with no epsilon to speak of writes gamma itself, in bfloat16.
TEST(Norms, Bfloat16RoundsToNearestEvenForAllBits) {
  for_each_level([] {
    const int64_t n = 1 << 16;
    HostTensor x(DType::bf16, {1, n}), gamma(DType::f32, {n}), y(DType::bf16, {1, n});
    x.fill(1, 1, 1);
    SerialParallel serial;
    const KernelDesc d{.kind = KernelKind::rmsnorm, .epsilon = 1e-12f};
    for (uint32_t lower : {0u, 1u, 0x7FFFu, 0x8000u, 0x8001u, 0xFFFFu}) {
      for (int64_t i = 0; i < n; ++i) {
        gamma.set(i, std::bit_cast<float>(static_cast<uint32_t>(i) << 16 | lower));
      }
      ASSERT_TRUE(run(d, {x}, {gamma}, {y}, {}, {}, serial).ok());
      for (int64_t i = 0; i < n; ++i) {
        const float got = y.get(i), want = bf16_to_f32(f32_to_bf16(gamma.get(i)));
        if (std::isnan(want)) {
          ASSERT_TRUE(std::isnan(got) && std::signbit(got) == std::signbit(want)) << i;
        } else {
          ASSERT_EQ(got, want) << i;
        }
      }
    }
  });
}

}  // namespace
}  // namespace rc
