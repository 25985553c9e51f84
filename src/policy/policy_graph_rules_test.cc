// src/policy/policy_graph_rules_test.cc: Megatron's rules on graphs, overlap, run time.
#include <gtest/gtest.h>

#include "src/policy/rules_fixture.h"

namespace rc {
namespace {

// ---- captured graphs

TEST(PolicyRules, TC2800_RefusesCpuOffloadingInPerLayerGraphs) {
  for (const rc_graph graph : {RC_GRAPH_LOCAL, RC_GRAPH_TRANSFORMER_ENGINE}) {
    PolicySpec spec = cpu_offloading(4, 1);
    spec.graph = graph;
    expect_refused(spec, "TC2800", "cpu_offloading", name_of(graph));
    spec.graph = RC_GRAPH_FULL_ITERATION;
    expect_accepted(spec);
  }
}

TEST(PolicyRules, TC2855_RefusesFullInPerLayerGraphs) {
  PolicySpec spec = full();
  for (const rc_graph graph : {RC_GRAPH_LOCAL, RC_GRAPH_TRANSFORMER_ENGINE}) {
    spec.graph = graph;
    expect_refused(spec, "TC2855", "cuda_graph_impl", "full_iteration");
  }
  spec.graph = RC_GRAPH_FULL_ITERATION;
  expect_accepted(spec);
}

TEST(PolicyRules, TC2862_RefusesMoeBehindACapturedRouter) {
  PolicySpec spec = selective({"moe"});
  spec.graph = RC_GRAPH_TRANSFORMER_ENGINE;
  spec.graph_scopes = RC_GRAPH_SCOPE_MOE_ROUTER;
  expect_refused(spec, "TC2862", "recompute_modules[0]", "router");
  spec.graph = RC_GRAPH_LOCAL;
  expect_accepted(spec);
}

TEST(PolicyRules, TC2878_RefusesDropoutInCapturedRecomputedAttention) {
  PolicySpec spec = selective({"core_attn"});
  spec.attention_dropout = 0.1;
  expect_accepted(spec);
  spec.graph = RC_GRAPH_LOCAL;
  spec.graph_scopes = RC_GRAPH_SCOPE_MLP;
  expect_accepted(spec);
  for (const rc_flags scopes : {rc_flags{0}, RC_GRAPH_SCOPE_ATTN}) {
    spec.graph_scopes = scopes;
    expect_refused(spec, "TC2878", "attention_dropout", "0.1");
  }
  spec.flags |= RC_POLICY_COUNTER_RNG;
  expect_relaxed(spec, "TC2878", "attention_dropout");
}

TEST(PolicyRules, TC2886_RefusesHiddenDropoutInCapturedRecomputedMlpOrMoe) {
  for (const auto& [module, scope] :
       {std::pair("mlp", RC_GRAPH_SCOPE_MLP), std::pair("moe", RC_GRAPH_SCOPE_MOE)}) {
    PolicySpec spec = selective({module});
    spec.hidden_dropout = 0.25;
    spec.graph = RC_GRAPH_LOCAL;
    spec.graph_scopes = RC_GRAPH_SCOPE_ATTN;
    expect_accepted(spec);
    spec.graph_scopes = scope;
    expect_refused(spec, "TC2886", "hidden_dropout", "0.25");
    spec.graph = RC_GRAPH_FULL_ITERATION;
    spec.graph_scopes = 0;
    expect_refused(spec, "TC2886", "hidden_dropout", module);
    spec.flags |= RC_POLICY_COUNTER_RNG;
    expect_relaxed(spec, "TC2886", "hidden_dropout");
  }
}

TEST(PolicyRules, TC2900_RefusesJitterInCapturedRecomputedMoe) {
  PolicySpec spec = selective({"moe"});
  spec.moe_input_jitter_eps = 0.01;
  expect_accepted(spec);
  spec.graph = RC_GRAPH_FULL_ITERATION;
  expect_refused(spec, "TC2900", "moe_input_jitter_eps", "0.01");
  spec.flags |= RC_POLICY_COUNTER_RNG;
  expect_relaxed(spec, "TC2900", "moe_input_jitter_eps");
}

TEST(PolicyRules, TC2931a_RefusesOtherModulesThanExpertsWithLocalGraphs) {
  PolicySpec spec = fine_grained({"expert_fc1", "core_attn"});
  spec.graph = RC_GRAPH_LOCAL;
  spec.graph_scopes = RC_GRAPH_SCOPE_ATTN;
  expect_refused(spec, "TC2931a", "offload_modules[1]", "core_attn");
}

TEST(PolicyRules, TC2931b_RefusesOffloadsFromWholeLocalGraphs) {
  PolicySpec spec = fine_grained({"expert_fc1"});
  spec.graph = RC_GRAPH_LOCAL;
  expect_refused(spec, "TC2931b", "cuda_graph_scope", "whole layer");
  spec.graph_scopes = RC_GRAPH_SCOPE_ATTN;
  expect_accepted(spec);
}

TEST(PolicyRules, TC2931c_RefusesOffloadsFromALocalGraphOfMoe) {
  PolicySpec spec = fine_grained({"expert_fc1"});
  spec.graph = RC_GRAPH_LOCAL;
  spec.graph_scopes = RC_GRAPH_SCOPE_MOE;
  expect_refused(spec, "TC2931c", "cuda_graph_scope", "moe");
}

TEST(PolicyRules, TC2960_RefusesOffloadsWhileMoeIsCaptured) {
  PolicySpec spec = fine_grained({"core_attn"});
  spec.graph = RC_GRAPH_TRANSFORMER_ENGINE;
  expect_accepted(spec);
  spec.graph_scopes = RC_GRAPH_SCOPE_MOE;
  expect_refused(spec, "TC2960", "cuda_graph_scope", "moe");
}

TEST(PolicyRules, TC2967_AcceptsOffloadsInAFullIterationGraph) {
  PolicySpec spec = fine_grained({"core_attn"});
  spec.graph = RC_GRAPH_FULL_ITERATION;
  expect_relaxed(spec, "TC2967", "fine_grained_activation_offloading");
}

// ---- overlap of expert-parallel communication

PolicySpec overlapped(PolicySpec spec) {
  spec.flags |= RC_POLICY_OVERLAP_MOE_EXPERT_PARALLEL_COMM;
  return spec;
}

TEST(PolicyRules, TC3021a_RefusesFullUnderOverlap) {
  expect_refused(overlapped(full()), "TC3021a", "recompute_granularity", "full");
}

TEST(PolicyRules, TC3021b_RefusesAMethodUnderOverlap) {
  PolicySpec spec = overlapped(selective({"mlp"}));
  expect_accepted(spec);
  spec.method = RC_METHOD_UNIFORM;
  expect_refused(spec, "TC3021b", "recompute_method", "uniform");
}

TEST(PolicyRules, TC3021c_RefusesACountUnderOverlap) {
  PolicySpec spec = overlapped(PolicySpec());
  spec.recompute_num_layers = 3;
  expect_refused(spec, "TC3021c", "recompute_num_layers", "3");
}

TEST(PolicyRules, TC3021d_RefusesMoeUnderOverlap) {
  expect_refused(overlapped(selective({"mlp", "moe"})), "TC3021d", "recompute_modules[1]", "moe");
}

TEST(PolicyRules, CMB344_RefusesPartialMicrobatchesUnderOverlap) {
  PolicySpec spec = overlapped(selective({"mlp"}));
  spec.num_layers = 4;
  spec.pp_size = 2;
  spec.num_microbatches = 8;
  spec.num_microbatches_with_partial_recompute = 1;
  expect_refused(spec, "CMB344", "num_microbatches_with_partial_recompute", "overlap");
}

// ---- the command line

TEST(PolicyRules, ARG601_RefusesTheOldCheckpointActivations) {
  expect_json_refused(R"({"rcore_policy":1,"--checkpoint-activations":true})", "ARG601",
                      "/--checkpoint-activations", "recompute_activations");
}

TEST(PolicyRules, ARG1410a_RefusesDistributionOverOneRank) {
  PolicySpec spec = full();
  spec.flags |= RC_POLICY_DISTRIBUTE_SAVED;
  expect_refused(spec, "ARG1410a", "distribute_saved_activations", "tp_size is 1");
}

TEST(PolicyRules, ARG1410b_DistributesTheInputsOfSelectiveModules) {
  PolicySpec spec = selective({"mlp"});
  spec.flags |= RC_POLICY_DISTRIBUTE_SAVED;
  spec.tp_size = 2;
  expect_relaxed(spec, "ARG1410b", "distribute_saved_activations");
  EXPECT_EQ(notes_with(spec, "ARG1410b"), 1);
  const auto policy = expect_accepted(spec);
  const Decision d = policy->decide({"mlp", 0, 0, 0}, {"x", RC_ROLE_INPUT});
  EXPECT_EQ(d.action, RC_ACTION_STORE);
  EXPECT_EQ(d.group, "tp");
  EXPECT_EQ(policy->decide({"moe", 0, 0, 0}, {"x", RC_ROLE_INPUT}).action, RC_ACTION_KEEP);
}

TEST(PolicyRules, ARG1410c_RefusesDistributionWithoutAMethod) {
  PolicySpec spec = full();
  spec.flags |= RC_POLICY_DISTRIBUTE_SAVED;
  spec.tp_size = 2;
  spec.method = RC_METHOD_UNSET;
  expect_refused(spec, "TC1913", "recompute_method", "not set");
}

TEST(PolicyRules, ARG1425_RefusesAMethodWithSelective) {
  PolicySpec spec = selective({"core_attn"});
  spec.method = RC_METHOD_BLOCK;
  expect_refused(spec, "ARG1425", "recompute_method", "block");
}

// ---- run time

TEST(PolicyRules, REC183_NoUnknownMethodReachesTheTable) {
  PolicySpec spec = full();
  for (const int method : {3, 1000}) {
    spec.method = static_cast<rc_method>(method);
    expect_refused(spec, "TC1909", "recompute_method", "must be");
  }
}

TEST(PolicyRules, TL481_RecomputesTheNormBeforeARouterGraphAndSaysSo) {
  PolicySpec spec = selective({"layernorm"});
  spec.graph = RC_GRAPH_TRANSFORMER_ENGINE;
  spec.graph_scopes = RC_GRAPH_SCOPE_ATTN;
  EXPECT_EQ(notes_with(spec, "TL481"), 0);
  spec.graph_scopes = RC_GRAPH_SCOPE_ATTN | RC_GRAPH_SCOPE_MOE_ROUTER;
  expect_relaxed(spec, "TL481", "recompute_modules[0]");
  EXPECT_EQ(notes_with(spec, "TL481"), 1);
  spec.graph_scopes |= RC_GRAPH_SCOPE_MOE_PREPROCESS;
  EXPECT_EQ(notes_with(spec, "TL481"), 1);
  for (const rc_flags flag : {RC_POLICY_MOE_ALLTOALL_DISPATCHER, RC_POLICY_MOE_LATENT}) {
    PolicySpec reaching = spec;
    reaching.flags |= flag;
    EXPECT_EQ(notes_with(reaching, "TL481"), 0);
    reaching.flags |= RC_POLICY_MOE_SHARED_EXPERT_OVERLAP;
    EXPECT_EQ(notes_with(reaching, "TL481"), 1);
  }
}

TEST(PolicyRules, TB643_RefusesMhcWithFeatureExtraction) {
  PolicySpec spec = selective({"mhc"});
  spec.flags |= RC_POLICY_HYPER_CONNECTIONS;
  expect_accepted(spec);
  spec.flags |= RC_POLICY_FEATURE_EXTRACTION;
  expect_refused(spec, "TB643", "recompute_modules[0]", "feature_extraction");
}

TEST(PolicyRules, MTP1621a_RefusesUniformChunksWithMultiTokenPrediction) {
  PolicySpec spec = full();
  spec.mtp_num_layers = 1;
  expect_accepted(spec);
  spec.recompute_num_layers = 2;
  expect_refused(spec, "MTP1621a", "recompute_num_layers", "2, must be 1");
}

TEST(PolicyRules, MTP1621b_NotesThatBlockLeavesMultiTokenPredictionOut) {
  PolicySpec spec = full();
  spec.method = RC_METHOD_BLOCK;
  EXPECT_EQ(notes_with(spec, "MTP1621b"), 0);
  spec.mtp_num_layers = 2;
  EXPECT_EQ(notes_with(spec, "MTP1621b"), 1);
}

TEST(PolicyRules, MTP1621c_RefusesMultiTokenPredictionWithAnotherMethod) {
  PolicySpec spec = full();
  spec.mtp_num_layers = 1;
  spec.method = static_cast<rc_method>(3);
  expect_refused(spec, "TC1909", "recompute_method", "must be");
}

}  // namespace
}  // namespace rc
