// kernels/cpu/attention_test.cc: plain and fused attention against float64 and each other.
#include <limits>

#include "kernels/kernel_test.h"

namespace rc {
namespace {

struct Shape {
  int64_t B, H, G, S, T, D, E;
  bool causal;
  float dropout;
};

const PhiloxRecord kRecord{77, 5};

// Float64 attention; the tensors of the test in, o, probs (before dropout) and lse out.
struct Reference {
  std::vector<double> o, probs, lse;
};

Reference reference(const Shape& s, const HostTensor& q, const HostTensor& k, const HostTensor& v) {
  Reference out;
  out.o.assign(size_t(s.B * s.H * s.S * s.E), 0);
  out.probs.assign(size_t(s.B * s.H * s.S * s.T), 0);
  out.lse.assign(size_t(s.B * s.H * s.S), -std::numeric_limits<double>::infinity());
  const double scale = 1 / std::sqrt(double(std::max<int64_t>(s.D, 1)));
  const std::vector<double> qs = q.values(), ks = k.values(), vs = v.values();
  for (int64_t row = 0; row < s.B * s.H * s.S; ++row) {
    const int64_t i = row % s.S, h = row / s.S % s.H, b = row / s.S / s.H;
    const int64_t kv = (b * s.G + h / (s.H / s.G)) * s.T;
    const int64_t seen = s.causal ? std::max<int64_t>(0, i + s.T - s.S + 1) : s.T;
    std::vector<double> score(static_cast<size_t>(seen));
    double max = -1e300, sum = 0;
    for (int64_t j = 0; j < seen; ++j) {
      const double *query = qs.data() + row * s.D, *key = ks.data() + (kv + j) * s.D;
      for (int64_t d = 0; d < s.D; ++d) score[j] += query[d] * key[d];
      score[j] *= scale;
      max = std::max(max, score[j]);
    }
    for (double x : score) sum += std::exp(x - max);
    if (seen > 0) out.lse[row] = max + std::log(sum);
    for (int64_t j = 0; j < seen; ++j) {
      double p = std::exp(score[j] - max) / sum;
      out.probs[row * s.T + j] = p;
      if (s.dropout > 0) {
        const bool kept =
            philox_draw(kRecord, uint64_t(row * s.T + j)) >= drop_threshold(s.dropout);
        p = kept ? p * keep_scale(s.dropout) : 0;
      }
      double* o = out.o.data() + row * s.E;
      const double* value = vs.data() + (kv + j) * s.E;
      for (int64_t e = 0; e < s.E; ++e) o[e] += p * value[e];
    }
  }
  return out;
}

void check_attention(const Shape& s, DType t) {
  HostTensor q(t, {s.B, s.H, s.S, s.D}, 1, 1), k(t, {s.B, s.G, s.T, s.D}, 3),
      v(t, {s.B, s.G, s.T, s.E}, 2, 5);
  HostTensor o(t, {s.B, s.H, s.S, s.E}, 4, 1), of(t, {s.B, s.H, s.S, s.E}),
      probs(t, {s.B, s.H, s.S, s.T}, 1);
  HostTensor o2(t, {s.B, s.H, s.S, s.E}), lse(DType::f32, {s.B, s.H, s.S});
  q.fill(1, -2, 2);
  k.fill(2, -2, 2);
  v.fill(3, -2, 2);
  SerialParallel serial;
  KernelDesc d{.kind = KernelKind::core_attention, .dropout = s.dropout, .causal = s.causal};
  ASSERT_TRUE(run(d, {q, k, v}, {}, {o}, {probs}, kRecord, serial).ok());
  ASSERT_TRUE(run(d, {q, k, v}, {}, {o2}, {}, kRecord, serial).ok());
  EXPECT_EQ(o.bytes(), o2.bytes()) << "saving the probabilities must not change the output";
  d.kind = KernelKind::fused_attention;
  ASSERT_TRUE(run(d, {q, k, v}, {}, {of}, {lse}, kRecord, serial).ok());
  const Reference want = reference(s, q, k, v);
  // Scores of size up to 2 sqrt(D) carry D roundings each, hence about 2e-6 relative in a weight;
  // weights times values of at most 2 sum to at most 2 / (1 - p).
  const double tolerance = 1e-5 / (1 - s.dropout);
  for (int64_t i = 0; i < o.size(); ++i) {
    ASSERT_TRUE(close(t, o.get(i), want.o[i], tolerance, 1e-5))
        << i << " " << o.get(i) << " " << want.o[i];
    ASSERT_TRUE(close(t, of.get(i), want.o[i], tolerance, 1e-5))
        << i << " " << of.get(i) << " " << want.o[i];
  }
  for (int64_t i = 0; i < probs.size(); ++i)
    ASSERT_TRUE(close(t, probs.get(i), want.probs[i], 1e-6, 2e-5)) << i;
  for (int64_t i = 0; i < lse.size(); ++i) {
    if (std::isinf(want.lse[i])) {
      ASSERT_EQ(lse.get(i), -std::numeric_limits<float>::infinity());
    } else {
      ASSERT_NEAR(lse.get(i), want.lse[i], 2e-6 * (1 + std::fabs(want.lse[i]))) << i;
    }
  }
  EXPECT_TRUE(o.intact() && of.intact() && probs.intact() && lse.intact());
}

TEST(Attention, PlainAndFusedMatchFloat64OnAllLevels) {
  for_each_level([] {
    for (DType t : kDTypes) {
      check_attention({1, 1, 1, 1, 1, 1, 1, false, 0}, t);
      check_attention({2, 2, 2, 5, 7, 8, 3, false, 0}, t);
      check_attention({1, 2, 1, 13, 13, 33, 33, true, 0}, t);
      check_attention({1, 4, 2, 50, 131, 17, 20, true, 0.25f}, t);
      check_attention({1, 1, 1, 9, 4, 8, 8, true, 0}, t);  // the first queries see no key
      check_attention({0, 2, 1, 9, 4, 8, 8, true, 0}, t);
      check_attention({1, 2, 1, 3, 0, 8, 8, false, 0}, t);
    }
  });
}

TEST(Attention, TilesJoinWithoutASeam) {
  for (DType t : kDTypes) {
    check_attention({1, 2, 1, 193, 300, 64, 48, true, 0.1f}, t);
    check_attention({1, 1, 1, 97, 257, 128, 128, false, 0}, t);
  }
}

TEST(Attention, LargeScoresDoNotOverflow) {
  HostTensor q(DType::f32, {1, 1, 1, 1}), k(DType::f32, {1, 1, 200, 1}),
      v(DType::f32, {1, 1, 200, 1});
  HostTensor o(DType::f32, {1, 1, 1, 1});
  q.set(0, 1);
  for (int64_t i = 0; i < 200; ++i) {
    k.set(i, static_cast<float>(i) * 1e30f);  // each tile's maximum dwarfs the one before
    v.set(i, static_cast<float>(i));
  }
  SerialParallel serial;
  for (KernelKind kind : {KernelKind::core_attention, KernelKind::fused_attention}) {
    ASSERT_TRUE(run({.kind = kind}, {q, k, v}, {}, {o}, {}, {}, serial).ok());
    EXPECT_EQ(o.get(0), 199.0f);
  }
}

TEST(Attention, BitsDoNotDependOnThreads) {
  ThreadPool two(2), three(3);
  SerialParallel serial;
  for (KernelKind kind : {KernelKind::core_attention, KernelKind::fused_attention}) {
    for (DType t : kDTypes) {
      HostTensor q(t, {2, 3, 205, 40}), k(t, {2, 3, 205, 40}), v(t, {2, 3, 205, 40});
      HostTensor a(t, {2, 3, 205, 40}), b(t, {2, 3, 205, 40}), c(t, {2, 3, 205, 40}, 8, 1);
      q.fill(1);
      k.fill(2);
      v.fill(3);
      KernelDesc d{.kind = kind, .dropout = 0.1f, .causal = true};
      ASSERT_TRUE(run(d, {q, k, v}, {}, {a}, {}, kRecord, serial).ok());
      ASSERT_TRUE(run(d, {q, k, v}, {}, {b}, {}, kRecord, two).ok());
      ASSERT_TRUE(run(d, {q, k, v}, {}, {c}, {}, kRecord, three).ok());
      EXPECT_EQ(a.bytes(), b.bytes());
      EXPECT_EQ(a.bytes(), c.bytes());
    }
  }
}

TEST(Attention, SavedTensorsAloneEqualThoseOfAFullRun) {
  HostTensor q(DType::f32, {1, 2, 140, 16}), o(DType::f32, {1, 2, 140, 16});
  HostTensor lse1(DType::f32, {1, 2, 140}), lse2(DType::f32, {1, 2, 140});
  HostTensor p1(DType::f32, {1, 2, 140, 140}), p2(DType::f32, {1, 2, 140, 140});
  q.fill(1);
  Tensor none = o;
  none.data = nullptr;
  SerialParallel serial;
  KernelDesc d{.kind = KernelKind::fused_attention, .causal = true};
  ASSERT_TRUE(run(d, {q, q, q}, {}, {o}, {lse1}, {}, serial).ok());
  ASSERT_TRUE(run(d, {q, q, q}, {}, {none}, {lse2}, {}, serial).ok());
  EXPECT_EQ(lse1.bytes(), lse2.bytes());
  d.kind = KernelKind::core_attention;
  ASSERT_TRUE(run(d, {q, q, q}, {}, {o}, {p1}, {}, serial).ok());
  ASSERT_TRUE(run(d, {q, q, q}, {}, {none}, {p2}, {}, serial).ok());
  EXPECT_EQ(p1.bytes(), p2.bytes());
}

TEST(Attention, CountersUsedCoverTheWholeScoreMatrix) {
  HostTensor q(DType::f32, {2, 3, 5, 4}), k(DType::f32, {2, 1, 7, 4});
  std::vector<Tensor> in{q, k, k}, out{q};
  KernelDesc d{.kind = KernelKind::fused_attention, .dropout = 0.5f};
  EXPECT_EQ(philox_counters_used(d, {in, {}, out, {}}), uint64_t(2 * 3 * 5 * 7 + 7) / 8);
}

}  // namespace
}  // namespace rc
