// src/plan/pipeline_test.cc: movable boundaries against every split.
#include "src/plan/pipeline.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "src/plan/check.h"
#include "src/plan/knapsack.h"
#include "src/plan/plan_instances.h"
#include "src/plan/solve.h"

namespace rc {
namespace {

PlanPipeline small_pipeline(uint64_t seed) {
  std::mt19937_64 random(seed);
  InstanceOptions options;
  options.cut = false;
  PlanPipeline p;
  p.classes = {instance_class("a", llama_8b_tensors(), 1024, options),
               instance_class("b", deepseek_dense_tensors(), 1024, options)};
  p.stages = int32_t(2 + random() % 2);
  p.microbatches = int32_t(1 + random() % 6);
  for (size_t l = 4 + random() % 4; l > 0; --l) p.layers.push_back(int32_t(random() % 2));
  for (int32_t s = 0; s < p.stages; ++s) {
    p.device_bytes.push_back(int64_t(400 + random() % 2500) << 20);
    p.extra_bytes.push_back(int64_t(random() % 100) << 20);
    p.extra_cost.push_back(int64_t(random() % 1000) * 1'000'000);
  }
  p.link_rate = random() % 2 == 0 ? 0 : 50e9;
  for (PlanLayerClass& k : p.classes) k.state_bytes = int64_t(50) << 20;
  return p;
}

int64_t best_split(const PlanPipeline& p, int32_t stage, int32_t first) {
  const int32_t layers = int32_t(p.layers.size());
  if (stage == p.stages) return first == layers ? 0 : kNoCost;
  int64_t best = kNoCost;
  for (int32_t last = first + 1; last <= layers; ++last) {
    StagePlan plan;
    EXPECT_TRUE(solve_stage(pipeline_stage(p, stage, first, last), {}, &plan).ok());
    if (plan.verdict != PlanVerdict::kSolved) continue;
    int64_t cost = p.extra_cost[size_t(stage)] + plan.certificate.objective;
    for (int32_t l = first; l < last; ++l) {
      const PlanLayerClass& k = p.classes[size_t(p.layers[size_t(l)])];
      cost += k.forward_cost + k.backward_cost;
    }
    best = std::min(best, std::max(cost, best_split(p, stage + 1, last)));
  }
  return best;
}

TEST(Pipeline, EqualsEverySplitOnSmallModels) {
  int solved = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    const PlanPipeline p = small_pipeline(seed);
    PipelinePlan plan;
    ASSERT_TRUE(solve_pipeline(p, {}, &plan).ok());
    const int64_t best = best_split(p, 0, 0);
    ASSERT_EQ(plan.verdict == PlanVerdict::kSolved, best < kNoCost) << seed;
    if (best == kNoCost) continue;
    ++solved;
    EXPECT_EQ(plan.bottleneck, best) << seed;
    EXPECT_EQ(plan.lower_bound, best) << seed;
    for (int32_t s = 0; s < p.stages; ++s) {
      const int32_t first = plan.first_layer[size_t(s)];
      const int32_t last =
          s + 1 < p.stages ? plan.first_layer[size_t(s) + 1] : int32_t(p.layers.size());
      EXPECT_TRUE(check_plan(pipeline_stage(p, s, first, last), plan.stages[size_t(s)]).fits);
    }
  }
  EXPECT_GT(solved, 20);
}

TEST(Pipeline, MovesLayersAwayFromTheFirstStagesThatHoldMostMicrobatches) {
  PlanPipeline p;
  InstanceOptions options;
  options.offload = false;
  p.classes = {instance_class("layer", llama_8b_tensors(), 4096, options)};
  p.layers.assign(32, 0);
  p.stages = 4;
  p.microbatches = 16;
  p.device_bytes.assign(4, int64_t(11) << 30);
  p.extra_bytes.assign(4, 0);
  p.extra_cost.assign(4, 0);
  PipelinePlan plan;
  ASSERT_TRUE(solve_pipeline(p, {}, &plan).ok());
  ASSERT_EQ(plan.verdict, PlanVerdict::kSolved);
  const int32_t first = plan.first_layer[1], last = 32 - plan.first_layer[3];
  EXPECT_LE(first, last);
  int64_t even = 0;
  for (int32_t s = 0; s < 4; ++s) {
    StagePlan stage;
    ASSERT_TRUE(solve_stage(pipeline_stage(p, s, 8 * s, 8 * s + 8), {}, &stage).ok());
    even = std::max(even, stage.certificate.objective +
                              8 * (p.classes[0].forward_cost + p.classes[0].backward_cost));
  }
  EXPECT_LE(plan.bottleneck, even);
}

TEST(Pipeline, NamesWhatIsIllFormed) {
  PlanPipeline p = small_pipeline(1);
  p.device_bytes.pop_back();
  PipelinePlan plan;
  EXPECT_EQ(solve_pipeline(p, {}, &plan).field(), "device_bytes");
  p = small_pipeline(1);
  p.stages = 100;
  EXPECT_EQ(solve_pipeline(p, {}, &plan).field(), "stages");
}

}  // namespace
}  // namespace rc
