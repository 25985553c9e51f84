// src/policy/policy_holes_test.cc: errors and notes where Megatron silently does nothing.
#include <gtest/gtest.h>

#include "src/policy/rules_fixture.h"

namespace rc {
namespace {

TEST(PolicyHoles, Hole1_DistributionWithSelectiveIsDoneAndNoted) {
  PolicySpec spec = selective({"core_attn"});
  spec.flags |= RC_POLICY_DISTRIBUTE_SAVED;
  spec.tp_size = 2;
  EXPECT_EQ(notes_with(spec, "Megatron takes the setting and ignores it"), 1);
  const auto policy = expect_accepted(spec);
  EXPECT_EQ(policy->decide({"core_attn", 0, 0, 0}, {"q", RC_ROLE_INPUT}).group, "tp");
  spec.granularity = RC_GRANULARITY_NONE;
  spec.recompute_modules.reset();
  expect_refused(spec, "", "distribute_saved_activations", "no effect");
}

TEST(PolicyHoles, Hole2_CountsOutsideTheStageAreRefusedAndUnevenOnesNoted) {
  PolicySpec spec = full();
  spec.recompute_num_layers = 0;
  expect_refused(spec, "TC1919", "recompute_num_layers", "0, must be between");
  spec.recompute_num_layers = 5;
  expect_refused(spec, "TC1919", "recompute_num_layers", "5, must be between");
  spec.num_layers = 10;
  spec.pp_size = 3;
  spec.num_layers_in_first_pipeline_stage = 2;
  spec.recompute_num_layers = 4;
  EXPECT_EQ(notes_with(spec, "the smallest virtual stage has 2 layers"), 1);
  spec.recompute_num_layers = 2;
  EXPECT_EQ(notes_with(spec, "smallest"), 0);
}

TEST(PolicyHoles, Hole3_MlpOnMoeLayersAndFusedNormsAreNoted) {
  PolicySpec spec = selective({"mlp", "layernorm"});
  spec.num_layers = 4;
  spec.moe_layers = {0, 1, 1, 0};
  EXPECT_EQ(notes_with(spec, "no effect in 2 of 4 layers"), 1);
  EXPECT_EQ(notes_with(spec, "fused into the next linear"), 0);
  spec.flags |= RC_POLICY_FUSED_NORM;
  EXPECT_EQ(notes_with(spec, "fused into the next linear"), 1);
  spec.moe_layers = {0, 0, 0, 0};
  EXPECT_EQ(notes_with(spec, "no effect in"), 0);
}

TEST(PolicyHoles, Hole4_CoreAttnRecomputedAndOffloadedIsBoth) {
  PolicySpec spec = fine_grained({"core_attn"});
  spec.granularity = RC_GRANULARITY_SELECTIVE;
  EXPECT_EQ(notes_with(spec, "its inputs are offloaded, its intermediates recomputed"), 1);
  const auto policy = expect_accepted(spec);
  EXPECT_EQ(policy->decide({"core_attn", 0, 0, 0}, {"q", RC_ROLE_INPUT}).tier, RC_TIER_HOST);
  EXPECT_EQ(policy->decide({"core_attn", 0, 0, 0}, {"p", RC_ROLE_SAVED}).action,
            RC_ACTION_RECOMPUTE);
}

TEST(PolicyHoles, Hole5_ModulesAreCheckedAgainstTheArchitecture) {
  for (const char* module : {"moe", "shared_experts"}) {
    PolicySpec spec = selective({module});
    EXPECT_EQ(notes_with(spec, "moe_layers is not set"), 1);
    spec.num_layers = 2;
    spec.moe_layers = {0, 0};
    expect_refused(spec, "", "recompute_modules[0]", "moe_layers has no 1");
    spec.moe_layers = {0, 1};
    EXPECT_EQ(notes_with(spec, module), 0);
  }
  for (const char* module : {"gdp_in_proj", "gdp_qkv"}) {
    PolicySpec spec = selective({module});
    expect_refused(spec, "", "recompute_modules[0]", "gated_delta_product");
    spec.flags |= RC_POLICY_GATED_DELTA_PRODUCT;
    expect_accepted(spec);
  }
}

TEST(PolicyHoles, Hole5_NamesAreCheckedUnderEveryGranularity) {
  PolicySpec spec = full();
  spec.recompute_modules.emplace(1, "core_atn");
  expect_refused(spec, "TC1958", "recompute_modules[0]", "core_attn");
  spec.recompute_modules.emplace(1, "core_attn");
  EXPECT_EQ(notes_with(spec, "without effect: recompute_granularity is full"), 1);
  PolicySpec none;
  none.recompute_modules.emplace(1, "mlp");
  EXPECT_EQ(notes_with(none, "without effect: recompute_granularity is none"), 1);
  EXPECT_EQ(notes_with(selective({}), "recomputes nothing"), 1);
}

TEST(PolicyHoles, Hole6_ModulesInsidePerLayerGraphsAreNoted) {
  PolicySpec spec = selective({"core_attn", "mlp"});
  spec.graph = RC_GRAPH_LOCAL;
  spec.graph_scopes = RC_GRAPH_SCOPE_ATTN;
  EXPECT_EQ(notes_with(spec, "lies in a per-layer graph"), 1);
  spec.graph_scopes = 0;
  EXPECT_EQ(notes_with(spec, "lies in a per-layer graph"), 2);
  spec.graph = RC_GRAPH_FULL_ITERATION;
  EXPECT_EQ(notes_with(spec, "lies in a per-layer graph"), 0);
}

TEST(PolicyHoles, Hole7_SettingsWithoutTheirGranularityAreRefused) {
  PolicySpec spec;
  spec.num_layers = 4;
  spec.recompute_num_layers = 2;
  expect_refused(spec, "", "recompute_num_layers", "no effect");
  spec.recompute_num_layers = 0;
  spec.method = RC_METHOD_BLOCK;
  expect_refused(spec, "", "recompute_method", "no effect");
}

TEST(PolicyHoles, SettingsWithoutTheirSwitchAreRefused) {
  PolicySpec spec;
  spec.cpu_offloading_num_layers = 1;
  expect_refused(spec, "", "cpu_offloading_num_layers", "no effect");
  spec = PolicySpec();
  spec.offload_modules = {"core_attn"};
  expect_refused(spec, "", "offload_modules", "no effect");
  spec = PolicySpec();
  spec.activation_offload_fraction = 0.5;
  expect_refused(spec, "", "activation_offload_fraction", "no effect");
  spec = fine_grained({"core_attn"});
  spec.activation_offload_fraction = 0.5;
  expect_refused(spec, "", "activation_offload_fraction", "needs num_layers");
  spec = PolicySpec();
  spec.flags = RC_POLICY_CPU_OFFLOADING;
  expect_refused(spec, "", "cpu_offloading_num_layers", "at least 1");
  spec = PolicySpec();
  spec.graph_scopes = RC_GRAPH_SCOPE_ATTN;
  expect_refused(spec, "", "cuda_graph_scope", "cuda_graph_impl is none");
}

TEST(PolicyHoles, OffloadInsideFullLayersIsNoted) {
  PolicySpec spec = full();
  spec.flags = RC_POLICY_FINE_GRAINED_OFFLOADING;
  spec.offload_modules = {"core_attn"};
  EXPECT_EQ(notes_with(spec, "inside layers that are recomputed as a whole"), 1);
  const auto policy = expect_accepted(spec);
  EXPECT_EQ(policy->decide({"core_attn", 0, 0, 0}, {"q", RC_ROLE_INPUT}).action, RC_ACTION_KEEP);
}

}  // namespace
}  // namespace rc
