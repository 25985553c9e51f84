// kernels/cpu/up_projection_test.cc: the GEMM against float64, its bits over threads, rows and
// BLAS.
#include "kernels/cpu/gemm.h"
#include "kernels/kernel_test.h"

namespace rc {
namespace {

void check_projection(DType t, int64_t M, int64_t N, int64_t K, bool bias, bool blas = false) {
  HostTensor x(t, {M, K}, 3, 1), w(t, {N, K}, 5), b(DType::f32, {N}), y(t, {M, N}, 2, 3);
  x.fill(1, -1, 1);
  w.fill(2, -1, 1);
  b.fill(3);
  SerialParallel serial;
  std::vector<Tensor> params{w};
  if (bias) params.push_back(b);
  KernelDesc d{.kind = KernelKind::up_projection};
  d.blas = blas;
  ASSERT_TRUE(run(d, {x}, params, {y}, {}, {}, serial).ok());
  const std::vector<double> xs = x.values(), ws = w.values();
  for (int64_t i = 0; i < M; ++i) {
    for (int64_t j = 0; j < N; ++j) {
      double want = bias ? b.get(j) : 0.0, size = std::fabs(want);
      const double *row = xs.data() + i * K, *column = ws.data() + j * K;
      for (int64_t p = 0; p < K; ++p) {
        const double term = row[p] * column[p];
        want += term;
        size += std::fabs(term);
      }
      // Summation error: at most (blocks + depth of a block) roundings of the running size.
      ASSERT_TRUE(close(t, y.get(i * N + j), want, size * 2e-6 + 1e-7, 0)) << i << " " << j;
    }
  }
  EXPECT_TRUE(y.intact());
}

TEST(UpProjection, MatchesFloat64OnAllShapesAndLevels) {
  for_each_level([] {
    for (DType t : kDTypes) {
      check_projection(t, 1, 1, 1, true);
      check_projection(t, 13, 35, 17, true);
      check_projection(t, 25, 64, 32, false);
      check_projection(t, 3, 5, 300, true);
      check_projection(t, 0, 5, 3, true);
      check_projection(t, 5, 0, 3, false);
      check_projection(t, 5, 6, 0, true);
    }
  });
}

TEST(UpProjection, TilesJoinWithoutASeam) {
  for (DType t : kDTypes) check_projection(t, 200, 270, 530, true);
}

TEST(UpProjection, BitsDoNotDependOnThreadsOrOnTheOtherRows) {
  ThreadPool two(2), three(3);
  SerialParallel serial;
  for (DType t : kDTypes) {
    HostTensor x(t, {401, 333}), w(t, {300, 333}), a(t, {401, 300}), b(t, {401, 300}),
        c(t, {401, 300});
    x.fill(1);
    w.fill(2);
    KernelDesc d{.kind = KernelKind::up_projection};
    ASSERT_TRUE(run(d, {x}, {w}, {a}, {}, {}, serial).ok());
    ASSERT_TRUE(run(d, {x}, {w}, {b}, {}, {}, two).ok());
    EXPECT_EQ(a.bytes(), b.bytes());
    // The rows in two calls, cut where no tile ends.
    for (auto [first, n] : {std::pair<int64_t, int64_t>{0, 77}, {77, 324}}) {
      Tensor xs = x, cs = c;
      const int64_t unit = dtype_bytes(t);
      xs.shape[0] = cs.shape[0] = n;
      xs.data = static_cast<char*>(xs.data) + first * 333 * unit;
      cs.data = static_cast<char*>(cs.data) + first * 300 * unit;
      ASSERT_TRUE(run(d, {xs}, {w}, {cs}, {}, {}, three).ok());
    }
    EXPECT_EQ(a.bytes(), c.bytes());
  }
}

TEST(UpProjection, TheBlasVariantIsRightAndStableOrRefused) {
  HostTensor x(DType::f32, {401, 530}), w(DType::f32, {300, 530}), a(DType::f32, {401, 300});
  HostTensor b(DType::f32, {401, 300});
  x.fill(1);
  w.fill(2);
  KernelDesc d{.kind = KernelKind::up_projection};
  d.blas = true;
  SerialParallel serial;
  ThreadPool three(3);
  const Status s = run(d, {x}, {w}, {a}, {}, {}, serial);
  if (!cpu::have_blas()) {
    EXPECT_EQ(s.code(), RC_E_UNSUPPORTED);
    return;
  }
  ASSERT_TRUE(s.ok());
  ASSERT_TRUE(run(d, {x}, {w}, {b}, {}, {}, three).ok());
  EXPECT_EQ(a.bytes(), b.bytes());
  for (DType t : kDTypes) check_projection(t, 200, 270, 530, true, true);
}

}  // namespace
}  // namespace rc
