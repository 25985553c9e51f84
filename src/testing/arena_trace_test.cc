// src/testing/arena_trace_test.cc: the arena over layer traces of every kind of model, policy,
// schedule.
#include "src/testing/arena_trace.h"

#include <gtest/gtest.h>

#include <string>

#include "src/storage/packer.h"
#include "src/storage/validator.h"
#include "src/testing/arena_cases.h"

namespace rc {
namespace {

class ArenaOfModels : public testing::TestWithParam<ArenaModel> {};

TEST_P(ArenaOfModels, StaysWithinTwoPercentOfTheBoundUnderEveryPolicyAndSchedule) {
  for (const int chunks : {1, 2}) {
    const PlanStage stage = arena_stage(GetParam(), chunks);
    const auto passes = arena_passes(chunks);
    for (const ArenaPolicy& policy : arena_policies(stage)) {
      const PackingProblem problem =
          ArenaTrace(stage, passes, {.whole_layers = policy.whole_layers}).build(policy.choice);
      PackOptions options;
      options.time_limit = 1e9;  // limited by rounds alone: the same on a busy machine
      options.node_limit = 0;
      options.tolerance = 0.02;
      const Packing packing = pack(problem, options);
      const std::string where =
          GetParam().name + " " + policy.name + (chunks == 1 ? " 1f1b" : " interleaved");
      ASSERT_EQ(packing_violation(problem, packing.offsets, packing.height), "") << where;
      EXPECT_LE(double(packing.height), 1.02 * double(packing.lower_bound)) << where;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, ArenaOfModels, testing::ValuesIn(arena_models()),
                         [](const auto& info) { return info.param.name; });

TEST(ArenaTrace, WhatIsDroppedLeavesItsBytesToOthers) {
  const PlanStage stage = arena_stage(arena_models()[0], 1);
  const auto passes = arena_passes(1);
  const std::vector<ArenaPolicy> policies = arena_policies(stage);
  const auto bound = [&](const std::string& name) {
    for (const ArenaPolicy& policy : policies) {
      if (policy.name == name) {
        return lower_bound(
            ArenaTrace(stage, passes, {.whole_layers = policy.whole_layers}).build(policy.choice));
      }
    }
    return uint64_t{0};
  };
  EXPECT_LT(bound("norms_and_activations"), bound("none"));
  EXPECT_LT(bound("full"), bound("block"));
  EXPECT_LT(bound("block"), bound("none"));
}

}  // namespace
}  // namespace rc
