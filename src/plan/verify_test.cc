// src/plan/verify_test.cc: what is handed out was checked, and below single layers it has units.
#include <gtest/gtest.h>

#include <array>
#include <nlohmann/json.hpp>

#include "src/plan/plan.h"
#include "src/plan/request_fixture.h"
#include "src/testing/effort.h"

namespace rc::plan {
namespace {

// What is handed out passed a checker and a run; here is what does not.
TEST(Plan, AWrongPlanIsRefusedBeforeItIsHandedOut) {
  const auto plan = planned(
      request("llama3-70b", kPipeline, {{"budget_fraction", 0.5}, {"options", {"recompute"}}}));
  const json report = json::parse(plan->report);
  for (uint32_t rank = 0; rank < plan->ranks.size(); ++rank) {
    const RankPlan& good = plan->ranks[rank];
    EXPECT_TRUE(good.bound_proven);
    EXPECT_EQ(report["ranks"][rank]["certificate"]["checked"],
              json({{"figures", true}, {"simulated", true}, {"bound", true}}));
    const auto refused = [&](auto spoil) {
      RankPlan wrong = good;
      spoil(wrong);
      return verify_rank(plan->request, rank, &wrong).code() == RC_E_INTERNAL;
    };
    EXPECT_FALSE(refused([](RankPlan&) {}));
    EXPECT_TRUE(refused([](RankPlan& p) { p.plan.certificate.objective -= 1; }));
    EXPECT_TRUE(refused([](RankPlan& p) { p.plan.certificate.peak -= 1; }));
    EXPECT_TRUE(refused([](RankPlan& p) { p.plan.certificate.kept[0] += 1; }));
    EXPECT_TRUE(refused([](RankPlan& p) { p.plan.certificate.lower_bound += 1; }));
    EXPECT_TRUE(refused([](RankPlan& p) { p.stage.budget = p.plan.certificate.peak - 1; }));
    EXPECT_TRUE(refused([](RankPlan& p) {
      uint8_t& one = p.plan.choice[0][0][1];
      one = one == 0 ? 1 : 0;
    }));
    // A bound that is too good for its own proof.
    RankPlan boast = good;
    PlanCertificate& c = boast.plan.certificate;
    if (c.objective == 0) continue;
    for (PlanItem& item : boast.stage.classes[0].items)
      for (PlanChoice& choice : item.choices) choice.cost *= 2;
    c.objective *= 2;
    c.lower_bound = c.objective;
    boast.stage.budget += boast.keep_all_peak / 10;
    EXPECT_TRUE(verify_rank(plan->request, rank, &boast).ok());
    EXPECT_FALSE(boast.bound_proven);
  }
}

// Keep, recompute, offload, split and compress at once: proven on every rank, and checked.
TEST(Plan, EveryOptionTogetherIsProvenOnEveryRank) {
  const struct {
    const char* model;
    json layout;
  } cases[] = {
      {"llama3-8b", json::object()},
      {"llama3-8b", {{"pipeline_model_parallel_size", 4}}},
      {"llama3-70b", kPipeline},
      {"gpt-175b", {{"tensor_model_parallel_size", 8}, {"pipeline_model_parallel_size", 8}}},
      {"mixtral-8x7b", {{"expert_model_parallel_size", 8}, {"pipeline_model_parallel_size", 4}}},
      {"deepseek-v3", {{"expert_model_parallel_size", 64}}}};
  int solved = 0;
  for (const auto& one : cases) {
    for (int i = 0; i < 12; i += testing::rounds(12) == 12 ? 1 : 5) {
      const double fraction = std::array{0.1, 0.2, 0.3, 0.5, 0.7, 0.8}[size_t(i / 2)];
      const bool token_split = i % 2 == 1;
      SCOPED_TRACE(one.model + std::string(" ") + std::to_string(fraction) +
                   (token_split ? " with token cuts" : ""));
      const json ask = request(one.model, one.layout,
                               {{"budget_fraction", fraction},
                                {"options", {"recompute", "offload", "split", "compress"}},
                                {"token_split", token_split}});
      std::shared_ptr<const Plan> plan;
      const Status made = make_plan(read(ask), &plan);
      if (made.code() == RC_E_BUDGET) continue;
      ASSERT_NE(plan, nullptr);
      for (const RankPlan& rank : plan->ranks) {
        EXPECT_TRUE(rank.plan.certificate.optimal);
        EXPECT_TRUE(rank.bound_proven);
        ++solved;
      }
    }
  }
  EXPECT_GT(solved, testing::rounds(120));
}

// Copies of one price in virtual chunks that hold different numbers of microbatches: no search
// proves them, but all have a plan that is known to be nearly the best.
TEST(Plan, VirtualChunksThatOffloadHaveAPlanCloseToTheBest) {
  for (const double fraction : {0.3, 0.5, 0.7, 0.9}) {
    if (testing::rounds(12) < 12 && fraction != 0.5) continue;
    SCOPED_TRACE(fraction);
    const auto plan = planned(request("deepseek-v3", kDeepSeekPipeline,
                                      {{"budget_fraction", fraction},
                                       {"options", {"recompute", "offload"}},
                                       {"time_limit_seconds", 2}}));
    ASSERT_NE(plan, nullptr);
    for (const RankPlan& rank : plan->ranks) {
      const PlanCertificate& c = rank.plan.certificate;
      const double step = rank.forward_seconds + rank.backward_seconds;
      EXPECT_LT(double(c.objective - c.lower_bound) * 1e-12, 3e-4 * step);
    }
  }
}

// A tensor of few bytes per token is not cut where its share of a rank is no whole number of them.
TEST(Plan, TokenCutsLeaveWholeWhatTheirRowsDoNotDivide) {
  for (const char* option : {"split", "compress"}) {
    const auto plan = planned(request(
        "llama3-70b", {{"tensor_model_parallel_size", 8}, {"pipeline_model_parallel_size", 4}},
        {{"budget_fraction", 0.6}, {"options", {"recompute", option}}, {"token_split", true}}));
    ASSERT_NE(plan, nullptr) << option;
    for (const RankPlan& rank : plan->ranks) EXPECT_TRUE(rank.plan.certificate.optimal) << option;
  }
}

// Below what single layers need: units of layers, as a policy can carry them out.
TEST(Plan, UnitsOfLayersTakeOverBelowTheLeastOfSingleLayers) {
  const struct {
    const char* model;
    json layout;
    std::vector<const char*> options;
  } cases[] = {{"llama3-70b",
                {{"tensor_model_parallel_size", 8}, {"sequence_parallel", true}},
                {"recompute"}},
               {"llama3-70b", kPipeline, {"recompute"}},
               {"llama3-8b", {{"pipeline_model_parallel_size", 4}}, {"recompute"}},
               {"mixtral-8x7b",
                {{"expert_model_parallel_size", 8}, {"pipeline_model_parallel_size", 4}},
                {"recompute"}},
               {"gpt-175b",
                {{"tensor_model_parallel_size", 8}, {"pipeline_model_parallel_size", 8}},
                {"recompute"}}};
  const auto least_of = [](json ask) {
    ask["budget_bytes"] = 1000;
    std::shared_ptr<const Plan> none;
    const std::string message = make_plan(read(ask), &none).message();
    return std::stoll(message.substr(message.rfind(' ')));
  };
  int with_units = 0;
  for (const auto& one : cases) {
    SCOPED_TRACE(one.model);
    json ask = request(one.model, one.layout, {{"options", one.options}});
    json single = ask;
    single["units"] = false;
    const int64_t least = least_of(ask), least_single = least_of(single);
    EXPECT_LE(least, least_single);
    if (least == least_single) continue;
    for (const int64_t budget : {least, (least + least_single) / 2}) {
      ask["budget_bytes"] = single["budget_bytes"] = budget;
      std::shared_ptr<const Plan> none;
      EXPECT_EQ(make_plan(read(single), &none).code(), RC_E_BUDGET);
      const auto plan = planned(ask);
      const json report = json::parse(plan->report);
      std::shared_ptr<const Policy> again;
      ASSERT_TRUE(create_policy_json(describe(*plan->policy), &again).ok());
      const auto ranks = evaluate(plan->request, *again);
      for (size_t i = 0; i < ranks.size(); ++i) {
        const RankPlan& p = plan->ranks[i];
        EXPECT_TRUE(p.plan.certificate.optimal) << i;
        EXPECT_LE(p.plan.certificate.peak, budget);
        EXPECT_EQ(int64_t(ranks[i].peak), p.plan.certificate.peak) << i;
        EXPECT_NEAR(ranks[i].replay_seconds, p.replay_seconds(),
                    1e-4 * (p.forward_seconds + p.backward_seconds));
        if (p.plan.units.empty()) continue;
        ++with_units;
        EXPECT_EQ(report["ranks"][i]["regime"], "units");
        const PlanUnit& unit = p.plan.units[0];
        const uint32_t layer = p.layers[size_t(unit.chunk)][size_t(unit.first)];
        const Decision d = again->decide({.kind = "layer", .layer = layer + 1},
                                         {.name = "x", .role = RC_ROLE_INPUT});
        EXPECT_EQ(d.action, RC_ACTION_RECOMPUTE);
        EXPECT_EQ(d.first_layer, layer);
        EXPECT_EQ(d.n_layers, uint32_t(unit.layers));
      }
    }
  }
  EXPECT_GT(with_units, 3);
}

}  // namespace
}  // namespace rc::plan
