// src/policy/policy_desc_test.cc: the C descriptor: strides, older and newer elements, NULLs.
#include <gtest/gtest.h>

#include <cstring>

#include "src/policy/policy.h"

namespace rc {
namespace {

TEST(PolicyDesc, ZeroIsTheDefault) {
  PolicySpec spec;
  spec.num_layers = 77;
  ASSERT_TRUE(read_policy_desc(rc_policy_desc_init(), &spec).ok());
  EXPECT_EQ(spec, PolicySpec());
}

TEST(PolicyDesc, NullAndEmptyModuleListsDiffer) {
  rc_policy_desc desc = rc_policy_desc_init();
  PolicySpec spec;
  const char* const names[] = {"mlp"};
  desc.recompute_modules = names;
  ASSERT_TRUE(read_policy_desc(desc, &spec).ok());
  EXPECT_TRUE(spec.recompute_modules->empty());
  desc.n_recompute_modules = 1;
  ASSERT_TRUE(read_policy_desc(desc, &spec).ok());
  EXPECT_EQ(spec.recompute_modules->at(0), "mlp");
  desc.recompute_modules = nullptr;
  EXPECT_EQ(read_policy_desc(desc, &spec).field(), "recompute_modules");
}

TEST(PolicyDesc, RefusesNullAndEmptyNames) {
  rc_policy_desc desc = rc_policy_desc_init();
  PolicySpec spec;
  const char* const names[] = {"mlp", nullptr, ""};
  desc.recompute_modules = names;
  desc.n_recompute_modules = 2;
  EXPECT_EQ(read_policy_desc(desc, &spec).field(), "recompute_modules[1]");
  desc = rc_policy_desc_init();
  desc.offload_modules = names + 2;
  desc.n_offload_modules = 1;
  EXPECT_EQ(read_policy_desc(desc, &spec).field(), "offload_modules[0]");
  rc_kind_desc kind = rc_kind_desc_init();
  desc = rc_policy_desc_init();
  desc.kinds = &kind;
  desc.n_kinds = 1;
  desc.kind_stride = sizeof kind;
  EXPECT_EQ(read_policy_desc(desc, &spec).field(), "kinds[0].name");
  rc_policy_rule rule = rc_policy_rule_init();
  rule.slot = "";
  desc = rc_policy_desc_init();
  desc.rules = &rule;
  desc.n_rules = 1;
  desc.rule_stride = sizeof rule;
  EXPECT_EQ(read_policy_desc(desc, &spec).field(), "rules[0].slot");
}

TEST(PolicyDesc, RefusesCountsWithoutLists) {
  PolicySpec spec;
  rc_policy_desc desc = rc_policy_desc_init();
  desc.n_rules = 1;
  desc.rule_stride = sizeof(rc_policy_rule);
  EXPECT_EQ(read_policy_desc(desc, &spec).field(), "rules");
  desc = rc_policy_desc_init();
  desc.n_kinds = UINT32_MAX;
  EXPECT_EQ(read_policy_desc(desc, &spec).field(), "kinds");
  desc = rc_policy_desc_init();
  desc.n_virtual_stages = 2;
  EXPECT_EQ(read_policy_desc(desc, &spec).field(), "layers_per_virtual_stage");
  desc = rc_policy_desc_init();
  const uint8_t moe[] = {1};
  desc.moe_layers = moe;
  EXPECT_EQ(read_policy_desc(desc, &spec).field(), "moe_layers");
  desc.num_layers = UINT32_MAX;  // must not be used as a length
  EXPECT_EQ(read_policy_desc(desc, &spec).field(), "num_layers");
}

TEST(PolicyDesc, ReadsRulesOfAnyStride) {
  struct Wide {
    rc_policy_rule rule;
    unsigned char newer[24];
  };
  Wide wide[2] = {};
  for (uint32_t i = 0; i < 2; ++i) {
    wide[i].rule = rc_policy_rule_init();
    wide[i].rule.head.struct_size = sizeof(Wide);
    wide[i].rule.kind = i == 0 ? "mlp" : "moe";
    wide[i].rule.action = RC_ACTION_RECOMPUTE;
  }
  rc_policy_desc desc = rc_policy_desc_init();
  desc.rules = &wide[0].rule;
  desc.n_rules = 2;
  desc.rule_stride = sizeof(Wide);
  PolicySpec spec;
  ASSERT_TRUE(read_policy_desc(desc, &spec).ok());
  EXPECT_EQ(spec.rules[1].kind, "moe");
  wide[1].newer[23] = 1;
  const Status status = read_policy_desc(desc, &spec);
  EXPECT_EQ(status.code(), RC_E_VERSION);
  EXPECT_EQ(status.field(), "rules[1]");
  EXPECT_NE(status.message().find(format("%zu bytes", sizeof(Wide))), std::string::npos);
}

TEST(PolicyDesc, ZeroFillsShorterElements) {
  // A consumer whose struct ends before `action`: 64 bytes of the rule.
  const uint32_t old_size = offsetof(rc_policy_rule, action);
  std::vector<unsigned char> bytes(old_size * 2);
  for (uint32_t i = 0; i < 2; ++i) {
    rc_policy_rule rule = rc_policy_rule_init();
    rule.head.struct_size = old_size;
    rule.kind = "mlp";
    rule.action = RC_ACTION_STORE;  // beyond the old struct
    std::memcpy(bytes.data() + i * old_size, &rule, old_size);
  }
  rc_policy_desc desc = rc_policy_desc_init();
  desc.rules = reinterpret_cast<const rc_policy_rule*>(bytes.data());
  desc.n_rules = 2;
  desc.rule_stride = old_size;
  PolicySpec spec;
  ASSERT_TRUE(read_policy_desc(desc, &spec).ok());
  EXPECT_EQ(spec.rules[1].action, RC_ACTION_KEEP);
  EXPECT_EQ(spec.rules[1].kind, "mlp");
}

TEST(PolicyDesc, RefusesBrokenHeads) {
  rc_policy_rule rule = rc_policy_rule_init();
  rc_policy_desc desc = rc_policy_desc_init();
  desc.rules = &rule;
  desc.n_rules = 1;
  PolicySpec spec;
  desc.rule_stride = 8;
  EXPECT_EQ(read_policy_desc(desc, &spec).field(), "rule_stride");
  desc.rule_stride = sizeof rule;
  rule.head.struct_size = sizeof rule + 1;
  EXPECT_EQ(read_policy_desc(desc, &spec).field(), "rules[0].head.struct_size");
  rule.head.struct_size = 4;
  EXPECT_EQ(read_policy_desc(desc, &spec).field(), "rules[0].head.struct_size");
  rule = rc_policy_rule_init();
  rule.head.struct_type = RC_TYPE_KIND_DESC;
  EXPECT_EQ(read_policy_desc(desc, &spec).field(), "rules[0].head.struct_type");
  rule = rc_policy_rule_init();
  rule.head.next = &desc.head;
  EXPECT_EQ(read_policy_desc(desc, &spec).code(), RC_E_VERSION);
}

TEST(PolicyDesc, RefusesConditionsWithoutTheirFlags) {
  rc_policy_rule rule = rc_policy_rule_init();
  rc_policy_desc desc = rc_policy_desc_init();
  desc.rules = &rule;
  desc.n_rules = 1;
  desc.rule_stride = sizeof rule;
  PolicySpec spec;
  rule.chunk = 1;
  EXPECT_EQ(read_policy_desc(desc, &spec).field(), "rules[0].chunk");
  rule.flags = RC_RULE_CHUNK;
  ASSERT_TRUE(read_policy_desc(desc, &spec).ok());
  EXPECT_EQ(spec.rules[0].chunk, 1u);
  rule.n_microbatches = 1;
  EXPECT_EQ(read_policy_desc(desc, &spec).field(), "rules[0].first_microbatch");
  rule.flags |= RC_RULE_MICROBATCH;
  ASSERT_TRUE(read_policy_desc(desc, &spec).ok());
  rule.flags |= 0x80;
  EXPECT_EQ(read_policy_desc(desc, &spec).field(), "rules[0].flags");
}

TEST(PolicyDesc, CarriesEveryField) {
  rc_policy_desc desc = rc_policy_desc_init();
  desc.granularity = RC_GRANULARITY_FULL;
  desc.method = RC_METHOD_BLOCK;
  desc.recompute_num_layers = 1;
  desc.num_layers = 6;
  const uint32_t stages[] = {1, 2, 2, 1};
  desc.layers_per_virtual_stage = stages;
  desc.n_virtual_stages = 4;
  desc.pp_size = 2;
  desc.pp_rank = 1;
  desc.vpp_size = 2;
  desc.tp_size = 4;
  desc.tp_rank = 3;
  desc.cp_size = 5;
  desc.ep_size = 6;
  desc.num_microbatches = 9;
  desc.num_microbatches_with_partial_recompute = 1;
  desc.min_offloaded_tensor_size = 11;
  desc.offload_bytes_cap = 12;
  const uint8_t moe[] = {0, 1, 0, 1, 0, 1};
  desc.moe_layers = moe;
  desc.fp8 = RC_FP8_MXFP8;
  desc.graph = RC_GRAPH_FULL_ITERATION;
  desc.attention_dropout = 0.25;
  desc.hidden_dropout = 0.5;
  desc.moe_input_jitter_eps = 0.125;
  desc.flags = RC_POLICY_SEQUENCE_PARALLEL;
  PolicySpec spec;
  ASSERT_TRUE(read_policy_desc(desc, &spec).ok());
  std::shared_ptr<const Policy> policy;
  const Status status = create_policy(spec, &policy);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(spec.layers_per_virtual_stage, (std::vector<uint32_t>{1, 2, 2, 1}));
  EXPECT_EQ(spec.moe_layers, (std::vector<uint8_t>{0, 1, 0, 1, 0, 1}));
  EXPECT_EQ(spec.tp_rank, 3u);
  EXPECT_EQ(spec.cp_size, 5u);
  EXPECT_EQ(spec.ep_size, 6u);
  EXPECT_EQ(policy->offload_limits().min_elements, 11u);
  EXPECT_EQ(policy->offload_limits().bytes_cap, 12u);
  EXPECT_EQ(spec.attention_dropout, 0.25);
  EXPECT_EQ(spec.hidden_dropout, 0.5);
  EXPECT_EQ(spec.moe_input_jitter_eps, 0.125);
  EXPECT_EQ(spec.activation_offload_fraction, 1);
}

}  // namespace
}  // namespace rc
