// src/budget/layer_path_test.cc: the cheapest path against all paths, and the least one.
#include "src/budget/layer_path.h"

#include <gtest/gtest.h>

#include <functional>
#include <random>

namespace rc::budget {
namespace {

LayerPath random_path(std::mt19937* random) {
  const auto pick = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(*random);
  };
  LayerPath path;
  path.held = pick(1, 4);
  path.ways.resize(size_t(pick(1, 5)));
  for (size_t p = 0; p < path.ways.size(); ++p) {
    const int n = pick(1, 4);
    for (int i = 0; i < n; ++i) path.ways[p].push_back({1, pick(-20, 20), pick(0, 60), pick(0, 9)});
    if (p + 1 < path.ways.size() && pick(0, 1))
      path.ways[p].push_back(
          {uint32_t(pick(2, int(path.ways.size() - p))), pick(-30, 10), pick(0, 90), pick(0, 9)});
  }
  return path;
}

void each_path(const LayerPath& path, const std::function<void(const PathPlan&)>& visit) {
  PathPlan plan;
  const std::function<void(size_t)> go = [&](size_t place) {
    if (place == path.ways.size()) {
      plan.peak = path_peak(path, plan.steps);
      plan.cost = 0;
      for (const PathStep& s : plan.steps) plan.cost += path.ways[s.place][s.way].cost;
      visit(plan);
      return;
    }
    for (uint32_t w = 0; w < path.ways[place].size(); ++w) {
      plan.steps.push_back({uint32_t(place), w});
      go(place + path.ways[place][w].layers);
      plan.steps.pop_back();
    }
  };
  go(0);
}

TEST(LayerPath, IsTheCheapestOfAllPathsUnderEveryBudget) {
  std::mt19937 random(7);
  for (int round = 0; round < 1000; ++round) {
    const LayerPath path = random_path(&random);
    const int64_t budget = std::uniform_int_distribution<int>(-60, 300)(random);
    int64_t cheapest = INT64_MAX, lowest = INT64_MAX, cheapest_lowest = INT64_MAX;
    each_path(path, [&](const PathPlan& p) {
      if (p.peak <= budget) cheapest = std::min(cheapest, p.cost);
      if (p.peak < lowest || (p.peak == lowest && p.cost < cheapest_lowest)) {
        lowest = p.peak;
        cheapest_lowest = p.cost;
      }
    });
    const PathPlan plan = solve_path(path, budget);
    ASSERT_TRUE(plan.optimal) << round;
    ASSERT_EQ(plan.found, cheapest != INT64_MAX) << round;
    if (plan.found) {
      ASSERT_EQ(plan.cost, cheapest) << round;
      ASSERT_EQ(plan.lower_bound, cheapest);
      ASSERT_LE(plan.peak, budget);
      ASSERT_EQ(plan.peak, path_peak(path, plan.steps));
    }
    const PathPlan least = least_path(path);
    ASSERT_EQ(least.peak, lowest) << round;
    ASSERT_EQ(least.cost, cheapest_lowest) << round;
  }
}

TEST(LayerPath, CoversEveryLayerOnce) {
  std::mt19937 random(11);
  for (int round = 0; round < 200; ++round) {
    const LayerPath path = random_path(&random);
    const PathPlan plan = solve_path(path, 1'000'000);
    ASSERT_TRUE(plan.found);
    uint32_t at = 0;
    for (const PathStep& s : plan.steps) {
      ASSERT_EQ(s.place, at);
      at += path.ways[s.place][s.way].layers;
    }
    ASSERT_EQ(at, path.ways.size());
  }
}

// 81 layers of 24 ways each, as a large model's single layers would have.
TEST(LayerPath, SolvesALargeChainInTime) {
  LayerPath path;
  path.held = 8;
  path.ways.resize(81);
  for (auto& ways : path.ways)
    for (int i = 0; i < 24; ++i)
      ways.push_back({1, 1000 - 37 * i, 400 + 11 * i, 13 * i + i * i / 7});
  for (const int percent : {20, 40, 60, 80}) {
    const int64_t all = path_peak(path, solve_path(path, INT64_MAX / 8).steps);
    const PathPlan plan = solve_path(path, all * percent / 100);
    ASSERT_TRUE(plan.found) << percent;
    EXPECT_TRUE(plan.optimal) << percent;
    EXPECT_LT(plan.nodes, 200u) << percent;
  }
}

TEST(LayerPath, StopsAtItsLimitsWithWhatItHas) {
  LayerPath path;
  path.held = 2;
  path.ways.resize(30);
  std::mt19937 random(3);
  for (auto& ways : path.ways)
    for (int i = 0; i < 6; ++i)
      ways.push_back(
          {1, int64_t(random() % 100000), int64_t(random() % 100000), int64_t(random() % 1000)});
  PathLimits limits;
  limits.states = 16;
  const PathPlan plan = solve_path(path, 2'500'000, limits);
  ASSERT_TRUE(plan.found);
  EXPECT_FALSE(plan.optimal);
  EXPECT_LE(plan.peak, 2'500'000);
  EXPECT_EQ(plan.lower_bound, 0);
}

TEST(LayerPath, NothingToDecideIsAPlan) {
  EXPECT_TRUE(solve_path({}, 0).found);
  EXPECT_FALSE(solve_path({}, -1).found);
}

}  // namespace
}  // namespace rc::budget
