// kernels/cpu/softmax_test.cc: softmax against float64, causal limits, extremes.
#include <limits>

#include "kernels/kernel_test.h"

namespace rc {
namespace {

void check_softmax(DType t, int64_t batch, int64_t queries, int64_t keys, bool causal,
                   float scale) {
  HostTensor x(t, {batch, queries, keys}, 3, 1), y(t, {batch, queries, keys}, 1, 2);
  x.fill(1, -8, 8);
  SerialParallel serial;
  KernelDesc d{.kind = KernelKind::softmax, .scale = scale, .causal = causal};
  ASSERT_TRUE(run(d, {x}, {}, {y}, {}, {}, serial).ok());
  const double c = scale != 0 ? scale : 1;
  for (int64_t r = 0; r < batch * queries; ++r) {
    const int64_t limit = r % queries + keys - queries + 1;
    const int64_t seen = causal ? std::max<int64_t>(0, limit) : keys;
    double sum = 0;
    for (int64_t i = 0; i < seen; ++i) sum += std::exp(c * x.get(r * keys + i));
    for (int64_t i = 0; i < keys; ++i) {
      const double want = i < seen ? std::exp(c * x.get(r * keys + i)) / sum : 0;
      // x * scale is rounded before the exponential: |8 scale| 2^-24 relative, and the sum's error.
      ASSERT_TRUE(close(t, y.get(r * keys + i), want, 1e-12, 3e-6)) << r << " " << i;
    }
  }
  EXPECT_TRUE(y.intact());
}

TEST(Softmax, MatchesFloat64OnAllShapesAndLevels) {
  for_each_level([] {
    for (DType t : kDTypes) {
      for (int64_t keys : {1, 7, 16, 33, 130}) check_softmax(t, 2, 3, keys, false, 0);
      check_softmax(t, 1, 1, 5000, false, 0.125f);
      check_softmax(t, 2, 9, 9, true, -0.5f);
      check_softmax(t, 2, 4, 37, true, 0);
      check_softmax(t, 1, 37, 4, true, 0);  // the first queries see no key
      check_softmax(t, 0, 3, 4, false, 0);
      check_softmax(t, 3, 2, 0, false, 0);
    }
  });
}

TEST(Softmax, LargeValuesDoNotOverflowAndMaskedOnesVanish) {
  for_each_level([] {
    HostTensor x(DType::f32, {1, 4}), y(DType::f32, {1, 4});
    const float inf = std::numeric_limits<float>::infinity();
    x.set(0, 3e38f);
    x.set(1, -inf);
    x.set(2, 3e38f);
    x.set(3, -3e38f);
    SerialParallel serial;
    ASSERT_TRUE(run({.kind = KernelKind::softmax}, {x}, {}, {y}, {}, {}, serial).ok());
    EXPECT_EQ(y.get(0), 0.5f);
    EXPECT_EQ(y.get(1), 0.0f);
    EXPECT_EQ(y.get(2), 0.5f);
    EXPECT_EQ(y.get(3), 0.0f);
    x.set(1, std::nanf(""));
    ASSERT_TRUE(run({.kind = KernelKind::softmax}, {x}, {}, {y}, {}, {}, serial).ok());
    EXPECT_TRUE(std::isnan(y.get(0)) && std::isnan(y.get(1)));
  });
}

TEST(Softmax, BitsDoNotDependOnThreadsOrAliasing) {
  ThreadPool two(2), three(3);
  SerialParallel serial;
  for (DType t : kDTypes) {
    HostTensor x(t, {401, 333}), a(t, {401, 333}), b(t, {401, 333});
    x.fill(1);
    KernelDesc d{.kind = KernelKind::softmax, .causal = true};
    ASSERT_TRUE(run(d, {x}, {}, {a}, {}, {}, serial).ok());
    ASSERT_TRUE(run(d, {x}, {}, {b}, {}, {}, two).ok());
    ASSERT_TRUE(run(d, {x}, {}, {x}, {}, {}, three).ok());
    EXPECT_EQ(a.bytes(), b.bytes());
    EXPECT_EQ(a.bytes(), x.bytes());
  }
}

}  // namespace
}  // namespace rc
