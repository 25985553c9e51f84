// src/storage/validator_test.cc: legal packings pass, of others the first violation is named.
#include "src/storage/validator.h"

#include <gtest/gtest.h>

#include <random>

namespace rc {
namespace {

using Offsets = std::vector<uint64_t>;

PackingProblem two_buffers(LiveInterval first, LiveInterval second) {
  return {{{100, 1, {first}}, {50, 1, {second}}}};
}

TEST(Validator, AcceptsBuffersSideBySide) {
  EXPECT_EQ(packing_violation(two_buffers({0, 5}, {0, 5}), Offsets{0, 100}, 150), "");
}

TEST(Validator, AcceptsSharedAddressesWhereIntervalsOnlyTouch) {
  EXPECT_EQ(packing_violation(two_buffers({0, 5}, {5, 9}), Offsets{0, 0}, 100), "");
}

TEST(Validator, NamesBothBuffersAndTheTimeOfAnOverlap) {
  EXPECT_EQ(packing_violation(two_buffers({0, 5}, {4, 9}), Offsets{0, 99}, 150),
            "buffers[0] at [0, 100) and buffers[1] at [99, 149) are both live at time 4");
}

TEST(Validator, SeesAnOverlapOfOneByteFromBelowAndFromAbove) {
  const PackingProblem problem = two_buffers({0, 5}, {0, 5});
  EXPECT_EQ(packing_violation(problem, Offsets{50, 0}, 150), "");
  EXPECT_NE(packing_violation(problem, Offsets{49, 0}, 150), "");
  EXPECT_NE(packing_violation(problem, Offsets{0, 20}, 150), "");
}

TEST(Validator, AcceptsABufferInTheGapOfAnother) {
  PackingProblem problem = two_buffers({0, 2}, {2, 6});
  problem.buffers[0].live.push_back({6, 8});
  EXPECT_EQ(packing_violation(problem, Offsets{0, 0}, 100), "");
}

TEST(Validator, ComparesTheSecondIntervalToo) {
  PackingProblem problem = two_buffers({0, 2}, {2, 7});
  problem.buffers[0].live.push_back({6, 8});
  EXPECT_EQ(packing_violation(problem, Offsets{0, 0}, 100),
            "buffers[1] at [0, 50) and buffers[0] at [0, 100) are both live at time 6");
}

TEST(Validator, DoesNotCompareABufferWithItself) {
  const PackingProblem problem{{{10, 1, {{0, 4}, {2, 6}, {6, 8}}}}};
  EXPECT_EQ(packing_violation(problem, Offsets{0}, 10), "");
}

TEST(Validator, RefusesAMisalignedOffset) {
  const PackingProblem problem{{{10, 256, {{0, 1}}}}};
  EXPECT_EQ(packing_violation(problem, Offsets{128}, 1000),
            "buffers[0] has offset 128, not a multiple of 256");
}

TEST(Validator, RefusesABufferAboveTheHeightWithoutOverflow) {
  const PackingProblem problem{{{10, 1, {{0, 1}}}}};
  EXPECT_EQ(packing_violation(problem, Offsets{1}, 11), "");
  EXPECT_EQ(packing_violation(problem, Offsets{2}, 11),
            "buffers[0] of 10 bytes at offset 2 ends above the height 11");
  EXPECT_NE(packing_violation(problem, Offsets{~uint64_t{0}}, 11), "");
  EXPECT_NE(packing_violation(problem, Offsets{0}, 9), "");
}

TEST(Validator, RefusesAWrongNumberOfOffsets) {
  EXPECT_EQ(packing_violation(two_buffers({0, 1}, {0, 1}), Offsets{0}, 200),
            "there are 1 offsets for 2 buffers");
}

TEST(Validator, IgnoresEmptyBuffersAndBuffersThatNeverLive) {
  const PackingProblem problem{
      {{0, 256, {{0, 9}}}, {64, 1, {{3, 3}}}, {64, 1, {}}, {64, 1, {{0, 9}}}}};
  EXPECT_EQ(packing_violation(problem, Offsets{7, 9999, 5, 0}, 64), "");
}

TEST(Validator, AgreesWithComparingAllPairs) {
  std::mt19937_64 random(7);
  int broken = 0;
  for (int round = 0; round < 3000; ++round) {
    PackingProblem problem;
    Offsets offsets;
    for (uint64_t b = 0; b < 2 + random() % 6; ++b) {
      PackingBuffer buffer{1 + random() % 8, 1, {}};
      for (uint64_t i = 0; i < 1 + random() % 3; ++i) {
        const auto begin = int64_t(random() % 20);
        buffer.live.push_back({begin, begin + int64_t(random() % 5)});
      }
      problem.buffers.push_back(buffer);
      offsets.push_back(random() % 24);
    }
    bool overlap = false;
    for (size_t a = 0; a < offsets.size(); ++a) {
      for (size_t b = 0; b < a; ++b) {
        if (offsets[a] >= offsets[b] + problem.buffers[b].size) continue;
        if (offsets[b] >= offsets[a] + problem.buffers[a].size) continue;
        for (const LiveInterval& x : problem.buffers[a].live) {
          for (const LiveInterval& y : problem.buffers[b].live) {
            overlap |= std::max(x.begin, y.begin) < std::min(x.end, y.end);
          }
        }
      }
    }
    broken += overlap;
    ASSERT_EQ(packing_violation(problem, offsets, 1000).empty(), !overlap) << "round " << round;
  }
  EXPECT_GT(broken, 500);
  EXPECT_LT(broken, 2500);
}

}  // namespace
}  // namespace rc
