// src/storage/tensor_test.cc: descriptions of tensors, strided copies, DLPack in and out.
#include "src/storage/tensor.h"

#include <dlpack/dlpack.h>
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace rc {
namespace {

struct Description {
  Description(std::vector<int64_t> s, std::vector<int64_t> t = {}, uint8_t bits = 32)
      : shape(s), strides(t) {
    spec = rc_tensor_spec_init();
    spec.dtype_code = 2;
    spec.dtype_bits = bits;
    spec.ndim = static_cast<int32_t>(shape.size());
    spec.shape = shape.data();
    spec.strides = strides.empty() ? nullptr : strides.data();
  }
  Status read() { return TensorMeta::read(spec, "t", &meta); }
  std::vector<int64_t> shape, strides;
  rc_tensor_spec spec;
  TensorMeta meta;
};

TEST(TensorMeta, CountsBytesOfElements) {
  Description d({3, 4});
  ASSERT_TRUE(d.read().ok());
  EXPECT_EQ(d.meta.bytes(), 48u);
  EXPECT_EQ(d.meta.elements(), 12u);
  Description scalar({});
  ASSERT_TRUE(scalar.read().ok());
  EXPECT_EQ(scalar.meta.bytes(), 4u);
  Description empty({5, 0, 7});
  ASSERT_TRUE(empty.read().ok());
  EXPECT_EQ(empty.meta.bytes(), 0u);
  Description narrow({3}, {}, 4);  // rounded up to bytes
  ASSERT_TRUE(narrow.read().ok());
  EXPECT_EQ(narrow.meta.bytes(), 2u);
  Description lanes({3});
  lanes.spec.dtype_lanes = 4;
  ASSERT_TRUE(lanes.read().ok());
  EXPECT_EQ(lanes.meta.bytes(), 48u);
}

TEST(TensorMeta, RecognisesRowMajorStrides) {
  Description plain({2, 3}, {3, 1}), ones({1, 3, 1}, {77, 1, 99}), transposed({2, 3}, {1, 2}),
      zero({2, 3}, {0, 1});
  for (Description* d : {&plain, &ones, &transposed, &zero}) ASSERT_TRUE(d->read().ok());
  EXPECT_TRUE(plain.meta.contiguous());
  EXPECT_TRUE(ones.meta.contiguous());
  EXPECT_FALSE(transposed.meta.contiguous());
  EXPECT_FALSE(zero.meta.contiguous());
  EXPECT_EQ(zero.meta.bytes(), 24u);
}

TEST(TensorMeta, RefusesWhatCannotBe) {
  EXPECT_EQ(Description({-1}).read().field(), "t.shape");
  EXPECT_EQ(Description({INT64_MAX, INT64_MAX}).read().field(), "t.shape");
  EXPECT_EQ(Description({INT64_MAX}).read().field(), "t.shape");
  Description many(std::vector<int64_t>(33, 1));
  EXPECT_EQ(many.read().field(), "t.ndim");
  Description no_bits({1}, {}, 0);
  EXPECT_EQ(no_bits.read().field(), "t.dtype_bits");
  Description no_shape({4});
  no_shape.spec.shape = nullptr;
  EXPECT_EQ(no_shape.read().field(), "t.shape");
  Description narrow({3, 3}, {1, 3}, 4);
  EXPECT_EQ(narrow.read().field(), "t.strides");
  Description whole_bytes({2, 2}, {1, 2}, 4);  // four half-byte elements: still no byte each
  EXPECT_EQ(whole_bytes.read().field(), "t.strides");
}

TEST(TensorMeta, TakesAllThirtyTwoDimensions) {
  std::vector<int64_t> shape(32, 1), strides(32, 1);
  shape[3] = 2;
  shape[30] = 3;
  strides[3] = 1;
  strides[30] = 2;
  Description d(shape, strides);
  ASSERT_TRUE(d.read().ok());
  EXPECT_FALSE(d.meta.contiguous());
  rc_tensor_spec out = rc_tensor_spec_init();
  d.meta.fill(&d, &out);
  EXPECT_EQ(out.shape[30], 3);
  EXPECT_EQ(out.strides[30], 2);
  EXPECT_EQ(out.bytes, 24u);
  TensorMeta moved = std::move(d.meta);
  EXPECT_EQ(moved.shape()[3], 2);
  Description other(shape);
  ASSERT_TRUE(other.read().ok());
  EXPECT_TRUE(moved.same_as(other.meta));
}

TEST(TensorMeta, GathersAndScattersAnyStrides) {
  std::vector<int32_t> from(60), packed(24), back(60, -1);
  std::iota(from.begin(), from.end(), 0);
  Description d({2, 3, 4}, {4, -8, 1});  // negative strides from the last row
  ASSERT_TRUE(d.read().ok());
  gather_elements(d.meta, from.data() + 16, packed.data());
  for (int i = 0; i < 24; ++i) EXPECT_EQ(packed[i], 16 + i / 12 * 4 - i / 4 % 3 * 8 + i % 4);
  scatter_elements(d.meta, packed.data(), back.data() + 16);
  for (int i = 0; i < 24; ++i) EXPECT_EQ(back[packed[i]], packed[i]);
  Description broadcast({3, 2}, {0, 1});
  ASSERT_TRUE(broadcast.read().ok());
  gather_elements(broadcast.meta, from.data() + 5, packed.data());
  EXPECT_EQ(packed[0], 5);
  EXPECT_EQ(packed[5], 6);
}

TEST(Tensor, WrappingCopiesTheShapeAndReleasesOnce) {
  float memory[6];
  int released = 0;
  rc_tensor* tensor = nullptr;
  {
    Description d({2, 3});
    d.spec.data = memory;
    ASSERT_TRUE(
        wrap_tensor(d.spec, [](void* n) { ++*static_cast<int*>(n); }, &released, &tensor).ok());
  }
  rc_tensor_spec out = rc_tensor_spec_init();
  ASSERT_TRUE(read_tensor(tensor, "t", &out).ok());
  EXPECT_EQ(out.data, memory);
  EXPECT_EQ(out.shape[1], 3);
  EXPECT_EQ(out.bytes, 24u);
  EXPECT_EQ(tensor->dl_tensor.strides[0], 3);  // DLPack 1.2 wants them
  release_tensor(tensor);
  EXPECT_EQ(released, 1);
  release_tensor(nullptr);
  Description no_data({2});
  EXPECT_EQ(wrap_tensor(no_data.spec, nullptr, nullptr, &tensor).code(), RC_E_ARGUMENT);
}

TEST(Tensor, ReadsByteOffsetAndNullStrides) {
  char memory[64];
  int64_t shape[] = {4};
  DLManagedTensorVersioned t = {};
  t.version = {1, 0};
  t.dl_tensor.data = memory;
  t.dl_tensor.byte_offset = 16;
  t.dl_tensor.ndim = 1;
  t.dl_tensor.dtype = {kDLFloat, 32, 1};
  t.dl_tensor.shape = shape;
  t.dl_tensor.device = {kDLCPU, 0};
  rc_tensor_spec out = rc_tensor_spec_init();
  ASSERT_TRUE(read_tensor(&t, "t", &out).ok());
  EXPECT_EQ(out.data, memory + 16);
  EXPECT_EQ(out.bytes, 16u);
  t.version.major = 2;
  EXPECT_EQ(read_tensor(&t, "t", &out).code(), RC_E_VERSION);
  t.version.major = 1;
  t.dl_tensor.device.device_type = kDLMetal;
  EXPECT_EQ(read_tensor(&t, "t", &out).code(), RC_E_UNSUPPORTED);
}

}  // namespace
}  // namespace rc
