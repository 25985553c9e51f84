// src/storage/storage_test.cc: the life of a block: holders, drops, refills, lookups by address,
// budgets.
#include "src/storage/storage.h"

#include <gtest/gtest.h>

#include "src/device/device_cpu.h"
#include "src/device/device_fake.h"

namespace rc {
namespace {

struct StorageTest : ::testing::Test {
  StorageTest() : storage(make_cpu_device(0), true), lock(mutex) {}
  static BlockKey key(uint32_t slot) {
    return {.site = 1, .instance = 1, .slot = slot, .incarnation = 0};
  }
  Block* make(uint64_t bytes, uint32_t slot = 0, uint64_t step = 0) {
    Block* block = nullptr;
    EXPECT_TRUE(storage.allocate(key(slot), bytes, nullptr, step, &block).ok());
    return block;
  }
  void end(Block* block) {
    storage.unhold(block, nullptr, false);
    storage.unref(block, nullptr);
  }
  uint64_t live() { return storage.stats().live_bytes; }
  std::mutex mutex;
  Storage storage;
  std::unique_lock<std::mutex> lock;
};

TEST_F(StorageTest, TheLastHolderDropsTheContentTheLastReferenceTheBlock) {
  Block* b = make(1000);
  storage.ref(b);
  storage.hold(b);
  EXPECT_EQ(live(), 1000u);
  storage.unhold(b, nullptr, true);
  EXPECT_EQ(b->state, Block::kLive);
  storage.unhold(b, nullptr, false);
  EXPECT_EQ(b->state, Block::kDropped);  // one of them said it is refilled
  EXPECT_EQ(live(), 0u);
  EXPECT_EQ(storage.stats().dropped_bytes, 1000u);
  storage.unref(b, nullptr);
  EXPECT_EQ(b->state, Block::kDropped);
  storage.unref(b, nullptr);
  EXPECT_EQ(b->state, Block::kFree);
  EXPECT_EQ(make(10), b);  // pooled
  EXPECT_EQ(storage.stats().blocks, 1u);
  end(b);
}

TEST_F(StorageTest, ARefillKeepsTheAddressOfSmallAndOfParkedBlocks) {
  for (uint64_t bytes : {uint64_t{1}, uint64_t{4096}, uint64_t{256 * 1024}, uint64_t{8} << 20}) {
    Block* b = make(bytes);
    void* const before = b->data;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(before) % 256, 0u);
    storage.unhold(b, nullptr, true);
    bool moved = true;
    EXPECT_TRUE(storage.refill(b, nullptr, &moved).ok());
    EXPECT_FALSE(moved) << bytes;
    EXPECT_EQ(b->data, before);
    EXPECT_EQ(live(), bytes);
    end(b);
  }
  EXPECT_EQ(storage.stats().regenerated_bytes, 1u + 4096 + 256 * 1024 + (8 << 20));
}

TEST_F(StorageTest, AddressesAreFoundInsideLiveBlocksOnly) {
  Block *a = make(1000), *b = make(1000);
  char* p = static_cast<char*>(a->data);
  EXPECT_EQ(storage.find(p, 1000), a);
  EXPECT_EQ(storage.find(p + 999, 1), a);
  EXPECT_EQ(storage.find(p + 999, 2), nullptr);
  EXPECT_EQ(storage.find(p + 1000, 1), nullptr);
  EXPECT_EQ(storage.find(p - 1, 1) == a, false);
  EXPECT_EQ(storage.find(b->data, 10), b);
  storage.unhold(a, nullptr, true);
  EXPECT_EQ(storage.find(p, 10), nullptr);  // nothing to read there
  bool moved;
  EXPECT_TRUE(storage.refill(a, nullptr, &moved).ok());
  EXPECT_EQ(storage.find(p, 10), a);
  end(a);
  end(b);
  EXPECT_EQ(storage.find(p, 10), nullptr);
}

TEST_F(StorageTest, EmptyBlocksHaveNoAddress) {
  Block* b = make(0);
  EXPECT_EQ(b->data, nullptr);
  storage.unhold(b, nullptr, true);
  bool moved = true;
  EXPECT_TRUE(storage.refill(b, nullptr, &moved).ok());
  EXPECT_FALSE(moved);
  end(b);
}

TEST_F(StorageTest, ABudgetRefusesBlocksRefillsAndForeignBytes) {
  storage.stats().cap_bytes = 1000;
  Block* b = make(600);
  Block* none = nullptr;
  EXPECT_EQ(storage.allocate(key(1), 401, nullptr, 0, &none).code(), RC_E_BUDGET);
  EXPECT_EQ(none, nullptr);
  EXPECT_EQ(storage.add_foreign(401).code(), RC_E_BUDGET);
  EXPECT_TRUE(storage.add_foreign(400).ok());
  EXPECT_EQ(live(), 1000u);
  storage.unhold(b, nullptr, true);
  EXPECT_TRUE(storage.add_foreign(500).ok());
  bool moved;
  EXPECT_EQ(storage.refill(b, nullptr, &moved).code(), RC_E_BUDGET);
  EXPECT_EQ(b->state, Block::kDropped);
  storage.remove_foreign(900);
  EXPECT_TRUE(storage.refill(b, nullptr, &moved).ok());
  EXPECT_EQ(live(), 600u);
  EXPECT_EQ(storage.stats().peak_bytes, 1000u);
  end(b);
}

TEST_F(StorageTest, TheSecondStepGetsItsPlaces) {
  void* places[2][2];
  for (uint64_t step = 1; step <= 3; ++step) {
    storage.begin_step(step);
    Block* a = make(3000, 0, step);
    storage.unhold(a, nullptr, true);
    Block* b = make(2000, 1, step);
    if (step > 1) {
      places[step - 2][0] = a->data;
      places[step - 2][1] = b->data;
      EXPECT_NE(a->place, Arena::kNone);
      EXPECT_EQ(a->data, b->data);  // the gap
    }
    end(b);
    bool moved = true;
    EXPECT_TRUE(storage.refill(a, nullptr, &moved).ok());
    EXPECT_FALSE(moved);
    Block* dynamic = make(500, 2, 0);  // of no step
    EXPECT_EQ(dynamic->place, Arena::kNone);
    end(dynamic);
    end(a);
    storage.end_step(nullptr, &lock);
    EXPECT_EQ(storage.last_misses(), 0u);
  }
  EXPECT_EQ(places[0][0], places[1][0]);
  EXPECT_EQ(places[0][1], places[1][1]);
  EXPECT_EQ(storage.last_plan().bytes, 3000u);
}

TEST_F(StorageTest, AStepThatChangesEveryTimeIsNotPlannedEveryTime) {
  uint64_t plans = 0, before = 0;
  for (uint64_t step = 1; step <= 40; ++step) {
    storage.begin_step(step);
    end(make(1000 * step, 0, step));
    storage.end_step(nullptr, &lock);
    plans += storage.arena().size().bytes != before;
    before = storage.arena().size().bytes;
  }
  EXPECT_LE(plans, 7u);  // 1, and then at doubling distances
  EXPECT_GE(plans, 2u);
}

TEST_F(StorageTest, AnAllocationThatFailsLeavesNothing) {
  auto device = std::make_unique<FakeDevice>();
  FakeDevice* fake = device.get();
  const auto log = fake->log();
  {
    Storage small(std::move(device), true);
    fake->fail_allocate(1);
    Block* block = nullptr;
    small.begin_step(1);
    EXPECT_EQ(small.allocate(key(0), 100, nullptr, 1, &block).code(), RC_E_MEMORY);
    EXPECT_EQ(small.stats().live_bytes, 0u);
    ASSERT_TRUE(small.allocate(key(1), 100, nullptr, 1, &block).ok());
    small.unhold(block, nullptr, false);
    small.unref(block, nullptr);
    fake->fail_allocate(1);
    small.end_step(nullptr, &lock);
    // The arena as a whole could not be had: the next step is dynamic.
    small.begin_step(2);
    ASSERT_TRUE(small.allocate(key(1), 100, nullptr, 2, &block).ok());
    EXPECT_EQ(block->place, Arena::kNone);
    small.unhold(block, nullptr, false);
    small.unref(block, nullptr);
    small.end_step(nullptr, &lock);
  }
  EXPECT_TRUE(log->violations().empty());
}

}  // namespace
}  // namespace rc
