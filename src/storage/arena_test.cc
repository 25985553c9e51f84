// src/storage/arena_test.cc: recordings, and the places that blocks get on and off the recorded
// order.
#include "src/storage/arena.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace rc {
namespace {

BlockKey key(uint32_t n) {
  return {.site = n, .instance = 1, .slot = 2, .incarnation = 3};
}

struct ArenaTest : ::testing::Test {
  // 0: 1000 B, dropped and refilled; 1: 900 B in its gap; 2: 500 B beside both.
  void record() {
    recording.begin_step();
    const uint32_t a = recording.use(key(0), 1000);
    const uint32_t c = recording.use(key(2), 500);
    recording.release(a);
    const uint32_t b = recording.use(key(1), 900);
    recording.release(b);
    recording.use(key(0), 1000);
    recording.release(a);
    recording.release(c);
  }
  bool plan() {
    record();
    const bool made = arena.plan(recording);
    arena.set_memory(memory);
    return made;
  }
  bool overlap(uint32_t a, uint64_t a_bytes, uint32_t b, uint64_t b_bytes) const {
    const char *x = arena.address(a), *y = arena.address(b);
    return x < y + b_bytes && y < x + a_bytes;
  }
  StepRecording recording;
  Arena arena;
  alignas(256) char memory[1 << 16];
};

TEST_F(ArenaTest, ReusesTheGapOfADiscardedBuffer) {
  ASSERT_TRUE(plan());
  EXPECT_LE(arena.size().bytes, 1024u + 512u);
  EXPECT_EQ(arena.size().bound, 1500u);
  arena.begin_step();
  const uint32_t a = arena.take(key(0), 1000), c = arena.take(key(2), 500);
  arena.drop(a);
  const uint32_t b = arena.take(key(1), 900);
  EXPECT_TRUE(overlap(a, 1000, b, 900));
  EXPECT_FALSE(overlap(b, 900, c, 500));
  arena.give(b);
  EXPECT_TRUE(arena.retake(a));
  arena.give(a);
  arena.give(c);
  EXPECT_TRUE(arena.idle());
  EXPECT_EQ(arena.misses(), 0u);
}

TEST_F(ArenaTest, AnIntruderInTheGapMovesTheRefill) {
  ASSERT_TRUE(plan());
  arena.begin_step();
  const uint32_t a = arena.take(key(0), 1000);
  arena.drop(a);
  const uint32_t b = arena.take(key(1), 900);  // before c: off the plan, but c is not in its way
  if (b == Arena::kNone) {
    EXPECT_TRUE(arena.retake(a));  // awaited places are not given to others off the plan
  } else {
    EXPECT_FALSE(arena.retake(a));  // b still sits there
    EXPECT_EQ(arena.misses(), 1u);
  }
}

TEST_F(ArenaTest, OffThePlanLivePlacesNeverOverlap) {
  ASSERT_TRUE(plan());
  arena.begin_step();
  const uint32_t b = arena.take(key(1), 900);
  ASSERT_NE(b, Arena::kNone);
  EXPECT_EQ(arena.take(key(0), 1000), Arena::kNone);  // where b is
  EXPECT_NE(arena.take(key(2), 500), Arena::kNone);
  EXPECT_EQ(arena.misses(), 1u);
  arena.begin_step();
  EXPECT_FALSE(arena.idle());
  EXPECT_EQ(arena.take(key(0), 1000), Arena::kNone);  // b outlived its step
  arena.give(b);
  EXPECT_NE(arena.take(key(0), 1000), Arena::kNone);
}

TEST_F(ArenaTest, UnknownKeysOtherSizesAndSecondLivesMiss) {
  ASSERT_TRUE(plan());
  arena.begin_step();
  EXPECT_EQ(arena.take(key(9), 10), Arena::kNone);
  EXPECT_EQ(arena.take(key(0), 999), Arena::kNone);
  EXPECT_NE(arena.take(key(0), 1000), Arena::kNone);
  EXPECT_EQ(arena.take(key(0), 1000), Arena::kNone);
  EXPECT_EQ(arena.misses(), 3u);
}

TEST_F(ArenaTest, AKeyWithTwoSizesOrTwoLivesIsLeftToDynamicMemory) {
  recording.begin_step();
  recording.release(recording.use(key(0), 100));
  recording.release(recording.use(key(0), 200));
  recording.release(recording.use(key(1), 300));
  EXPECT_TRUE(recording.entries()[0].ambiguous);
  EXPECT_FALSE(recording.entries()[1].ambiguous);
  ASSERT_TRUE(arena.plan(recording));
  EXPECT_EQ(arena.size().bytes, 300u);
  arena.set_memory(memory);
  arena.begin_step();
  EXPECT_EQ(arena.take(key(0), 100), Arena::kNone);
  EXPECT_NE(arena.take(key(1), 300), Arena::kNone);
}

TEST_F(ArenaTest, WhatOutlivesTheStepIsNotPlanned) {
  recording.begin_step();
  recording.use(key(0), 100);  // never released
  recording.release(recording.use(key(1), 300));
  ASSERT_TRUE(arena.plan(recording));
  EXPECT_EQ(arena.size().bytes, 300u);
  recording.begin_step();
  recording.use(key(0), 100);
  EXPECT_FALSE(arena.plan(recording));
  EXPECT_FALSE(arena.planned());
}

TEST_F(ArenaTest, AnEmptyStepPlansNothing) {
  recording.begin_step();
  EXPECT_FALSE(arena.plan(recording));
  recording.release(recording.use(key(0), 0));
  EXPECT_FALSE(arena.plan(recording));
}

// Random steps that stray from the recorded order: whatever happens, no two live places share a
// byte.
TEST_F(ArenaTest, StrayingStepsNeverShareAByte) {
  std::mt19937 random(7);
  recording.begin_step();
  std::vector<uint32_t> live;
  constexpr uint32_t kBlocks = 40;
  const auto bytes_of = [](uint32_t n) { return uint64_t{100} + 97 * n; };
  for (uint32_t n = 0; n < kBlocks; ++n) {
    live.push_back(recording.use(key(n), bytes_of(n)));
    if (live.size() > 6) {
      const size_t i = random() % live.size();
      recording.release(live[i]);
      live.erase(live.begin() + static_cast<long>(i));
    }
  }
  for (uint32_t index : live) recording.release(index);
  ASSERT_TRUE(arena.plan(recording));
  arena.set_memory(memory);
  ASSERT_LE(arena.size().bytes, sizeof memory);
  for (int step = 0; step < 200; ++step) {
    arena.begin_step();
    struct Held {
      uint32_t place;
      uint64_t bytes;
      bool dropped;
    };
    std::vector<Held> held;
    for (int move = 0; move < 100; ++move) {
      const uint32_t what = random() % 4;
      if (what < 2) {
        const uint32_t n = random() % kBlocks;
        const uint32_t place = arena.take(key(n), bytes_of(n));
        if (place != Arena::kNone) held.push_back({place, bytes_of(n), false});
      } else if (!held.empty()) {
        const size_t i = random() % held.size();
        if (what == 2 && !held[i].dropped) {
          arena.drop(held[i].place);
          held[i].dropped = true;
        } else if (what == 2 && arena.retake(held[i].place)) {
          held[i].dropped = false;
        } else if (what == 3) {
          arena.give(held[i].place);
          held.erase(held.begin() + static_cast<long>(i));
        }
      }
      for (size_t i = 0; i < held.size(); ++i)
        for (size_t k = 0; k < i; ++k)
          if (!held[i].dropped && !held[k].dropped)
            ASSERT_FALSE(overlap(held[i].place, held[i].bytes, held[k].place, held[k].bytes))
                << "step " << step;
    }
    for (const Held& h : held) arena.give(h.place);
    ASSERT_TRUE(arena.idle());
  }
}

}  // namespace
}  // namespace rc
