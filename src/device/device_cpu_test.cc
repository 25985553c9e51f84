// src/device/device_cpu_test.cc: what the CPU device promises about blocks, its cache and its
// accounting.
#include "src/device/device_cpu.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <set>
#include <thread>
#include <vector>

#include "src/device/poison.h"
#include "src/device/small_blocks.h"

namespace rc {
namespace {

constexpr size_t KiB = 1024, MiB = 1024 * KiB;

char* take(Device& device, size_t bytes) {
  void* pointer = nullptr;
  const Status status = device.allocate(bytes, nullptr, &pointer);
  EXPECT_TRUE(status.ok()) << status.message();
  return static_cast<char*>(pointer);
}

class DeviceCpu : public testing::Test {
 protected:
  std::unique_ptr<Device> device_ = make_cpu_device(0);
};

TEST_F(DeviceCpu, AlignsEveryBlockAndLetsEveryByteBeWritten) {
  for (size_t bytes :
       {size_t{1}, size_t{255}, size_t{256}, size_t{257}, size_t{1024}, size_t{1025}, size_t{2049},
        64 * KiB - 1, 64 * KiB, 64 * KiB + 1, MiB, 2 * MiB - 1, 2 * MiB, 3 * MiB + 5}) {
    char* block = take(*device_, bytes);
    ASSERT_NE(block, nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % kBlockAlignment, 0u) << bytes;
    std::memset(block, 0x5a, bytes);
    device_->free(block, bytes, nullptr);
  }
}

TEST_F(DeviceCpu, AlignsBlocksOfTwoMebibytesToAHugePage) {
  char* block = take(*device_, 3 * MiB);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % kHugePage, 0u);
  device_->free(block, 3 * MiB, nullptr);
}

TEST_F(DeviceCpu, GivesLiveBlocksDisjointMemory) {
  std::vector<std::pair<char*, size_t>> blocks;
  for (size_t i = 0; i < 600; ++i) {
    const size_t bytes = 1 + (i * 7919) % (96 * KiB);
    char* block = take(*device_, bytes);
    std::memset(block, static_cast<int>(i & 0xff), bytes);
    blocks.emplace_back(block, bytes);
  }
  for (size_t i = 0; i < blocks.size(); ++i) {
    for (size_t at = 0; at < blocks[i].second; ++at) {
      ASSERT_EQ(static_cast<unsigned char>(blocks[i].first[at]), i & 0xff) << "block " << i;
    }
  }
  for (auto& [block, bytes] : blocks) device_->free(block, bytes, nullptr);
}

TEST_F(DeviceCpu, RefusesZeroAndImpossibleSizesWithAMessage) {
  for (size_t bytes : {size_t{0}, SIZE_MAX, SIZE_MAX / 2 - 5}) {
    void* block = &bytes;
    const Status status = device_->allocate(bytes, nullptr, &block);
    EXPECT_EQ(status.code(), RC_E_MEMORY);
    EXPECT_EQ(block, nullptr);
    EXPECT_FALSE(status.message().empty());
  }
}

TEST_F(DeviceCpu, RepeatedSizesTakeNothingNewFromTheSystem) {
  const std::vector<size_t> sizes = {100,     5000,    70 * KiB, MiB,
                                     4 * MiB, 4 * MiB, 70 * KiB, 60 * KiB};
  const auto step = [&] {
    std::vector<char*> blocks;
    for (size_t bytes : sizes) blocks.push_back(take(*device_, bytes));
    for (size_t i = 0; i < sizes.size(); ++i) device_->free(blocks[i], sizes[i], nullptr);
  };
  step();
  const DeviceMemory warm = device_->memory();
  for (int i = 0; i < 50; ++i) step();
  EXPECT_EQ(device_->memory().allocations, warm.allocations);
  EXPECT_EQ(device_->memory().reserved_bytes, warm.reserved_bytes);
}

TEST_F(DeviceCpu, CountsReservedBytesOfMappedBlocksToThePage) {
  char* a = take(*device_, MiB + 1);
  EXPECT_EQ(device_->memory().reserved_bytes, MiB + page_bytes());
  char* b = take(*device_, MiB);
  EXPECT_EQ(device_->memory().reserved_bytes, 2 * MiB + page_bytes());
  device_->free(a, MiB + 1, nullptr);
  EXPECT_EQ(device_->memory().reserved_bytes, 2 * MiB + page_bytes()) << "cached";
  device_->trim();
  EXPECT_EQ(device_->memory().reserved_bytes, MiB);
  device_->free(b, MiB, nullptr);
  device_->trim();
  EXPECT_EQ(device_->memory().reserved_bytes, 0u);
}

TEST_F(DeviceCpu, TrimLeavesBlocksInUseAlone) {
  char* small = take(*device_, 300);
  char* large = take(*device_, MiB);
  std::memset(small, 1, 300);
  std::memset(large, 2, MiB);
  device_->trim();
  EXPECT_EQ(small[299], 1);
  EXPECT_EQ(large[MiB - 1], 2);
  device_->free(small, 300, nullptr);
  device_->free(large, MiB, nullptr);
  device_->trim();
  EXPECT_EQ(device_->memory().reserved_bytes, 0u);
}

TEST_F(DeviceCpu, IgnoresASecondFreeOfTheSameBlock) {
  for (size_t bytes : {size_t{300}, MiB}) {
    char* block = take(*device_, bytes);
    device_->free(block, bytes, nullptr);
    device_->free(block, bytes, nullptr);
    char* a = take(*device_, bytes);
    char* b = take(*device_, bytes);
    EXPECT_NE(a, b);
    device_->free(a, bytes, nullptr);
    device_->free(b, bytes, nullptr);
  }
}

TEST_F(DeviceCpu, ServesManyThreads) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 400; ++i) {
        const size_t bytes =
            i % 3 ? 64 + static_cast<size_t>(i) * 31 : 80 * KiB + static_cast<size_t>(t) * 4 * KiB;
        char* block = take(*device_, bytes);
        std::memset(block, t + 1, bytes);
        if (i % 3 == 0)
          device_->park(block, bytes, nullptr), (void)device_->unpark(block, bytes, nullptr).ok();
        else
          EXPECT_EQ(block[bytes - 1], t + 1);
        device_->free(block, bytes, nullptr);
        if (i % 100 == 0) device_->trim();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  device_->trim();
  EXPECT_EQ(device_->memory().reserved_bytes, 0u);
}

TEST_F(DeviceCpu, IsSynchronousAndNeedsNoEvents) {
  EXPECT_TRUE(device_->synchronous());
  Event event = 7;
  EXPECT_TRUE(device_->record(nullptr, &event).ok());
  EXPECT_EQ(event, 0u);
  EXPECT_TRUE(device_->query(event));
  EXPECT_TRUE(device_->wait(nullptr, event).ok());
  EXPECT_TRUE(device_->synchronize(nullptr).ok());
  EXPECT_FALSE(device_->capturing(nullptr));
  char from[3] = {1, 2, 3}, to[3] = {};
  EXPECT_TRUE(device_->copy(to, from, 3, nullptr).ok());
  EXPECT_EQ(to[2], 3);
  EXPECT_TRUE(device_->copy(nullptr, nullptr, 0, nullptr).ok());
}

#if defined(RC_POISON_ASAN)
TEST_F(DeviceCpu, PoisonsWhatIsFreeParkedOrPastTheEnd) {
  for (size_t bytes : {size_t{300}, 100 * KiB + 1, 4 * MiB + 1}) {
    char* block = take(*device_, bytes);
    EXPECT_EQ(__asan_region_is_poisoned(block, bytes), nullptr);
    EXPECT_TRUE(__asan_address_is_poisoned(block + bytes)) << bytes;
    if (device_->park(block, bytes, nullptr)) {
      EXPECT_TRUE(__asan_address_is_poisoned(block) &&
                  __asan_address_is_poisoned(block + bytes - 1));
      EXPECT_TRUE(device_->unpark(block, bytes, nullptr).ok());
      EXPECT_EQ(__asan_region_is_poisoned(block, bytes), nullptr);
    }
    device_->poison(block + 8, 16);
    EXPECT_TRUE(__asan_address_is_poisoned(block + 8));
    device_->unpoison(block + 8, 16);
    EXPECT_FALSE(__asan_address_is_poisoned(block + 8));
    device_->free(block, bytes, nullptr);
    EXPECT_TRUE(__asan_address_is_poisoned(block) && __asan_address_is_poisoned(block + bytes - 1));
  }
}
#endif

TEST(SmallBlocks, WasteAtMostAFifthOfABlock) {
  size_t before = 0;
  for (size_t bytes = 1; bytes <= SmallBlocks::kLargest; ++bytes) {
    const size_t rounded = SmallBlocks::rounded(bytes);
    ASSERT_GE(rounded, bytes);
    ASSERT_GE(rounded, before);
    ASSERT_EQ(rounded % 256, 0u);
    if (bytes > 1024)
      ASSERT_LE((rounded - bytes) * 5, rounded) << bytes;
    else
      ASSERT_LT(rounded - bytes, 256u);
    before = rounded;
  }
}

TEST(SmallBlocks, FillASlabToItsLastBlockAndReuseIt) {
  SmallBlocks blocks;
  std::set<void*> taken;
  const size_t capacity = (SmallBlocks::kSlab - 768) / 256;
  for (size_t i = 0; i < capacity; ++i) taken.insert(blocks.allocate(256));
  EXPECT_EQ(taken.size(), capacity);
  EXPECT_EQ(blocks.slabs(), 1u);
  void* next = blocks.allocate(256);
  EXPECT_EQ(blocks.slabs(), 2u);
  EXPECT_TRUE(blocks.free(next, 256));
  for (void* block : taken) EXPECT_TRUE(blocks.free(block, 256));
  EXPECT_FALSE(blocks.free(next, 256));
  EXPECT_NE(blocks.allocate(60000), nullptr) << "an empty slab serves any class";
  EXPECT_EQ(blocks.slabs(), 2u);
}

}  // namespace
}  // namespace rc
