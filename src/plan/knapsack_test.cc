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

TEST(Knapsack, StopsAtItsLimitOfPairs) {
  std::vector<KnapsackGroup> groups;
  for (int64_t i = 0; i < 30; ++i) groups.push_back({4, {{1 << i, 0}, {0, (1 << i) + i}}});
  Knapsack knapsack(groups, int64_t(1) << 31);
  EXPECT_FALSE(knapsack.build(kNoCost, 10000));
}

}  // namespace
}  // namespace rc
