// kernels/check_test.cc: bad launches are refused with the tensor, its value and the limit.
#include "kernels/kernel_test.h"
#include "kernels/select.h"

namespace rc {
namespace {

class Refusal : public ::testing::Test {
 protected:
  // Expects a refusal that blames `field` and says all of `words`.
  void expect(const KernelDesc& d, std::vector<Tensor> in, std::vector<Tensor> params,
              std::vector<Tensor> out, std::vector<Tensor> saved, const std::string& field,
              std::vector<std::string> words) {
    const Status s = check_kernel(d, {in, params, out, saved});
    EXPECT_EQ(s.code(), RC_E_ARGUMENT);
    EXPECT_EQ(s.field(), field) << s.message();
    for (const std::string& w : words) {
      EXPECT_NE(s.message().find(w), std::string::npos) << "no \"" << w << "\" in: " << s.message();
    }
    EXPECT_EQ(run(d, in, params, out, saved, {}, serial).code(), s.code());
  }
  SerialParallel serial;
  HostTensor x{DType::f32, {4, 6}}, y{DType::f32, {4, 6}}, odd{DType::f32, {4, 5}},
      h{DType::bf16, {4, 6}};
};

TEST_F(Refusal, UnknownKindsAndBadNumbers) {
  KernelDesc d{.kind = static_cast<KernelKind>(12)};
  expect(d, {x}, {}, {y}, {}, "kernel", {"12", "1 to 11"});
  d = {.kind = KernelKind::dropout, .dropout = 1.0f};
  expect(d, {x}, {}, {y}, {}, "dropout", {"dropout is 1", "[0, 1)"});
  d = {.kind = KernelKind::rmsnorm, .epsilon = -1.0f};
  expect(d, {x}, {}, {y}, {}, "epsilon", {"-1"});
  d = {.kind = KernelKind::softmax, .scale = std::nanf("")};
  expect(d, {x}, {}, {y}, {}, "scale", {"nan"});
}

TEST_F(Refusal, WrongNumbersOfTensors) {
  expect({.kind = KernelKind::gelu}, {x, x}, {}, {y}, {}, "inputs",
         {"gelu takes 1 to 1 inputs, not 2"});
  expect({.kind = KernelKind::gelu}, {}, {}, {y}, {}, "inputs", {"not 0"});
  expect({.kind = KernelKind::gelu}, {x}, {x}, {y}, {}, "params", {"not 1"});
  expect({.kind = KernelKind::gelu}, {x}, {}, {}, {}, "outputs", {"not 0"});
  expect({.kind = KernelKind::up_projection}, {x}, {}, {y}, {}, "params", {"1 to 2", "not 0"});
  expect({.kind = KernelKind::rmsnorm}, {x}, {}, {y}, {x, x}, "saved", {"not 2"});
}

TEST_F(Refusal, BadTensorsNameTheirValue) {
  Tensor t = x;
  t.ndim = 9;
  expect({.kind = KernelKind::gelu}, {t}, {}, {y}, {}, "inputs[0]", {"9 dimensions", "1 to 8"});
  t = x;
  t.stride[1] = 2;
  expect({.kind = KernelKind::gelu}, {t}, {}, {y}, {}, "inputs[0]", {"stride 2", "must be 1"});
  t = x;
  t.shape[0] = -4;
  expect({.kind = KernelKind::gelu}, {t}, {}, {y}, {}, "inputs[0]", {"-4", "at least 0"});
  t = x;
  t.dtype = DType::i64;
  expect({.kind = KernelKind::gelu}, {t}, {}, {y}, {}, "inputs[0]",
         {"int64", "float32 and bfloat16"});
  t = x;
  t.data = nullptr;
  expect({.kind = KernelKind::gelu}, {t}, {}, {y}, {}, "inputs[0]", {"24 elements", "no data"});
  t = x;
  t.data = static_cast<char*>(t.data) + 2;
  expect({.kind = KernelKind::gelu}, {t}, {}, {y}, {}, "inputs[0]", {"4-byte"});
}

TEST_F(Refusal, ShapesAndDtypesThatDoNotMatch) {
  HostTensor six(DType::f32, {6}), four(DType::f32, {4}), half(DType::bf16, {6});
  expect({.kind = KernelKind::gelu}, {x}, {}, {odd}, {}, "outputs[0]", {"[4, 5]", "[4, 6]"});
  expect({.kind = KernelKind::gelu}, {x}, {}, {h}, {}, "outputs[0]",
         {"bfloat16", "must be float32"});
  expect({.kind = KernelKind::swiglu}, {odd}, {}, {y}, {}, "inputs[0]", {"5 is odd"});
  expect({.kind = KernelKind::swiglu}, {x}, {}, {y}, {}, "outputs[0]", {"[4, 6]", "[4, 3]"});
  expect({.kind = KernelKind::layernorm}, {x}, {four}, {y}, {}, "params[0]", {"[4]", "[6]"});
  expect({.kind = KernelKind::layernorm}, {x}, {six, half}, {y}, {}, "params[1]", {"bfloat16"});
  expect({.kind = KernelKind::layernorm}, {x}, {}, {y}, {six}, "saved[0]", {"[6]", "[4]"});
  expect({.kind = KernelKind::up_projection}, {x}, {odd}, {y}, {}, "params[0]",
         {"[4, 5]", "[4, 6]"});
  expect({.kind = KernelKind::up_projection}, {x}, {six}, {y}, {}, "params[0]",
         {"1 dimensions", "2"});
  KernelDesc causal{.kind = KernelKind::softmax, .causal = true};
  expect(causal, {six}, {}, {six}, {}, "inputs[0]", {"at least 2"});
}

TEST_F(Refusal, AttentionLimits) {
  const KernelDesc fused{.kind = KernelKind::fused_attention};
  HostTensor q(DType::f32, {1, 4, 2, 8}), k3(DType::f32, {1, 3, 2, 8}),
      k2(DType::f32, {1, 2, 2, 8});
  HostTensor v(DType::f32, {1, 2, 3, 8}), wide(DType::f32, {1, 4, 2, 520}),
      lse(DType::f32, {1, 4, 3});
  expect(fused, {x, x, x}, {}, {y}, {}, "inputs[0]", {"2 dimensions", "4"});
  expect(fused, {q, k3, k3}, {}, {q}, {}, "inputs[1]", {"3 heads", "4"});
  expect(fused, {q, k2, v}, {}, {q}, {}, "inputs[2]", {"[1, 2, 3, 8]", "[1, 2, 2, 8]"});
  expect(fused, {q, k2, k2}, {}, {k2}, {}, "outputs[0]", {"[1, 2, 2, 8]", "[1, 4, 2, 8]"});
  expect(fused, {wide, wide, wide}, {}, {wide}, {}, "inputs[0]", {"520", "512"});
  expect(fused, {q, k2, k2}, {}, {q}, {lse}, "saved[0]", {"[1, 4, 3]", "[1, 4, 2]"});
}

TEST(Select, GivesAReasonWithEveryChoice) {
  EXPECT_EQ(select_store(1 << 20, 1 << 20, 32 << 20).kind, StoreKind::cached);
  EXPECT_EQ(select_store(25 << 20, 1 << 20, 32 << 20).kind, StoreKind::streaming);
  EXPECT_EQ(select_store(25 << 20, 100, 32 << 20).kind, StoreKind::cached);
  EXPECT_EQ(select_gemm(false, true).kind, GemmKind::own);
  EXPECT_EQ(select_gemm(true, false).kind, GemmKind::own);
  EXPECT_EQ(select_gemm(true, true).kind, GemmKind::blas);
  EXPECT_GT(std::string(select_gemm(true, true).reason).size(), 10u);
  EXPECT_GT(last_level_cache_bytes(), 0);
}

TEST(Kernels, HaveNames) {
  for (int i = 1; i <= 11; ++i) EXPECT_STRNE(kernel_name(static_cast<KernelKind>(i)), "unknown");
  EXPECT_STREQ(kernel_name(static_cast<KernelKind>(12)), "unknown");
}

}  // namespace
}  // namespace rc
