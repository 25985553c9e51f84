// src/plan/plan_bench.cc: time and gap of the planner over its set of instances.
//
// Each line is one family over nine budgets and five links (45 pairs, tight ones among them): the
// mean is the benchmark's time per plan; worst_ms the slowest plan, gap the largest (objective -
// bound) / objective, unproven and infeasible how many pairs ended so.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <utility>
#include <vector>

#include "src/plan/check.h"
#include "src/plan/plan_instances.h"
#include "src/plan/plan_layouts.h"
#include "src/plan/solve.h"

namespace rc {
namespace {

void plan_all(benchmark::State& state, const std::vector<PlanStage>& all) {
  double worst = 0, gap = 0;
  int unproven = 0, infeasible = 0, unknown = 0;
  PlanOptions limits;
  limits.time_limit = 1;
  for (auto _ : state) {
    unproven = infeasible = unknown = 0;
    worst = 0;
    for (const PlanStage& stage : all) {
      StagePlan plan;
      if (!solve_stage(stage, limits, &plan).ok()) state.SkipWithError("ill-formed");
      benchmark::DoNotOptimize(plan);
      worst = std::max(worst, plan.certificate.seconds);
      infeasible += plan.verdict == PlanVerdict::kInfeasible;
      unknown += plan.verdict == PlanVerdict::kUnknown;
      if (plan.verdict != PlanVerdict::kSolved || plan.certificate.optimal) continue;
      ++unproven;
      gap = std::max(gap,
                     1 - double(plan.certificate.lower_bound) / double(plan.certificate.objective));
    }
  }
  state.counters["plans"] = double(all.size());
  state.counters["per_plan"] =
      benchmark::Counter(double(all.size()), benchmark::Counter::kIsIterationInvariantRate |
                                                 benchmark::Counter::kInvert);
  state.counters["worst_ms"] = worst * 1e3;
  state.counters["gap"] = gap;
  state.counters["unproven"] = unproven;
  state.counters["infeasible"] = infeasible;
  state.counters["unknown"] = unknown;
}

void plan_family(benchmark::State& state) {
  plan_all(state, plan_instances(state.range(0), state.range(1)));
}
BENCHMARK(plan_family)
    ->ArgNames({"family", "mode"})
    ->ArgsProduct({{kDeepSeek, kLlama80, kLlama8, kMixed, kMixedOdd},
                   {kRecompute, kCut, kWhole, kPriced, kCutBoth}})
    ->Unit(benchmark::kMillisecond);

// The layouts of published models at eight budgets, all ranks: plans of whole tensors over chunks
// whose memory the link relieves by different factors.
void plan_layout(benchmark::State& state) {
  const plan::PlanLayout& layout = plan::plan_layouts()[size_t(state.range(0))];
  state.SetLabel(layout.name);
  std::vector<PlanStage> all;
  for (const double fraction : {0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9})
    for (PlanStage& stage : plan::layout_stages(layout, fraction)) all.push_back(std::move(stage));
  if (all.empty()) state.SkipWithError("refused");
  plan_all(state, all);
}
BENCHMARK(plan_layout)
    ->ArgName("layout")
    ->DenseRange(0, int64_t(plan::plan_layouts().size()) - 1)
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);

void check_certificate(benchmark::State& state) {
  const PlanStage stage = deepseek_stage(0.3, 0.1);
  StagePlan plan;
  if (!solve_stage(stage, {}, &plan).ok()) state.SkipWithError("ill-formed");
  for (auto _ : state) {
    const PlanCheck check = check_plan(stage, plan);
    if (!check.bound_proven) state.SkipWithError("not proven");
  }
}
BENCHMARK(check_certificate)->Unit(benchmark::kMillisecond);

// Halfway between the least plan of layers and the least with units.
void units(benchmark::State& state) {
  InstanceOptions options;
  options.offload = false;
  PlanStage stage = llama_stage(int(state.range(0)), 0, 0, options);
  for (PlanLayerClass& k : stage.classes) k.tail_cost = k.forward_cost / 4;
  stage.budget = 1;
  StagePlan plan;
  if (!solve_stage(stage, {}, &plan).ok()) state.SkipWithError("ill-formed");
  const int64_t least = plan.minimum_budget;
  stage.allow_units = false;
  if (!solve_stage(stage, {}, &plan).ok()) state.SkipWithError("ill-formed");
  stage.budget = (least + plan.minimum_budget) / 2;
  stage.allow_units = true;
  for (auto _ : state) {
    if (!solve_stage(stage, {}, &plan).ok()) state.SkipWithError("ill-formed");
    benchmark::DoNotOptimize(plan);
    state.counters["optimal"] = plan.certificate.optimal;
  }
}
BENCHMARK(units)->Arg(8)->Arg(32)->Arg(80)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace rc

BENCHMARK_MAIN();
