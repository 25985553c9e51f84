// src/plan/units_test.cc: units of layers against every plan there is, closed forms, checker and
// simulator.
#include "src/plan/units.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "src/plan/check.h"
#include "src/plan/place.h"
#include "src/plan/plan_instances.h"
#include "src/plan/schedule.h"
#include "src/plan/simulate.h"
#include "src/plan/solve.h"
#include "src/plan/unit_segments.h"
#include "src/plan/unit_stage.h"

namespace rc {
namespace {

struct Shape {
  int stages = 1, stage = 0, chunks = 1, microbatches = 4;
  std::vector<PipelinePass> passes() const {
    return pipeline_passes(stages, stage, chunks, microbatches);
  }
};

// A class with an input, a pinned tensor and some that can be recomputed.
PlanLayerClass random_class(std::mt19937_64& random, bool offload) {
  const auto below = [&](int64_t n) { return int64_t(random() % uint64_t(n)); };
  PlanLayerClass made;
  made.moments.clear();
  for (int64_t m = 1 + below(2); m > 0; --m) made.moments.push_back(below(8));
  made.input_item = 0;
  made.tail_cost = 1 + below(30);
  const int64_t input = 3;
  PlanItem first;
  first.choices = {{PlanOption::kKeep, input, 0, 0, 0}};
  if (offload) first.choices.push_back({PlanOption::kOffload, 0, input, input, 1 + below(3)});
  made.items.push_back(first);
  for (int64_t i = 1 + below(2); i > 0; --i) {
    PlanItem item;
    const int64_t bytes = 1 + below(9);
    item.choices = {{PlanOption::kKeep, bytes, 0, 0, 0}};
    if (below(5) != 0) item.choices.push_back({PlanOption::kRecompute, 0, 0, bytes, 1 + below(40)});
    if (below(3) == 0) item.moment = int32_t(below(int64_t(made.moments.size())));
    made.items.push_back(item);
  }
  if (below(3) == 0) {
    PlanItem pinned;
    pinned.pinned = true;
    pinned.choices = {{PlanOption::kKeep, 1, 0, 0, 0}};
    made.items.push_back(pinned);
  }
  return made;
}

PlanStage random_units(uint64_t seed, Shape* shape) {
  std::mt19937_64 random(seed);
  const auto below = [&](int n) { return int(random() % uint64_t(n)); };
  shape->stages = 1 + below(3);
  shape->stage = below(shape->stages);
  shape->chunks = 1 + below(2);
  shape->microbatches = 1 + below(6);
  PlanStage stage;
  const bool offload = below(2) == 0;
  for (int k = 0; k < 2; ++k) stage.classes.push_back(random_class(random, offload));
  for (int c = 0; c < shape->chunks; ++c) {
    PlanChunk chunk;
    for (int l = 1 + below(shape->chunks == 1 ? 6 : 3); l > 0; --l)
      chunk.layers.push_back(below(2));
    stage.chunks.push_back(chunk);
  }
  stage.states = peak_states(shape->passes(), shape->chunks);
  stage.fixed_bytes = below(4);
  stage.link_bytes = below(12);
  if (below(3) == 0) stage.host_bytes = below(20);
  stage.tail_margin = below(2);
  stage.budget = stage.fixed_bytes + 10 + below(60);
  return stage;
}

// Every partition into units and single layers, every choice of every tensor.
class EveryPlan {
 public:
  explicit EveryPlan(const PlanStage& stage) : stage_(stage) {
    for (size_t c = 0; c < stage.chunks.size(); ++c) {
      plan_.choice.emplace_back();
      for (const int32_t k : stage.chunks[c].layers)
        plan_.choice.back().emplace_back(stage.classes[size_t(k)].items.size(), uint8_t(0));
    }
    partition(0, 0);
  }
  bool feasible = false;
  int64_t cost = 0, least_peak = -1;

 private:
  void partition(size_t c, size_t l) {
    if (c == stage_.chunks.size()) return choose(0, 0, 0);
    const size_t layers = stage_.chunks[c].layers.size();
    if (l == layers) return partition(c + 1, 0);
    partition(c, l + 1);
    for (size_t n = 2; l + n <= layers; ++n) {
      plan_.units.push_back({int32_t(c), int32_t(l), int32_t(n)});
      partition(c, l + n);
      plan_.units.pop_back();
    }
  }

  const PlanUnit* unit_of(size_t c, size_t l) const {
    for (const PlanUnit& unit : plan_.units) {
      if (size_t(unit.chunk) == c && int(l) >= unit.first && int(l) < unit.first + unit.layers)
        return &unit;
    }
    return nullptr;
  }

  void choose(size_t c, size_t l, size_t i) {
    if (c == stage_.chunks.size()) return judge();
    if (l == stage_.chunks[c].layers.size()) return choose(c + 1, 0, 0);
    const PlanLayerClass& k = stage_.classes[size_t(stage_.chunks[c].layers[l])];
    if (i == k.items.size()) return choose(c, l + 1, 0);
    const PlanUnit* unit = unit_of(c, l);
    if (unit != nullptr && (int(l) != unit->first || int32_t(i) != k.input_item))
      return choose(c, l, i + 1);
    const bool tail = c + 1 == stage_.chunks.size() &&
                      int(l) + stage_.tail_margin >= int(stage_.chunks[c].layers.size());
    for (size_t o = 0; o < k.items[i].choices.size(); ++o) {
      if (k.items[i].choices[o].link_bytes > 0 && tail) continue;
      plan_.choice[c][l][i] = uint8_t(o);
      choose(c, l, i + 1);
    }
    plan_.choice[c][l][i] = 0;
  }

  void judge() {
    StagePlan plan = plan_;
    measure_plan(stage_, plan);
    const PlanCertificate& m = plan.certificate;
    if (m.link > stage_.link_bytes) return;
    if (stage_.host_bytes >= 0 && m.host > stage_.host_bytes) return;
    if (least_peak < 0 || m.peak < least_peak) least_peak = m.peak;
    if (m.peak > stage_.budget) return;
    if (!feasible || m.objective < cost) cost = m.objective;
    feasible = true;
  }

  const PlanStage& stage_;
  StagePlan plan_;
};

TEST(Units, EqualEveryPlanOnSmallStages) {
  int solved = 0, with_units = 0, refused = 0;
  for (uint64_t seed = 0; seed < 600; ++seed) {
    Shape shape;
    const PlanStage stage = random_units(seed, &shape);
    const EveryPlan all(stage);
    StagePlan plan;
    const CountOutcome outcome = solve_units(stage, {}, &plan);
    ASSERT_NE(outcome, CountOutcome::kLimit) << seed;
    ASSERT_EQ(outcome == CountOutcome::kSolved, all.feasible) << seed;
    if (!all.feasible) {
      ++refused;
      EXPECT_EQ(least_budget_of_units(stage, {}), all.least_peak) << seed;
      continue;
    }
    ++solved;
    with_units += !plan.units.empty();
    plan.verdict = PlanVerdict::kSolved;
    PlanCertificate& c = plan.certificate;
    c.optimal = c.objective == c.lower_bound;
    EXPECT_EQ(c.objective, all.cost) << seed;
    EXPECT_TRUE(c.optimal) << seed;
    if (plan.units.empty()) continue;
    const PlanCheck check = check_plan(stage, plan);
    EXPECT_TRUE(check.fits && check.bound_proven) << seed << ": " << check.finding;
    const PlanRun run = simulate_plan(stage, plan, shape.passes());
    EXPECT_EQ(run.peak, c.peak) << seed;
    EXPECT_EQ(run.cost, c.objective * shape.microbatches) << seed;
    EXPECT_EQ(run.link, c.link * shape.microbatches) << seed;
    EXPECT_EQ(run.left, 0) << seed;
    // One less is more than there is.
    std::string finding;
    EXPECT_FALSE(prove_bound_of_units(stage, plan, c.objective + 1, 1'000'000, &finding)) << seed;
  }
  EXPECT_GT(solved, 250);
  EXPECT_GT(with_units, 60);
  EXPECT_GT(refused, 100);
}

// Chen et al., section 4.1: with inputs of one byte, nothing but inputs to save and n layers the
// least memory is that of sqrt(n) units.
TEST(Units, EqualLayersNeedTwiceTheRootOfTheirNumber) {
  for (const int n : {4, 9, 16, 25, 64, 81}) {
    PlanStage stage;
    PlanLayerClass k;
    PlanItem input;
    input.choices = {{PlanOption::kKeep, 1, 0, 0, 0}};
    k.items.push_back(input);
    k.input_item = 0;
    k.tail_cost = 10;
    stage.classes = {k};
    stage.chunks.resize(1);
    stage.chunks[0].layers.assign(size_t(n), 0);
    stage.states = {{{1}, 0}};
    // Units shrink towards the end, where most inputs are held: n = 1 + 2 + ... + m layers need no
    // more than m + 1, which is below Chen's 2 sqrt(n) with units of one size.
    const int64_t least = least_budget_of_units(stage, {});
    EXPECT_LE(least, int64_t(std::ceil(2 * std::sqrt(n))));
    int64_t m = 0;
    while (m * (m + 1) / 2 < n) ++m;
    EXPECT_EQ(least, m) << n;
    stage.budget = least;
    StagePlan plan;
    ASSERT_EQ(solve_units(stage, {}, &plan), CountOutcome::kSolved);
    EXPECT_EQ(plan.certificate.objective, plan.certificate.lower_bound);
    stage.budget = least - 1;
    EXPECT_EQ(solve_units(stage, {}, &plan), CountOutcome::kInfeasible);
  }
}

TEST(Units, TakeOverBelowTheLeastPlanOfLayersAndCostMoreTheLessThereIs) {
  InstanceOptions options;
  options.offload = false;
  PlanStage stage = llama_stage(32, 0, 0, options);
  for (PlanLayerClass& k : stage.classes) k.tail_cost = k.forward_cost / 4;
  stage.budget = 1;
  stage.allow_units = false;
  StagePlan plan;
  ASSERT_TRUE(solve_stage(stage, {}, &plan).ok());
  const int64_t least_of_layers = plan.minimum_budget;
  stage.allow_units = true;
  ASSERT_TRUE(solve_stage(stage, {}, &plan).ok());
  ASSERT_EQ(plan.verdict, PlanVerdict::kInfeasible);
  const int64_t least = plan.minimum_budget;
  EXPECT_LT(least, least_of_layers);
  int64_t before = 0;
  for (int step = 10; step >= 0; --step) {
    stage.budget = least + (least_of_layers - 1 - least) * step / 10;
    ASSERT_TRUE(solve_stage(stage, {}, &plan).ok());
    ASSERT_EQ(plan.verdict, PlanVerdict::kSolved) << step;
    EXPECT_FALSE(plan.units.empty());
    EXPECT_TRUE(plan.certificate.optimal) << step;
    EXPECT_GE(plan.certificate.objective, before) << step;
    EXPECT_TRUE(check_plan(stage, plan).bound_proven) << step;
    before = plan.certificate.objective;
  }
}

TEST(Units, CheckerFindsWhatIsWrong) {
  InstanceOptions options;
  options.offload = false;
  PlanStage stage = llama_stage(32, 0, 0, options);
  for (PlanLayerClass& k : stage.classes) k.tail_cost = 1000;
  stage.budget = least_budget_of_units(stage, {});
  StagePlan good;
  ASSERT_TRUE(solve_stage(stage, {}, &good).ok());
  ASSERT_FALSE(good.units.empty());
  ASSERT_TRUE(check_plan(stage, good).fits);
  StagePlan plan = good;
  plan.certificate.objective -= 1;
  EXPECT_FALSE(check_plan(stage, plan).fits);
  plan = good;
  plan.units.back().layers += 1;
  EXPECT_FALSE(check_plan(stage, plan).fits);
  plan = good;
  plan.units[0].first = -1;
  EXPECT_FALSE(check_plan(stage, plan).fits);
  plan = good;
  plan.units.pop_back();
  EXPECT_FALSE(check_plan(stage, plan).fits);
  plan = good;
  plan.certificate.proof.clear();
  EXPECT_FALSE(check_plan(stage, plan).bound_proven);
}

}  // namespace
}  // namespace rc
