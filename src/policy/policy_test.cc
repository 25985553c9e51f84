// src/policy/policy_test.cc: decide() against Megatron's semantics and a model of its loop.
#include "src/policy/policy.h"

#include <gtest/gtest.h>

#include <set>

namespace rc {
namespace {

std::shared_ptr<const Policy> make(const PolicySpec& spec) {
  std::shared_ptr<const Policy> policy;
  const Status status = create_policy(spec, &policy);
  EXPECT_TRUE(status.ok()) << status.field() << ": " << status.message();
  return policy;
}

Decision at(const Policy& policy, const char* kind, uint32_t layer, rc_role role,
            uint32_t chunk = 0, uint32_t microbatch = 0, const char* slot = "x") {
  return policy.decide({kind, layer, chunk, microbatch}, {slot, role});
}

PolicySpec selective(std::vector<std::string> modules) {
  PolicySpec spec;
  spec.granularity = RC_GRANULARITY_SELECTIVE;
  spec.recompute_modules = std::move(modules);
  spec.flags = RC_POLICY_MOE_GROUPED_GEMM | RC_POLICY_MULTI_LATENT_ATTENTION;
  return spec;
}

PolicySpec full(rc_method method, uint32_t layers, uint32_t n) {
  PolicySpec spec;
  spec.granularity = RC_GRANULARITY_FULL;
  spec.method = method;
  spec.num_layers = layers;
  spec.recompute_num_layers = n;
  return spec;
}

RuleSpec rule(const char* kind, rc_action action) {
  RuleSpec r;
  r.kind = kind;
  r.action = action;
  return r;
}

constexpr rc_role kRoles[] = {RC_ROLE_INPUT, RC_ROLE_SAVED, RC_ROLE_OUTPUT, RC_ROLE_PARAMETER,
                              RC_ROLE_DECISION};

TEST(Policy, KeepsEverythingByDefault) {
  const auto policy = make(PolicySpec());
  for (const Kind& kind : policy->kinds().all()) {
    for (const rc_role role : kRoles) {
      const Decision d = at(*policy, kind.name.c_str(), 3, role);
      EXPECT_EQ(d.action, RC_ACTION_KEEP);
      EXPECT_EQ(d.rule, -1);
      EXPECT_EQ(d.first_layer, 3u);
      EXPECT_EQ(d.n_layers, 1u);
    }
  }
  EXPECT_EQ(policy->n_rules(), 0u);
  EXPECT_TRUE(policy->requirements().empty());
  EXPECT_FALSE(policy->depends_on_microbatch());
  EXPECT_FALSE(policy->depends_on_chunk());
}

TEST(Policy, SelectiveNormalKindRecomputesOnlyWhatItSaved) {
  for (const char* kind : {"core_attn", "mlp", "moe", "shared_experts"}) {
    const auto policy = make(selective({kind}));
    EXPECT_EQ(at(*policy, kind, 5, RC_ROLE_SAVED).action, RC_ACTION_RECOMPUTE) << kind;
    EXPECT_EQ(at(*policy, kind, 5, RC_ROLE_SAVED).rule, 0);
    EXPECT_EQ(policy->rule_text(0), std::string("recompute_modules[0]: ") + kind + ": recompute");
    for (const rc_role role : kRoles) {
      if (role == RC_ROLE_SAVED) continue;
      EXPECT_EQ(at(*policy, kind, 5, role).action, RC_ACTION_KEEP) << kind;
      EXPECT_EQ(at(*policy, kind, 5, role).rule, -1);
    }
    EXPECT_EQ(at(*policy, "layernorm", 5, RC_ROLE_SAVED).action, RC_ACTION_KEEP);
    EXPECT_FALSE(policy->discards_output(kind));
  }
}

TEST(Policy, SelectiveDiscardingKindRecomputesItsOutputsToo) {
  for (const char* kind : {"layernorm", "moe_act", "mla_up_proj"}) {
    const auto policy = make(selective({kind}));
    EXPECT_EQ(at(*policy, kind, 0, RC_ROLE_SAVED).action, RC_ACTION_RECOMPUTE);
    EXPECT_EQ(at(*policy, kind, 0, RC_ROLE_OUTPUT).action, RC_ACTION_RECOMPUTE);
    EXPECT_EQ(at(*policy, kind, 0, RC_ROLE_INPUT).action, RC_ACTION_KEEP);
    EXPECT_TRUE(policy->discards_output(kind));
  }
}

TEST(Policy, SelectiveDefaultsToCoreAttention) {
  PolicySpec spec;
  spec.granularity = RC_GRANULARITY_SELECTIVE;
  const auto policy = make(spec);
  EXPECT_EQ(at(*policy, "core_attn", 9, RC_ROLE_SAVED).action, RC_ACTION_RECOMPUTE);
  EXPECT_EQ(at(*policy, "mlp", 9, RC_ROLE_SAVED).action, RC_ACTION_KEEP);
}

TEST(Policy, LayernormSpeaksForItsFamily) {
  const auto policy = make(selective({"layernorm", "attn_norm"}));
  EXPECT_EQ(at(*policy, "mlp_norm", 0, RC_ROLE_OUTPUT).rule, 0);
  EXPECT_EQ(at(*policy, "attn_norm", 0, RC_ROLE_OUTPUT).rule, 1);
  const auto one = make(selective({"attn_norm"}));
  EXPECT_EQ(at(*one, "mlp_norm", 0, RC_ROLE_OUTPUT).action, RC_ACTION_KEEP);
  EXPECT_EQ(at(*one, "layernorm", 0, RC_ROLE_OUTPUT).action, RC_ACTION_KEEP);
}

TEST(Policy, HostKindsFollowTheirDeclaration) {
  PolicySpec spec = selective({"rope", "glu"});
  spec.kinds = {{"rope", true}, {"glu", false}};
  const auto policy = make(spec);
  EXPECT_EQ(at(*policy, "rope", 0, RC_ROLE_OUTPUT).action, RC_ACTION_RECOMPUTE);
  EXPECT_EQ(at(*policy, "glu", 0, RC_ROLE_OUTPUT).action, RC_ACTION_KEEP);
  EXPECT_EQ(at(*policy, "glu", 0, RC_ROLE_SAVED).action, RC_ACTION_RECOMPUTE);
  EXPECT_TRUE(policy->knows_kind("rope"));
  EXPECT_FALSE(policy->knows_kind("ropes"));
  EXPECT_EQ(at(*policy, "ropes", 0, RC_ROLE_SAVED).action, RC_ACTION_KEEP);
}

TEST(Policy, FullLeavesNestedKindsToTheRegionMachine) {
  const auto policy = make(full(RC_METHOD_UNIFORM, 8, 4));
  for (const char* kind : {"mlp", "core_attn", "layernorm"}) {
    for (const rc_role role : kRoles) {
      EXPECT_EQ(at(*policy, kind, 2, role).action, RC_ACTION_KEEP);
    }
    EXPECT_EQ(at(*policy, kind, 6, RC_ROLE_SAVED).first_layer, 4u);
    EXPECT_EQ(at(*policy, kind, 6, RC_ROLE_SAVED).n_layers, 4u);
  }
}

// Megatron's loop over one block of layers, as recompute.py 157-181 runs it: the checkpointed calls
// [first, end) in order.
std::vector<std::pair<uint32_t, uint32_t>> checkpointed_calls(rc_method method, uint32_t n_layers,
                                                              uint32_t n) {
  std::vector<std::pair<uint32_t, uint32_t>> calls;
  if (method == RC_METHOD_UNIFORM) {
    uint32_t l = 0;
    while (l < n_layers) {
      const uint32_t chunk_end = std::min(l + n, n_layers);
      calls.push_back({l, chunk_end});
      l += n;
    }
  } else {
    for (uint32_t l = 0; l < n_layers; ++l) {
      if (l < n) calls.push_back({l, l + 1});
    }
  }
  return calls;
}

// The blocks a rank builds, by filling one virtual chunk after the other over the ranks.
std::vector<uint32_t> block_lengths(uint32_t layers, uint32_t pp, uint32_t vpp) {
  return std::vector<uint32_t>(size_t{pp} * vpp, layers / pp / vpp);
}

void compare_with_megatron(const PolicySpec& spec, const std::vector<uint32_t>& blocks) {
  const auto policy = make(spec);
  ASSERT_TRUE(policy);
  uint32_t base = 0;
  for (const uint32_t length : blocks) {
    std::set<uint32_t> seen;
    for (const auto& [first, end] :
         checkpointed_calls(spec.method, length, spec.recompute_num_layers)) {
      for (uint32_t l = first; l < end; ++l) {
        seen.insert(l);
        for (const rc_role role : {RC_ROLE_INPUT, RC_ROLE_SAVED, RC_ROLE_OUTPUT}) {
          const Decision d = at(*policy, "layer", base + l, role);
          const bool head = role == RC_ROLE_INPUT && l == first;
          ASSERT_EQ(d.action, head ? RC_ACTION_KEEP : RC_ACTION_RECOMPUTE);
          ASSERT_EQ(d.first_layer, base + first);
          ASSERT_EQ(d.n_layers, end - first);
          ASSERT_EQ(d.rule, 0);
        }
      }
    }
    for (uint32_t l = 0; l < length; ++l) {
      if (seen.count(l) != 0) continue;
      for (const rc_role role : kRoles) {
        const Decision d = at(*policy, "layer", base + l, role);
        ASSERT_EQ(d.action, RC_ACTION_KEEP);
        ASSERT_EQ(d.rule, -1);
        ASSERT_EQ(d.n_layers, 1u);
      }
    }
    base += length;
  }
  ASSERT_EQ(base, spec.num_layers);
}

TEST(Policy, UnitsEqualMegatronsLoopForAllSmallLayouts) {
  int layouts = 0;
  for (const rc_method method : {RC_METHOD_UNIFORM, RC_METHOD_BLOCK}) {
    for (uint32_t layers = 1; layers <= 12; ++layers) {
      for (uint32_t pp = 1; pp <= layers; ++pp) {
        for (uint32_t vpp = 1; pp * vpp <= layers; ++vpp) {
          if (layers % (pp * vpp) != 0 || (pp == 1 && vpp > 1)) continue;
          const auto blocks = block_lengths(layers, pp, vpp);
          for (uint32_t n = 1; n <= blocks[0]; ++n) {
            PolicySpec spec = full(method, layers, n);
            spec.pp_size = pp;
            spec.vpp_size = vpp;
            compare_with_megatron(spec, blocks);
            ++layouts;
          }
        }
      }
    }
  }
  EXPECT_GT(layouts, 200);
}

TEST(Policy, UnitsEqualMegatronsLoopForUnevenFirstAndLastStages) {
  for (const rc_method method : {RC_METHOD_UNIFORM, RC_METHOD_BLOCK}) {
    for (uint32_t vpp = 1; vpp <= 2; ++vpp) {
      for (uint32_t first = 1; first <= 4; ++first) {
        for (uint32_t last = 1; last <= 4; ++last) {
          for (uint32_t middle = 1; middle <= 4; ++middle) {
            // Three ranks whose chunks have `first`, `middle` and `last` layers.
            PolicySpec spec = full(method, vpp * (first + middle + last), 1);
            spec.pp_size = 3;
            spec.vpp_size = vpp;
            spec.num_layers_in_first_pipeline_stage = first * vpp;
            spec.num_layers_in_last_pipeline_stage = last * vpp;
            std::vector<uint32_t> blocks;
            for (uint32_t chunk = 0; chunk < vpp; ++chunk) {
              blocks.insert(blocks.end(), {first, middle, last});
            }
            for (uint32_t n = 1; n <= std::max({first, middle, last}); ++n) {
              spec.recompute_num_layers = n;
              compare_with_megatron(spec, blocks);
            }
            spec.num_layers_in_first_pipeline_stage = 0;
            spec.num_layers_in_last_pipeline_stage = 0;
            spec.layers_per_virtual_stage = blocks;
            compare_with_megatron(spec, blocks);
          }
        }
      }
    }
  }
}

TEST(Policy, DistributionSplitsTheInputOfEachUnit) {
  PolicySpec spec = full(RC_METHOD_UNIFORM, 4, 2);
  spec.flags = RC_POLICY_DISTRIBUTE_SAVED;
  spec.tp_size = 2;
  const auto policy = make(spec);
  for (uint32_t layer = 0; layer < 4; ++layer) {
    const Decision d = at(*policy, "layer", layer, RC_ROLE_INPUT);
    EXPECT_EQ(d.action, layer % 2 == 0 ? RC_ACTION_STORE : RC_ACTION_RECOMPUTE);
    EXPECT_EQ(d.group, layer % 2 == 0 ? "tp" : "");
    EXPECT_EQ(d.tier, RC_TIER_DEVICE);
  }
  ASSERT_EQ(policy->requirements().size(), 1u);
  EXPECT_EQ(policy->requirements()[0].what, Requirement::What::kGroup);
  EXPECT_EQ(policy->requirements()[0].name, "tp");
}

TEST(Policy, OffloadAndDistributionMeetInOneDecision) {
  PolicySpec spec = full(RC_METHOD_UNIFORM, 4, 1);
  spec.flags = RC_POLICY_DISTRIBUTE_SAVED | RC_POLICY_CPU_OFFLOADING;
  spec.tp_size = 2;
  spec.cpu_offloading_num_layers = 2;
  const auto policy = make(spec);
  const Decision near = at(*policy, "layer", 1, RC_ROLE_INPUT);
  EXPECT_EQ(near.action, RC_ACTION_STORE);
  EXPECT_EQ(near.tier, RC_TIER_HOST);
  EXPECT_EQ(near.group, "tp");
  EXPECT_EQ(at(*policy, "layer", 2, RC_ROLE_INPUT).tier, RC_TIER_DEVICE);
  EXPECT_EQ(at(*policy, "layer", 1, RC_ROLE_SAVED).action, RC_ACTION_RECOMPUTE);
  EXPECT_EQ(at(*policy, "mlp", 1, RC_ROLE_SAVED).action, RC_ACTION_KEEP);
}

TEST(Policy, CpuOffloadingTakesTheFirstLayersOfEachVirtualStage) {
  PolicySpec spec;
  spec.num_layers = 8;
  spec.pp_size = 2;
  spec.flags = RC_POLICY_CPU_OFFLOADING;
  spec.cpu_offloading_num_layers = 3;
  const auto policy = make(spec);
  for (uint32_t layer = 0; layer < 8; ++layer) {
    const bool offloaded = layer % 4 < 3;
    for (const rc_role role : {RC_ROLE_INPUT, RC_ROLE_SAVED}) {
      const Decision d = at(*policy, "mlp", layer, role);
      EXPECT_EQ(d.action, offloaded ? RC_ACTION_STORE : RC_ACTION_KEEP);
      EXPECT_EQ(d.tier, offloaded ? RC_TIER_HOST : RC_TIER_DEVICE);
      EXPECT_EQ(d.rule, offloaded ? 0 : -1);
    }
    EXPECT_EQ(at(*policy, "mlp", layer, RC_ROLE_OUTPUT).action, RC_ACTION_KEEP);
    EXPECT_EQ(at(*policy, "mlp", layer, RC_ROLE_PARAMETER).action, RC_ACTION_KEEP);
  }
  EXPECT_EQ(policy->requirements()[0].name, "host tier");
}

TEST(Policy, FineGrainedOffloadMovesInputsOfTheFirstFractionOfAStage) {
  PolicySpec spec = selective({"core_attn"});
  spec.num_layers = 10;
  spec.pp_size = 2;
  spec.flags |= RC_POLICY_FINE_GRAINED_OFFLOADING;
  spec.offload_modules = {"core_attn", "attn_norm"};
  spec.activation_offload_fraction = 0.5;
  const auto policy = make(spec);
  for (uint32_t layer = 0; layer < 10; ++layer) {
    const rc_action expected = layer % 5 < 2 ? RC_ACTION_STORE : RC_ACTION_KEEP;
    EXPECT_EQ(at(*policy, "core_attn", layer, RC_ROLE_INPUT).action, expected);
    EXPECT_EQ(at(*policy, "attn_norm", layer, RC_ROLE_INPUT).action, expected);
    EXPECT_EQ(at(*policy, "mlp_norm", layer, RC_ROLE_INPUT).action, RC_ACTION_KEEP);
    EXPECT_EQ(at(*policy, "core_attn", layer, RC_ROLE_SAVED).action, RC_ACTION_RECOMPUTE);
    EXPECT_EQ(at(*policy, "attn_norm", layer, RC_ROLE_SAVED).action, RC_ACTION_KEEP);
  }
}

TEST(Policy, LastMatchingRuleWinsOverGranularity) {
  PolicySpec spec = selective({"core_attn"});
  spec.num_layers = 8;
  RuleSpec keep = rule("core_attn", RC_ACTION_KEEP);
  keep.first_layer = 2;
  keep.n_layers = 4;
  RuleSpec store = rule("core_attn", RC_ACTION_STORE);
  store.first_layer = 4;
  store.tier = RC_TIER_HOST;
  store.codec = RC_CODEC_FP8_E4M3;
  store.group = "cp";
  spec.rules = {keep, store};
  const auto policy = make(spec);
  EXPECT_EQ(at(*policy, "core_attn", 0, RC_ROLE_SAVED).action, RC_ACTION_RECOMPUTE);
  EXPECT_EQ(at(*policy, "core_attn", 0, RC_ROLE_SAVED).rule, 2);  // the line of recompute_modules
  EXPECT_EQ(at(*policy, "core_attn", 3, RC_ROLE_SAVED).action, RC_ACTION_KEEP);
  EXPECT_EQ(at(*policy, "core_attn", 3, RC_ROLE_SAVED).rule, 0);
  const Decision d = at(*policy, "core_attn", 5, RC_ROLE_SAVED);
  EXPECT_EQ(d.action, RC_ACTION_STORE);
  EXPECT_EQ(d.rule, 1);
  EXPECT_EQ(d.tier, RC_TIER_HOST);
  EXPECT_EQ(d.codec, RC_CODEC_FP8_E4M3);
  EXPECT_EQ(d.group, "cp");
  EXPECT_EQ(at(*policy, "core_attn", 5, RC_ROLE_OUTPUT).action, RC_ACTION_KEEP);
  EXPECT_EQ(at(*policy, "core_attn", 5, RC_ROLE_DECISION).action, RC_ACTION_KEEP);
  EXPECT_EQ(policy->rule_text(1),
            "rules[1]: core_attn of layers 4 on: store on host split over cp as fp8_e4m3");
  EXPECT_EQ(policy->requirements().size(), 3u);
}

TEST(Policy, RuleMayNameASlotARoleAChunkAndMicrobatches) {
  PolicySpec spec;
  spec.num_layers = 8;
  spec.pp_size = 2;
  spec.vpp_size = 2;
  RuleSpec by_slot = rule("mlp", RC_ACTION_RECOMPUTE);
  by_slot.slot = "hidden";
  RuleSpec by_role = rule("moe", RC_ACTION_RECOMPUTE);
  by_role.role = RC_ROLE_OUTPUT;
  by_role.chunk = 1;
  by_role.by_microbatch = true;
  by_role.first_microbatch = 2;
  by_role.n_microbatches = 3;
  spec.rules = {by_slot, by_role};
  const auto policy = make(spec);
  EXPECT_EQ(at(*policy, "mlp", 0, RC_ROLE_SAVED, 0, 0, "hidden").action, RC_ACTION_RECOMPUTE);
  EXPECT_EQ(at(*policy, "mlp", 0, RC_ROLE_OUTPUT, 0, 0, "hidden").action, RC_ACTION_RECOMPUTE);
  EXPECT_EQ(at(*policy, "mlp", 0, RC_ROLE_INPUT, 0, 0, "hidden").action, RC_ACTION_KEEP);
  EXPECT_EQ(at(*policy, "mlp", 0, RC_ROLE_SAVED, 0, 0, "other").action, RC_ACTION_KEEP);
  for (uint32_t chunk = 0; chunk < 2; ++chunk) {
    for (uint32_t m = 0; m < 8; ++m) {
      const bool on = chunk == 1 && m >= 2 && m < 5;
      EXPECT_EQ(at(*policy, "moe", 0, RC_ROLE_OUTPUT, chunk, m).action,
                on ? RC_ACTION_RECOMPUTE : RC_ACTION_KEEP);
      EXPECT_EQ(at(*policy, "moe", 0, RC_ROLE_SAVED, chunk, m).action, RC_ACTION_KEEP);
    }
  }
  EXPECT_TRUE(policy->depends_on_chunk());
  EXPECT_TRUE(policy->depends_on_microbatch());
}

TEST(Policy, LayerRulesMakeUnitsWithinTheirRangeAndStage) {
  PolicySpec spec;
  spec.num_layers = 12;
  spec.pp_size = 2;
  RuleSpec units = rule("layer", RC_ACTION_RECOMPUTE);
  units.first_layer = 1;
  units.n_layers = 9;  // 1..9: of stage 0..5 and 6..11
  units.group_layers = 3;
  spec.rules = {units};
  const auto policy = make(spec);
  const std::vector<std::pair<uint32_t, uint32_t>> expected = {
      {0, 1}, {1, 3}, {1, 3}, {1, 3}, {4, 2}, {4, 2}, {6, 3}, {6, 3}, {6, 3}, {9, 1}, {10, 1}};
  for (uint32_t layer = 0; layer < expected.size(); ++layer) {
    const Decision d = at(*policy, "layer", layer, RC_ROLE_SAVED);
    EXPECT_EQ(d.first_layer, expected[layer].first) << layer;
    EXPECT_EQ(d.n_layers, expected[layer].second) << layer;
    EXPECT_EQ(d.action, layer >= 1 && layer <= 9 ? RC_ACTION_RECOMPUTE : RC_ACTION_KEEP);
  }
}

TEST(Policy, KeptLayerCutsTheUnitAroundIt) {
  PolicySpec spec = full(RC_METHOD_UNIFORM, 8, 4);
  RuleSpec keep = rule("layer", RC_ACTION_KEEP);
  keep.first_layer = 1;
  keep.n_layers = 1;
  spec.rules = {keep};
  const auto policy = make(spec);
  EXPECT_EQ(at(*policy, "layer", 0, RC_ROLE_SAVED).n_layers, 1u);
  EXPECT_EQ(at(*policy, "layer", 1, RC_ROLE_SAVED).action, RC_ACTION_KEEP);
  EXPECT_EQ(at(*policy, "layer", 2, RC_ROLE_INPUT).action, RC_ACTION_KEEP);
  EXPECT_EQ(at(*policy, "layer", 2, RC_ROLE_INPUT).n_layers, 2u);
  EXPECT_EQ(at(*policy, "layer", 3, RC_ROLE_INPUT).action, RC_ACTION_RECOMPUTE);
}

TEST(Policy, StoredInputRuleConcernsOnlyTheFirstLayerOfAUnit) {
  PolicySpec spec = full(RC_METHOD_UNIFORM, 8, 4);
  RuleSpec store = rule("layer", RC_ACTION_STORE);
  store.role = RC_ROLE_INPUT;
  store.tier = RC_TIER_HOST;
  spec.rules = {store};
  const auto policy = make(spec);
  EXPECT_EQ(at(*policy, "layer", 4, RC_ROLE_INPUT).tier, RC_TIER_HOST);
  EXPECT_EQ(at(*policy, "layer", 4, RC_ROLE_INPUT).rule, 0);
  EXPECT_EQ(at(*policy, "layer", 5, RC_ROLE_INPUT).action, RC_ACTION_RECOMPUTE);
  EXPECT_EQ(at(*policy, "layer", 5, RC_ROLE_SAVED).action, RC_ACTION_RECOMPUTE);
}

TEST(Policy, MultiTokenPredictionLayersFollowUniformButNotBlock) {
  for (const rc_method method : {RC_METHOD_UNIFORM, RC_METHOD_BLOCK}) {
    PolicySpec spec = full(method, 4, 1);
    spec.mtp_num_layers = 1;
    const auto policy = make(spec);
    EXPECT_EQ(at(*policy, "layer", 4, RC_ROLE_SAVED).action,
              method == RC_METHOD_UNIFORM ? RC_ACTION_RECOMPUTE : RC_ACTION_KEEP);
    EXPECT_EQ(at(*policy, "layer", 5, RC_ROLE_SAVED).action, RC_ACTION_KEEP);
  }
}

TEST(Policy, AnswersAtTheEdgesOfItsIntegers) {
  PolicySpec spec;
  spec.rules = {rule("layer", RC_ACTION_RECOMPUTE)};
  const auto policy = make(spec);
  EXPECT_EQ(at(*policy, "layer", UINT32_MAX - 1, RC_ROLE_SAVED).action, RC_ACTION_RECOMPUTE);
  EXPECT_EQ(at(*policy, "layer", UINT32_MAX, RC_ROLE_SAVED).action, RC_ACTION_KEEP);
  EXPECT_EQ(at(*policy, "layer", 0, RC_ROLE_ANY).action, RC_ACTION_KEEP);
  EXPECT_EQ(policy->decide({"", 0, 0, 0}, {"", RC_ROLE_SAVED}).action, RC_ACTION_KEEP);
}

}  // namespace
}  // namespace rc
