// src/plan/plan_test.cc: requests to plans to policies, and what policies are worth.
#include "src/plan/plan.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "src/plan/request_fixture.h"
#include "src/plan/stage_problem.h"

namespace rc::plan {
namespace {

TEST(Plan, PolicyIsWorthWhatTheCertificateSays) {
  const struct {
    const char* model;
    json layout;
    double fraction;
    std::vector<const char*> options;
  } cases[] = {{"llama3-8b", json::object(), 0.5, {"recompute"}},
               {"llama3-8b", json::object(), 0.3, {"recompute", "offload"}},
               {"llama3-70b", kPipeline, 0.35, {"recompute"}},
               {"llama3-70b", kPipeline, 0.6, {"recompute", "offload"}},
               {"llama3-8b", {{"tensor_model_parallel_size", 4}}, 0.5, {"recompute", "split"}},
               {"llama3-8b", json::object(), 0.8, {"compress", "offload"}},
               {"gpt-175b",
                {{"tensor_model_parallel_size", 8}, {"pipeline_model_parallel_size", 8}},
                0.4,
                {"recompute"}},
               {"mixtral-8x7b",
                {{"expert_model_parallel_size", 8}, {"pipeline_model_parallel_size", 4}},
                0.5,
                {"recompute"}},
               {"deepseek-v3", kDeepSeekPipeline, 0.7, {"recompute"}}};
  for (const auto& one : cases) {
    SCOPED_TRACE(std::string(one.model) + " " + std::to_string(one.fraction));
    const auto plan = planned(request(
        one.model, one.layout, {{"budget_fraction", one.fraction}, {"options", one.options}}));
    const auto ranks = evaluate(plan->request, *plan->policy);
    ASSERT_EQ(ranks.size(), plan->ranks.size());
    for (size_t i = 0; i < ranks.size(); ++i) {
      const RankPlan& p = plan->ranks[i];
      EXPECT_TRUE(p.plan.certificate.optimal);
      EXPECT_LE(p.plan.certificate.peak, p.stage.budget);
      EXPECT_EQ(int64_t(ranks[i].peak), p.plan.certificate.peak) << "rank " << i;
      EXPECT_EQ(int64_t(ranks[i].keep_all_peak), p.keep_all_peak);
      EXPECT_EQ(int64_t(ranks[i].offloaded_bytes), p.plan.certificate.link);
      EXPECT_NEAR(ranks[i].replay_seconds + ranks[i].exposed_seconds, p.replay_seconds(),
                  1e-4 * (p.forward_seconds + p.backward_seconds));
    }
  }
}

// Nothing less than a whole layer runs a fused norm again: in plans as in what policies are worth.
TEST(Plan, KeepsNormsThatAreFusedUnlessTheWholeLayerRunsAgain) {
  for (const double fraction : {0.8, 0.5, 0.35, 0.25, 0.2}) {
    SCOPED_TRACE(fraction);
    const auto plan = planned(request("llama3-8b", json::object(),
                                      {{"budget_fraction", fraction},
                                       {"options", {"recompute"}},
                                       {"fused_norm", true},
                                       {"compare", true}}));
    const RankEvaluation worth = evaluate(plan->request, *plan->policy)[0];
    const RankPlan& rank = plan->ranks[0];
    EXPECT_EQ(int64_t(worth.peak), rank.plan.certificate.peak);
    EXPECT_NEAR(worth.replay_seconds, rank.replay_seconds(),
                1e-4 * (rank.forward_seconds + rank.backward_seconds));
    const json report = json::parse(plan->report);
    for (const auto& d : report["ranks"][0]["decisions"])
      if (d["tensor"] == "ln1" || d["tensor"] == "ln2") {
        EXPECT_NE(d["action"], "recompute");
      }
    for (const auto& hand : report["hand_policies"])
      if (hand["fits"].get<bool>()) {
        EXPECT_GE(hand["step_seconds"].get<double>(), report["step_seconds"].get<double>() - 1e-12)
            << hand["flags"];
      }
  }
}

TEST(Plan, PolicySurvivesItsJsonForm) {
  const auto plan = planned(request("llama3-70b", kPipeline, {{"budget_fraction", 0.4}}));
  std::shared_ptr<const Policy> again;
  ASSERT_TRUE(create_policy_json(describe(*plan->policy), &again).ok());
  EXPECT_EQ(again->spec(), plan->policy->spec());
}

// Norms and activations free nine times as much per second as any GEMM; what DeepSeek's authors
// chose by hand (arXiv 2412.19437, section 3.2.1) comes first: norms, MLA up, SwiGLU.
TEST(Plan, RediscoversWhatDeepSeekRecomputes) {
  // The published recompute set saves 42.4 of 131.0 GB.
  const auto plan = planned(request("deepseek-v3", kDeepSeekPipeline,
                                    {{"budget_fraction", 0.72}, {"options", {"recompute"}}}));
  std::set<std::string> dropped;
  const json report = json::parse(plan->report);
  for (const auto& d : report["ranks"][0]["decisions"])
    if (d["action"] == "recompute") dropped.insert(d["kind"].get<std::string>());
  EXPECT_TRUE(dropped.count("attn_norm") && dropped.count("mlp_norm"));
  EXPECT_TRUE(dropped.count("moe_act") && dropped.count("mla_up_proj"));
  for (const char* expensive : {"moe", "expert_fc1", "attn_proj", "core_attn", "mla_down_proj"})
    EXPECT_FALSE(dropped.count(expensive)) << expensive;
}

TEST(Plan, NeverRecomputesFusedAttentionBeforeNormsAndActivations) {
  for (int percent = 95; percent >= 40; percent -= 5) {
    const auto plan =
        planned(request("llama3-8b", json::object(),
                        {{"budget_fraction", percent / 100.0}, {"options", {"recompute"}}}));
    const json report = json::parse(plan->report);
    size_t attention = 0, norms = 0, activations = 0;
    for (const auto& d : report["ranks"][0]["decisions"]) {
      if (d["action"] != "recompute") continue;
      if (d["tensor"] == "attn_out") attention = d["layers"].size();
      if (d["tensor"] == "act") activations = d["layers"].size();
      if (d["tensor"] == "ln1") norms = d["layers"].size();
    }
    if (attention > 1) {
      EXPECT_GE(activations, 31u) << percent;
      EXPECT_GE(norms, 31u) << percent;
    }
  }
}

TEST(Plan, CostsNoMoreWithALargerBudget) {
  double before = 1e9;
  for (int percent = 30; percent <= 100; percent += 5) {
    const auto plan =
        planned(request("llama3-8b", json::object(),
                        {{"budget_fraction", percent / 100.0}, {"time_limit_seconds", 1}}));
    // What is not proven in that time lies this close to its bound.
    EXPECT_LE(plan->ranks[0].replay_seconds(), before * 1.001) << percent;
    before = plan->ranks[0].replay_seconds();
  }
  EXPECT_EQ(before, 0);
}

TEST(Plan, ChunksWithoutLayersAreLegal) {
  const json layout = {{"pipeline_model_parallel_size", 2},
                       {"virtual_pipeline_model_parallel_size", 2},
                       {"layers_per_virtual_stage", {11, 11, 10, 0}}};
  const auto plan =
      planned(request("llama3-8b", layout, {{"budget_fraction", 0.5}, {"options", {"recompute"}}}));
  const auto ranks = evaluate(plan->request, *plan->policy);
  for (size_t i = 0; i < ranks.size(); ++i)
    EXPECT_EQ(int64_t(ranks[i].peak), plan->ranks[i].plan.certificate.peak);
}

TEST(Plan, OffloadsNoMoreThanTheBudgetAsksFor) {
  const auto plan = planned(request("llama3-70b", kPipeline,
                                    {{"budget_bytes", 14'000'000'000}, {"options", {"offload"}}}));
  for (const RankPlan& rank : plan->ranks) {
    EXPECT_LE(rank.plan.certificate.peak, 14'000'000'000);
    EXPECT_GE(rank.plan.certificate.peak, 13'000'000'000);
  }
}

TEST(Plan, MovedBoundariesMakeTheSlowestRankNoSlower) {
  const json layout = {{"pipeline_model_parallel_size", 4}};
  const json more = {{"budget_bytes", 9'000'000'000}, {"options", {"recompute"}}};
  json moving = more;
  moving["move_boundaries"] = true;
  auto slowest = [](const Plan& plan) {
    double most = 0;
    for (const RankPlan& r : plan.ranks)
      most = std::max(most, r.forward_seconds + r.backward_seconds + r.replay_seconds());
    return most;
  };
  json ask = request("", layout, more);
  ask["model"] = {{"base", "llama3-8b"}, {"vocab_size", 0}};  // no head to balance against
  const auto fixed = planned(ask);
  ask.update(moving);
  const auto moved = planned(ask);
  EXPECT_LE(slowest(*moved), slowest(*fixed) + 1e-9);
  size_t layers = 0;
  for (const RankPlan& r : moved->ranks) {
    layers += r.layers[0].size();
    EXPECT_LE(r.plan.certificate.peak, 9'000'000'000);
  }
  EXPECT_EQ(layers, 32u);
}

// Below what single layers need on any ranks, units of layers take over.
TEST(Plan, MovedBoundariesGoBelowSingleLayersToo) {
  const json layout = {{"pipeline_model_parallel_size", 2}};
  json ask = request("", layout, {{"budget_bytes", 1000}, {"options", {"recompute"}}});
  ask["model"] = {{"base", "llama3-70b"}, {"num_layers", 48}, {"vocab_size", 0}};
  std::shared_ptr<const Plan> plan;
  const Status refused = make_plan(read(ask), &plan);
  ASSERT_EQ(refused.code(), RC_E_BUDGET);
  int64_t budget = std::stoll(refused.message().substr(refused.message().rfind(' ')));
  ask["move_boundaries"] = true;
  ask["units"] = false;
  do {
    budget = budget * 97 / 100;
    ask["budget_bytes"] = budget;
  } while (make_plan(read(ask), &plan).code() != RC_E_BUDGET);
  ask["units"] = true;
  const auto moved = planned(ask);
  ASSERT_NE(moved, nullptr);
  size_t units = 0;
  for (const RankPlan& r : moved->ranks) {
    units += r.plan.units.size();
    EXPECT_LE(r.plan.certificate.peak, r.stage.budget);
  }
  EXPECT_GT(units, 0u);
}

TEST(Plan, TooSmallABudgetIsAnsweredWithTheLeastThatWouldDo) {
  const json ask = request("llama3-8b", json::object(), {{"budget_bytes", 1000}});
  std::shared_ptr<const Plan> plan;
  const Status status = make_plan(read(ask), &plan);
  EXPECT_EQ(status.code(), RC_E_BUDGET);
  EXPECT_EQ(status.field(), "/budget_bytes");
  const auto at = status.message().rfind(' ');
  const int64_t least = std::stoll(status.message().substr(at));
  EXPECT_NE(planned(request("llama3-8b", json::object(), {{"budget_bytes", least}})), nullptr);
  EXPECT_EQ(
      make_plan(read(request("llama3-8b", json::object(), {{"budget_bytes", least - 1}})), &plan)
          .code(),
      RC_E_BUDGET);
}

TEST(Plan, NoSettingOfMegatronThatFitsIsFasterThanThePlan) {
  const auto plan = planned(
      request("llama3-70b", kPipeline, {{"budget_bytes", 14'000'000'000}, {"compare", true}}));
  const json report = json::parse(plan->report);
  int fitting = 0;
  for (const auto& hand : report["hand_policies"]) {
    if (!hand["fits"].get<bool>()) continue;
    ++fitting;
    EXPECT_GE(hand["step_seconds"].get<double>(), report["step_seconds"].get<double>() - 1e-12)
        << hand["flags"];
  }
  EXPECT_GT(fitting, 0);
}

PolicySpec frame(const PlanRequest& r, rc_granularity granularity) {
  PolicySpec spec = policy_frame(r);
  spec.granularity = granularity;
  return spec;
}

std::vector<RankEvaluation> evaluated(const PlanRequest& r, const PolicySpec& spec) {
  std::shared_ptr<const Policy> policy;
  const Status status = create_policy(spec, &policy);
  EXPECT_TRUE(status.ok()) << status.message();
  return evaluate(r, *policy);
}

TEST(Evaluation, FullUniformKeepsInputsAndReplaysAllButTheLastGemm) {
  const PlanRequest r = read(request("llama3-8b"));
  PolicySpec spec = frame(r, RC_GRANULARITY_FULL);
  spec.method = RC_METHOD_UNIFORM;
  spec.recompute_num_layers = 1;
  const RankEvaluation e = evaluated(r, spec)[0];
  EXPECT_EQ(e.kept_bytes, 32u * 4096 * 8192);
  EXPECT_NEAR(e.checkpoint_seconds / (3 * e.forward_seconds), 1 / 3.0, 1e-9);
  EXPECT_NEAR(e.replay_seconds / (3 * e.forward_seconds), 0.26, 0.01);
}

TEST(Evaluation, LargerUniformChunksKeepLessAndPeakHigherInBackward) {
  const PlanRequest r = read(request("llama3-8b"));
  PolicySpec spec = frame(r, RC_GRANULARITY_FULL);
  spec.method = RC_METHOD_UNIFORM;
  spec.recompute_num_layers = 1;
  const RankEvaluation one = evaluated(r, spec)[0];
  spec.recompute_num_layers = 4;
  const RankEvaluation four = evaluated(r, spec)[0];
  EXPECT_EQ(four.kept_bytes * 4, one.kept_bytes);
  EXPECT_GT(four.peak, one.peak);
  EXPECT_GT(four.replay_seconds, one.replay_seconds);
  EXPECT_EQ(four.checkpoint_seconds, one.checkpoint_seconds);
}

TEST(Evaluation, CoreAttentionFreesNothingWhereAttentionIsFusedAndCostsTime) {
  const PlanRequest r = read(request("llama3-70b"));
  PolicySpec spec = frame(r, RC_GRANULARITY_SELECTIVE);
  spec.recompute_modules = {"core_attn"};
  const RankEvaluation e = evaluated(r, spec)[0];
  EXPECT_EQ(e.kept_bytes, e.saved_bytes);
  EXPECT_EQ(e.replay_seconds, 0);
  EXPECT_GT(e.checkpoint_seconds, 0.01 * (e.forward_seconds + e.backward_seconds));
}

TEST(Evaluation, CoreAttentionFreesTheScoresOfAnUnfusedGpt) {
  const PlanRequest r = read(
      {{"rcore_plan", 1},
       {"model", "gpt-175b"},
       {"layout",
        {{"tensor_model_parallel_size", 8}, {"sequence_parallel", true}, {"seq_length", 2048}}}});
  PolicySpec spec = frame(r, RC_GRANULARITY_SELECTIVE);
  spec.recompute_modules = {"core_attn"};
  const RankEvaluation e = evaluated(r, spec)[0];
  EXPECT_NEAR(double(e.dropped_bytes) / double(e.saved_bytes), 0.702, 0.001);
}

// Section 5 of arXiv 2205.05198: 2.7 % (GPT-3) and 1.6 % (MT-NLG 530B) more floating-point
// operations for 70 and 65 % of the bytes: (s / 6h) / (1 + s / 6h), its appendix A, which is the
// two matrix products of the scores over one forward pass.
TEST(Evaluation, SelectiveRecomputationOfUnfusedAttentionCostsFewOperations) {
  const struct {
    const char* model;
    double share;
  } cases[] = {{"gpt-175b", 0.0270}, {"gpt-530b", 0.0164}};
  for (const auto& one : cases) {
    const PlanRequest r = read(
        {{"rcore_plan", 1},
         {"model", one.model},
         {"layout",
          {{"tensor_model_parallel_size", 8}, {"sequence_parallel", true}, {"seq_length", 2048}}}});
    const ClassSpec& layer = r.classes[0];
    Work all, again;
    for (const TensorSpec& t : layer.tensors) {
      all += t.tensor.regenerate;
      if (t.tensor.inside == "core_attn") again += t.tensor.regenerate;
    }
    for (const Tail& tail : layer.tails) {
      all += tail.work;
      if (tail.inside == "core_attn") again += tail.work;
    }
    const double flops = all.gemm_flops + all.attention_flops;
    // Megatron's checkpoint runs to its end: scores times values too.
    double values = 0;
    for (const TensorSpec& t : layer.tensors)
      if (t.tensor.kind == "core_attn" && t.tensor.role == RC_ROLE_OUTPUT)
        values += t.tensor.regenerate.gemm_flops + t.tensor.regenerate.attention_flops;
    const double replayed = again.gemm_flops + again.attention_flops;
    EXPECT_NEAR((replayed + values) / flops, one.share, 0.0001)
        << one.model << " " << replayed / flops << " " << values / flops;
  }
}

TEST(Evaluation, LayernormIsANoOpWhereNormsAreFused) {
  const PlanRequest r = read(request("llama3-8b"));
  PolicySpec spec = frame(r, RC_GRANULARITY_SELECTIVE);
  spec.recompute_modules = {"layernorm"};
  EXPECT_NEAR(double(evaluated(r, spec)[0].dropped_bytes) / (32.0 * 4096 * 139264), 0.118, 0.001);
  spec.flags |= RC_POLICY_FUSED_NORM;
  EXPECT_EQ(evaluated(r, spec)[0].dropped_bytes, 0u);
}

TEST(Evaluation, ModulesOfMixturesDropWhatLiesInThem) {
  const PlanRequest r = read(request("deepseek-v3", {{"expert_model_parallel_size", 64}}));
  PolicySpec spec = frame(r, RC_GRANULARITY_SELECTIVE);
  spec.recompute_modules = {"moe"};
  const RankEvaluation moe = evaluated(r, spec)[0];
  EXPECT_EQ(moe.dropped_bytes, 58ull * 4096 * (114688 + 65536 + 32768 + 12288));
  spec.recompute_modules = {"mlp"};
  EXPECT_EQ(evaluated(r, spec)[0].dropped_bytes, 3ull * 4096 * (73728 + 36864));
  spec.recompute_modules = {"mla_up_proj", "moe_act"};
  EXPECT_EQ(evaluated(r, spec)[0].dropped_bytes, 4096ull * (61 * 131072 + 58 * 32768));
}

TEST(Evaluation, OffloadedModulesGiveUpTheirInputs) {
  const PlanRequest r = read(request("llama3-8b"));
  PolicySpec spec = policy_frame(r);
  spec.flags |= RC_POLICY_FINE_GRAINED_OFFLOADING;
  spec.offload_modules = {"core_attn", "attn_proj"};
  const RankEvaluation e = evaluated(r, spec)[0];
  EXPECT_EQ(e.offloaded_bytes, 32ull * 4096 * (12288 + 8192 + 128));
  EXPECT_EQ(e.kept_bytes + e.offloaded_bytes, e.saved_bytes);
}

TEST(PlanRequest, RefusesWhatIsWrongAndNamesIt) {
  const struct {
    json text;
    const char *field, *part;
  } cases[] = {
      {{{"model", "llama3-8b"}}, "/rcore_plan", "missing"},
      {{{"rcore_plan", 2}, {"model", "llama3-8b"}}, "/rcore_plan", "version 1"},
      {request("llama3-9b"), "/model", "did you mean \"llama3-8b\""},
      {request("llama3-8b", {{"tensor_model_parallel", 2}}), "/layout/tensor_model_parallel",
       "did you mean"},
      {request("llama3-8b", {{"tensor_model_parallel_size", 3}}),
       "/layout/tensor_model_parallel_size", "num_attention_heads 32"},
      {request("llama3-8b", {{"pipeline_model_parallel_size", 5}}), "/layout/num_layers", "evenly"},
      {request("llama3-8b", {{"sequence_parallel", true}}), "/layout/sequence_parallel", "is 1"},
      {request("llama3-8b", {{"expert_model_parallel_size", 2}}),
       "/layout/expert_model_parallel_size", "no experts"},
      {request("llama3-8b", json::object(), {{"hardware", "h1000"}}), "/hardware", "h100"},
      {request("llama3-8b", json::object(), {{"budget_fraction", 1.5}}), "/budget_fraction", "1.5"},
      {request("llama3-8b", json::object(), {{"budget_bytes", {1, 2}}}), "/budget_bytes", "2 ent"},
      {request("llama3-8b", json::object(), {{"options", {"discard"}}}), "/options/0", "discard"},
      {{{"rcore_plan", 1}, {"model", {{"hidden_size", 8}}}}, "/model/num_layers", "0"},
      {{{"rcore_plan", 1}}, "/model", "missing"},
      {{{"rcore_plan", 1}, {"model", "llama3-8b"}}, "/layout/seq_length", "0"}};
  for (const auto& one : cases) {
    PlanRequest r;
    const Status status = read_request(one.text.dump(), &r);
    EXPECT_EQ(status.code(), RC_E_ARGUMENT) << one.text;
    EXPECT_EQ(status.field(), one.field) << status.message();
    EXPECT_NE(status.message().find(one.part), std::string::npos) << status.message();
  }
  PlanRequest r;
  EXPECT_NE(read_request("{\"rcore_plan\": 1,\n !}", &r).message().find("line 2"),
            std::string::npos);
}

TEST(PlanRequest, MeasuredTensorsArePlannedInTheHostsWords) {
  const json ask = {{"rcore_plan", 1},
                    {"inventory",
                     {{"num_layers", 4},
                      {"kinds", {{{"name", "mlp_act"}, {"discards_output", true}}}},
                      {"classes",
                       {{{"tensors",
                          {{{"kind", "layer"}, {"slot", "in"}, {"role", "input"}, {"bytes", 100}},
                           {{"kind", "mlp_act"},
                            {"slot", "out"},
                            {"role", "output"},
                            {"bytes", 400},
                            {"recompute_seconds", 1e-4}},
                           {{"kind", "core_attn"},
                            {"slot", "probs"},
                            {"bytes", 300},
                            {"recompute_seconds", 1e-3}}}}}}}}},
                    {"budget_bytes", 2400},
                    {"options", {"recompute"}}};
  const auto plan = planned(ask);
  // 3200 in all: two activations go, of the earliest layers: later ones are gone before their
  // replay.
  EXPECT_NEAR(plan->ranks[0].replay_seconds(), 2e-4, 1e-9);
  int recomputed = 0;
  for (uint32_t layer = 0; layer < 4; ++layer) {
    const Decision d = plan->policy->decide({.kind = "mlp_act", .layer = layer},
                                            {.name = "out", .role = RC_ROLE_OUTPUT});
    recomputed += d.action == RC_ACTION_RECOMPUTE;
    EXPECT_EQ(plan->policy
                  ->decide({.kind = "core_attn", .layer = layer},
                           {.name = "probs", .role = RC_ROLE_SAVED})
                  .action,
              RC_ACTION_KEEP);
  }
  EXPECT_EQ(recomputed, 2);
}

TEST(PlanRequest, EveryExampleOfTheDocumentIsPlanned) {
  std::ifstream file(RC_PLAN_JSON_MD);
  std::stringstream text;
  text << file.rdbuf();
  std::string all = text.str();
  int examples = 0;
  for (size_t at = all.find("```json"); at != std::string::npos; at = all.find("```json", at)) {
    const size_t begin = at + 7, end = all.find("```", begin);
    PlanRequest r;
    const Status status = read_request(all.substr(begin, end - begin), &r);
    EXPECT_TRUE(status.ok()) << status.field() << " " << status.message();
    std::shared_ptr<const Plan> plan;
    const Status made = make_plan(r, &plan);
    EXPECT_TRUE(made.ok()) << made.message();
    ++examples;
    at = end + 3;
  }
  EXPECT_EQ(examples, 3);
}

}  // namespace
}  // namespace rc::plan
