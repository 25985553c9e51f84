// src/budget/row_path_test.cc: plans of several chunks against all there are, and their bound.
#include "src/budget/row_path.h"

#include <gtest/gtest.h>

#include <functional>
#include <random>

#include "src/budget/check_path.h"

namespace rc::budget {
namespace {

RowPath random_rows(std::mt19937* random) {
  const auto pick = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(*random);
  };
  RowPath rows;
  const size_t n = size_t(pick(1, 6));
  rows.path.ways.resize(n);
  for (size_t p = 0; p < n; ++p) {
    rows.most.push_back(0);
    for (int i = pick(1, 2); i > 0; --i) {
      rows.place.push_back(p);
      rows.base.push_back(pick(800, 1000));
      rows.most.back() = std::max(rows.most.back(), rows.base.back());
      rows.held.emplace_back();
      for (size_t j = 0; j < n; ++j) rows.held.back().push_back(pick(0, 4));
    }
    rows.path.ways[p].push_back({1, 0, 0, 0});
    for (int i = pick(0, 3); i > 0; --i)
      rows.path.ways[p].push_back({1, -pick(5, 60), pick(0, 40), pick(1, 30)});
    if (p + 1 < n && pick(0, 1))
      rows.path.ways[p].push_back({2, -pick(40, 120), pick(0, 90), pick(5, 60)});
  }
  return rows;
}

struct All {
  int64_t cheapest = INT64_MAX, least_peak = INT64_MAX;
};
All all_paths(const RowPath& rows, int64_t budget) {
  All all;
  std::vector<PathStep> steps;
  int64_t cost = 0;
  const std::function<void(size_t)> go = [&](size_t place) {
    if (place == rows.path.ways.size()) {
      const int64_t peak = row_path_peak(rows, steps);
      all.least_peak = std::min(all.least_peak, peak);
      if (peak <= budget) all.cheapest = std::min(all.cheapest, cost);
      return;
    }
    for (uint32_t w = 0; w < rows.path.ways[place].size(); ++w) {
      const PathWay& way = rows.path.ways[place][w];
      steps.push_back({uint32_t(place), w});
      cost += way.cost;
      go(place + way.layers);
      cost -= way.cost;
      steps.pop_back();
    }
  };
  go(0);
  return all;
}

TEST(RowPath, IsTheCheapestOfAllPathsWhereTheyAreFew) {
  std::mt19937 random(5);
  int feasible = 0;
  for (int round = 0; round < 400; ++round) {
    const RowPath rows = random_rows(&random);
    const int64_t budget = std::uniform_int_distribution<int>(500, 1000)(random);
    const All all = all_paths(rows, budget);
    const RowPathPlan answer = solve_rows(rows, budget);
    const bool fits = all.cheapest != INT64_MAX;
    ASSERT_TRUE(answer.plan.optimal) << round;  // so small that all paths are gone through
    ASSERT_EQ(answer.plan.found, fits) << round;
    if (!fits) continue;
    ++feasible;
    ASSERT_LE(answer.plan.peak, budget);
    ASSERT_EQ(answer.plan.peak, row_path_peak(rows, answer.plan.steps));
    ASSERT_EQ(answer.plan.cost, all.cheapest) << round;
    ASSERT_LE(row_path_bound(rows, budget, answer.prices), all.cheapest);
    const PathCheck check = check_rows(rows, budget, answer);
    ASSERT_TRUE(check.fits) << round << ": " << check.finding;
    ASSERT_LE(check.proven_bound, all.cheapest);
  }
  EXPECT_GT(feasible, 120);
}

// 80 layers in five chunks, 24 ways each, 12 to 4 microbatches held.
TEST(RowPath, ComesCloseToItsBoundWhereThereIsMuchToDecide) {
  RowPath rows;
  const size_t n = 80;
  rows.path.ways.resize(n);
  for (size_t r = 0; r < n; ++r) {
    rows.place.push_back(r);
    rows.base.push_back(2'000'000 + 30'000 * int64_t(r / 16));
    rows.most.push_back(rows.base.back());
    rows.held.emplace_back();
    for (size_t j = 0; j < n; ++j)
      rows.held.back().push_back(12 - 2 * int64_t(j / 16) - (j / 16 == r / 16 && j > r));
    for (int i = 0; i < 24; ++i)
      rows.path.ways[r].push_back({1, -37 * i, 11 * i, 13 * i + i * i / 7});
  }
  for (const int64_t budget : {1'900'000, 1'800'000, 1'700'000, 1'600'000}) {
    const RowPathPlan answer = solve_rows(rows, budget);
    ASSERT_TRUE(answer.plan.found) << budget;
    EXPECT_LE(answer.plan.peak, budget);
    EXPECT_LE(double(answer.plan.cost), 1.03 * double(answer.plan.lower_bound)) << budget;
  }
}

// Any prices prove something, and none proves too much.
TEST(RowPath, ABoundOfAnyPricesIsABound) {
  std::mt19937 random(9);
  for (int round = 0; round < 300; ++round) {
    const RowPath rows = random_rows(&random);
    const int64_t budget = std::uniform_int_distribution<int>(500, 1000)(random);
    std::vector<int64_t> prices;
    for (size_t r = 0; r < rows.base.size(); ++r) prices.push_back(int64_t(random() % (1 << 20)));
    const All all = all_paths(rows, budget);
    RowPathPlan claim;
    claim.plan.lower_bound = INT64_MAX;
    claim.prices = prices;
    // The checker's own sum is that of the search.
    ASSERT_EQ(check_rows(rows, budget, claim).proven_bound, row_path_bound(rows, budget, prices));
    if (all.cheapest != INT64_MAX)
      ASSERT_LE(row_path_bound(rows, budget, prices), all.cheapest) << round;
  }
}

}  // namespace
}  // namespace rc::budget
