// src/plan/split_test.cc: sums of whole tensors and parts against all of them.
#include "src/plan/split.h"

#include <gtest/gtest.h>

#include <random>

namespace rc {
namespace {

// The least sum within the bounds, -1: none. `rows`: of one member too, where no whole ones do.
struct Every {
  const std::vector<SplitGroup>& groups;
  int64_t low, high, min_part;
  int64_t whole = -1;
  bool part = false;

  void visit(size_t g, int64_t sum, std::vector<int32_t>& left) {
    if (g < groups.size()) {
      for (int32_t n = 0; n <= groups[g].count; ++n) {
        left[g] = groups[g].count - n;
        visit(g + 1, sum + n * groups[g].bytes, left);
      }
      return;
    }
    if (sum >= low && sum <= high && (whole < 0 || sum < whole)) whole = sum;
    for (size_t i = 0; i < groups.size(); ++i) {
      for (int64_t rows = 1; rows < groups[i].rows && left[i] > 0; ++rows) {
        const int64_t more = groups[i].bytes / groups[i].rows * rows;
        part = part || (more >= min_part && sum + more >= low && sum + more <= high);
      }
    }
  }
};

TEST(Split, FindsTheLeastSumOfWholeMembersAndElseAPart) {
  std::mt19937_64 random(5);
  const auto below = [&](int64_t n) { return int64_t(random() % uint64_t(n)); };
  int whole = 0, parts = 0, none = 0;
  for (int round = 0; round < 4000; ++round) {
    std::vector<SplitGroup> groups(size_t(1 + below(4)));
    int64_t all = 0;
    const int64_t unit = below(2) == 0 ? 1 : 48;
    for (SplitGroup& group : groups) {
      group.rows = below(2) == 0 ? 1 : 4;
      group.bytes = (1 + below(40)) * 4 * unit;
      group.count = int32_t(below(4));
      all += group.bytes * group.count;
    }
    Every every{groups, 1 + below(all + 2), 0, below(3) * 8 * unit};
    every.high = every.low + below(8) * unit;
    std::vector<int32_t> left(groups.size(), 0);
    every.visit(0, 0, left);
    Split split;
    const SplitOutcome outcome = least_split(groups, every.low, every.high, every.min_part, split);
    ASSERT_NE(outcome, SplitOutcome::kUnknown);
    ASSERT_EQ(outcome == SplitOutcome::kFound, every.whole >= 0 || every.part) << round;
    if (outcome == SplitOutcome::kNone) {
      ++none;
      continue;
    }
    int64_t sum = 0;
    for (size_t g = 0; g < groups.size(); ++g) {
      ASSERT_LE(split.moved[g] + (split.cut_group == int32_t(g) ? 1 : 0), groups[g].count);
      sum += split.moved[g] * groups[g].bytes;
    }
    if (every.whole >= 0) {
      EXPECT_EQ(split.bytes, every.whole) << round;
      EXPECT_EQ(split.cut_rows, 0);
      ++whole;
    } else {
      const SplitGroup& cut = groups[size_t(split.cut_group)];
      const int64_t part = cut.bytes / cut.rows * split.cut_rows;
      EXPECT_GE(part, every.min_part);
      EXPECT_LT(split.cut_rows, cut.rows);
      sum += part;
      ++parts;
    }
    EXPECT_EQ(sum, split.bytes);
    EXPECT_GE(sum, every.low);
    EXPECT_LE(sum, every.high);
  }
  EXPECT_GT(whole, 500);
  EXPECT_GT(parts, 50);
  EXPECT_GT(none, 500);
}

// More sums than are kept: found near an even share, or not known.
TEST(Split, FindsSumsOfManyOddMembersAndSaysWhereItDoesNotKnow) {
  std::vector<SplitGroup> groups;
  for (int i = 0; i < 30; ++i) groups.push_back({30011 + 4099 * (i * i % 17) + 2 * i, 27, 1});
  for (const int64_t low : {1'000'001, 7'654'321, 20'000'003}) {
    Split split;
    ASSERT_EQ(least_split(groups, low, low + 5'000'000, 0, split), SplitOutcome::kFound);
    EXPECT_EQ(split.bytes, low);
    EXPECT_TRUE(split.least);
    int64_t sum = 0;
    for (size_t g = 0; g < groups.size(); ++g) sum += split.moved[g] * groups[g].bytes;
    EXPECT_EQ(sum, low);
  }
  for (SplitGroup& group : groups) group.bytes *= 1000;
  groups[0].bytes += 1;
  Split split;
  EXPECT_EQ(least_split(groups, 50'000'000'500, 50'000'000'900, 0, split), SplitOutcome::kUnknown);
}

// Where more sums than are kept would have to be ruled out, a part that is found near serves.
TEST(Split, CutsAMemberWhereManyWholeOnesMissTheSum) {
  std::vector<SplitGroup> groups;
  for (int i = 0; i < 30; ++i) groups.push_back({(7001 + 1021 * (i * i % 17) + i) * 16, 27, 1});
  groups[0].bytes += 8;
  const int64_t low = 80'000'004;  // no whole ones: their sums are multiples of 8
  Split split;
  ASSERT_EQ(least_split(groups, low, low, 1000, split), SplitOutcome::kUnknown);
  groups[7] = {4096 * 4 * 19, 27, 4096};
  ASSERT_EQ(least_split(groups, low, low, 1000, split), SplitOutcome::kFound);
  EXPECT_EQ(split.cut_group, 7);
  EXPECT_GE(split.cut_rows * 4 * 19, 1000);
  EXPECT_LT(split.cut_rows, 4096);
  int64_t sum = split.cut_rows * 4 * 19;
  for (size_t g = 0; g < groups.size(); ++g) {
    EXPECT_LE(split.moved[g] + (g == 7), groups[g].count);
    sum += split.moved[g] * groups[g].bytes;
  }
  EXPECT_EQ(sum, low);
  EXPECT_EQ(split.bytes, low);
}

TEST(Split, NothingIsMovedWhereNothingHasToBe) {
  Split split;
  EXPECT_EQ(least_split({{8, 2, 1}}, 0, 0, 0, split), SplitOutcome::kFound);
  EXPECT_EQ(split.bytes, 0);
  EXPECT_EQ(least_split({{8, 2, 1}}, 17, 100, 0, split), SplitOutcome::kNone);
  EXPECT_EQ(least_split({{8, 2, 1}}, 9, 8, 0, split), SplitOutcome::kNone);
}

}  // namespace
}  // namespace rc
