// src/plan/rediscovery_test.cc: the planner finds what experts chose by hand, and not what
// misleads.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

#include "src/plan/plan_instances.h"
#include "src/plan/solve.h"

namespace rc {
namespace {

// Names of the tensors that the plan recomputes in any layer of the class.
std::set<std::string> recomputed(const PlanStage& stage, const StagePlan& plan, int32_t of) {
  std::set<std::string> names;
  for (size_t c = 0; c < stage.chunks.size(); ++c) {
    for (size_t l = 0; l < stage.chunks[c].layers.size(); ++l) {
      const int32_t k = stage.chunks[c].layers[l];
      if (k != of) continue;
      const auto& items = stage.classes[size_t(k)].items;
      for (size_t i = 0; i < items.size(); ++i) {
        if (items[i].choices[plan.choice[c][l][i]].option == PlanOption::kRecompute) {
          names.insert(items[i].name);
        }
      }
    }
  }
  return names;
}

StagePlan planned(const PlanStage& stage) {
  StagePlan plan;
  EXPECT_TRUE(solve_stage(stage, {}, &plan).ok());
  EXPECT_EQ(plan.verdict, PlanVerdict::kSolved);
  EXPECT_TRUE(plan.certificate.optimal);
  return plan;
}

// DeepSeek-V3's own recipe: norms, the MLA up-projections and the SwiGLU outputs.
TEST(Rediscovery, DeepSeekDropsNormsUpProjectionsAndSwigluFirst) {
  const std::set<std::string> recipe = {"ln1",  "ln2", "q_up",       "k_up",
                                        "v_up", "act", "shared_act", "eh_norm"};
  InstanceOptions options;
  options.offload = false;
  // The recipe frees 205 of 454 kilobytes a token: while that is enough, nothing else goes.
  for (const double budget : {0.98, 0.9, 0.8, 0.7, 0.62}) {
    const PlanStage stage = deepseek_stage(budget, 0, options);
    for (const int32_t k : {0, 1, 2}) {
      for (const std::string& name : recomputed(stage, planned(stage), k)) {
        EXPECT_TRUE(recipe.count(name)) << name << " at " << budget;
      }
    }
  }
  const PlanStage tight = deepseek_stage(0.56, 0, options);
  for (const char* name : {"ln1", "ln2", "act", "q_up"}) {
    EXPECT_TRUE(recomputed(tight, planned(tight), 1).count(name)) << name;
  }
}

// Flash attention's backward recomputes the scores itself: core_attn frees its output only, at the
// price of a whole forward.
TEST(Rediscovery, CoreAttentionIsNeverDroppedBeforeWhatIsCheaper) {
  InstanceOptions options;
  options.offload = false;
  for (const int layers : {8, 80}) {
    for (double budget = 0.95; budget > 0.1; budget -= 0.05) {
      const PlanStage stage = llama_stage(layers, budget, 0, options);
      const StagePlan plan = planned(stage);
      const std::set<std::string> dropped = recomputed(stage, plan, 0);
      if (!dropped.count("core_attn")) continue;
      for (const char* name : {"ln1", "ln2", "act"}) {
        EXPECT_TRUE(dropped.count(name)) << name << " at " << budget << ", " << layers;
      }
      // Norms and activations are dropped in every layer but the last before it is dropped in any.
      for (size_t l = 0; l + 1 < size_t(layers); ++l) {
        for (const size_t i : {size_t(1), size_t(5), size_t(7)}) {
          EXPECT_EQ(stage.classes[0].items[i].choices[plan.choice[0][l][i]].option,
                    PlanOption::kRecompute)
              << l << " " << i << " at " << budget;
        }
      }
    }
  }
}

TEST(Rediscovery, CheapDropsComeBeforeMatrixProducts) {
  InstanceOptions options;
  options.offload = false;
  const PlanStage stage = llama_stage(80, 0.75, 0, options);
  const std::set<std::string> dropped = recomputed(stage, planned(stage), 0);
  EXPECT_TRUE(dropped.count("ln1") || dropped.count("ln2"));
  EXPECT_FALSE(dropped.count("gate_up"));
  EXPECT_FALSE(dropped.count("qkv"));
  EXPECT_FALSE(dropped.count("x_mid"));
}

}  // namespace
}  // namespace rc
