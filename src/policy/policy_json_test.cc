// src/policy/policy_json_test.cc: the JSON form: spellings, conflicts, positions, hostile text.
#include <gtest/gtest.h>

#include <fstream>
#include <random>
#include <sstream>

#include "src/policy/json_fields.h"
#include "src/policy/json_text.h"
#include "src/policy/rules_fixture.h"
#include "src/testing/effort.h"

namespace rc {
namespace {

std::shared_ptr<const Policy> read(const std::string& text) {
  std::shared_ptr<const Policy> policy;
  const Status status = create_policy_json(text, &policy);
  EXPECT_TRUE(status.ok()) << status.field() << ": " << status.message() << "\n" << text;
  return policy;
}

// The members between {"rcore_policy": 1, and }.
std::shared_ptr<const Policy> with(const std::string& members) {
  return read("{\"rcore_policy\": 1, " + members + "}");
}

void refused(const std::string& members, const std::string& field, const std::string& part) {
  expect_json_refused("{\"rcore_policy\": 1, " + members + "}", "", field, part);
}

TEST(PolicyJson, ReadsMegatronsNames) {
  const auto policy = with(R"("recompute_granularity": "full", "recompute_method": "block",
      "recompute_num_layers": 2, "num_layers": 12, "pipeline_model_parallel_size": 2,
      "pipeline_model_parallel_rank": 1, "virtual_pipeline_model_parallel_size": 3,
      "tensor_model_parallel_size": 4, "distribute_saved_activations": true)");
  ASSERT_TRUE(policy);
  EXPECT_EQ(policy->spec().method, RC_METHOD_BLOCK);
  EXPECT_EQ(policy->spec().pp_rank, 1u);
  EXPECT_EQ(policy->layout().stages().size(), 6u);
  EXPECT_EQ(policy->decide({"layer", 3, 0, 0}, {"x", RC_ROLE_INPUT}).group, "tp");
}

TEST(PolicyJson, ReadsOtherSpellings) {
  const std::string megatron = describe(*with(R"("recompute_granularity": "full",
      "recompute_method": "uniform", "recompute_num_layers": 1, "num_layers": 8,
      "pipeline_model_parallel_size": 2, "virtual_pipeline_model_parallel_size": 2)"));
  EXPECT_EQ(describe(*with(R"("activations_checkpoint_granularity": "full",
      "activations_checkpoint_method": "uniform", "activations_checkpoint_num_layers": 1,
      "num_layers": 8, "pp_size": 2, "vpp_size": 2)")),
            megatron);
  EXPECT_EQ(describe(*with(R"("--recompute-granularity": "full", "--recompute-method": "uniform",
      "--recompute-num-layers": 1, "--num-layers": 8, "--pipeline-model-parallel-size": 2,
      "--num-layers-per-virtual-pipeline-stage": 2)")),
            megatron);
  EXPECT_EQ(with(R"("recompute-activations": true)")->spec().granularity, RC_GRANULARITY_SELECTIVE);
  EXPECT_EQ(with(R"("moe_layer_recompute": true)")->spec().recompute_modules->back(), "moe");
  EXPECT_EQ(with(R"("num_layers": 5, "moe_layer_freq": 2)")->spec().moe_layers,
            (std::vector<uint8_t>{1, 0, 1, 0, 1}));
  EXPECT_EQ(with(R"("num_layers": 2, "moe_layer_freq": [0, true])")->spec().moe_layers,
            (std::vector<uint8_t>{0, 1}));
  EXPECT_EQ(with(R"("fp8": "hybrid", "fp8_recipe": "blockwise")")->spec().fp8, RC_FP8_BLOCKWISE);
  EXPECT_EQ(with(R"("fp8": "e4m3")")->spec().fp8, RC_FP8_DELAYED);
  EXPECT_EQ(with(R"("fp8": false)")->spec().fp8, RC_FP8_OFF);
  EXPECT_EQ(
      with(R"("cuda_graph_impl": "local", "cuda_graph_scope": "full_iteration")")->spec().graph,
      RC_GRAPH_FULL_ITERATION);
  EXPECT_EQ(with(R"("cuda_graph_impl": "local", "cuda-graph-modules": ["attn", "mlp"])")
                ->spec()
                .graph_scopes,
            RC_GRAPH_SCOPE_ATTN | RC_GRAPH_SCOPE_MLP);
  EXPECT_TRUE(
      with(R"("experimental_attention_variant": "gdn2")")->spec().has(RC_POLICY_GATED_DELTA_NET));
  EXPECT_TRUE(with(R"("moe_token_dispatcher_type": "alltoall")")
                  ->spec()
                  .has(RC_POLICY_MOE_ALLTOALL_DISPATCHER));
}

TEST(PolicyJson, NullMeansNotSet) {
  EXPECT_EQ(describe(*with(R"("recompute_granularity": null, "recompute_method": null,
      "recompute_num_layers": null, "recompute_modules": null, "rules": null)")),
            "{\n  \"rcore_policy\": 1\n}");
}

TEST(PolicyJson, EqualSpellingsAgreeAndOthersConflict) {
  with(R"("pp_size": 1, "pipeline_model_parallel_size": 1)");
  refused(R"("tp_size": 2, "tensor_model_parallel_size": 4)", "/tp_size", "contradicts");
  refused(R"("recompute_activations": true, "recompute_granularity": "full")",
          "/recompute_activations", "recompute_granularity is full");
  refused(R"("num_layers": 8, "pp_size": 2, "vpp_size": 4,
          "num_layers_per_virtual_pipeline_stage": 2)",
          "/num_layers_per_virtual_pipeline_stage", "2 virtual chunks");
  refused(R"("num_layers": 2, "moe_layers": [0, 1], "moe_layer_freq": 1)", "/moe_layer_freq",
          "moe_layers");
  refused(R"("fp8": "delayed", "fp8_recipe": "mxfp8")", "/fp8_recipe", "contradicts");
  refused(R"("fp8_recipe": "mxfp8")", "/fp8_recipe", "no effect");
}

TEST(PolicyJson, RefusesUnknownKeysWithTheNearest) {
  refused(R"("recompute_granulrity": "full")", "/recompute_granulrity",
          "did you mean \"recompute_granularity\"?");
  refused(R"("a/b~c": 1)", "/a~1b~0c", "unknown key \"a/b~c\"");
  refused(R"("rules": [{"action": "keep", "kinds": "mlp"}])", "/rules/0/kinds",
          "did you mean \"kind\"?");
  refused(R"("kinds": [{"name": "a", "discard_output": true}])", "/kinds/0/discard_output",
          "did you mean \"discards_output\"?");
}

TEST(PolicyJson, NamesTheVersionItReads) {
  expect_json_refused("{}", "", "/rcore_policy", "missing, must be 1");
  expect_json_refused("[]", "", "", "must be a JSON object");
  for (const char* version : {"2", "1.0", "\"1\"", "true"}) {
    expect_json_refused(format("{\"rcore_policy\": %s}", version), "", "/rcore_policy",
                        "this library reads version 1");
  }
}

TEST(PolicyJson, PointsAtTheOffendingValue) {
  refused(R"("num_layers": -3)", "/num_layers", "-3, must be an integer from 1");
  refused(R"("num_layers": 4294967296)", "/num_layers", "to 4294967295");
  refused(R"("num_layers": 2.0)", "/num_layers", "2.0, must be an integer");
  refused(R"("sequence_parallel": 1)", "/sequence_parallel", "1, must be true or false");
  refused(R"("attention_dropout": "0.1")", "/attention_dropout", "must be a number");
  refused(R"("recompute_modules": ["mlp", 3])", "/recompute_modules/1", "must be a string");
  refused(R"("recompute_modules": {"mlp": 1})", "/recompute_modules", "must be an array");
  refused(R"("rules": [{"kind": "mlp"}])", "/rules/0/action", "missing");
  refused(R"("rules": [{"action": "keep"}, {"kind": "mpl", "action": "recompute"}])",
          "/rules/1/kind", "did you mean \"mlp\"?");
  refused(R"("rules": [{"action": "recomputed"}])", "/rules/0/action",
          "did you mean \"recompute\"?");
  refused(R"("kinds": ["ok", "mlp"])", "/kinds/1", "already built in");
  refused(R"("kinds": [{"name": "mlp"}])", "/kinds/0/name", "already built in");
  // Refused by the checks behind the reader, which speak of the C fields.
  refused(R"("pipeline-model-parallel-size": 2, "pp_rank": 2, "num_layers": 4)", "/pp_rank",
          "2, must be below pp_size 2");
  refused(R"("activations_checkpoint_granularity": "full", "num_layers": 4,
          "activations_checkpoint_method": "block", "activations_checkpoint_num_layers": 9)",
          "/activations_checkpoint_num_layers", "between 1 and 4");
  refused(R"("recompute_granularity": "selective", "recompute_modules": "core_atn")",
          "/recompute_modules", "core_attn");
}

TEST(PolicyJson, PointsAtLineAndColumnOfASyntaxError) {
  expect_json_refused("{\n  \"rcore_policy\": 1,\n  \"num_layers\" 4\n}", "", "",
                      "line 3, column 16");
  expect_json_refused("", "", "", "line 1, column 1");
  expect_json_refused("{\"rcore_policy\": 1", "", "", "line 1, column 19");
  expect_json_refused("{\"rcore_policy\": 1}}", "", "", "line 1, column 20");
  expect_json_refused("{\"rcore_policy\": \"\xff\"}", "", "", "line 1, column 19");
  expect_json_refused("{\"rcore_policy\": 1e999}", "", "", "range");
}

TEST(PolicyJson, RefusesDuplicateKeys) {
  refused(R"("num_layers": 4, "num_layers": 8)", "/num_layers", "twice");
  refused(R"("rules": [{"action": "keep"}, {"action": "keep", "action": "keep"}])",
          "/rules/1/action", "twice");
}

TEST(PolicyJson, BoundsDepthAndSize) {
  const std::string deep(1000000, '[');
  expect_json_refused(deep, "", "", "nested deeper than 16");
  expect_json_refused("{\"rcore_policy\": " + std::string(15, '[') + std::string(15, ']') + "}", "",
                      "/rcore_policy", "reads version 1");
  expect_json_refused("{\"rcore_policy\": " + std::string(16, '[') + std::string(16, ']') + "}", "",
                      "", "line 1, column 33: nested deeper");
  EXPECT_TRUE(read("{\"rcore_policy\": 1, \"kinds\": []}"));
  expect_json_refused(std::string(kMaxJsonBytes + 1, ' '), "", "", "the limit is 16777216");
  std::string many = "\"recompute_modules\": [\"mlp\"";
  for (uint32_t i = 0; i < kMaxListEntries; ++i) many += ",\"mlp\"";
  refused(many + "]", "/recompute_modules", "65537 entries, the limit is 65536");
  refused("\"" + std::string(100000, 'x') + "\": 1", "/" + std::string(100000, 'x'), "unknown key");
}

// Any mutation of a valid text is accepted or refused with one line; nothing else happens.
TEST(PolicyJson, SurvivesMutatedText) {
  const std::string seed = R"({"rcore_policy": 1, "recompute_granularity": "full",
    "recompute_method": "uniform", "recompute_num_layers": 2, "num_layers": 8, "pp_size": 2,
    "kinds": ["rope", {"name": "glu", "discards_output": true}], "moe_layers": [0,1,0,1,0,1,0,1],
    "rules": [{"kind": "layer", "action": "store", "tier": "host", "first_layer": 1, "n_layers": 2},
    {"kind": "glu", "action": "recompute", "chunk": 0, "first_microbatch": 3}]})";
  std::mt19937 engine(7);
  const std::string bytes = "{}[]\",:0123456789-.eE\\ntrufalse \x01\xff/_";
  int accepted = 0;
  for (int i = 0; i < testing::rounds(4000); ++i) {
    std::string text = seed;
    for (size_t n = 1 + engine() % 3; n > 0; --n) {
      const size_t at = engine() % text.size();
      switch (engine() % 4) {
        case 0:
          text[at] = bytes[engine() % bytes.size()];
          break;
        case 1:
          text.erase(at, 1 + engine() % 9);
          break;
        case 2:
          text.insert(at, 1, bytes[engine() % bytes.size()]);
          break;
        default:
          text.insert(at, text.substr(engine() % text.size(), engine() % 24));
          break;
      }
      if (text.empty()) text = " ";
    }
    std::shared_ptr<const Policy> policy;
    const Status status = create_policy_json(text, &policy);
    if (status.ok()) {
      ++accepted;
      std::shared_ptr<const Policy> again;
      ASSERT_TRUE(create_policy_json(describe(*policy), &again).ok()) << text;
      continue;
    }
    ASSERT_EQ(status.code(), RC_E_ARGUMENT) << status.message() << "\n" << text;
    ASSERT_EQ(status.message().find('\n'), std::string::npos) << status.message();
    ASSERT_FALSE(status.message().empty());
  }
  EXPECT_GT(accepted, testing::rounds(20));
}

// The fenced json blocks of the documentation are policies.
TEST(PolicyJson, DocumentedExamplesAreAccepted) {
  std::ifstream file(RC_POLICY_JSON_MD);
  ASSERT_TRUE(file.is_open());
  std::string line, text;
  bool inside = false;
  int examples = 0;
  while (std::getline(file, line)) {
    if (inside && line == "```") {
      inside = false;
      ++examples;
      read(text);
    } else if (inside) {
      text += line + "\n";
    } else if (line == "```json") {
      inside = true;
      text.clear();
    }
  }
  EXPECT_GE(examples, 5);
}

// Every key that the reader takes is in the documentation.
TEST(PolicyJson, EveryKeyIsDocumented) {
  std::ifstream file(RC_POLICY_JSON_MD);
  std::stringstream content;
  content << file.rdbuf();
  for (const std::string_view key : known_keys()) {
    EXPECT_NE(content.str().find("`" + std::string(key) + "`"), std::string::npos) << key;
  }
}

}  // namespace
}  // namespace rc
