// kernels/cpu/elementwise_test.cc: GELU, SwiGLU, GeGLU, squared ReLU and dropout against float64.
#include "kernels/kernel_test.h"
#include "kernels/select.h"

namespace rc {
namespace {

double phi_gelu(double x) {
  return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
}
double tanh_gelu(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}
double silu(double x) {
  return x / (1 + std::exp(-x));
}
double relu2(double x) {
  return x > 0 ? x * x : 0;
}

struct Case {
  KernelKind kind;
  bool tanh;
  bool gated;
  double (*reference)(double);
};
const Case kCases[] = {
    {KernelKind::gelu, false, false, phi_gelu},      {KernelKind::gelu, true, false, tanh_gelu},
    {KernelKind::squared_relu, false, false, relu2}, {KernelKind::swiglu, false, true, silu},
    {KernelKind::geglu, false, true, phi_gelu},      {KernelKind::geglu, true, true, tanh_gelu},
};

KernelDesc desc_of(const Case& c) {
  KernelDesc d;
  d.kind = c.kind;
  d.tanh_gelu = c.tanh;
  return d;
}

void check_shape(const Case& c, DType dtype, int64_t rows, int64_t cols, int64_t gap,
                 int64_t shift) {
  HostTensor x(dtype, {rows, cols}, gap, shift), up(dtype, {rows, cols}, gap, shift + 1);
  HostTensor y(dtype, {rows, cols}, gap * 2, shift);
  x.fill(1, -9, 9);
  up.fill(2);
  SerialParallel serial;
  std::vector<Tensor> inputs{x};
  if (c.gated) inputs.push_back(up);
  ASSERT_TRUE(run(desc_of(c), inputs, {}, {y}, {}, {}, serial).ok());
  for (int64_t i = 0; i < x.size(); ++i) {
    const double want = c.reference(x.get(i)) * (c.gated ? up.get(i) : 1.0);
    // Four roundings of 6e-8 in the polynomials and divisions, and the factor up.
    ASSERT_TRUE(close(dtype, y.get(i), want, 1e-6 * (c.gated ? 3 : 1), 5e-7))
        << kernel_name(c.kind) << " x " << x.get(i) << " got " << y.get(i) << " want " << want;
  }
  EXPECT_TRUE(y.intact());
}

TEST(Activations, MatchFloat64OnAllShapesAndLevels) {
  for_each_level([] {
    for (const Case& c : kCases) {
      for (DType t : kDTypes) {
        for (int64_t n : {0, 1, 3, 16, 31, 257}) check_shape(c, t, 1, n, 0, n % 5);
        check_shape(c, t, 7, 33, 5, 3);
        check_shape(c, t, 5, 64, 0, 0);
      }
    }
  });
}

// A silent zero for a NaN would hide that a training run has diverged.
TEST(Activations, KeepANaNOnAllLevels) {
  for_each_level([] {
    for (const Case& c : kCases) {
      for (DType t : kDTypes) {
        HostTensor x(t, {1, 37}), up(t, {1, 37}), y(t, {1, 37});
        x.fill(3, -9, 9);
        up.fill(4);
        for (int64_t i : {0, 13, 36}) x.set(i, std::nanf(""));
        std::vector<Tensor> inputs{x};
        if (c.gated) inputs.push_back(up);
        SerialParallel serial;
        ASSERT_TRUE(run(desc_of(c), inputs, {}, {y}, {}, {}, serial).ok());
        for (int64_t i = 0; i < 37; ++i) {
          EXPECT_EQ(std::isnan(y.get(i)), std::isnan(x.get(i))) << kernel_name(c.kind) << " " << i;
        }
      }
    }
  });
}

TEST(Activations, PackedGateAndUpEqualSeparateOnes) {
  for (DType t : kDTypes) {
    HostTensor packed(t, {9, 2 * 37}, 3), gate(t, {9, 37}), up(t, {9, 37}), a(t, {9, 37}),
        b(t, {9, 37});
    packed.fill(5);
    for (int64_t r = 0; r < 9; ++r) {
      for (int64_t c = 0; c < 37; ++c) {
        gate.set(r * 37 + c, packed.get(r * 74 + c));
        up.set(r * 37 + c, packed.get(r * 74 + 37 + c));
      }
    }
    SerialParallel serial;
    KernelDesc d{.kind = KernelKind::swiglu};
    ASSERT_TRUE(run(d, {packed}, {}, {a}, {}, {}, serial).ok());
    ASSERT_TRUE(run(d, {gate, up}, {}, {b}, {}, {}, serial).ok());
    EXPECT_EQ(a.bytes(), b.bytes());
  }
}

TEST(Activations, BitsDoNotDependOnThreadsPlaceOrAliasing) {
  ThreadPool two(2), three(3);
  SerialParallel serial;
  const int64_t n = 3 * 65536 + 77;
  for (const Case& c : kCases) {
    for (DType t : kDTypes) {
      HostTensor x(t, {n}), up(t, {n}), y1(t, {n}), y2(t, {n}, 0, 3), y3(t, {n}, 0, 9);
      x.fill(7);
      up.fill(8);
      std::vector<Tensor> inputs{x};
      if (c.gated) inputs.push_back(up);
      ASSERT_TRUE(run(desc_of(c), inputs, {}, {y1}, {}, {}, serial).ok());
      ASSERT_TRUE(run(desc_of(c), inputs, {}, {y2}, {}, {}, two).ok());
      ASSERT_TRUE(run(desc_of(c), inputs, {}, {y3}, {}, {}, three).ok());
      const std::string bits = y1.bytes();
      EXPECT_EQ(bits, y2.bytes());
      EXPECT_EQ(bits, y3.bytes());
      ASSERT_TRUE(run(desc_of(c), inputs, {}, {x}, {}, {}, three).ok());
      EXPECT_EQ(bits, x.bytes());
    }
  }
}

// Outputs beyond 3/4 of the last-level cache are written past it; here the cache is said to be
// tiny.
TEST(Activations, StreamingStoresGiveTheSameBits) {
  for_each_level([] {
    ThreadPool two(2);
    const PhiloxRecord record{1, 2};
    for (DType t : kDTypes) {
      for (int64_t shift : {0, 1, 4, 8}) {
        HostTensor x(t, {2, 70001}), cached(t, {2, 70001}), streamed(t, {2, 70001}, 0, shift);
        x.fill(1);
        for (KernelKind kind : {KernelKind::gelu, KernelKind::swiglu, KernelKind::squared_relu,
                                KernelKind::dropout, KernelKind::softmax}) {
          KernelDesc d{.kind = kind, .dropout = kind == KernelKind::dropout ? 0.5f : 0.0f};
          std::vector<Tensor> inputs{x};
          if (kind == KernelKind::swiglu) inputs.push_back(x);
          ASSERT_TRUE(run(d, inputs, {}, {cached}, {}, record, two).ok());
          set_last_level_cache_for_test(4096);
          ASSERT_TRUE(run(d, inputs, {}, {streamed}, {}, record, two).ok());
          set_last_level_cache_for_test(0);
          ASSERT_EQ(cached.bytes(), streamed.bytes()) << kernel_name(kind);
          ASSERT_TRUE(streamed.intact());
        }
      }
    }
  });
}

TEST(Activations, AHostThreadThatFlushesDenormalsGetsTheSameBits) {
#if defined(__x86_64__)
  HostTensor x(DType::f32, {64}), a(DType::f32, {64}), b(DType::f32, {64});
  x.fill(3, 0, 1e-19f);  // the squares are denormal
  SerialParallel serial;
  KernelDesc d{.kind = KernelKind::squared_relu};
  ASSERT_TRUE(run(d, {x}, {}, {a}, {}, {}, serial).ok());
  const unsigned before = __builtin_ia32_stmxcsr();
  __builtin_ia32_ldmxcsr(before | 0x8040);  // flush to zero, denormals are zero
  const Status s = run(d, {x}, {}, {b}, {}, {}, serial);
  const unsigned after = __builtin_ia32_stmxcsr();
  __builtin_ia32_ldmxcsr(before);
  ASSERT_TRUE(s.ok());
  EXPECT_EQ(after & 0x8040, 0x8040u) << "the host's mode must be put back";
  EXPECT_EQ(a.bytes(), b.bytes());
  EXPECT_GT(a.get(63), 0.0f);
#endif
}

// The bits that the scalar rule of arith/philox.h gives.
void set_dropped(HostTensor& want, const HostTensor& x, const DropoutRule& rule) {
  for (int64_t i = 0; i < x.size(); ++i) {
    const uint16_t draw = philox_draw(rule.record, static_cast<uint64_t>(i));
    if (x.view().dtype == DType::f32) {
      want.set(i, dropped(rule, draw, x.get(i)));
    } else {
      want.set(i, bf16_to_f32(dropped(rule, draw, f32_to_bf16(x.get(i)))));
    }
  }
}

TEST(Dropout, FollowsTheDocumentedMapForAnyLayout) {
  for_each_level([] {
    const PhiloxRecord record{0xdeadbeef12345678ull, 0xfffffff0ull};
    const float p = 0.3f;
    for (DType t : kDTypes) {
      for (auto [rows, cols, gap] : {std::tuple<int64_t, int64_t, int64_t>{1, 1, 0},
                                     {1, 1999, 0},
                                     {13, 37, 3},
                                     {5, 1003, 1},
                                     {4, 128, 0},
                                     {3, 0, 0}}) {
        HostTensor x(t, {rows, cols}, gap, 1), y(t, {rows, cols}, gap + 1), want(t, {rows, cols});
        x.fill(4, 1, 2);
        SerialParallel serial;
        KernelDesc d{.kind = KernelKind::dropout, .dropout = p};
        ASSERT_TRUE(run(d, {x}, {}, {y}, {}, record, serial).ok());
        set_dropped(want, x, dropout_rule(record, p));
        ASSERT_EQ(y.bytes(), want.bytes()) << rows << " " << cols;
        EXPECT_TRUE(y.intact());
      }
    }
  });
}

// Kernels make draws for many counters at once, whose upper words they take for equal.
TEST(Dropout, CarriesTheCounterAtAnyPlaceOfAVector) {
  for_each_level([] {
    SerialParallel serial;
    const int64_t n = 2500;
    for (uint64_t top : {uint64_t{1} << 32, uint64_t{7} << 32, uint64_t{0}}) {  // 0 is 2^64
      for (uint64_t before : {0, 1, 5, 8, 31, 32, 47, 200, 311, 400}) {
        const PhiloxRecord record{before, top - before};
        for (DType t : kDTypes) {
          HostTensor x(t, {n}), y(t, {n}), want(t, {n});
          x.fill(4, 1, 2);
          KernelDesc d{.kind = KernelKind::dropout, .dropout = 0.5f};
          ASSERT_TRUE(run(d, {x}, {}, {y}, {}, record, serial).ok());
          set_dropped(want, x, dropout_rule(record, 0.5f));
          ASSERT_EQ(y.bytes(), want.bytes()) << top << " - " << before;
        }
      }
    }
  });
}

TEST(Dropout, TakesEveryBf16AndSpecialF32AsTheRuleDoes) {
  for_each_level([] {
    SerialParallel serial;
    for (float p : {0.0f, 0.1f, 0.5f, 0.97f}) {
      const DropoutRule rule = dropout_rule({3, 9}, p);
      KernelDesc d{.kind = KernelKind::dropout, .dropout = p};
      HostTensor x(DType::bf16, {65536}), y(DType::bf16, {65536});
      uint16_t* bits = static_cast<uint16_t*>(x.view().data);
      for (uint32_t i = 0; i < 65536; ++i) bits[i] = static_cast<uint16_t>(i * 40503u);
      ASSERT_TRUE(run(d, {x}, {}, {y}, {}, rule.record, serial).ok());
      const uint16_t* got = static_cast<const uint16_t*>(y.view().data);
      for (uint32_t i = 0; i < 65536; ++i) {
        ASSERT_EQ(got[i], dropped(rule, philox_draw(rule.record, i), bits[i])) << bits[i];
      }
      const float inf = std::numeric_limits<float>::infinity();
      const float special[] = {0.0f, -0.0f, inf, -inf, std::nanf(""), 1e-45f, 3e38f, -1e-39f};
      HostTensor xf(DType::f32, {1000}), yf(DType::f32, {1000}), want(DType::f32, {1000});
      for (int64_t i = 0; i < 1000; ++i) xf.set(i, special[i / 3 % 8]);
      ASSERT_TRUE(run(d, {xf}, {}, {yf}, {}, rule.record, serial).ok());
      set_dropped(want, xf, rule);
      ASSERT_EQ(yf.bytes(), want.bytes());
    }
  });
}

TEST(Dropout, KeepsTheMeanAndIsIndependentOfThreads) {
  const int64_t n = 1 << 20;
  SerialParallel serial;
  ThreadPool three(3);
  for (DType t : kDTypes) {
    HostTensor x(t, {n}), y(t, {n}), z(t, {n});
    x.fill(1, 1, 1);
    for (float p : {0.0f, 0.1f, 0.5f, 0.9f}) {
      KernelDesc d{.kind = KernelKind::dropout, .dropout = p};
      ASSERT_TRUE(run(d, {x}, {}, {y}, {}, {42, 1000}, serial).ok());
      ASSERT_TRUE(run(d, {x}, {}, {z}, {}, {42, 1000}, three).ok());
      EXPECT_EQ(y.bytes(), z.bytes());
      int64_t kept = 0;
      double sum = 0;
      for (int64_t i = 0; i < n; ++i) {
        kept += y.get(i) != 0;
        sum += y.get(i);
      }
      // Five standard deviations of a binomial count; and the scale's rounding.
      const double sigma = std::sqrt(p * (1 - p) / n);
      EXPECT_NEAR(double(kept) / n, 1 - p, 5 * sigma + 1.0 / 131072);
      EXPECT_NEAR(sum / n, 1, 5 * sigma / (1 - p) + (t == DType::f32 ? 1e-6 : 1.0 / 256));
    }
  }
}

TEST(Dropout, UsesACounterForEightElements) {
  HostTensor x(DType::f32, {10}), y(DType::f32, {10});
  std::vector<Tensor> in{x}, out{y};
  KernelDesc d{.kind = KernelKind::dropout, .dropout = 0.5f};
  EXPECT_EQ(philox_counters_used(d, {in, {}, out, {}}), 2u);
  d.dropout = 0;
  EXPECT_EQ(philox_counters_used(d, {in, {}, out, {}}), 0u);
}

TEST(Activations, SkipAnOutputThatIsNotWanted) {
  HostTensor x(DType::f32, {8});
  Tensor none = x.fill(1);
  none.data = nullptr;
  SerialParallel serial;
  for (const Case& c : kCases) {
    std::vector<Tensor> inputs{x};
    if (c.gated) inputs.push_back(x);
    EXPECT_TRUE(run(desc_of(c), inputs, {}, {none}, {}, {}, serial).ok());
  }
}

}  // namespace
}  // namespace rc
