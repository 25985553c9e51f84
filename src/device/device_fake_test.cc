// src/device/device_fake_test.cc: the fake catches every kind of misuse, and is silent where order
// is kept.
#include "src/device/device_fake.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <thread>
#include <vector>

namespace rc {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const Stream kA = FakeDevice::stream(1), kB = FakeDevice::stream(2), kC = FakeDevice::stream(3);

class DeviceFake : public testing::Test {
 protected:
  char* take(size_t bytes, Stream stream = kA) {
    void* pointer = nullptr;
    EXPECT_TRUE(device_->allocate(bytes, stream, &pointer).ok());
    return static_cast<char*>(pointer);
  }
  void order(Stream from, Stream to) {  // work on `to` from now on comes after what is on `from`
    Event event = 0;
    EXPECT_TRUE(device_->record(from, &event).ok());
    EXPECT_TRUE(device_->wait(to, event).ok());
    device_->release(event);
  }
  void read(Stream stream, const char* block, size_t bytes) {
    device_->touch(stream, block, bytes, false);
  }
  void write(Stream stream, const char* block, size_t bytes) {
    device_->touch(stream, block, bytes, true);
  }
  std::vector<std::string> seen() { return device_->violations(); }

  std::unique_ptr<FakeDevice> device_ = std::make_unique<FakeDevice>();
};

// ---- silence where order is kept

TEST_F(DeviceFake, AcceptsUseInStreamOrder) {
  char* block = take(100);
  write(kA, block, 100);
  read(kA, block, 100);
  device_->free(block, 100, kA);
  EXPECT_THAT(seen(), IsEmpty());
}

TEST_F(DeviceFake, AcceptsTwoStreamsWithEventsBetween) {
  char* block = take(100);
  write(kA, block, 100);
  order(kA, kB);
  read(kB, block, 100);
  read(kA, block, 100);  // two readers need no order
  order(kB, kA);
  write(kA, block, 100);
  device_->free(block, 100, kA);
  EXPECT_THAT(seen(), IsEmpty());
}

TEST_F(DeviceFake, FollowsOrderThroughAThirdStream) {
  char* block = take(100);
  write(kA, block, 100);
  order(kA, kC);
  order(kC, kB);
  write(kB, block, 100);
  device_->free(block, 100, kB);
  EXPECT_THAT(seen(), IsEmpty());
}

TEST_F(DeviceFake, TakesTheHostsWaitForOrder) {
  char* block = take(100);
  write(kA, block, 100);
  EXPECT_TRUE(device_->synchronize(kA).ok());
  read(kB, block, 100);
  device_->host_access(block, 100, false);
  EXPECT_TRUE(device_->synchronize(kB).ok());
  device_->free(block, 100, kC);
  EXPECT_THAT(seen(), IsEmpty());
}

TEST_F(DeviceFake, TakesAnEventThatAnsweredYesForOrder) {
  device_->set_query_delay(2);
  char* block = take(100);
  write(kA, block, 100);
  Event event = 0;
  EXPECT_TRUE(device_->record(kA, &event).ok());
  EXPECT_FALSE(device_->query(event));
  EXPECT_FALSE(device_->query(event));
  EXPECT_TRUE(device_->query(event));
  device_->release(event);
  read(kB, block, 100);
  order(kB, kA);
  device_->free(block, 100, kA);
  EXPECT_THAT(seen(), IsEmpty());
}

TEST_F(DeviceFake, AcceptsWorkOnDisjointPartsOfABlock) {
  char* block = take(1000);
  order(kA, kB);
  write(kA, block, 500);
  write(kB, block + 500, 500);
  order(kB, kA);
  device_->free(block, 1000, kA);
  EXPECT_THAT(seen(), IsEmpty());
}

TEST_F(DeviceFake, AcceptsAParkingCycle) {
  char* block = take(100);
  write(kA, block, 100);
  EXPECT_TRUE(device_->park(block, 100, kA));
  EXPECT_EQ(device_->memory().parked_bytes, 100u);
  EXPECT_TRUE(device_->unpark(block, 100, kA).ok());
  EXPECT_EQ(device_->memory().parked_bytes, 0u);
  write(kA, block, 100);
  device_->free(block, 100, kA);
  EXPECT_THAT(seen(), IsEmpty());
}

TEST_F(DeviceFake, LeavesMemoryAloneThatIsNotItsOwn) {
  char mine[8] = {};
  write(kA, mine, 8);
  write(kB, mine, 8);
  EXPECT_THAT(seen(), IsEmpty());
}

// ---- one test per violation; each differs from an accepted case above by the missing order

TEST_F(DeviceFake, SeesUseOnAnotherStreamBeforeTheBlockIsUsable) {
  char* block = take(100, kA);
  write(kB, block, 100);
  EXPECT_THAT(
      seen(),
      ElementsAre(HasSubstr(
          "[0, 100) on stream 0x200 is not ordered after it became usable on stream 0x100")));
  device_->synchronize(kB).ok();
}

TEST_F(DeviceFake, SeesUseAfterFree) {
  char* block = take(100);
  device_->free(block, 100, kA);
  read(kA, block + 10, 10);
  EXPECT_THAT(
      seen(),
      ElementsAre(HasSubstr("read of block 1 [10, 20) on stream 0x100 comes after its free")));
}

TEST_F(DeviceFake, SeesAFreeThatDoesNotWaitForAReaderOnAnotherStream) {
  char* block = take(100);
  write(kA, block, 100);
  order(kA, kB);
  read(kB, block, 100);
  device_->free(block, 100, kA);
  EXPECT_THAT(seen(),
              ElementsAre(HasSubstr(
                  "free of block 1 on stream 0x100 is not ordered after a read on stream 0x200")));
}

TEST_F(DeviceFake, SeesAParkThatDoesNotWaitForAReaderOnAnotherStream) {
  char* block = take(100);
  write(kA, block, 100);
  order(kA, kB);
  read(kB, block, 100);
  EXPECT_TRUE(device_->park(block, 100, kA));
  EXPECT_THAT(
      seen(),
      ElementsAre(HasSubstr("park of block 1 on stream 0x100 is not ordered after a read")));
}

TEST_F(DeviceFake, SeesAReadThatRacesWithAWrite) {
  char* block = take(100);
  order(kA, kB);
  write(kA, block, 50);
  read(kB, block + 40, 20);
  EXPECT_THAT(seen(), ElementsAre(HasSubstr("read of block 1 [40, 60) on stream 0x200 races with a "
                                            "write of [40, 50) on stream 0x100")));
}

TEST_F(DeviceFake, SeesAWriteThatRacesWithARead) {
  char* block = take(100);
  write(kA, block, 100);
  order(kA, kB);
  read(kB, block, 100);
  write(kA, block, 1);
  EXPECT_THAT(seen(), ElementsAre(HasSubstr("races with a read of [0, 1) on stream 0x200")));
}

TEST_F(DeviceFake, SeesTwoWritesThatRace) {
  char* block = take(100);
  order(kA, kB);
  write(kB, block, 100);
  write(kA, block, 100);
  EXPECT_THAT(
      seen(),
      ElementsAre(HasSubstr("write of block 1 [0, 100) on stream 0x100 races with a write")));
}

TEST_F(DeviceFake, AnEventCoversOnlyWhatWasEnqueuedBeforeIt) {
  char* block = take(100);
  Event event = 0;
  EXPECT_TRUE(device_->record(kA, &event).ok());
  write(kA, block, 100);
  EXPECT_TRUE(device_->wait(kB, event).ok());
  device_->release(event);
  read(kB, block, 100);
  EXPECT_THAT(seen(), ElementsAre(HasSubstr("races with a write")));
}

TEST_F(DeviceFake, SeesTheHostReadWithoutWaiting) {
  char* block = take(100);
  write(kA, block, 100);
  device_->host_access(block, 100, false);
  ASSERT_EQ(seen().size(), 2u) << "neither the allocation nor the write is waited for";
  EXPECT_THAT(seen()[1], HasSubstr("read of block 1 [0, 100) on the host races with a write"));
}

TEST_F(DeviceFake, SeesUseOfAParkedBlock) {
  char* block = take(100);
  EXPECT_TRUE(device_->park(block, 100, kA));
  read(kA, block, 4);
  EXPECT_THAT(seen(),
              ElementsAre(HasSubstr("read of block 1 [0, 4) on stream 0x100 finds it parked")));
}

TEST_F(DeviceFake, SeesUseOnAnotherStreamBeforeAnUnparkIsOrdered) {
  char* block = take(100);
  order(kA, kB);
  EXPECT_TRUE(device_->park(block, 100, kA));
  EXPECT_TRUE(device_->unpark(block, 100, kA).ok());
  write(kB, block, 100);
  EXPECT_THAT(seen()[0], HasSubstr("is not ordered after it became usable"));
}

TEST_F(DeviceFake, SeesAnAccessPastTheEnd) {
  char* block = take(100);
  write(kA, block + 90, 11);
  EXPECT_THAT(seen(), ElementsAre(HasSubstr("[90, 101) on stream 0x100 goes past its end at 100")));
}

TEST_F(DeviceFake, SeesUndefinedContentIfAsked) {
  device_->check_undefined(true);
  char* block = take(100);
  write(kA, block, 50);
  read(kA, block, 50);
  EXPECT_THAT(seen(), IsEmpty());
  read(kA, block + 40, 20);
  EXPECT_EQ(seen().size(), 1u);
  EXPECT_TRUE(device_->park(block, 100, kA));
  EXPECT_TRUE(device_->unpark(block, 100, kA).ok());
  read(kA, block, 50);
  ASSERT_EQ(seen().size(), 2u);
  EXPECT_THAT(seen()[1], HasSubstr("finds undefined content"));
}

TEST_F(DeviceFake, SeesADoubleFreeAWrongSizeAndAnUnknownPointer) {
  char* block = take(100);
  device_->free(block, 99, kA);
  device_->free(block, 100, kA);
  device_->free(block + 1, 100, kA);
  EXPECT_THAT(seen(), ElementsAre(HasSubstr("says 99 bytes, allocate said 100"),
                                  HasSubstr("free of block 1 on stream 0x100 comes after its free"),
                                  HasSubstr("free of an unknown pointer")));
}

TEST_F(DeviceFake, SeesMisuseOfEvents) {
  Event event = 0;
  EXPECT_TRUE(device_->record(kA, &event).ok());
  device_->release(event);
  (void)device_->wait(kB, event).ok();
  (void)device_->query(event);
  device_->release(event);
  (void)device_->wait(kB, 77).ok();
  EXPECT_THAT(seen(), ElementsAre(HasSubstr("wait of event 1 comes after its release"),
                                  HasSubstr("query of event 1"), HasSubstr("release of event 1"),
                                  HasSubstr("event 77, which was never recorded")));
}

TEST_F(DeviceFake, SeesLeaksWhenItIsDestroyed) {
  (void)take(100);
  Event event = 0;
  EXPECT_TRUE(device_->record(kA, &event).ok());
  const auto log = device_->log();
  EXPECT_THAT(log->violations(), IsEmpty());
  device_.reset();
  EXPECT_THAT(log->violations(),
              ElementsAre(HasSubstr("block 1 of 100 bytes was never freed"),
                          HasSubstr("event 1 of stream 0x100 was never released")));
}

TEST_F(DeviceFake, SeesACopyThatOverlapsItself) {
  char* block = take(100);
  write(kA, block, 100);
  EXPECT_TRUE(device_->copy(block + 10, block, 11, kA).ok());
  EXPECT_THAT(seen(), ElementsAre(HasSubstr("copy of 11 bytes on stream 0x100 overlaps itself")));
  EXPECT_TRUE(device_->copy(block + 50, block, 50, kA).ok());
  EXPECT_EQ(seen().size(), 1u);
}

TEST_F(DeviceFake, ChecksBothEndsOfACopy) {
  char* from = take(100);
  char* to = take(100);
  write(kA, from, 100);
  order(kA, kB);
  EXPECT_TRUE(device_->copy(to, from, 100, kB).ok());
  EXPECT_THAT(seen(), IsEmpty());
  write(kA, from, 100);
  read(kA, to, 100);
  EXPECT_THAT(
      seen(),
      ElementsAre(HasSubstr("write of block 1 [0, 100) on stream 0x100 races with a read"),
                  HasSubstr("read of block 2 [0, 100) on stream 0x100 races with a write")));
}

TEST_F(DeviceFake, SeesTheHostWaitForACapturingStream) {
  Event event = 0;
  EXPECT_TRUE(device_->record(kA, &event).ok());
  device_->set_capturing(kA, true);
  EXPECT_TRUE(device_->capturing(kA));
  EXPECT_FALSE(device_->capturing(kB));
  EXPECT_EQ(device_->synchronize(kA).code(), RC_E_CAPTURE);
  EXPECT_FALSE(device_->query(event));
  EXPECT_EQ(seen().size(), 2u);
  char* block = take(100);
  EXPECT_FALSE(device_->park(block, 100, kA)) << "mappings cannot be captured";
}

TEST_F(DeviceFake, ChecksAdoptedMemoryUntilItIsDisowned) {
  char mine[64] = {};
  device_->adopt(mine, sizeof mine);
  read(kA, mine, 64);
  read(kB, mine, 64);
  EXPECT_THAT(seen(), IsEmpty());
  device_->disown(mine, kA);
  EXPECT_THAT(
      seen(),
      ElementsAre(HasSubstr(
          "disown of block 1 on stream 0x100 is not ordered after a read on stream 0x200")));
  write(kB, mine, 64);
  EXPECT_EQ(seen().size(), 1u);
}

// ---- failures on demand

TEST_F(DeviceFake, FailsTheCallThatTheTestNames) {
  void* pointer = nullptr;
  device_->fail_allocate(2);
  EXPECT_TRUE(device_->allocate(8, kA, &pointer).ok());
  void* other = &pointer;
  EXPECT_EQ(device_->allocate(8, kA, &other).code(), RC_E_MEMORY);
  EXPECT_EQ(other, nullptr);
  EXPECT_TRUE(device_->allocate(8, kA, &other).ok());
  Event event = 5;
  device_->fail_record(1);
  EXPECT_EQ(device_->record(kA, &event).code(), RC_E_DEVICE);
  EXPECT_EQ(event, 0u);
  device_->fail_copy(1);
  EXPECT_EQ(device_->copy(pointer, other, 8, kA).code(), RC_E_DEVICE);
  EXPECT_TRUE(device_->copy(pointer, other, 8, kA).ok());
  EXPECT_TRUE(device_->park(pointer, 8, kA));
  device_->fail_unpark(1);
  EXPECT_EQ(device_->unpark(pointer, 8, kA).code(), RC_E_MEMORY);
  EXPECT_TRUE(device_->unpark(pointer, 8, kA).ok());
  device_->set_parkable(false);
  EXPECT_FALSE(device_->park(pointer, 8, kA));
  EXPECT_THAT(seen(), IsEmpty()) << "an injected failure is no violation";
}

// ---- bytes

TEST_F(DeviceFake, LetsBytesFlowAtOnceWhenEager) {
  char* from = take(4);
  char* to = take(4);
  device_->launch(kA, {{from, 4, true}}, [=] { std::memcpy(from, "abc", 4); });
  EXPECT_TRUE(device_->copy(to, from, 4, kA).ok());
  EXPECT_STREQ(to, "abc");
}

TEST_F(DeviceFake, SpoilsFreedAndParkedContent) {
  char* block = take(4);
  std::memcpy(block, "abc", 4);
  EXPECT_TRUE(device_->park(block, 4, kA));
  EXPECT_NE(std::memcmp(block, "abc", 4), 0);
  EXPECT_TRUE(device_->unpark(block, 4, kA).ok());
  EXPECT_NE(block[0], 'a');
  std::memcpy(block, "abc", 4);
  device_->free(block, 4, kA);
  EXPECT_NE(block[0], 'a') << "kept in quarantine";
}

class DeviceFakeDelayed : public DeviceFake {
 protected:
  void SetUp() override { device_ = std::make_unique<FakeDevice>(FakeDevice::Execution::kDelayed); }
};

TEST_F(DeviceFakeDelayed, ShowsOldBytesToAHostThatDidNotWait) {
  char* block = take(4);
  EXPECT_TRUE(device_->synchronize(kA).ok());
  std::memcpy(block, "old", 4);
  device_->launch(kA, {{block, 4, true}}, [=] { std::memcpy(block, "new", 4); });
  EXPECT_STREQ(block, "old");
  EXPECT_TRUE(device_->synchronize(kA).ok());
  EXPECT_STREQ(block, "new");
}

TEST_F(DeviceFakeDelayed, RunsTheWorkThatAnEventStandsForAndNoMore) {
  char* block = take(8);
  device_->launch(kA, {{block, 1, true}}, [=] { block[0] = 1; });
  Event event = 0;
  EXPECT_TRUE(device_->record(kA, &event).ok());
  device_->launch(kA, {{block + 1, 1, true}}, [=] { block[1] = 1; });
  EXPECT_FALSE(device_->query(event)) << "the first answer is no";
  EXPECT_TRUE(device_->query(event));
  EXPECT_EQ(block[0], 1);
  EXPECT_NE(block[1], 1);
  device_->release(event);
}

TEST_F(DeviceFakeDelayed, RunsOtherStreamsAsFarAsAWaitAsksEvenIfTheEventIsReleased) {
  char* block = take(8);
  device_->launch(kA, {{block, 1, true}}, [=] { block[0] = 1; });
  order(kA, kB);  // releases the event at once
  device_->launch(kA, {{block + 1, 1, true}}, [=] { block[1] = 1; });
  device_->launch(kB, {{block, 1, false}}, [=] { block[2] = static_cast<char>(block[0] + 1); });
  EXPECT_TRUE(device_->synchronize(kB).ok());
  EXPECT_EQ(block[2], 2);
  EXPECT_NE(block[1], 1) << "stream A went no further than the event";
  EXPECT_THAT(seen(), IsEmpty());
}

TEST_F(DeviceFake, ForgetsTheOldestFreedBlocksPastItsQuarantine) {
  constexpr size_t kBytes = size_t{48} << 20;
  for (int i = 0; i < 8; ++i) {
    char* block = take(kBytes);
    device_->free(block, kBytes, kA);
  }
  EXPECT_EQ(device_->memory().reserved_bytes, 0u);
  EXPECT_THAT(seen(), IsEmpty());
}

TEST_F(DeviceFake, ServesManyThreads) {
  std::vector<std::thread> threads;
  for (uintptr_t t = 1; t <= 4; ++t) {
    threads.emplace_back([&, t] {
      const Stream mine = FakeDevice::stream(t);
      for (int i = 0; i < 200; ++i) {
        void* block = nullptr;
        ASSERT_TRUE(device_->allocate(64, mine, &block).ok());
        device_->touch(mine, block, 64, true);
        device_->free(block, 64, mine);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(seen(), IsEmpty());
  EXPECT_EQ(device_->memory().allocations, 800u);
}

}  // namespace
}  // namespace rc
