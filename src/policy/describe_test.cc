// src/policy/describe_test.cc: describe() and create_policy_json are inverse, for random policies.
#include <gtest/gtest.h>

#include <random>

#include "src/policy/policy.h"
#include "src/testing/effort.h"

namespace rc {
namespace {

// Draws inputs that are often valid; create_policy decides.
class RandomSpec {
 public:
  explicit RandomSpec(uint32_t seed) : engine_(seed) {}

  PolicySpec draw() {
    PolicySpec spec;
    spec.pp_size = 1 + below(3);
    spec.pp_rank = below(spec.pp_size);
    spec.vpp_size = spec.pp_size > 1 ? 1 + below(2) : 1;
    const uint32_t per_stage = 1 + below(4);
    spec.num_layers = spec.pp_size * spec.vpp_size * per_stage;
    if (chance(4)) {
      spec.layers_per_virtual_stage.assign(size_t{spec.pp_size} * spec.vpp_size, per_stage);
    }
    spec.granularity = static_cast<rc_granularity>(below(3));
    if (spec.granularity == RC_GRANULARITY_FULL) {
      spec.method = static_cast<rc_method>(1 + below(2));
      spec.recompute_num_layers = 1 + below(per_stage);
    }
    if (chance(2)) spec.recompute_modules.emplace(some({"mlp", "core_attn", "moe", "host_kind"}));
    spec.kinds = {{"host_kind", chance(2)}};
    spec.tp_size = 1 + below(2);
    spec.num_microbatches = 1 + below(8);
    if (chance(3)) spec.num_microbatches_with_partial_recompute = 1 + below(3);
    if (chance(3)) spec.mtp_num_layers = below(2);
    draw_offload(&spec);
    draw_numbers(&spec);
    for (uint32_t i = below(4); i > 0; --i) spec.rules.push_back(draw_rule(spec));
    return spec;
  }

 private:
  uint32_t below(uint32_t n) { return static_cast<uint32_t>(engine_() % n); }
  bool chance(uint32_t n) { return below(n) == 0; }

  std::vector<std::string> some(std::vector<std::string> names) {
    std::erase_if(names, [&](const std::string&) { return chance(2); });
    return names;
  }

  void draw_offload(PolicySpec* spec) {
    if (chance(4)) {
      spec->flags |= RC_POLICY_CPU_OFFLOADING;
      spec->cpu_offloading_num_layers = 1 + below(3);
    } else if (chance(3)) {
      spec->flags |= RC_POLICY_FINE_GRAINED_OFFLOADING;
      spec->offload_modules = some({"core_attn", "attn_norm", "qkv_linear"});
      spec->activation_offload_fraction = below(11) / 10.0;
    }
    if (chance(3)) spec->min_offloaded_tensor_size = engine_();
    if (chance(3)) spec->offload_bytes_cap = engine_();
  }

  void draw_numbers(PolicySpec* spec) {
    if (chance(2)) spec->attention_dropout = below(1000) / 1000.0;
    if (chance(2)) spec->hidden_dropout = below(1000) / 3000.0;
    spec->fp8 = static_cast<rc_fp8>(below(5));
    if (chance(4)) spec->graph = static_cast<rc_graph>(below(4));
    if (chance(2)) spec->flags |= RC_POLICY_COUNTER_RNG;
    if (chance(3)) spec->flags |= RC_POLICY_FUSED_ATTENTION | RC_POLICY_MOE_LATENT;
    if (chance(4)) spec->flags |= RC_POLICY_DISTRIBUTE_SAVED;
    if (chance(2)) {
      for (uint32_t i = 0; i < spec->num_layers; ++i) {
        spec->moe_layers.push_back(static_cast<uint8_t>(below(2)));
      }
    }
  }

  RuleSpec draw_rule(const PolicySpec& spec) {
    RuleSpec rule;
    if (!chance(4)) rule.kind = std::vector<std::string>{"mlp", "layer", "host_kind"}[below(3)];
    if (chance(4)) rule.slot = "x";
    if (chance(3)) rule.role = static_cast<rc_role>(2 + below(2));
    rule.first_layer = below(spec.num_layers);
    rule.n_layers = below(spec.num_layers - rule.first_layer + 1);
    if (chance(3)) rule.chunk = below(spec.vpp_size);
    if (chance(3)) {
      rule.by_microbatch = true;
      rule.first_microbatch = below(spec.num_microbatches);
      rule.n_microbatches = below(spec.num_microbatches - rule.first_microbatch + 1);
    }
    rule.action = static_cast<rc_action>(below(3));
    if (rule.action == RC_ACTION_STORE) {
      rule.tier = static_cast<rc_tier>(below(3));
      rule.codec = static_cast<rc_codec>(below(3));
      if (chance(2)) rule.group = "tp";
    }
    if (rule.action == RC_ACTION_RECOMPUTE && rule.kind == "layer" && chance(2)) {
      rule.group_layers = 1 + below(2);
    }
    return rule;
  }

  std::mt19937 engine_;
};

void expect_same_table(const Policy& a, const Policy& b) {
  ASSERT_EQ(a.n_rules(), b.n_rules());
  for (uint32_t i = 0; i < a.n_rules(); ++i) EXPECT_EQ(a.rule_text(i), b.rule_text(i));
  EXPECT_EQ(a.notes().size(), b.notes().size());
  EXPECT_EQ(a.requirements().size(), b.requirements().size());
  for (const char* kind : {"layer", "mlp", "core_attn", "attn_norm", "host_kind", "moe"}) {
    for (uint32_t layer = 0; layer < a.spec().num_layers + 2; ++layer) {
      for (uint32_t chunk = 0; chunk < a.spec().vpp_size; ++chunk) {
        for (uint32_t m = 0; m < a.spec().num_microbatches; ++m) {
          for (const rc_role role : {RC_ROLE_INPUT, RC_ROLE_SAVED, RC_ROLE_OUTPUT}) {
            const Site site{kind, layer, chunk, m};
            ASSERT_EQ(a.decide(site, {"x", role}), b.decide(site, {"x", role}));
          }
        }
      }
    }
  }
}

// A unit is what its layers agree on, and only its first layer's input is not recomputed.
void expect_consistent_units(const Policy& policy) {
  for (uint32_t m = 0; m < policy.spec().num_microbatches; ++m) {
    for (uint32_t layer = 0; layer < policy.spec().num_layers; ++layer) {
      const uint32_t chunk = policy.layout().stage_of(layer).chunk;
      const Decision input = policy.decide({"layer", layer, chunk, m}, {"y", RC_ROLE_INPUT});
      ASSERT_LE(input.first_layer, layer);
      ASSERT_LT(layer, input.first_layer + input.n_layers);
      const Stage stage = policy.layout().stage_of(layer);
      ASSERT_GE(input.first_layer, stage.first);
      ASSERT_LE(input.first_layer + input.n_layers, stage.end());
      const Site head{"layer", input.first_layer, chunk, m};
      ASSERT_EQ(policy.decide(head, {"y", RC_ROLE_SAVED}).n_layers, input.n_layers);
      ASSERT_NE(policy.decide(head, {"y", RC_ROLE_INPUT}).action, RC_ACTION_RECOMPUTE);
      if (layer == input.first_layer) continue;
      ASSERT_EQ(input.action, RC_ACTION_RECOMPUTE);
    }
  }
}

TEST(Describe, RoundTripsRandomPolicies) {
  RandomSpec random(20240607);
  int accepted = 0;
  for (int i = 0; i < testing::rounds(4000); ++i) {
    const PolicySpec spec = random.draw();
    std::shared_ptr<const Policy> policy, again;
    if (!create_policy(spec, &policy).ok()) continue;
    ++accepted;
    const std::string text = describe(*policy);
    const Status status = create_policy_json(text, &again);
    ASSERT_TRUE(status.ok()) << status.field() << ": " << status.message() << "\n" << text;
    ASSERT_EQ(describe(*again), text);
    ASSERT_EQ(again->spec(), policy->spec()) << text;
    ASSERT_NO_FATAL_FAILURE(expect_same_table(*policy, *again)) << text;
    ASSERT_NO_FATAL_FAILURE(expect_consistent_units(*policy)) << text;
  }
  EXPECT_GT(accepted, testing::rounds(400));
}

TEST(Describe, WritesOnlyWhatDiffersFromTheDefault) {
  std::shared_ptr<const Policy> policy;
  ASSERT_TRUE(create_policy(PolicySpec(), &policy).ok());
  EXPECT_EQ(describe(*policy), "{\n  \"rcore_policy\": 1\n}");
}

TEST(Describe, KeepsEveryFlag) {
  for (int bit = 0; bit <= 20; ++bit) {
    PolicySpec spec;
    spec.flags = rc_flags{1} << bit;
    if (spec.has(RC_POLICY_DISTRIBUTE_SAVED)) {
      spec.granularity = RC_GRANULARITY_SELECTIVE;
      spec.tp_size = 2;
    }
    if (spec.has(RC_POLICY_CPU_OFFLOADING)) spec.cpu_offloading_num_layers = 1;
    if (spec.has(RC_POLICY_FINE_GRAINED_OFFLOADING)) spec.offload_modules = {"core_attn"};
    std::shared_ptr<const Policy> policy, again;
    const Status created = create_policy(spec, &policy);
    ASSERT_TRUE(created.ok()) << bit << created.message();
    ASSERT_TRUE(create_policy_json(describe(*policy), &again).ok());
    EXPECT_EQ(again->spec().flags, spec.flags);
  }
}

}  // namespace
}  // namespace rc
