// src/plan/knapsack_test.cc: knapsacks against enumeration.
#include "src/plan/knapsack.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace rc {
namespace {

int64_t enumerate(const std::vector<KnapsackGroup>& groups, size_t group, int32_t member,
                  int64_t capacity) {
  if (capacity < 0) return kNoCost;
  if (group == groups.size()) return 0;
  if (member == groups[group].count) return enumerate(groups, group + 1, 0, capacity);
  int64_t best = kNoCost;
  for (const KnapsackOption& option : groups[group].options) {
    const int64_t rest = enumerate(groups, group, member + 1, capacity - option.weight);
    if (rest < kNoCost) best = std::min(best, rest + option.cost);
  }
  return best;
}

std::vector<KnapsackGroup> random_groups(std::mt19937_64& random) {
  std::vector<KnapsackGroup> groups(1 + random() % 4);
  for (KnapsackGroup& group : groups) {
    group.count = int32_t(1 + random() % 3);
    for (size_t o = 1 + random() % 4; o > 0; --o) {
      group.options.push_back({int64_t(random() % 60), int64_t(random() % 80)});
    }
  }
  return groups;
}

TEST(Knapsack, EqualsEnumerationOnRandomMultipleChoiceProblems) {
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    std::mt19937_64 random(seed);
    const std::vector<KnapsackGroup> groups = random_groups(random);
    const int64_t capacity = int64_t(random() % 250);
    const int64_t best = enumerate(groups, 0, 0, capacity);
    Knapsack knapsack(groups, capacity);
    ASSERT_EQ(knapsack.feasible(), best < kNoCost) << seed;
    if (!knapsack.feasible()) continue;
    EXPECT_LE(knapsack.relaxed(), best) << seed;
    ASSERT_TRUE(knapsack.build(best + 1, 1 << 20));
    EXPECT_EQ(knapsack.least(0, capacity), best) << seed;
    ASSERT_TRUE(knapsack.build(kNoCost, 1 << 20));
    for (int64_t less = 0; less <= capacity; less += 17) {
      EXPECT_EQ(knapsack.least(0, less), enumerate(groups, 0, 0, less)) << seed;
    }
  }
}

TEST(Knapsack, FindsNothingBelowACutoffThatNothingReaches) {
  Knapsack knapsack({{3, {{10, 0}, {0, 7}}}}, 20);
  ASSERT_TRUE(knapsack.build(5, 100));
  EXPECT_EQ(knapsack.least(0, 20), kNoCost);
  ASSERT_TRUE(knapsack.build(8, 100));
  EXPECT_EQ(knapsack.least(0, 20), 7);
}

// The same where the groups from `from` on weigh no less than a floor together.
int64_t enumerate_above(const std::vector<KnapsackGroup>& groups, size_t group, size_t from,
                        int64_t floor, int64_t capacity) {
  int64_t best = kNoCost;
  const std::vector<KnapsackGroup> late(groups.begin() + int64_t(from), groups.end());
  const std::vector<KnapsackGroup> early(groups.begin() + int64_t(group),
                                         groups.begin() + int64_t(from));
  for (int64_t room = 0; room <= capacity; ++room) {
    const int64_t rest = enumerate(late, 0, 0, room);
    if (rest >= kNoCost) continue;
    const int64_t ahead = enumerate(early, 0, 0, capacity - std::max(room, floor));
    if (ahead < kNoCost) best = std::min(best, ahead + rest);
  }
  return best;
}

TEST(Knapsack, AnOpenFloorIsToldAtTheQuery) {
  int found = 0, raised = 0;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    std::mt19937_64 random(seed);
    std::vector<KnapsackGroup> groups = random_groups(random);
    groups.push_back({1, {{int64_t(random() % 9), 4}, {3, 0}}});
    const size_t from = 1 + random() % (groups.size() - 1);
    const int64_t capacity = 20 + int64_t(random() % 150), floor = int64_t(random() % 60);
    const double share = double(random() % 5) / 4;
    const int64_t best = enumerate_above(groups, 0, from, floor, capacity);
    Knapsack knapsack(groups, capacity, capacity, 0, 0, {from, floor, share, true});
    ASSERT_LE(knapsack.feasible() ? knapsack.relaxed() : 0, best) << seed;
    if (best >= kNoCost) continue;
    ASSERT_TRUE(knapsack.feasible());
    // What a floor is lower, the capacity is.
    for (const int64_t cutoff : {best + 1, best + 20, kNoCost}) {
      ASSERT_TRUE(knapsack.build(cutoff, 1 << 20));
      for (int64_t less = 0; less <= floor; less += 1 + floor / 3) {
        const int64_t room = capacity - less;
        const int64_t truth = enumerate_above(groups, 0, from, floor - less, room);
        const int64_t least = knapsack.least_above(0, floor - less, room, room);
        if (truth < cutoff) {
          EXPECT_EQ(least, truth) << seed;
          ++found;
          raised += truth > enumerate(groups, 0, 0, room);
        } else {
          EXPECT_GE(least, cutoff) << seed;
        }
      }
    }
  }
  EXPECT_GT(found, 800);
  EXPECT_GT(raised, 50);
}

TEST(Knapsack, WeightBesideAnOpenFloorPaysItsSlope) {
  // Early: 10 for 0 or 0 for 30; late: 4. Floor 6, free 8: 8 beyond it at 2 each.
  Knapsack knapsack({{1, {{10, 0}, {0, 30}}}, {1, {{4, 0}}}}, 40, 8, 2.0, 0, {1, 6, 0.5, true});
  ASSERT_TRUE(knapsack.build(kNoCost, 100));
  EXPECT_EQ(knapsack.least_above(0, 6, 8, 40), 16);
  EXPECT_EQ(knapsack.least_above(0, 4, 8, 40), 12);
  EXPECT_EQ(knapsack.least_above(0, 6, 0, 40), 32);
  EXPECT_EQ(knapsack.least_above(0, 6, -4, 36), 40);
  EXPECT_EQ(knapsack.least_above(0, 6, 8, 15), 30);
  EXPECT_EQ(knapsack.least_above(0, 6, 8, 5), kNoCost);
}

TEST(Knapsack, StopsAtItsLimitOfPairs) {
  std::vector<KnapsackGroup> groups;
  for (int64_t i = 0; i < 30; ++i) groups.push_back({4, {{1 << i, 0}, {0, (1 << i) + i}}});
  Knapsack knapsack(groups, int64_t(1) << 31);
  EXPECT_FALSE(knapsack.build(kNoCost, 10000));
}

}  // namespace
}  // namespace rc
