// src/policy/validate_test.cc: shapes, ranges, explicit rules, partial microbatches.
#include <gtest/gtest.h>

#include "src/policy/rules_fixture.h"

namespace rc {
namespace {

PolicySpec with_rule(const RuleSpec& rule) {
  PolicySpec spec;
  spec.num_layers = 8;
  spec.rules = {RuleSpec(), rule};
  return spec;
}

RuleSpec recompute(const char* kind) {
  RuleSpec rule;
  rule.kind = kind;
  rule.action = RC_ACTION_RECOMPUTE;
  return rule;
}

TEST(Validate, RefusesRanksSizesAndProbabilitiesOutOfRange) {
  PolicySpec spec;
  spec.num_layers = 4;
  spec.pp_size = 2;
  spec.pp_rank = 2;
  expect_refused(spec, "", "pp_rank", "2, must be below pp_size 2");
  spec = PolicySpec();
  spec.tp_rank = 1;
  expect_refused(spec, "", "tp_rank", "1, must be below tp_size 1");
  spec = PolicySpec();
  spec.cp_size = 0;
  expect_refused(spec, "", "cp_size", "at least 1");
  spec = PolicySpec();
  spec.num_layers = (1u << 20) + 1;
  expect_refused(spec, "", "num_layers", "the limit is 1048576");
  for (const double bad : {-0.1, 1.1, std::nan("")}) {
    spec = PolicySpec();
    spec.attention_dropout = bad;
    expect_refused(spec, "", "attention_dropout", "[0, 1]");
    spec = PolicySpec();
    spec.hidden_dropout = bad;
    expect_refused(spec, "", "hidden_dropout", "[0, 1]");
  }
  for (const double bad : {-1.0, std::nan(""), HUGE_VAL}) {
    spec = PolicySpec();
    spec.moe_input_jitter_eps = bad;
    expect_refused(spec, "", "moe_input_jitter_eps", "finite");
  }
}

TEST(Validate, RefusesUnknownEnumeratorsAndFlags) {
  PolicySpec spec;
  spec.fp8 = static_cast<rc_fp8>(5);
  expect_refused(spec, "", "fp8", "5, must be");
  spec = PolicySpec();
  spec.graph = static_cast<rc_graph>(1000);
  expect_refused(spec, "", "cuda_graph_impl", "1000, must be");
  spec = PolicySpec();
  spec.flags = rc_flags{1} << 63;
  expect_refused(spec, "", "flags", "0x8000000000000000");
  spec = PolicySpec();
  spec.graph = RC_GRAPH_LOCAL;
  spec.graph_scopes = 0x20;
  expect_refused(spec, "", "cuda_graph_scope", "0x20");
}

TEST(Validate, RefusesListsThatDoNotFit) {
  PolicySpec spec;
  spec.num_layers = 3;
  spec.moe_layers = {0, 1};
  expect_refused(spec, "", "moe_layers", "2 entries, must be num_layers 3");
  spec.moe_layers = {0, 1, 2};
  expect_refused(spec, "", "moe_layers[2]", "must be 0 or 1");
  expect_refused(selective({"mlp", "mlp"}), "", "recompute_modules[1]", "listed twice");
  expect_refused(fine_grained({"core_attn", "core_attn"}), "", "offload_modules[1]", "twice");
  expect_refused(selective({"layer"}), "", "recompute_modules[0]", "full is for layers");
  spec = PolicySpec();
  spec.kinds = {{"a", false}, {"a", true}};
  expect_refused(spec, "", "kinds[1].name", "already declared");
  spec = PolicySpec();
  spec.rules.resize(kMaxListEntries + 1);
  expect_refused(spec, "", "rules", "the limit is 65536");
}

TEST(Validate, FullNeedsTheNumberOfLayers) {
  PolicySpec spec = full();
  spec.num_layers = 0;
  expect_refused(spec, "", "num_layers", "not set");
}

TEST(Validate, PartialMicrobatchesNeedAPipelineAndACount) {
  PolicySpec spec;
  spec.num_layers = 4;
  spec.num_microbatches_with_partial_recompute = 1;
  expect_refused(spec, "", "num_microbatches", "not set");
  spec.num_microbatches = 8;
  expect_refused(spec, "", "num_microbatches_with_partial_recompute", "pp_size is 1");
  spec.pp_size = 4;
  EXPECT_EQ(notes_with(spec, "covers the whole window"), 0);
  spec.pp_rank = 3;
  EXPECT_EQ(notes_with(spec, "covers the whole window of 1 microbatches"), 1);
}

TEST(Validate, RuleMustNameDeclaredKindsAndProperNames) {
  expect_refused(with_rule(recompute("core_atn")), "", "rules[1].kind", "did you mean");
  RuleSpec rule = recompute("mlp");
  rule.slot = "a b";
  expect_refused(with_rule(rule), "", "rules[1].slot", "\"a b\"");
  rule.slot = std::string(48, 'x');
  expect_refused(with_rule(rule), "", "rules[1].slot", "at most 47");
  rule = recompute("mlp");
  rule.action = RC_ACTION_STORE;
  rule.group = "a/b";
  expect_refused(with_rule(rule), "", "rules[1].group", "\"a/b\"");
  rule.group = "tp-cp:0";
  expect_accepted(with_rule(rule));
}

TEST(Validate, RuleMustLieWithinTheModel) {
  RuleSpec rule = recompute("mlp");
  rule.first_layer = 8;
  expect_refused(with_rule(rule), "", "rules[1].first_layer", "8, must be below the 8 layers");
  rule.first_layer = 7;
  rule.n_layers = 2;
  expect_refused(with_rule(rule), "", "rules[1].n_layers", "2 from layer 7 on");
  rule.n_layers = UINT32_MAX;
  expect_refused(with_rule(rule), "", "rules[1].n_layers", "from layer 7 on");
  rule.n_layers = 1;
  expect_accepted(with_rule(rule));
  rule.chunk = 1;
  expect_refused(with_rule(rule), "", "rules[1].chunk", "1, must be below vpp_size 1");
  rule = recompute("mlp");
  rule.by_microbatch = true;
  rule.first_microbatch = 3;
  rule.n_microbatches = 2;
  PolicySpec spec = with_rule(rule);
  spec.num_microbatches = 4;
  expect_refused(spec, "", "rules[1].first_microbatch", "[3, + 2) passes num_microbatches 4");
  spec.num_microbatches = 5;
  expect_accepted(spec);
  spec.rules[1].by_microbatch = false;
  expect_refused(spec, "", "rules[1].first_microbatch", "no condition");
}

TEST(Validate, ParametersAndDecisionsAreAlwaysKept) {
  for (const rc_role role : {RC_ROLE_PARAMETER, RC_ROLE_DECISION}) {
    for (const rc_action action : {RC_ACTION_RECOMPUTE, RC_ACTION_STORE}) {
      RuleSpec rule = recompute("mlp");
      rule.role = role;
      rule.action = action;
      if (action == RC_ACTION_STORE) rule.tier = RC_TIER_HOST;
      expect_refused(with_rule(rule), "", "rules[1].role", "always kept");
    }
    RuleSpec keep = recompute("mlp");
    keep.role = role;
    keep.action = RC_ACTION_KEEP;
    expect_accepted(with_rule(keep));
  }
  RuleSpec input = recompute("layer");
  input.role = RC_ROLE_INPUT;
  expect_refused(with_rule(input), "", "rules[1].role", "no module recomputes its own input");
}

TEST(Validate, StorageSettingsGoWithStoreOnly) {
  RuleSpec rule = recompute("mlp");
  rule.tier = RC_TIER_HOST;
  expect_refused(with_rule(rule), "", "rules[1].tier", "the action is recompute");
  rule = recompute("mlp");
  rule.codec = RC_CODEC_FP8_E4M3;
  expect_refused(with_rule(rule), "", "rules[1].codec", "goes with store");
  rule = recompute("mlp");
  rule.group = "tp";
  expect_refused(with_rule(rule), "", "rules[1].group", "goes with store");
  rule = recompute("mlp");
  rule.action = RC_ACTION_STORE;
  expect_refused(with_rule(rule), "", "rules[1].action", "say keep");
  for (const int bad : {6, 1000}) {
    rule = recompute("mlp");
    rule.action = static_cast<rc_action>(bad);
    expect_refused(with_rule(rule), "", "rules[1].action", "must be between 0 and 2");
    rule = recompute("mlp");
    rule.role = static_cast<rc_role>(bad);
    expect_refused(with_rule(rule), "", "rules[1].role", "must be between 0 and 5");
  }
}

TEST(Validate, UnitsOfLayersGoWithWholeLayersOnly) {
  RuleSpec rule = recompute("mlp");
  rule.group_layers = 2;
  expect_refused(with_rule(rule), "", "rules[1].group_layers", "only kind layer");
  rule = recompute("layer");
  rule.group_layers = 9;
  expect_refused(with_rule(rule), "", "rules[1].group_layers", "9, must be at most 8");
  rule.group_layers = 8;
  expect_accepted(with_rule(rule));
  PolicySpec spec = with_rule(rule);
  spec.num_layers = 0;
  expect_refused(spec, "", "rules[1].group_layers", "needs num_layers");
}

}  // namespace
}  // namespace rc
