// src/device/device_host_test.cc: what the host's allocator sees, and what comes back of its
// failures.
#include "src/device/device_host.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "src/device/device_cpu.h"

namespace rc {
namespace {

struct Host {
  std::mutex mutex;
  std::map<void*, rc_alloc_request> live;
  int allocs = 0, frees = 0, destroyed = 0, mismatches = 0;
  rc_status answer = RC_OK;
  size_t misalign = 0;
  bool give_nothing = false;

  static rc_status alloc(void* self, const rc_alloc_request* request, void** out) {
    Host& host = *static_cast<Host*>(self);
    std::lock_guard lock(host.mutex);
    if (host.answer < 0) return host.answer;
    if (host.give_nothing) return RC_OK;
    char* memory = static_cast<char*>(
        std::aligned_alloc(request->alignment, (request->bytes + 511) & ~size_t{255}));
    ++host.allocs;
    *out = memory + host.misalign;
    host.live[*out] = *request;
    return host.answer;
  }
  static void free(void* self, const rc_alloc_request* request, void* pointer) {
    Host& host = *static_cast<Host*>(self);
    std::lock_guard lock(host.mutex);
    ++host.frees;
    const auto found = host.live.find(pointer);
    if (found == host.live.end() || found->second.bytes != request->bytes ||
        found->second.alignment != request->alignment || found->second.memory != request->memory ||
        found->second.device_id != request->device_id ||
        found->second.head.struct_size != request->head.struct_size) {
      ++host.mismatches;
    }
    if (found != host.live.end()) host.live.erase(found);
    std::free(static_cast<char*>(pointer) - host.misalign);
  }
  static void destroy(void* self) { ++static_cast<Host*>(self)->destroyed; }

  rc_allocator table() {
    rc_allocator allocator = rc_allocator_init();
    allocator.user_data = this;
    allocator.alloc = alloc;
    allocator.free = free;
    allocator.destroy = destroy;
    return allocator;
  }
};

Stream stream(uintptr_t number) {
  return reinterpret_cast<Stream>(number);
}

class DeviceHost : public testing::Test {
 protected:
  Host host_;
  std::unique_ptr<Device> device_ =
      make_host_allocator_device(host_.table(), make_cpu_device(0), 3);
};

TEST_F(DeviceHost, AsksTheHostOncePerBlockAndGivesTheSameRequestBack) {
  void* block = nullptr;
  ASSERT_TRUE(device_->allocate(5000, stream(16), &block).ok());
  ASSERT_EQ(host_.live.count(block), 1u);
  const rc_alloc_request request = host_.live[block];
  EXPECT_EQ(request.bytes, 5000u);
  EXPECT_EQ(request.alignment, 256u);
  EXPECT_EQ(request.memory, RC_MEMORY_DEVICE);
  EXPECT_EQ(request.device_id, 3);
  EXPECT_EQ(request.stream, stream(16));
  EXPECT_EQ(request.head.struct_type, static_cast<uint32_t>(RC_TYPE_ALLOC_REQUEST));
  std::memset(block, 1, 5000);
  EXPECT_EQ(device_->memory().reserved_bytes, 5000u);
  device_->free(block, 5000, stream(32));
  EXPECT_EQ(host_.frees, 1);
  EXPECT_EQ(host_.mismatches, 0);
  EXPECT_EQ(device_->memory().reserved_bytes, 0u);
  EXPECT_EQ(device_->memory().allocations, 1u);
}

TEST_F(DeviceHost, CachesNothing) {
  for (int i = 0; i < 3; ++i) {
    void* block = nullptr;
    ASSERT_TRUE(device_->allocate(1 << 20, nullptr, &block).ok());
    device_->free(block, 1 << 20, nullptr);
  }
  EXPECT_EQ(host_.allocs, 3);
  EXPECT_EQ(host_.frees, 3);
}

TEST_F(DeviceHost, PassesTheHostsFailureThroughWithItsCode) {
  for (rc_status code : {RC_E_MEMORY, RC_E_HOST, static_cast<rc_status>(RC_E_HOST - 7)}) {
    host_.answer = code;
    void* block = &host_;
    const Status status = device_->allocate(100, nullptr, &block);
    EXPECT_EQ(status.code(), code);
    EXPECT_EQ(status.native_code(), code);
    EXPECT_EQ(status.native_domain(), RC_DOMAIN_HOST);
    EXPECT_NE(status.message().find("100"), std::string::npos);
    EXPECT_EQ(block, nullptr);
  }
  EXPECT_EQ(device_->memory().allocations, 0u);
}

TEST_F(DeviceHost, RefusesSuccessWithoutMemory) {
  host_.give_nothing = true;
  void* block = &host_;
  EXPECT_EQ(device_->allocate(100, nullptr, &block).code(), RC_E_MEMORY);
  EXPECT_EQ(block, nullptr);
}

TEST_F(DeviceHost, GivesAMisalignedBlockBackAndBlamesTheAllocator) {
  host_.misalign = 64;
  void* block = nullptr;
  const Status status = device_->allocate(100, nullptr, &block);
  EXPECT_EQ(status.code(), RC_E_ARGUMENT);
  EXPECT_EQ(status.field(), "allocator.alloc");
  EXPECT_EQ(host_.frees, 1);
  EXPECT_TRUE(host_.live.empty());
}

TEST_F(DeviceHost, NeverParksTheHostsPages) {
  constexpr size_t kBytes = size_t{4} << 20;
  void* block = nullptr;
  ASSERT_TRUE(device_->allocate(kBytes, nullptr, &block).ok());
  std::memset(block, 9, kBytes);
  EXPECT_FALSE(device_->park(block, kBytes, nullptr));
  EXPECT_TRUE(device_->unpark(block, kBytes, nullptr).ok());
  EXPECT_EQ(static_cast<char*>(block)[kBytes - 1], 9);
  EXPECT_EQ(device_->memory().parked_bytes, 0u);
  device_->free(block, kBytes, nullptr);
}

TEST_F(DeviceHost, ForwardsTheRestAndSaysThatItCallsTheHost) {
  EXPECT_TRUE(device_->calls_host());
  EXPECT_TRUE(device_->synchronous());
  int from = 5, to = 0;
  EXPECT_TRUE(device_->copy(&to, &from, sizeof from, nullptr).ok());
  EXPECT_EQ(to, 5);
  Event event = 1;
  EXPECT_TRUE(device_->record(nullptr, &event).ok());
  EXPECT_EQ(event, 0u);
}

TEST_F(DeviceHost, DestroysTheTableOnceWithTheDevice) {
  EXPECT_EQ(host_.destroyed, 0);
  device_.reset();
  EXPECT_EQ(host_.destroyed, 1);
}

TEST(DeviceHostTable, MayLackADestructor) {
  Host host;
  rc_allocator table = host.table();
  table.destroy = nullptr;
  make_host_allocator_device(table, make_cpu_device(0)).reset();
  EXPECT_EQ(host.destroyed, 0);
}

TEST_F(DeviceHost, CountsExactlyUnderManyThreads) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) {
        void* block = nullptr;
        ASSERT_TRUE(device_->allocate(300, nullptr, &block).ok());
        device_->free(block, 300, nullptr);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(device_->memory().reserved_bytes, 0u);
  EXPECT_EQ(device_->memory().allocations, 800u);
  EXPECT_EQ(host_.mismatches, 0);
}

}  // namespace
}  // namespace rc
