// src/policy/policy_rules_test.cc: each of Megatron's rules by its id.
#include <gtest/gtest.h>

#include "src/policy/rules_fixture.h"

namespace rc {
namespace {

// ---- offloading by layers

TEST(PolicyRules, TC1884_RefusesMoreOffloadedLayersThanAStageHas) {
  PolicySpec spec = cpu_offloading(4, 5);
  expect_refused(spec, "TC1884", "cpu_offloading_num_layers", "5, must be at most 4");
  spec.cpu_offloading_num_layers = 4;
  expect_relaxed(spec, "TC1884", "cpu_offloading_num_layers");
  spec.cpu_offloading_num_layers = 3;
  spec.flags |= RC_POLICY_STRICT_MEGATRON;
  expect_accepted(spec);
}

TEST(PolicyRules, TC1891_AcceptsOffloadingWithAPipeline) {
  PolicySpec spec = cpu_offloading(4, 1);
  spec.pp_size = 2;
  expect_relaxed(spec, "TC1891", "cpu_offloading");
}

TEST(PolicyRules, TC1896_AcceptsOffloadingWithRecomputation) {
  PolicySpec spec = selective({"core_attn"});
  spec.num_layers = 4;
  spec.flags |= RC_POLICY_CPU_OFFLOADING;
  spec.cpu_offloading_num_layers = 2;
  expect_relaxed(spec, "TC1896", "cpu_offloading");
}

// ---- granularity, method, counts

TEST(PolicyRules, TC1902_RefusesAnUnknownGranularity) {
  PolicySpec spec;
  spec.granularity = static_cast<rc_granularity>(3);
  expect_refused(spec, "TC1902", "recompute_granularity", "3, must be");
  expect_json_refused(R"({"rcore_policy":1,"recompute_granularity":"fulll"})", "TC1902",
                      "/recompute_granularity", "did you mean \"full\"?");
}

TEST(PolicyRules, TC1909_RefusesAnUnknownMethod) {
  PolicySpec spec = full();
  spec.method = static_cast<rc_method>(7);
  expect_refused(spec, "TC1909", "recompute_method", "7, must be");
  expect_json_refused(R"({"rcore_policy":1,"recompute_method":"bloc"})", "TC1909",
                      "/recompute_method", "did you mean \"block\"?");
}

TEST(PolicyRules, TC1913_RefusesFullWithoutAMethod) {
  PolicySpec spec = full();
  spec.method = RC_METHOD_UNSET;
  expect_refused(spec, "TC1913", "recompute_method", "uniform or block");
}

TEST(PolicyRules, TC1919_RefusesACountOutsideTheVirtualStage) {
  for (const rc_method method : {RC_METHOD_UNIFORM, RC_METHOD_BLOCK}) {
    PolicySpec spec = full();
    spec.method = method;
    for (const uint32_t n : {0u, 5u, UINT32_MAX}) {
      spec.recompute_num_layers = n;
      expect_refused(spec, "TC1919", "recompute_num_layers", "between 1 and 4");
    }
    spec.pp_size = 2;
    spec.recompute_num_layers = 3;
    expect_refused(spec, "TC1919", "recompute_num_layers", "3, must be between 1 and 2");
    spec.recompute_num_layers = 2;
    expect_accepted(spec);
  }
  expect_json_refused(R"({"rcore_policy":1,"recompute_num_layers":0})", "TC1919",
                      "/recompute_num_layers", "0, must be at least 1");
}

TEST(PolicyRules, TC1926_RefusesACountWithSelective) {
  PolicySpec spec = selective({"core_attn"});
  spec.recompute_num_layers = 2;
  expect_refused(spec, "TC1926", "recompute_num_layers", "2, must not be set");
}

TEST(PolicyRules, TC1934_RefusesDistributionUnderSequenceParallelism) {
  PolicySpec spec = full();
  spec.tp_size = 2;
  spec.flags |= RC_POLICY_DISTRIBUTE_SAVED;
  expect_accepted(spec);
  spec.flags |= RC_POLICY_SEQUENCE_PARALLEL;
  expect_refused(spec, "TC1934", "distribute_saved_activations", "sequence_parallel");
  spec.granularity = RC_GRANULARITY_NONE;
  spec.method = RC_METHOD_UNSET;
  spec.recompute_num_layers = 0;
  expect_refused(spec, "TC1934", "distribute_saved_activations", "sequence_parallel");
}

// ---- recompute_modules

TEST(PolicyRules, TC1958_RefusesAnUnknownModuleAndAcceptsADeclaredOne) {
  expect_refused(selective({"mlp", "core_atn"}), "TC1958", "recompute_modules[1]",
                 "did you mean \"core_attn\"?");
  PolicySpec spec = selective({"rope"});
  expect_refused(spec, "TC1958", "recompute_modules[0]", "\"rope\"");
  spec.kinds = {{"rope", true}};
  expect_relaxed(spec, "TC1958", "recompute_modules[0]");
}

TEST(PolicyRules, TC1964_RefusesMoeActWithoutGroupedGemm) {
  PolicySpec spec = selective({"mlp", "moe_act"});
  expect_refused(spec, "TC1964", "recompute_modules[1]", "moe_grouped_gemm");
  spec.flags |= RC_POLICY_MOE_GROUPED_GEMM;
  expect_accepted(spec);
}

TEST(PolicyRules, TC1969_RefusesMlaUpProjWithoutLatentAttention) {
  PolicySpec spec = selective({"mla_up_proj"});
  expect_refused(spec, "TC1969", "recompute_modules[0]", "multi_latent_attention");
  spec.flags |= RC_POLICY_MULTI_LATENT_ATTENTION;
  expect_accepted(spec);
}

TEST(PolicyRules, TC1975_RefusesGdnNormOutWithoutGatedDeltaNet) {
  PolicySpec spec = selective({"gdn_norm_out"});
  expect_refused(spec, "TC1975", "recompute_modules[0]", "gated_delta_net");
  spec.flags |= RC_POLICY_GATED_DELTA_NET;
  expect_accepted(spec);
}

TEST(PolicyRules, TC1983_NotesThatFusedAttentionKeepsNoScores) {
  PolicySpec spec = selective({"core_attn"});
  EXPECT_EQ(notes_with(spec, "TC1983"), 0);
  spec.flags |= RC_POLICY_FUSED_ATTENTION;
  EXPECT_EQ(notes_with(spec, "TC1983"), 1);
}

TEST(PolicyRules, TC1991_RefusesSharedExpertsUnderOverlap) {
  PolicySpec spec = selective({"shared_experts"});
  expect_accepted(spec);
  spec.flags |= RC_POLICY_MOE_SHARED_EXPERT_OVERLAP;
  expect_refused(spec, "TC1991", "recompute_modules[0]", "moe_shared_expert_overlap");
}

TEST(PolicyRules, TC2002_RefusesDiscardedOutputsUnderDelayedScaling) {
  for (const char* module : {"moe_act", "layernorm"}) {
    PolicySpec spec = selective({module});
    spec.flags |= RC_POLICY_MOE_GROUPED_GEMM;
    for (const rc_fp8 fp8 : {RC_FP8_OFF, RC_FP8_TENSORWISE, RC_FP8_BLOCKWISE, RC_FP8_MXFP8}) {
      spec.fp8 = fp8;
      expect_accepted(spec);
    }
    spec.fp8 = RC_FP8_DELAYED;
    expect_refused(spec, "TC2002", "recompute_modules[0]", "delayed");
  }
  PolicySpec normal = selective({"core_attn"});
  normal.fp8 = RC_FP8_DELAYED;
  expect_accepted(normal);
}

TEST(PolicyRules, TC2014a_MoeLayerRecomputeMeansSelectiveMoe) {
  PolicySpec spec;
  spec.flags = RC_POLICY_MOE_LAYER_RECOMPUTE;
  EXPECT_EQ(notes_with(spec, "TC2014a"), 1);
  const auto policy = expect_accepted(spec);
  EXPECT_EQ(policy->decide({"moe", 0, 0, 0}, {"x", RC_ROLE_SAVED}).action, RC_ACTION_RECOMPUTE);
  EXPECT_EQ(policy->spec().granularity, RC_GRANULARITY_SELECTIVE);
}

TEST(PolicyRules, TC2014b_RefusesMoeLayerRecomputeWithFull) {
  PolicySpec spec = full();
  spec.flags |= RC_POLICY_MOE_LAYER_RECOMPUTE;
  expect_refused(spec, "TC2014b", "moe_layer_recompute", "full");
}

TEST(PolicyRules, TC2028_RefusesMhcWithoutHyperConnections) {
  expect_refused(selective({"mhc"}), "TC2028", "recompute_modules[0]", "enable_mhc_connections");
}

TEST(PolicyRules, TC2031_RefusesMhcTogetherWithMlp) {
  PolicySpec spec = selective({"mlp", "mhc"});
  spec.flags |= RC_POLICY_HYPER_CONNECTIONS;
  expect_refused(spec, "TC2031", "recompute_modules[1]", "mlp");
}

TEST(PolicyRules, TC2036_RefusesAMhcCountThatIsNoPositiveInteger) {
  for (const char* value : {"0", "-1", "true", "1.5", "\"2\""}) {
    expect_json_refused(format(R"({"rcore_policy":1,"recompute_granularity":"selective",
        "recompute_modules":["mhc"],"enable_mhc_connections":true,"mhc_recompute_layer_num":%s})",
                               value),
                        "", "/mhc_recompute_layer_num", "must be an integer from 1");
  }
  PolicySpec spec;
  spec.mhc_recompute_layer_num = 2;
  expect_refused(spec, "", "mhc_recompute_layer_num", "no effect");
}

TEST(PolicyRules, TC2045_AcceptsMhcWithFineGrainedOffloading) {
  PolicySpec spec = fine_grained({"core_attn"});
  spec.granularity = RC_GRANULARITY_SELECTIVE;
  spec.recompute_modules.emplace(1, "mhc");
  spec.flags |= RC_POLICY_HYPER_CONNECTIONS;
  expect_relaxed(spec, "TC2045", "recompute_modules[0]");
}

TEST(PolicyRules, TC2053_NotesHyperConnectionsThatAreNotRecomputed) {
  PolicySpec spec;
  spec.flags = RC_POLICY_HYPER_CONNECTIONS;
  EXPECT_EQ(notes_with(spec, "TC2053"), 1);
  spec = selective({"mhc"});
  spec.flags |= RC_POLICY_HYPER_CONNECTIONS;
  EXPECT_EQ(notes_with(spec, "TC2053"), 0);
}

TEST(PolicyRules, TC2063_AcceptsHyperConnectionsWithMultiTokenPrediction) {
  PolicySpec spec;
  spec.flags = RC_POLICY_HYPER_CONNECTIONS;
  spec.mtp_num_layers = 1;
  expect_relaxed(spec, "TC2063", "enable_mhc_connections");
}

TEST(PolicyRules, TC2069_AcceptsHyperConnectionsWithFull) {
  PolicySpec spec = full();
  spec.flags = RC_POLICY_HYPER_CONNECTIONS;
  expect_relaxed(spec, "TC2069", "enable_mhc_connections");
}

TEST(PolicyRules, TC2092_AcceptsHyperConnectionsWithAPipeline) {
  PolicySpec spec;
  spec.num_layers = 4;
  spec.pp_size = 2;
  spec.flags = RC_POLICY_HYPER_CONNECTIONS;
  expect_relaxed(spec, "TC2092", "enable_mhc_connections");
}

// ---- offloading by modules

TEST(PolicyRules, TC2128_RefusesBothOffloads) {
  PolicySpec spec = fine_grained({"core_attn"});
  spec.flags |= RC_POLICY_CPU_OFFLOADING;
  spec.cpu_offloading_num_layers = 1;
  expect_refused(spec, "TC2128", "fine_grained_activation_offloading", "cpu_offloading");
}

TEST(PolicyRules, TC2131_RefusesAnEmptyOffloadList) {
  expect_refused(fine_grained({}), "TC2131", "offload_modules", "at least one");
}

TEST(PolicyRules, TC2143_RefusesAnUnknownOffloadModule) {
  expect_refused(fine_grained({"qkv_linaer"}), "TC2143", "offload_modules[0]",
                 "did you mean \"qkv_linear\"?");
  PolicySpec spec = fine_grained({"rope"});
  spec.kinds = {{"rope", false}};
  expect_relaxed(spec, "TC2143", "offload_modules[0]");
}

TEST(PolicyRules, TC2148_RefusesAttnProjWithoutCoreAttn) {
  expect_refused(fine_grained({"attn_proj"}), "TC2148", "offload_modules[0]", "core_attn");
  expect_accepted(fine_grained({"attn_proj", "core_attn"}));
}

TEST(PolicyRules, TC2154_RefusesGdpQkvWhenItsInputIsDiscarded) {
  PolicySpec spec = fine_grained({"gdp_qkv"});
  expect_accepted(spec);
  spec.granularity = RC_GRANULARITY_SELECTIVE;
  spec.recompute_modules.emplace(1, "gdp_in_proj");
  spec.flags |= RC_POLICY_GATED_DELTA_PRODUCT;
  expect_refused(spec, "TC2154", "offload_modules[0]", "gdp_in_proj");
}

TEST(PolicyRules, TC2165_RefusesOffloadsInsideARecomputedMoe) {
  for (const char* module : {"moe_act", "expert_fc1", "fused_group_mlp"}) {
    PolicySpec spec = fine_grained({module});
    spec.flags |= RC_POLICY_TE_OP_FUSER;
    expect_accepted(spec);
    spec.granularity = RC_GRANULARITY_SELECTIVE;
    spec.recompute_modules.emplace(1, "moe");
    expect_refused(spec, "TC2165", "offload_modules[0]", "\"moe\"");
  }
}

TEST(PolicyRules, TC2176a_RefusesANegativeMinimumSize) {
  expect_json_refused(R"({"rcore_policy":1,"min_offloaded_tensor_size":-1})", "",
                      "/min_offloaded_tensor_size", "-1, must be an integer from 0");
}

TEST(PolicyRules, TC2176b_RefusesAFractionOutsideZeroToOne) {
  PolicySpec spec = fine_grained({"core_attn"});
  for (const double fraction : {-0.01, 1.01, std::nan(""), 1e300}) {
    spec.activation_offload_fraction = fraction;
    expect_refused(spec, "TC2176b", "activation_offload_fraction", "must be in [0, 1]");
  }
}

TEST(PolicyRules, TC2186a_RefusesFusedGroupMlpWithoutTheOpFuser) {
  expect_refused(fine_grained({"fused_group_mlp"}), "TC2186a", "offload_modules[0]",
                 "use_transformer_engine_op_fuser");
}

TEST(PolicyRules, TC2186b_RefusesFusedGroupMlpBesideItsParts) {
  for (const char* part : {"expert_fc1", "moe_act"}) {
    PolicySpec spec = fine_grained({part, "fused_group_mlp"});
    spec.flags |= RC_POLICY_TE_OP_FUSER;
    expect_refused(spec, "TC2186b", "offload_modules[1]", part);
  }
}

TEST(PolicyRules, TC2210a_RefusesThePagedStashWithCpuOffloading) {
  PolicySpec spec = cpu_offloading(4, 1);
  spec.flags |= RC_POLICY_PAGED_STASH;
  expect_refused(spec, "TC2210a", "moe_paged_stash", "cpu_offloading");
}

TEST(PolicyRules, TC2210c_RefusesOffloadsOfWhatThePagedStashHolds) {
  PolicySpec spec = fine_grained({"core_attn", "expert_fc1"});
  expect_accepted(spec);
  spec.flags |= RC_POLICY_PAGED_STASH;
  expect_refused(spec, "TC2210c", "offload_modules[1]", "moe_paged_stash");
}

}  // namespace
}  // namespace rc
