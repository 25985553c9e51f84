// src/budget/check_path_test.cc: true answers pass, forged ones are refused.
#include "src/budget/check_path.h"

#include <gtest/gtest.h>

#include <random>

namespace rc::budget {
namespace {

LayerPath chain(size_t layers, int ways, uint64_t seed) {
  std::mt19937_64 random(seed);
  LayerPath path;
  path.held = 1 + int64_t(seed % 4);
  path.ways.resize(layers);
  for (size_t p = 0; p < layers; ++p) {
    for (int i = 0; i < ways; ++i)
      path.ways[p].push_back({1, 4000 - 300 * i, 500 + int64_t(random() % 400),
                              i == 0 ? 0 : 40 * i + int64_t(random() % 30)});
    if (p + 2 <= layers) path.ways[p].push_back({2, 900, 6000, 500});
  }
  return path;
}

int64_t half(const LayerPath& path) {
  const PathPlan all = solve_path(path, INT64_MAX / 8);
  const PathPlan least = least_path(path);
  return (all.peak + least.peak) / 2;
}

TEST(CheckPath, ProvesWhatTheSearchFinds) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    const LayerPath path = chain(3 + seed % 10, 2 + int(seed % 4), seed);
    const int64_t budget = half(path);
    const PathPlan answer = solve_path(path, budget);
    ASSERT_TRUE(answer.found && answer.optimal) << seed;
    const PathCheck check = check_path(path, budget, answer);
    EXPECT_TRUE(check.fits) << seed << ": " << check.finding;
    EXPECT_EQ(check.proven_bound, answer.cost) << seed << ": " << check.finding;
  }
}

TEST(CheckPath, ProvesThatNothingFits) {
  const LayerPath path = chain(8, 4, 3);
  const int64_t budget = least_path(path).peak - 1;
  const PathPlan answer = solve_path(path, budget);
  ASSERT_FALSE(answer.found);
  PathPlan claim;
  claim.lower_bound = INT64_MAX / 8;
  EXPECT_EQ(check_path(path, budget, claim).proven_bound, claim.lower_bound);
  EXPECT_EQ(check_path(path, budget + 1, claim).proven_bound, 0);
}

TEST(CheckPath, RefusesForgedAnswers) {
  const LayerPath path = chain(10, 4, 5);
  const int64_t budget = half(path);
  const PathPlan answer = solve_path(path, budget);
  ASSERT_TRUE(answer.found);
  const auto refused = [&](PathPlan forged, const char* why) {
    const PathCheck check = check_path(path, budget, forged);
    EXPECT_NE(check.finding.find(why), std::string::npos) << check.finding;
    return !check.fits;
  };
  PathPlan forged = answer;
  forged.cost -= 1;
  forged.lower_bound = forged.cost;
  EXPECT_TRUE(refused(forged, "the steps cost"));
  forged = answer;
  forged.peak -= 1;
  EXPECT_TRUE(refused(forged, "the steps have"));
  forged = answer;
  forged.steps.pop_back();
  EXPECT_TRUE(refused(forged, "the steps end at"));
  forged = answer;
  forged.steps[2].way = 99;
  EXPECT_TRUE(refused(forged, "is none of"));
  forged = answer;
  forged.lower_bound += 1;
  EXPECT_TRUE(refused(forged, "lower bound is above"));
  EXPECT_EQ(check_path(path, answer.peak - 1, answer).fits, false);
  // A dearer plan that fits, called optimal: its figures are true, its bound is not.
  forged = solve_path(path, budget - 3000);
  ASSERT_TRUE(forged.found);
  ASSERT_GT(forged.cost, answer.cost);
  const PathCheck check = check_path(path, budget, forged);
  EXPECT_TRUE(check.fits) << check.finding;
  EXPECT_EQ(check.proven_bound, 0);
  EXPECT_NE(check.finding.find("could not be excluded"), std::string::npos);
}

TEST(CheckPath, StopsAtItsLimitWithoutAProof) {
  const LayerPath path = chain(30, 6, 8);
  const int64_t budget = half(path);
  EXPECT_EQ(check_path(path, budget, solve_path(path, budget), 4).proven_bound, 0);
}

RowPath two_chunks() {
  RowPath rows;
  rows.path = chain(6, 4, 1);
  for (auto& ways : rows.path.ways)
    for (PathWay& w : ways) w.kept -= w.layers * 4000;
  for (size_t p = 0; p < 6; ++p) {
    rows.place.push_back(p);
    rows.base.push_back(100'000);
    rows.most.push_back(100'000);
    rows.held.emplace_back();
    for (size_t j = 0; j < 6; ++j)
      rows.held.back().push_back((j < 3 ? 5 : 3) - ((j < 3) == (p < 3) && j > p));
  }
  return rows;
}

TEST(CheckPath, AddsUpSeveralChunksAndTheirPrices) {
  const RowPath rows = two_chunks();
  const RowPathPlan answer = solve_rows(rows, 85'000);
  ASSERT_TRUE(answer.plan.found && answer.plan.cost > 0);
  const PathCheck check = check_rows(rows, 85'000, answer);
  EXPECT_TRUE(check.fits) << check.finding;
  EXPECT_GT(check.proven_bound, answer.plan.cost / 3);
  EXPECT_LE(check.proven_bound, answer.plan.cost);
  RowPathPlan forged = answer;
  forged.plan.peak -= 5;
  EXPECT_FALSE(check_rows(rows, 85'000, forged).fits);
  forged = answer;
  forged.prices[1] = -1;
  EXPECT_EQ(check_rows(rows, 85'000, forged).proven_bound, 0);
  forged = answer;
  forged.prices.assign(6, 0);
  EXPECT_EQ(check_rows(rows, 85'000, forged).proven_bound, 0);
  EXPECT_FALSE(check_rows(rows, answer.plan.peak - 1, answer).fits);
  // Another way of one place: neither its cost nor its peak is the answer's.
  forged = answer;
  PathStep& step = forged.plan.steps[2];
  step.way = step.way == 0 ? 1 : 0;
  forged.plan.cost += rows.path.ways[step.place][step.way].cost -
                      rows.path.ways[step.place][answer.plan.steps[2].way].cost;
  forged.plan.lower_bound = 0;
  EXPECT_NE(check_rows(rows, 850'000, forged).finding.find("peak"), std::string::npos);
}

}  // namespace
}  // namespace rc::budget
