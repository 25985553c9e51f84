// src/plan/solve_test.cc: plans against every plan there is, the checker and the simulator.
#include "src/plan/solve.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "src/plan/brute_force.h"
#include "src/plan/check.h"
#include "src/plan/counts.h"
#include "src/plan/knapsack.h"
#include "src/plan/plan_instances.h"
#include "src/plan/random_stage.h"
#include "src/plan/simulate.h"

namespace rc {
namespace {

StagePlan solved(const PlanStage& stage) {
  StagePlan plan;
  const Status status = solve_stage(stage, {}, &plan);
  EXPECT_TRUE(status.ok()) << status.field() << ": " << status.message();
  return plan;
}

// Random shapes small enough for brute force: up to 4^8 plans, fewer where cuts multiply them.
struct SmallStage {
  RandomStage shape;
  PlanStage stage;
};
SmallStage small_stage(uint64_t seed, bool cuts) {
  std::mt19937_64 random(seed * 7919 + 1);
  const auto below = [&](int n) { return int(random() % uint64_t(n)); };
  SmallStage small;
  RandomStage& s = small.shape;
  s.classes = 1 + below(2);
  s.items = 1 + below(4);
  s.stages = 1 + below(4);
  s.stage = below(s.stages);
  s.microbatches = 1 + below(10);
  s.moments = 1 + below(2);
  s.shard = below(3) == 0;
  s.compress = below(4) == 0;
  s.offload = below(3) != 0;
  s.free_offload = below(2) == 0;
  s.cut_offload = cuts;
  s.cut_recompute = cuts && below(2) == 0;
  s.odd_transients = below(4) == 0;
  s.unit = below(2) == 0 ? 256 : 1;
  s.budget = 0.2 + 0.05 * below(16);
  s.link = 0.05 * below(10);
  s.layers = std::max(1, std::min(5, (cuts ? 5 : 8) / s.items));
  s.chunks = s.layers > 1 && below(3) == 0 ? 2 : 1;
  small.stage = random_stage(s, seed);
  small.stage.allow_units = false;
  if (below(3) == 0) small.stage.min_offload_bytes = s.unit * below(60) * 2;
  if (below(4) == 0) small.stage.host_bytes = small.stage.link_bytes * (1 + below(3));
  return small;
}

void expect_simulated(const SmallStage& small, const StagePlan& plan, uint64_t seed) {
  const RandomStage& s = small.shape;
  const PlanRun run = simulate_plan(small.stage, plan,
                                    pipeline_passes(s.stages, s.stage, s.chunks, s.microbatches));
  EXPECT_EQ(run.peak, plan.certificate.peak) << seed;
  EXPECT_EQ(run.cost, plan.certificate.objective * s.microbatches) << seed;
  EXPECT_EQ(run.link, plan.certificate.link * s.microbatches) << seed;
  EXPECT_LE(run.host_peak, plan.certificate.host) << seed;
  EXPECT_EQ(run.left, 0) << seed;
}

struct Tally {
  int solved = 0, optimal = 0, proven = 0, infeasible = 0;
};

void compare(uint64_t seed, bool cuts, Tally& tally) {
  const SmallStage small = small_stage(seed, cuts);
  const StagePlan plan = solved(small.stage);
  const BruteForce best =
      brute_force(small.stage, cuts && link_is_shared(small.stage), small.shape.cut_recompute);
  ASSERT_NE(plan.verdict, PlanVerdict::kUnknown) << seed;
  ASSERT_EQ(plan.verdict == PlanVerdict::kSolved, best.feasible) << seed;
  if (!best.feasible) {
    ++tally.infeasible;
    // Cut tensors reach a little below where whole rows of tiny tensors cannot be placed.
    if (!cuts && best.least_peak > 0) {
      EXPECT_EQ(plan.minimum_budget, best.least_peak) << seed;
    }
    return;
  }
  const PlanCheck check = check_plan(small.stage, plan);
  EXPECT_TRUE(check.fits) << seed << ": " << check.finding;
  EXPECT_LE(plan.certificate.lower_bound, best.cost) << seed;
  EXPECT_GE(plan.certificate.objective, best.cost) << seed;
  expect_simulated(small, plan, seed);
  ++tally.solved;
  tally.optimal += plan.certificate.optimal;
  tally.proven += check.bound_proven;
}

TEST(Solve, EqualsEveryPlanOnThousandsOfSmallStages) {
  Tally tally;
  for (uint64_t seed = 0; seed < 4000; ++seed) compare(seed, false, tally);
  EXPECT_EQ(tally.optimal, tally.solved);
  EXPECT_GT(tally.solved, 2000);
  EXPECT_GT(tally.infeasible, 100);
  EXPECT_GE(tally.proven, tally.solved * 99 / 100);
}

// Items of four rows: cuts are coarse, so that a bound over real-valued cuts is not always met.
TEST(Solve, EqualsEveryPlanWithCutsOrKnowsItMayNot) {
  Tally tally;
  for (uint64_t seed = 0; seed < 1500; ++seed) compare(seed, true, tally);
  EXPECT_GE(tally.optimal, tally.solved * 95 / 100);
  EXPECT_GE(tally.proven, tally.solved * 95 / 100);
}

TEST(Solve, TwoLayersOfFiveTensorsWithFourOptionsEqualAllTheirMillionPlans) {
  RandomStage shape;
  shape.classes = 2;
  shape.layers = 2;
  shape.items = 5;
  shape.shard = true;
  shape.cut_offload = false;
  shape.free_offload = false;
  for (uint64_t seed = 0; seed < 6; ++seed) {
    shape.budget = 0.2 + 0.1 * double(seed);
    const PlanStage stage = random_stage(shape, seed);
    const BruteForce best = brute_force(stage, false, false);
    const StagePlan plan = solved(stage);
    ASSERT_EQ(plan.verdict == PlanVerdict::kSolved, best.feasible) << seed;
    if (!best.feasible) continue;
    EXPECT_EQ(plan.certificate.objective, best.cost) << seed;
    EXPECT_TRUE(plan.certificate.optimal) << seed;
  }
}

TEST(Solve, CostFallsAsTheBudgetGrowsAndTheLeastBudgetIsTheEdge) {
  for (const double link : {0.0, 0.1}) {
    PlanStage stage = deepseek_stage(0, link);
    stage.allow_units = false;
    stage.budget = 1;
    const StagePlan refused = solved(stage);
    ASSERT_EQ(refused.verdict, PlanVerdict::kInfeasible);
    const int64_t least = refused.minimum_budget;
    stage.budget = least - 1;
    EXPECT_EQ(solved(stage).verdict, PlanVerdict::kInfeasible);
    int64_t before = kNoCost;
    for (int step = 0; step <= 40; ++step) {
      stage.budget = least + saved_bytes(stage) * step / 40;
      const StagePlan plan = solved(stage);
      ASSERT_EQ(plan.verdict, PlanVerdict::kSolved) << step;
      EXPECT_TRUE(plan.certificate.optimal) << step;
      EXPECT_LE(plan.certificate.peak, stage.budget);
      EXPECT_LE(plan.certificate.objective, before) << step;
      before = plan.certificate.objective;
    }
    EXPECT_EQ(before, 0);
  }
}

TEST(Solve, NoLinkIsNotBetterThanSome) {
  for (const double budget : {0.1, 0.3, 0.6}) {
    int64_t before = kNoCost;
    for (const double link : {0.0, 0.05, 0.1, 0.2, 0.4}) {
      const StagePlan plan = solved(deepseek_stage(budget, link));
      ASSERT_EQ(plan.verdict, PlanVerdict::kSolved);
      EXPECT_LE(plan.certificate.objective, before);
      before = plan.certificate.objective;
    }
  }
}

TEST(Solve, CuttingIsNeverWorseThanWholeTensors) {
  InstanceOptions whole;
  whole.cut = false;
  InstanceOptions both;
  both.cut_recompute = true;
  for (const double budget : {0.15, 0.35, 0.55}) {
    const StagePlan a = solved(llama_stage(8, budget, 0.1, whole));
    const StagePlan b = solved(llama_stage(8, budget, 0.1));
    const StagePlan c = solved(llama_stage(8, budget, 0.1, both));
    EXPECT_GE(a.certificate.objective, b.certificate.objective);
    EXPECT_GE(b.certificate.objective, c.certificate.objective);
    EXPECT_LE(c.cuts.size(), 2u);
    EXPECT_TRUE(check_plan(llama_stage(8, budget, 0.1, both), c).bound_proven);
  }
}

// A second cut may leave less room than the first one's rows are wide: what that costs is a row.
TEST(Solve, TwoCutsComeWithinARowOfTheirBound) {
  InstanceOptions both;
  both.cut_recompute = true;
  for (const double budget : {0.08, 0.12, 0.5}) {
    for (const double link : {0.02, 0.1, 0.4}) {
      const PlanStage stage = llama_stage(8, budget, link, both);
      const StagePlan plan = solved(stage);
      const double bound = double(plan.certificate.lower_bound);
      EXPECT_LE(double(plan.certificate.objective), bound * (1 + 1e-5)) << budget << " " << link;
      EXPECT_TRUE(check_plan(stage, plan).fits);
    }
  }
}

// Recomputation goes to the first layers, since the last layer's backward meets all that is kept.
TEST(Solve, RecomputesEarlyLayersAndKeepsLateOnes) {
  InstanceOptions options;
  options.offload = false;
  const PlanStage stage = llama_stage(32, 0.5, 0, options);
  const StagePlan plan = solved(stage);
  ASSERT_EQ(plan.verdict, PlanVerdict::kSolved);
  for (size_t i = 0; i < stage.classes[0].items.size(); ++i) {
    for (size_t l = 1; l + 1 < 32; ++l) {
      const auto kept = [&](size_t layer) {
        return stage.classes[0].items[i].choices[plan.choice[0][layer][i]].kept_bytes;
      };
      EXPECT_LE(kept(l - 1), kept(l)) << "item " << i << " layer " << l;
    }
  }
}

TEST(Solve, NamesTheFieldOfAnIllFormedStage) {
  PlanStage stage = llama_stage(2, 0.5, 0.1);
  stage.classes[0].items[3].choices[0].kept_bytes = -5;
  StagePlan plan;
  const Status status = solve_stage(stage, {}, &plan);
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(status.field(), "classes[0].items[3].choices[0].kept_bytes");
  EXPECT_NE(status.message().find("-5"), std::string::npos);
}

TEST(Solve, StopsAtItsLimitsWithAPlanOrABound) {
  InstanceOptions options;
  options.cut = false;
  options.offload_cost = 3;
  const PlanStage stage = mixed_stage(5, 0.3, 0.2, 1, options);
  PlanOptions limits;
  limits.time_limit = 0.05;
  limits.node_limit = 2000;
  StagePlan plan;
  ASSERT_TRUE(solve_stage(stage, limits, &plan).ok());
  EXPECT_LT(plan.certificate.nodes, 10000u);
  if (plan.verdict == PlanVerdict::kSolved) {
    EXPECT_TRUE(check_plan(stage, plan, 1000).fits);
    EXPECT_LE(plan.certificate.lower_bound, plan.certificate.objective);
  }
}

}  // namespace
}  // namespace rc
