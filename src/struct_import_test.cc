// src/struct_import_test.cc: extensible structs of every age cross the boundary as rcore.h
// promises.
#include "src/struct_import.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

namespace rc {
namespace {

// A caller's buffer of exactly `size` bytes on the heap, so that ASan sees any byte read beyond it.
struct Caller {
  Caller(uint32_t size, uint32_t type) : bytes(static_cast<char*>(std::malloc(size))), n(size) {
    std::memset(bytes.get(), 0, size);
    put(0, size);
    if (size >= 8) put(offsetof(rc_head, struct_type), type);
  }
  void put(uint32_t at, uint32_t value) { std::memcpy(bytes.get() + at, &value, sizeof value); }
  void fill(uint32_t from) {
    for (uint32_t i = from; i < n; ++i) bytes.get()[i] = static_cast<char>(1 + i % 100);
  }
  template <class T>
  T* as() {
    return reinterpret_cast<T*>(bytes.get());
  }

  struct Free {
    void operator()(char* p) const { std::free(p); }
  };
  std::unique_ptr<char, Free> bytes;
  uint32_t n;
};

constexpr uint32_t kOurs = sizeof(rc_region_desc);

TEST(StructImport, CopiesAStructOfTheSameSize) {
  int data = 0;
  rc_region_desc desc = rc_region_desc_init();
  desc.microbatch = 7;
  desc.user_data = &data;
  rc_region_desc out;
  const Status status = import_struct(&desc, RC_TYPE_REGION_DESC, "desc", &out);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(0, std::memcmp(&desc, &out, sizeof desc));
}

TEST(StructImport, ReadsEveryShorterStructAsZeroFilled) {
  for (uint32_t size = sizeof(rc_head); size < kOurs; size += 4) {
    Caller caller(size, RC_TYPE_REGION_DESC);
    caller.fill(sizeof(rc_head));
    rc_region_desc out;
    std::memset(&out, 0xff, sizeof out);
    ASSERT_TRUE(import_struct(caller.as<rc_region_desc>(), RC_TYPE_REGION_DESC, "desc", &out).ok());
    const char* bytes = reinterpret_cast<const char*>(&out);
    EXPECT_EQ(kOurs, out.head.struct_size);
    EXPECT_EQ(0, std::memcmp(bytes + sizeof(rc_head), caller.bytes.get() + sizeof(rc_head),
                             size - sizeof(rc_head)));
    EXPECT_TRUE(std::all_of(bytes + size, bytes + kOurs, [](char c) { return c == 0; })) << size;
  }
}

TEST(StructImport, AcceptsAnUnknownTailOfZeros) {
  for (const uint32_t extra : {1u, 4u, 8u, 24u, 4000u, kStructSizeMax - kOurs}) {
    Caller caller(kOurs + extra, RC_TYPE_REGION_DESC);
    caller.as<rc_region_desc>()->microbatch = 3;
    rc_region_desc out;
    const Status status =
        import_struct(caller.as<rc_region_desc>(), RC_TYPE_REGION_DESC, "d", &out);
    ASSERT_TRUE(status.ok()) << status.message();
    EXPECT_EQ(3u, out.microbatch);
    EXPECT_EQ(kOurs, out.head.struct_size);
  }
}

TEST(StructImport, RefusesAnyNonZeroByteOfAnUnknownTail) {
  constexpr uint32_t kExtra = 21;
  for (uint32_t i = 0; i < kExtra; ++i) {
    Caller caller(kOurs + kExtra, RC_TYPE_REGION_DESC);
    caller.bytes.get()[kOurs + i] = static_cast<char>(0x80);
    rc_region_desc out;
    const Status status =
        import_struct(caller.as<rc_region_desc>(), RC_TYPE_REGION_DESC, "desc", &out);
    EXPECT_EQ(RC_E_VERSION, status.code());
    EXPECT_EQ("desc", status.field());
    EXPECT_NE(std::string::npos, status.message().find("sets byte " + std::to_string(kOurs + i)))
        << status.message();
    EXPECT_NE(std::string::npos, status.message().find(std::to_string(kOurs + kExtra) + " bytes"));
  }
}

TEST(StructImport, NamesTheLibraryVersionWhenItRefusesATail) {
  Caller caller(kOurs + 8, RC_TYPE_REGION_DESC);
  caller.fill(kOurs);
  rc_region_desc out;
  const Status status = import_struct(caller.as<rc_region_desc>(), RC_TYPE_REGION_DESC, "d", &out);
  const std::string version = std::to_string(RC_HEADER_VERSION / 1000000) + "." +
                              std::to_string(RC_HEADER_VERSION / 1000 % 1000) + "." +
                              std::to_string(RC_HEADER_VERSION % 1000);
  EXPECT_NE(std::string::npos, status.message().find("library " + version)) << status.message();
}

TEST(StructImport, RefusesNull) {
  rc_region_desc out;
  const Status status = import_struct<rc_region_desc>(nullptr, RC_TYPE_REGION_DESC, "desc", &out);
  EXPECT_EQ(RC_E_ARGUMENT, status.code());
  EXPECT_EQ("desc", status.field());
  EXPECT_NE(std::string::npos, status.message().find("rc_region_desc"));
}

TEST(StructImport, RefusesAnotherStructsTag) {
  rc_rng rng = rc_rng_init();
  rc_region_desc out;
  Caller caller(kOurs, RC_TYPE_RNG);
  const Status same_size =
      import_struct(caller.as<rc_region_desc>(), RC_TYPE_REGION_DESC, "desc", &out);
  EXPECT_EQ(RC_E_ARGUMENT, same_size.code());
  EXPECT_EQ("desc.head.struct_type", same_size.field());
  EXPECT_NE(std::string::npos, same_size.message().find("rc_rng")) << same_size.message();
  // As a caller in another language would: the compiler does not see what the pointer is.
  const void* volatile passed = &rng;
  const Status other_size =
      import_struct(static_cast<const rc_region_desc*>(passed), RC_TYPE_REGION_DESC, "desc", &out);
  EXPECT_EQ(RC_E_ARGUMENT, other_size.code());
}

TEST(StructImport, RefusesSizesThatNoStructHasWithoutReadingFurther) {
  for (const uint32_t size : {0u, 1u, 8u, 15u, kStructSizeMax + 1, 0x80000000u, 0xffffffffu}) {
    // Only struct_size itself may be read before it is known to be sane.
    Caller caller(size < sizeof(rc_head) ? 4 : sizeof(rc_head), RC_TYPE_REGION_DESC);
    caller.put(0, size);
    rc_region_desc out;
    const Status status =
        import_struct(caller.as<rc_region_desc>(), RC_TYPE_REGION_DESC, "desc", &out);
    EXPECT_EQ(RC_E_ARGUMENT, status.code()) << size;
    EXPECT_EQ("desc.head.struct_size", status.field());
    EXPECT_NE(std::string::npos, status.message().find(std::to_string(size)));
  }
}

TEST(StructImport, RefusesAnExtensionChain) {
  for (const uint32_t size : {kOurs - 8, kOurs, kOurs + 8}) {
    Caller caller(size, RC_TYPE_REGION_DESC);
    caller.as<rc_head>()->next = caller.as<rc_head>();  // cyclic: it must not be walked either
    rc_region_desc out;
    const Status status =
        import_struct(caller.as<rc_region_desc>(), RC_TYPE_REGION_DESC, "desc", &out);
    EXPECT_EQ(RC_E_VERSION, status.code());
    EXPECT_EQ("desc.head.next", status.field());
  }
}

TEST(StructImport, WalksAnArrayByTheCallersStride) {
  for (const uint32_t stride :
       {uint32_t{sizeof(rc_save)} - 8, uint32_t{sizeof(rc_save)}, uint32_t{sizeof(rc_save)} + 16}) {
    constexpr uint32_t kItems = 3;
    Caller array(stride * kItems, 0);
    for (uint32_t i = 0; i < kItems; ++i) {
      array.put(i * stride, stride);
      array.put(i * stride + 4, RC_TYPE_SAVE);
      array.put(i * stride + offsetof(rc_save, slot), 10 + i);
    }
    for (uint32_t i = 0; i < kItems; ++i) {
      rc_save out;
      const Status status =
          import_array_element(array.as<rc_save>(), i, stride, RC_TYPE_SAVE, "items", &out);
      ASSERT_TRUE(status.ok()) << status.message();
      EXPECT_EQ(10 + i, out.slot);
      EXPECT_EQ(sizeof(rc_save), out.head.struct_size);
    }
  }
}

TEST(StructImport, NamesTheArrayElementThatIsWrong) {
  std::vector<rc_save> items(3, rc_save_init());
  items[2].head.struct_type = RC_TYPE_RNG;
  rc_save out;
  const Status status =
      import_array_element(items.data(), 2, sizeof(rc_save), RC_TYPE_SAVE, "items", &out);
  EXPECT_EQ(RC_E_ARGUMENT, status.code());
  EXPECT_EQ("items[2].head.struct_type", status.field());
}

TEST(StructImport, RefusesStridesThatNoArrayHas) {
  std::vector<rc_save> items(2, rc_save_init());
  rc_save out;
  for (const uint32_t stride :
       {0u, 8u, 15u, 17u, uint32_t{sizeof(rc_save)} + 4, kStructSizeMax + 8}) {
    const Status status =
        import_array_element(items.data(), 0, stride, RC_TYPE_SAVE, "items", &out);
    EXPECT_EQ(RC_E_ARGUMENT, status.code()) << stride;
    EXPECT_EQ("items_stride", status.field());
  }
  // An element larger than the stride would overlap its neighbour.
  const Status status =
      import_array_element(items.data(), 0, sizeof(rc_save) - 8, RC_TYPE_SAVE, "items", &out);
  EXPECT_EQ("items[0].head.struct_size", status.field());
  EXPECT_EQ(RC_E_ARGUMENT,
            import_array_element<rc_save>(nullptr, 0, sizeof(rc_save), RC_TYPE_SAVE, "items", &out)
                .code());
}

TEST(StructExport, WritesWhatTheCallerKnowsAndKeepsItsHead) {
  rc_stats value = make_struct<rc_stats>(RC_TYPE_STATS);
  std::memset(reinterpret_cast<char*>(&value) + sizeof(rc_head), 0x5a,
              sizeof value - sizeof(rc_head));
  for (uint32_t size = sizeof(rc_head); size <= sizeof(rc_stats) + 40; size += 8) {
    Caller caller(size, RC_TYPE_STATS);
    caller.fill(sizeof(rc_head));
    ASSERT_TRUE(check_output(caller.as<rc_stats>(), RC_TYPE_STATS, "out").ok());
    export_struct(value, caller.as<rc_stats>());
    EXPECT_EQ(size, caller.as<rc_head>()->struct_size);
    EXPECT_EQ(RC_TYPE_STATS, caller.as<rc_head>()->struct_type);
    for (uint32_t i = sizeof(rc_head); i < size; ++i) {
      EXPECT_EQ(i < sizeof(rc_stats) ? 0x5a : 0, caller.bytes.get()[i]) << size << " " << i;
    }
  }
}

TEST(StructExport, ClearsAnOutputOfAnySize) {
  for (const uint32_t size :
       {16u, 24u, uint32_t{sizeof(rc_stats)}, uint32_t{sizeof(rc_stats)} + 8}) {
    Caller caller(size, RC_TYPE_STATS);
    caller.fill(sizeof(rc_head));
    clear_output(caller.as<rc_stats>());
    EXPECT_EQ(size, caller.as<rc_head>()->struct_size);
    EXPECT_TRUE(std::all_of(caller.bytes.get() + sizeof(rc_head), caller.bytes.get() + size,
                            [](char c) { return c == 0; }));
  }
}

TEST(StructExport, RefusesOutputsThatAreNotTheStruct) {
  EXPECT_EQ(RC_E_ARGUMENT, check_output<rc_stats>(nullptr, RC_TYPE_STATS, "out").code());
  rc_stats zeroed = {};
  EXPECT_EQ("out.head.struct_size", check_output(&zeroed, RC_TYPE_STATS, "out").field());
  Caller other(sizeof(rc_stats), RC_TYPE_RNG);
  EXPECT_EQ("out.head.struct_type",
            check_output(other.as<rc_stats>(), RC_TYPE_STATS, "out").field());
}

TEST(StructExport, StepsThroughAnOutputArrayByTheFirstElementsSize) {
  for (const uint32_t size :
       {uint32_t{sizeof(rc_tensor_spec)} - 16, uint32_t{sizeof(rc_tensor_spec)},
        uint32_t{sizeof(rc_tensor_spec)} + 8}) {
    Caller array(size * 3, 0);
    array.put(0, size);
    EXPECT_EQ(array.bytes.get() + 2 * size,
              reinterpret_cast<char*>(output_element(array.as<rc_tensor_spec>(), 2)));
  }
}

TEST(StructName, NamesEveryType) {
  EXPECT_STREQ("rc_error_info", struct_name(RC_TYPE_ERROR_INFO));
  EXPECT_STREQ("rc_region_desc", struct_name(RC_TYPE_REGION_DESC));
  EXPECT_STREQ("rc_slot_info", struct_name(RC_TYPE_SLOT_INFO));
  EXPECT_STREQ("unknown struct", struct_name(0));
  EXPECT_STREQ("unknown struct", struct_name(0x40000000));
}

}  // namespace
}  // namespace rc
