// src/device/parking_test.cc: parked blocks keep their addresses, their pages serve others, and the
// system agrees.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <new>
#include <thread>
#include <vector>

#include "src/device/device_cpu.h"
#include "src/device/poison.h"
#include "src/device/resident.h"

namespace {
thread_local uint64_t heap_calls = 0;  // of operator new, on this thread
}
// Kept out of line: inlined, GCC takes malloc and delete for a mismatched pair.
[[gnu::noinline]] void* operator new(size_t bytes) {
  ++heap_calls;
  if (void* pointer = std::malloc(bytes ? bytes : 1)) return pointer;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* pointer) noexcept {
  std::free(pointer);
}
[[gnu::noinline]] void operator delete(void* pointer, size_t) noexcept {
  std::free(pointer);
}

namespace rc {
namespace {

constexpr size_t MiB = size_t{1} << 20;
constexpr size_t kBlock = 16 * MiB;

char* take(Device& device, size_t bytes) {
  void* pointer = nullptr;
  const Status status = device.allocate(bytes, nullptr, &pointer);
  EXPECT_TRUE(status.ok()) << status.message();
  return static_cast<char*>(pointer);
}

// Reads memory that is marked as inaccessible on purpose.
__attribute__((no_sanitize("address"))) bool all_bytes(const volatile char* block, size_t bytes,
                                                       char value) {
  for (size_t i = 0; i < bytes; i += 509) {
    if (block[i] != value) return false;
  }
  return block[bytes - 1] == value;
}

class ParkingOf : public testing::TestWithParam<Parking> {
 protected:
  void SetUp() override {
    if (GetParam() == Parking::kMove && probed_parking() != Parking::kMove) {
      GTEST_SKIP() << "this kernel (or valgrind) refuses MREMAP_DONTUNMAP";
    }
    CpuDeviceOptions options;
    options.parking = GetParam();
    device_ = make_cpu_device(options);
  }
  std::unique_ptr<Device> device_;
};
INSTANTIATE_TEST_SUITE_P(Ways, ParkingOf, testing::Values(Parking::kMove, Parking::kDrop),
                         [](const auto& way) {
                           return way.param == Parking::kMove ? "Move" : "Drop";
                         });

TEST_P(ParkingOf, KeepsTheAddressMappedAndReadable) {
  char* block = take(*device_, kBlock);
  std::memset(block, 7, kBlock);
  ASSERT_TRUE(device_->park(block, kBlock, nullptr));
  EXPECT_EQ(device_->memory().parked_bytes, kBlock);
  if (probed_parking() == Parking::kMove) {  // else under valgrind, which would report the read
    EXPECT_TRUE(all_bytes(block, kBlock, 0)) << "a parked range reads as zero";
  }
  ASSERT_TRUE(device_->unpark(block, kBlock, nullptr).ok());
  EXPECT_EQ(device_->memory().parked_bytes, 0u);
  std::memset(block, 8, kBlock);
  EXPECT_TRUE(all_bytes(block, kBlock, 8));
  device_->free(block, kBlock, nullptr);
}

TEST_P(ParkingOf, LeavesOtherBlocksUntouched) {
  std::vector<char*> blocks;
  for (int i = 0; i < 6; ++i) {
    blocks.push_back(take(*device_, 4 * MiB));
    std::memset(blocks.back(), i + 1, 4 * MiB);
  }
  for (int round = 0; round < 5; ++round) {
    for (size_t i = 0; i < blocks.size(); i += 2)
      ASSERT_TRUE(device_->park(blocks[i], 4 * MiB, nullptr));
    char* other = take(*device_, 4 * MiB);
    std::memset(other, 99, 4 * MiB);
    for (size_t i = 1; i < blocks.size(); i += 2)
      ASSERT_TRUE(all_bytes(blocks[i], 4 * MiB, static_cast<char>(i + 1)));
    for (size_t i = 0; i < blocks.size(); i += 2) {
      ASSERT_TRUE(device_->unpark(blocks[i], 4 * MiB, nullptr).ok());
      std::memset(blocks[i], static_cast<int>(i + 1), 4 * MiB);
    }
    ASSERT_TRUE(all_bytes(other, 4 * MiB, 99));
    for (size_t i = 0; i < blocks.size(); ++i)
      ASSERT_TRUE(all_bytes(blocks[i], 4 * MiB, static_cast<char>(i + 1)));
    device_->free(other, 4 * MiB, nullptr);
  }
  for (char* block : blocks) device_->free(block, 4 * MiB, nullptr);
}

TEST_P(ParkingOf, MayFreeAParkedBlockAndUseItsRangeAgain) {
  char* block = take(*device_, kBlock);
  ASSERT_TRUE(device_->park(block, kBlock, nullptr));
  device_->free(block, kBlock, nullptr);
  EXPECT_EQ(device_->memory().parked_bytes, 0u);
  char* a = take(*device_, kBlock);
  char* b = take(*device_, kBlock);
  EXPECT_NE(a, b);
  std::memset(a, 1, kBlock);
  std::memset(b, 2, kBlock);
  EXPECT_TRUE(all_bytes(a, kBlock, 1));
  device_->free(a, kBlock, nullptr);
  device_->free(b, kBlock, nullptr);
  device_->trim();
  EXPECT_EQ(device_->memory().reserved_bytes, 0u);
}

TEST_P(ParkingOf, IsIdempotentBothWays) {
  char* block = take(*device_, kBlock);
  std::memset(block, 3, kBlock);
  EXPECT_TRUE(device_->unpark(block, kBlock, nullptr).ok());
  EXPECT_TRUE(all_bytes(block, kBlock, 3)) << "unpark of a block in use must not touch it";
  EXPECT_TRUE(device_->park(block, kBlock, nullptr));
  EXPECT_TRUE(device_->park(block, kBlock, nullptr));
  EXPECT_EQ(device_->memory().parked_bytes, kBlock);
  device_->free(block, kBlock, nullptr);
}

TEST_P(ParkingOf, RefusesWhatItCannotPark) {
  char* small = take(*device_, 512);
  char* below = take(*device_, kParkBytesMin - 1);
  char* block = take(*device_, kBlock);
  std::vector<char> foreign(kBlock);
  EXPECT_FALSE(device_->park(small, 512, nullptr));
  EXPECT_FALSE(device_->park(below, kParkBytesMin - 1, nullptr));
  EXPECT_FALSE(device_->park(foreign.data(), kBlock, nullptr));
  EXPECT_FALSE(device_->park(block + MiB, kBlock - MiB, nullptr)) << "inside of a block";
  EXPECT_FALSE(device_->park(block, kBlock / 2, nullptr)) << "part of a block";
  EXPECT_EQ(device_->memory().parked_bytes, 0u);
  device_->free(small, 512, nullptr);
  device_->free(below, kParkBytesMin - 1, nullptr);
  device_->free(block, kBlock, nullptr);
}

class ParkingMove : public testing::Test {
 protected:
  void SetUp() override {
    if (probed_parking() != Parking::kMove)
      GTEST_SKIP() << "this kernel (or valgrind) refuses MREMAP_DONTUNMAP";
  }
  std::unique_ptr<Device> device_ = make_cpu_device(0);
};

TEST_F(ParkingMove, GivesThePagesToTheNextBlockAndTakesThemBack) {
  char* block = take(*device_, kBlock);
  std::memset(block, 1, kBlock);
  ASSERT_TRUE(device_->park(block, kBlock, nullptr));
  const DeviceMemory parked = device_->memory();
  EXPECT_EQ(parked.reserved_bytes, kBlock) << "the pages are cached, not gone";
  char* other = take(*device_, kBlock);
  EXPECT_NE(other, block);
  EXPECT_EQ(device_->memory().allocations, parked.allocations)
      << "no new memory for the second block";
  std::memset(other, 2, kBlock);
  device_->free(other, kBlock, nullptr);
  ASSERT_TRUE(device_->unpark(block, kBlock, nullptr).ok());
  EXPECT_EQ(device_->memory().allocations, parked.allocations);
  EXPECT_EQ(device_->memory().reserved_bytes, kBlock);
  device_->free(block, kBlock, nullptr);
}

TEST_F(ParkingMove, TakesFreshPagesWhereNoneAreFree) {
  char* block = take(*device_, kBlock);
  ASSERT_TRUE(device_->park(block, kBlock, nullptr));
  char* other = take(*device_, kBlock);
  std::memset(other, 2, kBlock);
  ASSERT_TRUE(device_->unpark(block, kBlock, nullptr).ok());
  EXPECT_EQ(device_->memory().reserved_bytes, 2 * kBlock);
  std::memset(block, 1, kBlock);
  EXPECT_TRUE(all_bytes(other, kBlock, 2));
  device_->free(block, kBlock, nullptr);
  device_->free(other, kBlock, nullptr);
}

TEST_F(ParkingMove, StopsAtTheMappingLimit) {
  CpuDeviceOptions options;
  options.mappings_max = 4;
  const auto device = make_cpu_device(options);
  std::vector<char*> blocks;
  for (int i = 0; i < 6; ++i) blocks.push_back(take(*device, 2 * MiB));
  EXPECT_FALSE(device->park(blocks[0], 2 * MiB, nullptr)) << "a new range would be one too many";
  device->free(blocks[5], 2 * MiB, nullptr);
  EXPECT_FALSE(device->park(blocks[0], 2 * MiB, nullptr)) << "the idle range has pages of its own";
  std::memset(blocks[4], 1, 2 * MiB);
  for (int i = 0; i < 5; ++i) device->free(blocks[static_cast<size_t>(i)], 2 * MiB, nullptr);
}

TEST(Parking, OffRefusesEverything) {
  CpuDeviceOptions options;
  options.parking = Parking::kOff;
  const auto device = make_cpu_device(options);
  char* block = take(*device, kBlock);
  std::memset(block, 5, kBlock);
  EXPECT_FALSE(device->park(block, kBlock, nullptr));
  EXPECT_TRUE(all_bytes(block, kBlock, 5));
  device->free(block, kBlock, nullptr);
}

// Threads that map, write, check and unmap without a pause: whatever hole opens, they take it.
class Storm {
 public:
  Storm() {
    for (int t = 0; t < 2; ++t) threads_.emplace_back([this, t] { run(static_cast<size_t>(t)); });
  }
  ~Storm() { stop(); }
  void stop() {
    stop_ = true;
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }
  uint64_t damaged() const { return damaged_; }
  uint64_t rounds() const { return rounds_; }

 private:
  void run(size_t t) {
    for (size_t i = 0; !stop_; ++i) {
      const size_t bytes = (i + t) % 3 ? 4 * MiB : MiB;
      void* got = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (got == MAP_FAILED) continue;
      char* mine = static_cast<char*>(got);
      const char mark = static_cast<char>(i % 100 + 1);
      for (size_t at = 0; at < bytes; at += 65536) mine[at] = mark;
      std::this_thread::yield();
      for (size_t at = 0; at < bytes; at += 65536) damaged_ += mine[at] != mark;
      munmap(got, bytes);
      ++rounds_;
    }
  }
  std::atomic<bool> stop_ = false;
  std::atomic<uint64_t> damaged_ = 0, rounds_ = 0;
  std::vector<std::thread> threads_;
};

TEST_F(ParkingMove, HoldsItsAddressesWhileOtherThreadsMapAndUnmap) {
  constexpr size_t kBytes = 4 * MiB;
  Storm storm;
  char* block = take(*device_, kBytes);
  char* other = take(*device_, kBytes);
  std::memset(other, 42, kBytes);
  // Sanitizers make each round many times slower: fewer of them then.
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  for (int i = 0; i < 400 && (i < 5 || std::chrono::steady_clock::now() < end); ++i) {
    const char mark = static_cast<char>(i % 100 + 1);
    std::memset(block, mark, kBytes);
    ASSERT_TRUE(device_->park(block, kBytes, nullptr));
    std::this_thread::yield();
    char* user = take(*device_, kBytes);
    std::memset(user, 101, kBytes);
    device_->free(user, kBytes, nullptr);
    ASSERT_TRUE(device_->unpark(block, kBytes, nullptr).ok());
    std::memset(block, mark, kBytes);
    std::this_thread::yield();
    ASSERT_TRUE(all_bytes(block, kBytes, mark)) << "round " << i;
    ASSERT_TRUE(all_bytes(other, kBytes, 42)) << "round " << i;
  }
  storm.stop();
  EXPECT_GT(storm.rounds(), 0u);
  EXPECT_EQ(storm.damaged(), 0u);
  device_->free(block, kBytes, nullptr);
  device_->free(other, kBytes, nullptr);
}

// The control of the test above: the same threads do take the hole that a plain move leaves.
TEST_F(ParkingMove, APlainMoveWouldLoseItsAddressesToThoseThreads) {
  constexpr size_t kBytes = 4 * MiB;
  Storm storm;
  bool taken = false;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!taken && std::chrono::steady_clock::now() < end) {
    char* home = map_pages(kBytes, false);
    char* away = map_pages(kBytes, false);
    ASSERT_NE(mremap(home, kBytes, kBytes, MREMAP_MAYMOVE | MREMAP_FIXED, away), MAP_FAILED);
    std::this_thread::sleep_for(std::chrono::microseconds(200));
    void* back =
        mmap(home, kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    taken = back == MAP_FAILED && errno == EEXIST;
    if (back != MAP_FAILED) munmap(back, kBytes);
    unmap_pages(away, kBytes);
  }
  EXPECT_TRUE(taken);
}

TEST_F(ParkingMove, AWarmStepTouchesNeitherTheHeapNorTheSystemForMemory) {
  const auto step = [&] {
    char* a = take(*device_, kBlock);
    std::memset(a, 1, kBlock);
    device_->park(a, kBlock, nullptr);
    char* b = take(*device_, kBlock);
    std::memset(b, 2, kBlock);
    char* c = take(*device_, 700);
    device_->free(c, 700, nullptr);
    device_->free(b, kBlock, nullptr);
    (void)device_->unpark(a, kBlock, nullptr).ok();
    std::memset(a, 3, kBlock);
    device_->free(a, kBlock, nullptr);
  };
  for (int i = 0; i < 3; ++i) step();
  const uint64_t calls = heap_calls;
  const uint64_t allocations = device_->memory().allocations;
  rusage before{}, after{};
  getrusage(RUSAGE_THREAD, &before);
  for (int i = 0; i < 50; ++i) step();
  getrusage(RUSAGE_THREAD, &after);
  EXPECT_EQ(heap_calls, calls);
  EXPECT_EQ(device_->memory().allocations, allocations);
#if !defined(RC_POISON_ASAN) && !defined(__SANITIZE_THREAD__)  // shadow memory faults too
  // A block of this size has 8 huge or 4096 small pages: one refault per step would show.
  EXPECT_LT(after.ru_minflt - before.ru_minflt, 50);
#endif
}

class ParkingAndTheSystem : public ParkingMove {
 protected:
  void SetUp() override {
    ParkingMove::SetUp();
    if (IsSkipped()) return;
#if defined(RC_POISON_ASAN) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "shadow memory is resident too";
#endif
    std::string reason;
    if (!resident_bytes(&reason) || !resident_mark(&reason) || !reset_resident_mark(&reason))
      GTEST_SKIP() << reason;
  }
  // Per-CPU and per-thread counters of the kernel, the stack, gtest's strings.
  static constexpr double kSlack = 1.0 * MiB;
};

TEST_F(ParkingAndTheSystem, AgreesOnReservedBytes) {
  const double base = static_cast<double>(*resident_bytes());
  const auto expect_agreement = [&](const char* when) {
    EXPECT_NEAR(static_cast<double>(*resident_bytes()) - base,
                static_cast<double>(device_->memory().reserved_bytes), kSlack)
        << when;
  };
  char* a = take(*device_, kBlock);
  std::memset(a, 1, kBlock);
  expect_agreement("one block");
  char* b = take(*device_, kBlock + 3 * MiB / 2);
  std::memset(b, 1, kBlock + 3 * MiB / 2);
  expect_agreement("two blocks");
  ASSERT_TRUE(device_->park(a, kBlock, nullptr));
  expect_agreement("one parked");
  char* c = take(*device_, kBlock);
  std::memset(c, 1, kBlock);
  expect_agreement("its pages in use");
  ASSERT_TRUE(device_->unpark(a, kBlock, nullptr).ok());
  std::memset(a, 1, kBlock);
  expect_agreement("unparked on fresh pages");
  device_->free(b, kBlock + 3 * MiB / 2, nullptr);
  device_->free(c, kBlock, nullptr);
  expect_agreement("cached");
  device_->trim();
  expect_agreement("trimmed");
  EXPECT_EQ(device_->memory().reserved_bytes, kBlock);
  device_->free(a, kBlock, nullptr);
}

TEST_F(ParkingAndTheSystem, TheHighWaterMarkOfAStepIsThePeakOfTheReservedBytes) {
  // 8 outputs are discarded one after the other and refilled in reverse, while one consumer runs at
  // a time: without parking 9 blocks are resident, with it 2.
  constexpr size_t kLayers = 8;
  const auto step = [&] {
    std::vector<char*> outputs;
    for (size_t i = 0; i < kLayers; ++i) {
      outputs.push_back(take(*device_, kBlock));
      std::memset(outputs.back(), 1, kBlock);
      ASSERT_TRUE(device_->park(outputs.back(), kBlock, nullptr));
    }
    for (size_t i = kLayers; i-- > 0;) {
      ASSERT_TRUE(device_->unpark(outputs[i], kBlock, nullptr).ok());
      std::memset(outputs[i], 2, kBlock);
      char* gradient = take(*device_, kBlock);
      std::memset(gradient, 3, kBlock);
      device_->free(gradient, kBlock, nullptr);
      device_->free(outputs[i], kBlock, nullptr);
    }
  };
  const double base = static_cast<double>(*resident_bytes());
  step();
  ASSERT_TRUE(reset_resident_mark());
  for (int i = 0; i < 5; ++i) step();
  const double high = static_cast<double>(resident_mark()->high) - base;
  EXPECT_NEAR(high, static_cast<double>(device_->memory().reserved_bytes), kSlack);
  EXPECT_EQ(device_->memory().reserved_bytes, 2 * kBlock);
}

}  // namespace
}  // namespace rc
