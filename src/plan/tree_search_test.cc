// src/plan/tree_search_test.cc: branches on linear programs against every plan there is, and what
// the checker makes of their proofs.
#include "src/plan/tree_search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "src/plan/bounded_lp.h"
#include "src/plan/brute_force.h"
#include "src/plan/check.h"
#include "src/plan/place.h"
#include "src/plan/plan_layouts.h"
#include "src/plan/random_stage.h"
#include "src/plan/solve.h"
#include "src/plan/tree_rows.h"
#include "src/testing/effort.h"

namespace rc {
namespace {

TEST(BoundedLp, EndsAtTheCornerOfLeastCost) {
  // min x + 2 y with x + y >= 3 and x <= 2.
  BoundedLp lp({-1, -1}, {-3}, {1, 2}, {0, 0, 0}, {2, 5, 1e9});
  ASSERT_EQ(lp.solve(10), LpOutcome::kOptimal);
  EXPECT_NEAR(lp.objective(), 4, 1e-9);
  EXPECT_NEAR(lp.value(0), 2, 1e-9);
  EXPECT_NEAR(lp.value(1), 1, 1e-9);
  EXPECT_NEAR(lp.price(0), 2, 1e-9);
  // One more row, 2 x + y <= 3: x gives way to y.
  lp.add_row({2, 1}, 3);
  ASSERT_EQ(lp.solve(10), LpOutcome::kOptimal);
  EXPECT_NEAR(lp.value(0), 0, 1e-9);
  EXPECT_NEAR(lp.value(1), 3, 1e-9);
  lp.set_bounds(1, 0, 2);
  EXPECT_EQ(lp.solve(10), LpOutcome::kInfeasible);
}

struct TreeStage {
  RandomStage shape;
  PlanStage stage;
};

// Chunks that are held differently often, copies of one price or many, tight rows of both kinds.
TreeStage tree_stage(uint64_t seed) {
  std::mt19937_64 random(seed * 6151 + 3);
  const auto below = [&](int n) { return int(random() % uint64_t(n)); };
  TreeStage made;
  RandomStage& s = made.shape;
  s.classes = 1 + below(2);
  s.items = 1 + below(3);
  s.layers = std::max(2, 7 / s.items);
  s.chunks = 1 + below(std::min(3, s.layers));
  s.stages = 1 + below(4);
  s.stage = below(s.stages);
  s.microbatches = 4 + below(8);
  s.moments = 1 + below(2);
  s.shard = below(4) == 0;
  s.compress = below(4) == 0;
  s.free_offload = below(4) == 0;
  s.price = below(3) == 0 ? 0 : 1 + below(20);
  s.cut_offload = false;
  s.unit = below(2) == 0 ? 256 : 1;
  s.budget = 0.15 + 0.05 * below(15);
  s.link = 0.04 * below(12);
  made.stage = random_stage(s, seed);
  made.stage.allow_units = false;
  if (below(4) == 0) made.stage.host_bytes = made.stage.link_bytes * (1 + below(3));
  return made;
}

std::vector<PlanRow> all_rows(const PlanStage& stage) {
  std::vector<PlanRow> rows = {{RowKind::kLink, 0, 0, 0}};
  for (size_t s = 0; s < stage.states.size(); ++s) {
    if (stage.host_bytes >= 0) rows.push_back({RowKind::kHost, int32_t(s), 0, 0});
    const std::vector<int32_t>& layers = stage.chunks[size_t(stage.states[s].chunk)].layers;
    for (size_t l = 0; l < layers.size(); ++l)
      for (size_t m = 0; m < stage.classes[size_t(layers[l])].moments.size(); ++m)
        rows.push_back({RowKind::kMemory, int32_t(s), int32_t(l), int32_t(m)});
  }
  return rows;
}

// The plan of these counts, with the proof.
StagePlan plan_of(const PlanStage& stage, const CountProblem& problem, const TreeResult& result) {
  StagePlan plan;
  plan.verdict = PlanVerdict::kSolved;
  EXPECT_TRUE(place_counts(stage, problem, result.counts, nullptr, plan));
  measure_plan(stage, plan);
  plan.certificate.lower_bound = result.counts.lower_bound;
  plan.certificate.optimal = plan.certificate.objective == plan.certificate.lower_bound;
  plan.certificate.proof = result.rows;
  plan.certificate.tree = result.tree;
  return plan;
}

TEST(TreeSearch, EqualsEveryPlanOnThousandsOfSmallStages) {
  int solved = 0, infeasible = 0, rounded = 0, branched = 0;
  const uint64_t seeds = uint64_t(testing::rounds(3000));
  for (uint64_t seed = 0; seed < seeds; ++seed) {
    const TreeStage small = tree_stage(seed);
    const std::vector<PlanRow> rows = all_rows(small.stage);
    if (rows.size() > 40) continue;
    const CountProblem problem = count_problem(small.stage, rows, false, false);
    const TreeResult result = search_tree(problem, {}, kNoCost);
    const BruteForce best = brute_force(small.stage, false, false);
    ASSERT_NE(result.counts.outcome, CountOutcome::kLimit) << seed;
    ASSERT_EQ(result.counts.outcome == CountOutcome::kSolved, best.feasible) << seed;
    if (!best.feasible) {
      ++infeasible;
      continue;
    }
    ++solved;
    ASSERT_EQ(result.counts.cost, best.cost) << seed;
    ASSERT_EQ(result.counts.lower_bound, best.cost) << seed;
    const StagePlan plan = plan_of(small.stage, problem, result);
    const PlanCheck check = check_plan(small.stage, plan);
    EXPECT_TRUE(check.fits && check.bound_proven) << seed << ": " << check.finding;
    // No proof proves more than the truth.
    std::string finding;
    EXPECT_FALSE(prove_bound_by_branches(small.stage, plan, best.cost + 1, &finding)) << seed;
    branched += plan.certificate.tree.size() > 1;
    for (const PlanBoundRow& row : plan.certificate.proof)
      rounded += row.kind == PlanBoundRow::kRounded;
  }
  EXPECT_GT(solved, int(seeds) / 3);
  EXPECT_GT(infeasible, int(seeds) / 50);
  EXPECT_GT(branched, int(seeds) / 50);
  EXPECT_GT(rounded, int(seeds) / 10);
}

PlanStage layout_stage(const char* name, double fraction, size_t rank) {
  const std::vector<PlanStage> stages = plan::layout_stages(plan::plan_layout(name), fraction);
  EXPECT_GT(stages.size(), rank) << name;
  return stages.size() > rank ? stages[rank] : PlanStage{};
}

// No limit of time: equal on every machine.
StagePlan solved(const PlanStage& stage) {
  PlanOptions options;
  options.time_limit = 1e9;
  options.node_limit = 200'000;
  StagePlan plan;
  EXPECT_TRUE(solve_stage(stage, options, &plan).ok());
  return plan;
}

// Several chunks under one link, most tensors of one price per byte: what knapsacks of one row left
// open by up to a quarter.
TEST(TreeSearch, ProvesPlansOfPublishedLayouts) {
  const char* const deepseek = "deepseek-v3 ep64 pp4 vpp4";
  const char* const gpt = "gpt-175b tp8 sp pp4 vpp3";
  const struct {
    const char* name;
    double fraction;
    size_t rank;
  } cases[] = {{deepseek, 0.2, 0},
               {deepseek, 0.5, 3},
               {deepseek, 0.6, 0},
               {deepseek, 0.6, 3},
               {deepseek, 0.7, 3},
               {deepseek, 0.9, 2},
               {"llama3-70b tp8 sp", 0.3, 0},
               {gpt, 0.4, 1},
               {"llama3-70b tp8 sp", 0.5, 0}};
  for (const auto& c : cases) {
    const PlanStage stage = layout_stage(c.name, c.fraction, c.rank);
    const StagePlan plan = solved(stage);
    ASSERT_EQ(plan.verdict, PlanVerdict::kSolved);
    EXPECT_TRUE(plan.certificate.optimal) << c.name << " " << c.fraction << " " << c.rank;
    const PlanCheck check = check_plan(stage, plan);
    EXPECT_TRUE(check.fits && check.bound_proven) << check.finding;
  }
}

TEST(TreeSearch, CostsNoMoreWithALargerBudget) {
  PlanStage stage = layout_stage("llama3-70b tp8 sp", 0.3, 0);
  const int64_t step = stage.budget / 24;
  int64_t before = kNoCost;
  for (int i = 0; i < testing::rounds(20); ++i, stage.budget += step) {
    const StagePlan plan = solved(stage);
    ASSERT_EQ(plan.verdict, PlanVerdict::kSolved);
    EXPECT_TRUE(plan.certificate.optimal) << i;
    EXPECT_LE(plan.certificate.objective, before) << i;
    before = plan.certificate.objective;
  }
}

// A proof by branches with rounded rows, from which anything is taken.
TEST(TreeSearch, TheCheckerRefusesATreeThatProvesLess) {
  const PlanStage stage = layout_stage("llama3-70b tp8 sp", 0.3, 0);
  const StagePlan good = solved(stage);
  const int64_t cost = good.certificate.objective;
  std::string finding;
  const auto proves = [&](const StagePlan& plan, int64_t claim) {
    return prove_bound_by_branches(stage, plan, claim, &finding);
  };
  ASSERT_GT(good.certificate.tree.size(), size_t(2));
  ASSERT_EQ(good.certificate.proof.back().kind, PlanBoundRow::kRounded);
  EXPECT_TRUE(proves(good, cost));
  EXPECT_FALSE(proves(good, cost + 1));
  const auto refused = [&](auto spoil) {
    StagePlan wrong = good;
    spoil(wrong.certificate.proof, wrong.certificate.tree);
    return !proves(wrong, cost);
  };
  using Rows = std::vector<PlanBoundRow>;
  using Tree = std::vector<PlanBoundNode>;
  EXPECT_FALSE(refused([](Rows&, Tree&) {}));
  EXPECT_TRUE(refused([](Rows&, Tree& tree) { tree.pop_back(); }));
  EXPECT_TRUE(refused([](Rows&, Tree& tree) { tree.push_back(tree.back()); }));
  EXPECT_TRUE(refused([](Rows&, Tree& tree) { tree.erase(tree.begin()); }));
  EXPECT_TRUE(refused([](Rows&, Tree& tree) { tree[0].at.choice = 99; }));
  EXPECT_TRUE(refused([](Rows&, Tree& tree) { tree[0].at.chunk = 7; }));
  EXPECT_TRUE(refused([](Rows&, Tree& tree) { tree.back().price.assign(1, 0); }));
  EXPECT_TRUE(refused([](Rows&, Tree& tree) {
    for (int64_t& price : tree.back().price) price = -price;
  }));
  EXPECT_TRUE(refused([](Rows&, Tree& tree) { tree.back().price.resize(100, 1); }));
  EXPECT_TRUE(refused([](Rows& rows, Tree&) { rows.clear(); }));
  EXPECT_TRUE(refused([](Rows& rows, Tree&) { rows[0].layer = 500; }));
  EXPECT_TRUE(refused([](Rows& rows, Tree&) { rows.back().divisor = 0; }));
  EXPECT_TRUE(refused([](Rows& rows, Tree&) { rows.back().factors.assign(90, 1); }));
  for (size_t r = 0; r < good.certificate.proof.size(); ++r) {
    if (good.certificate.proof[r].kind != PlanBoundRow::kRounded) continue;
    EXPECT_TRUE(refused([r](Rows& rows, Tree&) {
      for (int64_t& factor : rows[r].factors) factor = -factor;
    }));
  }
}

// A proof by the sums that come nearest a row's capacity.
TEST(TreeSearch, TheCheckerRefusesSumsThatProveLess) {
  const PlanStage stage = layout_stage("deepseek-v3 ep64 pp4 vpp4", 0.7, 3);
  const StagePlan good = solved(stage);
  const int64_t cost = good.certificate.objective;
  ASSERT_EQ(good.certificate.tree.size(), size_t(1));
  ASSERT_GE(good.certificate.tree[0].filled, 0);
  std::string finding;
  const auto proves = [&](const PlanBoundNode& node, int64_t claim) {
    StagePlan plan = good;
    plan.certificate.tree[0] = node;
    return prove_bound_by_branches(stage, plan, claim, &finding);
  };
  PlanBoundNode node = good.certificate.tree[0];
  EXPECT_TRUE(proves(node, cost));
  EXPECT_FALSE(proves(node, cost + 1));
  for (int64_t& price : node.price) price = price * 9 / 10;
  EXPECT_FALSE(proves(node, cost));
  node = good.certificate.tree[0];
  node.filled = 5;
  EXPECT_FALSE(proves(node, cost));
  node.filled = -1;
  EXPECT_FALSE(proves(node, cost));
}

// Rounding is of whole counts: no counts that keep within the rows break a rounded one.
TEST(TreeRows, RoundedRowsHoldForEveryPlanThatFits) {
  std::mt19937_64 random(5);
  const auto below = [&](int64_t n) { return int64_t(random() % uint64_t(n)); };
  int cut = 0;
  for (int trial = 0; trial < testing::rounds(4000); ++trial) {
    std::vector<TreeClass> classes(1 + size_t(below(3)));
    std::vector<TreeRow> rows(2);
    for (TreeClass& cls : classes) {
      cls.count = 1 + int32_t(below(3));
      cls.options.resize(1 + size_t(below(3)));
      for (TreeRow& row : rows) {
        row.weight.emplace_back();
        for (size_t o = 0; o < cls.options.size(); ++o) row.weight.back().push_back(below(60) - 10);
      }
    }
    for (TreeRow& row : rows) row.capacity = below(200) - 20;
    TreeRow sum, rounded;
    std::vector<size_t> bases;
    for (const TreeClass& cls : classes)
      bases.push_back(size_t(below(int64_t(cls.options.size()))));
    ASSERT_TRUE(add_rows(rows, {1, below(4)}, &sum));
    if (!round_row(classes, sum, 1 + below(40), bases, &rounded)) continue;
    // Every vector of counts, class by class.
    const auto visit = [&](auto&& self, size_t k, size_t o, int64_t left, std::vector<int64_t> use,
                           int64_t of) -> void {
      if (k == classes.size()) {
        const bool fits = use[0] <= rows[0].capacity && use[1] <= rows[1].capacity;
        if (fits) EXPECT_LE(of, rounded.capacity) << trial;
        cut += !fits && of > rounded.capacity;
        return;
      }
      const bool last = o + 1 == classes[k].options.size();
      for (int64_t n = last ? left : 0; n <= left; ++n) {
        std::vector<int64_t> then = use;
        for (size_t r = 0; r < 2; ++r) then[r] += n * rows[r].weight[k][o];
        const int64_t now = of + n * rounded.weight[k][o];
        if (last)
          self(self, k + 1, 0, k + 1 < classes.size() ? classes[k + 1].count : 0, then, now);
        else
          self(self, k, o + 1, left - n, then, now);
      }
    };
    visit(visit, 0, 0, classes[0].count, {0, 0}, 0);
  }
  EXPECT_GT(cut, 1000);
}

}  // namespace
}  // namespace rc
