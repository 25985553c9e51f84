// src/storage/packer_test.cc: the packer against brute force; bounds, gaps, alignment, edges.
#include "src/storage/packer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <random>

#include "src/storage/packer_fit.h"
#include "src/storage/validator.h"
#include "src/testing/effort.h"

namespace rc {
namespace {

bool live_together(const PackingBuffer& a, const PackingBuffer& b) {
  for (const LiveInterval& x : a.live) {
    for (const LiveInterval& y : b.live) {
      if (std::max(x.begin, y.begin) < std::min(x.end, y.end)) return true;
    }
  }
  return false;
}

// Least height over all orders, each buffer resting on the highest conflicting one before it. An
// optimal packing, sorted by offset, is never higher than the packing of its own order.
class BruteForce {
 public:
  explicit BruteForce(const PackingProblem& problem)
      : problem_(problem), offsets_(problem.buffers.size(), kOpen) {}
  uint64_t height() {
    best_ = ~uint64_t{0};
    descend(0, 0);
    return best_;
  }

 private:
  static constexpr uint64_t kOpen = ~uint64_t{0};
  void descend(size_t placed, uint64_t height) {
    if (height >= best_) return;
    if (placed == offsets_.size()) {
      best_ = height;
      return;
    }
    for (size_t b = 0; b < offsets_.size(); ++b) {
      if (offsets_[b] != kOpen) continue;
      const PackingBuffer& buffer = problem_.buffers[b];
      const bool lives = buffer.size > 0 && live_together(buffer, buffer);
      uint64_t offset = 0;
      for (size_t o = 0; o < offsets_.size() && lives; ++o) {
        const PackingBuffer& other = problem_.buffers[o];
        if (offsets_[o] == kOpen || other.size == 0 || !live_together(buffer, other)) continue;
        offset = std::max(offset, offsets_[o] + other.size);
      }
      offset = (offset + buffer.alignment - 1) / buffer.alignment * buffer.alignment;
      offsets_[b] = offset;
      descend(placed + 1, std::max(height, lives ? offset + buffer.size : 0));
      offsets_[b] = kOpen;
    }
  }
  const PackingProblem& problem_;
  std::vector<uint64_t> offsets_;
  uint64_t best_ = 0;
};

struct RandomShape {
  uint64_t buffers = 6, max_size = 12, horizon = 12, max_intervals = 2;
  std::vector<uint64_t> alignments = {1};
};

PackingProblem random_problem(std::mt19937_64& random, const RandomShape& shape) {
  PackingProblem problem;
  for (uint64_t b = 0; b < shape.buffers; ++b) {
    PackingBuffer buffer;
    buffer.size = random() % (shape.max_size + 1);
    buffer.alignment = shape.alignments[random() % shape.alignments.size()];
    const uint64_t intervals = 1 + random() % shape.max_intervals;
    for (uint64_t i = 0; i < intervals; ++i) {
      const auto begin = int64_t(random() % shape.horizon);
      buffer.live.push_back({begin, begin + int64_t(random() % (shape.horizon / 2 + 1))});
    }
    problem.buffers.push_back(std::move(buffer));
  }
  return problem;
}

void expect_legal(const PackingProblem& problem, const Packing& packing) {
  ASSERT_EQ(packing.error, "");
  EXPECT_EQ(packing_violation(problem, packing.offsets, packing.height), "");
  uint64_t top = 0;
  for (size_t b = 0; b < problem.buffers.size(); ++b) {
    const bool lives =
        problem.buffers[b].size > 0 && live_together(problem.buffers[b], problem.buffers[b]);
    if (lives) top = std::max(top, packing.offsets[b] + problem.buffers[b].size);
  }
  EXPECT_EQ(packing.height, top);
  EXPECT_EQ(packing.lower_bound, lower_bound(problem));
  EXPECT_LE(packing.lower_bound, packing.proven_bound);
  EXPECT_LE(packing.proven_bound, packing.height);
  EXPECT_EQ(packing.proven_optimal, packing.proven_bound == packing.height);
}

// The exact search alone, without the greedy fits that would hide its mistakes.
uint64_t least_height_by_search(const PackingProblem& problem, SearchSwitches switches) {
  const PackingSections sections = fold_sections(problem);
  CapacitySearch search(sections, switches);
  for (uint64_t height = 0;; ++height) {
    const auto order = SearchOrder(height % 3);
    const SearchOutcome outcome = search.run(int64_t(height), order, {.nodes = ~uint64_t{0}});
    EXPECT_NE(outcome, SearchOutcome::kLimit);
    if (outcome == SearchOutcome::kInfeasible) continue;
    std::vector<uint64_t> offsets(problem.buffers.size());
    for (size_t i = 0; i < sections.items.size(); ++i) {
      offsets[sections.items[i].buffer] = uint64_t(search.offsets()[i]);
    }
    EXPECT_EQ(packing_violation(problem, offsets, height), "");
    return height;
  }
}

SearchSwitches switches_of(unsigned bits) {
  SearchSwitches switches;
  switches.section_bound = bits & 1;
  switches.dominance = bits & 2;
  switches.decomposition = bits & 4;
  switches.stack_order = bits & 8;
  switches.passed_bound = bits & 16;
  return switches;
}

const RandomShape kShapes[] = {
    {6, 12, 12, 2, {1}},    {7, 4, 8, 1, {1}},        {7, 3, 6, 3, {1}},
    {6, 20, 10, 2, {1, 4}}, {6, 20, 10, 2, {8}},      {5, 30, 8, 2, {1, 2, 3, 6, 16}},
    {7, 9, 5, 1, {2}},      {4, 100, 4, 1, {1, 256}},
};

TEST(Packer, EqualsBruteForceOnThousandsOfTinyProblems) {
  std::mt19937_64 random(11);
  for (int round = 0; round < 4000; ++round) {
    const PackingProblem problem = random_problem(random, kShapes[round % std::size(kShapes)]);
    const Packing packing = pack(problem);
    expect_legal(problem, packing);
    ASSERT_TRUE(packing.proven_optimal)
        << "round " << round << ": " << packing.height << " over " << packing.proven_bound;
    ASSERT_EQ(packing.height, BruteForce(problem).height()) << "round " << round;
  }
}

TEST(PackerSearch, EqualsBruteForceWithEveryCombinationOfSwitches) {
  std::mt19937_64 random(12);
  for (int round = 0; round < 1600; ++round) {
    const PackingProblem problem = random_problem(random, kShapes[round % std::size(kShapes)]);
    const uint64_t expected = BruteForce(problem).height();
    const unsigned bits = unsigned(round / 8) % 32;
    ASSERT_EQ(least_height_by_search(problem, switches_of(bits)), expected)
        << "round " << round << ", switches " << bits;
    ASSERT_EQ(least_height_by_search(problem, {}), expected) << "round " << round;
  }
}

// Each switch has to spare nodes on the proof that a height is out of reach, or on a find.
TEST(PackerSearch, EverySwitchSparesNodesOnSomeProblem) {
  constexpr uint64_t kLimit = 20'000;
  std::vector<int> spared(5);
  std::mt19937_64 random(13);
  for (int round = 0; round < 150; ++round) {
    const PackingProblem problem = random_problem(random, {14, 9, 14, 2, {1}});
    const PackingSections sections = fold_sections(problem);
    const auto height = int64_t(lower_bound(problem));
    CapacitySearch all(sections, {});
    all.run(height, SearchOrder::kLifetimeAreaPressure, {.nodes = kLimit});
    for (unsigned s = 0; s < 5; ++s) {
      CapacitySearch without(sections, switches_of(31u & ~(1u << s)));
      without.run(height, SearchOrder::kLifetimeAreaPressure, {.nodes = kLimit});
      spared[s] += all.nodes() < without.nodes();
    }
  }
  for (unsigned s = 0; s < 5; ++s) EXPECT_GT(spared[s], 0) << "switch " << s;
}

TEST(Packer, StaysLegalOnRandomProblemsOfEverySize) {
  std::mt19937_64 random(14);
  for (int round = 0; round < testing::rounds(300); ++round) {
    RandomShape shape;
    shape.buffers = random() % 80;
    shape.max_size = uint64_t{1} << (random() % 30);
    shape.horizon = 2 + random() % 60;
    shape.max_intervals = 1 + random() % 4;
    if (round % 2 == 0) shape.alignments = {1, 64, 256, 96};
    const PackingProblem problem = random_problem(random, shape);
    PackOptions options;
    options.node_limit = 2000;
    expect_legal(problem, pack(problem, options));
  }
}

TEST(Packer, PacksNothingIntoNothing) {
  const Packing packing = pack({});
  EXPECT_EQ(packing.height, 0u);
  EXPECT_TRUE(packing.proven_optimal);
  EXPECT_TRUE(packing.offsets.empty());
}

TEST(Packer, GivesEmptyAndNeverLiveBuffersNoRoom) {
  const PackingProblem problem{{{0, 256, {{0, 9}}}, {64, 1, {{3, 3}}}, {64, 1, {}}}};
  const Packing packing = pack(problem);
  EXPECT_EQ(packing.height, 0u);
  EXPECT_EQ(packing.lower_bound, 0u);
  EXPECT_EQ(packing.offsets, (std::vector<uint64_t>{0, 0, 0}));
  EXPECT_TRUE(packing.proven_optimal);
}

TEST(Packer, PutsATransientIntoTheGapOfADiscardedBuffer) {
  const PackingProblem problem{{{1000, 256, {{0, 2}, {6, 8}}}, {1000, 256, {{2, 6}}}}};
  const Packing packing = pack(problem);
  expect_legal(problem, packing);
  EXPECT_EQ(packing.height, 1000u);
  PackingProblem without_gap = problem;
  without_gap.buffers[0].live = {{0, 8}};
  EXPECT_EQ(pack(without_gap).height, 2024u);
}

TEST(Packer, TakesIntervalsInAnyOrderAndMergesThoseThatMeet) {
  const PackingProblem problem{{{10, 1, {{4, 6}, {0, 2}, {1, 3}, {3, 4}}}, {5, 1, {{2, 5}}}}};
  const Packing packing = pack(problem);
  expect_legal(problem, packing);
  EXPECT_EQ(packing.height, 15u);
  EXPECT_EQ(lower_bound(problem), 15u);
}

TEST(Packer, KnowsThePaddingThatAlignmentForces) {
  const PackingProblem problem{{{100, 256, {{0, 1}}}, {300, 256, {{0, 1}}}, {256, 256, {{0, 1}}}}};
  EXPECT_EQ(lower_bound(problem), 656u);
  EXPECT_EQ(aligned_lower_bound(problem), 256u + 512 + 256 - 212);
  const Packing packing = pack(problem);
  expect_legal(problem, packing);
  EXPECT_TRUE(packing.proven_optimal);
  EXPECT_EQ(packing.height, BruteForce(problem).height());
}

TEST(Packer, AcceptsAlignmentsThatAreNoPowersOfTwo) {
  const PackingProblem problem{{{10, 12, {{0, 1}}}, {10, 18, {{0, 1}}}, {10, 5, {{0, 1}}}}};
  const Packing packing = pack(problem);
  expect_legal(problem, packing);
  EXPECT_EQ(packing.height, BruteForce(problem).height());
}

TEST(Packer, HandlesSizesUpToTheLimitAndTimesAtBothEnds) {
  constexpr int64_t kFirst = std::numeric_limits<int64_t>::min();
  constexpr int64_t kLast = std::numeric_limits<int64_t>::max();
  const uint64_t half = kMaxPackingBytes / 2;
  const PackingProblem problem{{{half, 1, {{kFirst, kLast}}}, {half, 1, {{0, kLast}}}}};
  const Packing packing = pack(problem);
  expect_legal(problem, packing);
  EXPECT_EQ(packing.height, kMaxPackingBytes);
  EXPECT_TRUE(packing.proven_optimal);
}

TEST(Packer, RefusesIllFormedProblemsWithTheFieldAndTheLimit) {
  EXPECT_EQ(pack({{{1, 0, {{0, 1}}}}}).error,
            "buffers[0].alignment is 0, must be between 1 and 4611686018427387904");
  EXPECT_EQ(pack({{{1, 1, {{0, 1}}}, {1, 1, {{0, 1}, {5, 4}}}}}).error,
            "buffers[1].live[1] begins at 5, after its end 4");
  const std::string too_big = ": the sum of all sizes and alignments exceeds 4611686018427387904";
  EXPECT_EQ(pack({{{~uint64_t{0}, 1, {}}}}).error,
            "buffers[0].size is 18446744073709551615" + too_big);
  EXPECT_EQ(pack({{{kMaxPackingBytes, 1, {}}, {1, 1, {}}}}).error,
            "buffers[1].size is 1" + too_big);
  EXPECT_EQ(pack({{{kMaxPackingBytes, 2, {}}}}).error,
            "buffers[0].size is 4611686018427387904" + too_big);
}

TEST(Packer, IsDeterministicUnderANodeLimit) {
  std::mt19937_64 random(15);
  const PackingProblem problem = random_problem(random, {60, 1000, 80, 2, {1}});
  PackOptions options;
  options.time_limit = 1e9;
  options.node_limit = 5000;
  const Packing first = pack(problem, options), second = pack(problem, options);
  EXPECT_EQ(first.offsets, second.offsets);
  EXPECT_EQ(first.statistics.nodes, second.statistics.nodes);
  EXPECT_LE(first.statistics.nodes, options.node_limit);
}

TEST(Packer, StopsAtAHeightThatIsEnough) {
  std::mt19937_64 random(16);
  const PackingProblem problem = random_problem(random, {60, 1000, 80, 2, {1}});
  PackOptions options;
  options.enough = kMaxPackingBytes;
  const Packing packing = pack(problem, options);
  expect_legal(problem, packing);
  EXPECT_EQ(packing.statistics.orders_tried, 1u);
  options.enough = 0;
  options.tolerance = 10;
  EXPECT_EQ(pack(problem, options).statistics.orders_tried, 1u);
}

TEST(Packer, KeepsATimeLimitOfNothingAndStillPacks) {
  PackOptions options;
  options.time_limit = 0;
  std::mt19937_64 random(18);
  const PackingProblem problem = random_problem(random, {200, 1000, 80, 2, {1}});
  const Packing packing = pack(problem, options);
  expect_legal(problem, packing);
  EXPECT_EQ(packing.statistics.nodes, 0u);
}

// Wherever the search is stopped, what it has is legal and what it says is true.
TEST(Packer, StopsInMidSearchWithALegalPackingAndABoundThatHolds) {
  int open = 0, raised = 0;
  for (uint64_t seed = 0; seed < 10; ++seed) {
    std::mt19937_64 random(100 + seed);
    const PackingProblem problem = random_problem(random, {13, 40, 12, 2, {1}});
    PackOptions options;
    options.time_limit = 1e9;
    options.node_limit = 50'000'000;
    options.improvement_rounds = 0;
    const Packing best = pack(problem, options);
    ASSERT_TRUE(best.proven_optimal) << seed;
    for (uint64_t nodes = 1; nodes < 20'000; nodes *= 7) {
      options.node_limit = nodes;
      const Packing stopped = pack(problem, options);
      expect_legal(problem, stopped);
      EXPECT_LE(stopped.statistics.nodes, nodes);
      EXPECT_GE(stopped.height, best.height) << seed << " " << nodes;
      EXPECT_LE(stopped.proven_bound, best.height) << seed << " " << nodes;
      open += !stopped.proven_optimal && stopped.statistics.nodes > 0;
      raised += !stopped.proven_optimal && stopped.proven_bound > aligned_lower_bound(problem);
    }
  }
  EXPECT_GT(open, 5);    // stopped before the end
  EXPECT_GT(raised, 0);  // with a bound that the search had raised by then
}

TEST(Packer, StopsInMidSearchAtItsTimeLimit) {
  std::mt19937_64 random(15);
  const PackingProblem problem = random_problem(random, {60, 1000, 80, 2, {1}});
  PackOptions options;
  options.time_limit = 0.2;
  options.node_limit = ~uint64_t{0};
  options.improvement_rounds = 1;
  const Packing packing = pack(problem, options);
  expect_legal(problem, packing);
  EXPECT_GT(packing.statistics.nodes, 0u);
  EXPECT_GE(packing.height, packing.lower_bound);
}

TEST(PackerFit, EveryOrderAndEachRuleIsTheBestForSomeProblem) {
  std::mt19937_64 random(17);
  constexpr size_t kOrders = std::size(kFitOrders);
  int wins[kOrders] = {}, lowest_wins = 0, tightest_wins = 0;
  for (int round = 0; round < 300; ++round) {
    const PackingSections sections = fold_sections(random_problem(random, {40, 50, 30, 2, {1}}));
    GreedyFit fitter(sections);
    int64_t heights[kOrders];
    for (size_t o = 0; o < kOrders; ++o) {
      std::vector<int32_t> order = fit_order(sections, kFitOrders[o]);
      const int64_t lowest = fitter.place(order, FitRule::kLowest).height;
      const int64_t tightest = fitter.place(order, FitRule::kTightest).height;
      lowest_wins += lowest < tightest;
      tightest_wins += tightest < lowest;
      heights[o] = std::min(lowest, tightest);
      std::sort(order.begin(), order.end());
      for (size_t i = 0; i < order.size(); ++i) ASSERT_EQ(order[i], int32_t(i));
    }
    const int64_t best = *std::min_element(heights, heights + kOrders);
    if (std::count(heights, heights + kOrders, best) > 1) continue;
    ++wins[std::find(heights, heights + kOrders, best) - heights];
  }
  for (size_t o = 0; o < kOrders; ++o) EXPECT_GT(wins[o], 0) << "order " << o;
  EXPECT_GT(lowest_wins, 0);
  EXPECT_GT(tightest_wins, 0);
}

}  // namespace
}  // namespace rc
