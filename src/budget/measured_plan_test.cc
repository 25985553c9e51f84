// src/budget/measured_plan_test.cc: plans from a profiled step fit what they are asked to fit, to
// the byte, and cost no more than any setting that a user would write by hand.
#include <nlohmann/json.hpp>

#include "src/budget/testing_report.h"
#include "src/region/testing_model.h"

namespace rc::testing {
namespace {

using Json = nlohmann::json;

constexpr uint32_t kLayers = 5;

struct Job {
  explicit Job(uint32_t microbatches = 2, ModelSizes sizes = {})
      : model(host, kLayers, sizes), n(microbatches) {}
  rc_step_report step(rc_flags flags = 0) {
    rc_step* step = host.step(RC_PHASE_FORWARD, flags);
    for (uint32_t mb = 0; mb < n; ++mb) model.forward(step, mb, static_cast<int>(mb));
    for (uint32_t mb = 0; mb < n; ++mb) model.backward(mb);
    return host.end_step(step);
  }
  rc_plan_budget bytes(uint64_t bytes) {
    rc_plan_budget budget = rc_plan_budget_init();
    budget.bytes = bytes;
    return budget;
  }
  rc_plan* plan(uint64_t budget) {
    rc_plan* out = nullptr;
    const rc_plan_budget b = bytes(budget);
    EXPECT_EQ(rc_plan_measured(host.context, &b, &out), RC_OK) << last_message();
    return out;
  }
  void adopt(const rc_plan* plan) {
    rc_policy* policy = nullptr;
    ASSERT_EQ(rc_plan_policy(plan, &policy), RC_OK);
    EXPECT_EQ(rc_context_configure(host.context, policy), RC_OK);
    rc_policy_release(policy);
  }
  Json ends() {
    rc_plan* all = plan(uint64_t{1} << 40);
    const Json json = report(all);
    rc_plan_release(all);
    return json;
  }
  Host host;
  Model model;
  uint32_t n;
};

class MeasuredPlan : public ::testing::TestWithParam<uint32_t> {};  // microbatches

TEST_P(MeasuredPlan, HoldsToTheByteWhatItPredictsAtTenBudgets) {
  Job job(GetParam());
  job.step(RC_STEP_PROFILE);
  const Json ends = job.ends();
  const uint64_t least = ends["least_budget_bytes"], all = ends["keep_all_peak_bytes"];
  EXPECT_EQ(ends["replay_seconds"], 0.0);
  EXPECT_EQ(ends["predicted_peak_bytes"], all);
  ASSERT_LT(least, all / 2);
  std::vector<rc_plan*> plans;
  for (uint64_t i = 0; i < 10; ++i) plans.push_back(job.plan(least + (all - least) * i / 9));
  for (uint64_t i = 0; i < 10; ++i) {
    const uint64_t budget = least + (all - least) * i / 9;
    SCOPED_TRACE(budget);
    const Json json = report(plans[i]);
    EXPECT_EQ(json["budget_bytes"], budget);
    EXPECT_LE(json["predicted_peak_bytes"], budget);
    if (json.contains("certificate")) {
      const Json& certificate = json["certificate"];
      EXPECT_TRUE(certificate["optimal"]);
      EXPECT_EQ(certificate["proven_lower_bound_ns"], certificate["objective_ns"]);
    }
    for (const Json& hand : json["hand_policies"])
      if (hand["peak_bytes"] <= budget) {
        EXPECT_LE(json["replay_seconds"], hand["replay_seconds"]) << hand.dump();
      }
    job.adopt(plans[i]);
    rc_plan_release(plans[i]);
    for (int k = 0; k < 2; ++k) {
      const rc_step_report measured = job.step();  // backward compares every byte with its forward
      EXPECT_EQ(measured.peak_bytes, json["predicted_peak_bytes"]);
      EXPECT_EQ(measured.replays, json["replays"]);
    }
  }
  EXPECT_EQ(job.host.live(), 0u);
}

TEST_P(MeasuredPlan, NamesTheLeastThatWouldDoAndDoesWithThat) {
  Job job(GetParam());
  job.step(RC_STEP_PROFILE);
  const uint64_t least = job.ends()["least_budget_bytes"];
  for (const uint64_t budget : {uint64_t{1}, least / 2, least - 1}) {
    rc_plan* plan = reinterpret_cast<rc_plan*>(&job);
    const rc_plan_budget b = job.bytes(budget);
    EXPECT_EQ(rc_plan_measured(job.host.context, &b, &plan), RC_E_BUDGET);
    EXPECT_EQ(plan, nullptr);
    EXPECT_NE(last_message().find("least that would do is " + std::to_string(least)),
              std::string::npos)
        << last_message();
  }
  rc_plan* plan = job.plan(least);
  job.adopt(plan);
  EXPECT_EQ(job.step().peak_bytes, report(plan)["predicted_peak_bytes"]);
  rc_plan_release(plan);
}
INSTANTIATE_TEST_SUITE_P(Microbatches, MeasuredPlan, ::testing::Values(1u, 2u, 4u));

TEST(MeasuredPlanOf, AStepThatRecomputedMuchPlansWhatKeepsMore) {
  Job job;
  job.host.full(RC_METHOD_UNIFORM, 1, kLayers);
  const rc_step_report full = job.step();
  job.step(RC_STEP_PROFILE);
  const Json ends = job.ends();
  rc_plan* plan = job.plan(ends["keep_all_peak_bytes"].get<uint64_t>() * 3 / 4);
  const Json json = report(plan);
  job.adopt(plan);
  rc_plan_release(plan);
  const rc_step_report now = job.step();
  EXPECT_EQ(now.peak_bytes, json["predicted_peak_bytes"]);
  EXPECT_GT(now.peak_bytes, full.peak_bytes);
  EXPECT_EQ(json["policy"].value("recompute_granularity", Json()), Json());
}

TEST(MeasuredPlanOf, AFractionIsOfWhatKeepingEverythingTakes) {
  Job job;
  job.step(RC_STEP_PROFILE);
  const uint64_t all = job.ends()["keep_all_peak_bytes"];
  rc_plan_budget budget = rc_plan_budget_init();
  budget.fraction = 0.5;
  rc_plan* plan = nullptr;
  ASSERT_EQ(rc_plan_measured(job.host.context, &budget, &plan), RC_OK) << last_message();
  EXPECT_EQ(report(plan)["budget_bytes"], all / 2);
  rc_plan_release(plan);
}

TEST(MeasuredPlanOf, NeedsAFinishedProfiledStep) {
  Job job;
  rc_plan* plan = nullptr;
  const rc_plan_budget budget = job.bytes(1000);
  EXPECT_EQ(rc_plan_measured(job.host.context, &budget, &plan), RC_E_STATE);
  job.step(RC_STEP_LOG);
  EXPECT_EQ(rc_plan_measured(job.host.context, &budget, &plan), RC_E_STATE);
  rc_step* open = job.host.step(RC_PHASE_FORWARD, RC_STEP_PROFILE);
  EXPECT_EQ(rc_plan_measured(job.host.context, &budget, &plan), RC_E_STATE);
  job.host.end_step(open);
}

TEST(MeasuredPlanOf, AnEmptyStepKeepsEverything) {
  Job job;
  job.host.end_step(job.host.step(RC_PHASE_FORWARD, RC_STEP_PROFILE));
  rc_plan* plan = job.plan(1);
  EXPECT_EQ(report(plan)["predicted_peak_bytes"], 0);
  rc_plan_release(plan);
}

TEST(MeasuredPlanOf, ABadBudgetIsNamedWithItsField) {
  Job job;
  job.step(RC_STEP_PROFILE);
  const auto field = [&](uint64_t bytes, double fraction, double seconds) {
    rc_plan_budget budget = job.bytes(bytes);
    budget.fraction = fraction;
    budget.time_limit_seconds = seconds;
    rc_plan* plan = nullptr;
    EXPECT_EQ(rc_plan_measured(job.host.context, &budget, &plan), RC_E_ARGUMENT);
    return std::string(last_error().field);
  };
  EXPECT_EQ(field(0, 0, 0), "budget.bytes");
  EXPECT_EQ(field(1000, 0.5, 0), "budget.bytes");
  EXPECT_EQ(field(0, 1.5, 0), "budget.fraction");
  EXPECT_EQ(field(0, -0.1, 0), "budget.fraction");
  EXPECT_EQ(field(0, std::nan(""), 0), "budget.fraction");
  EXPECT_EQ(field(1000, 0, -1), "budget.time_limit_seconds");
  EXPECT_EQ(field(1000, 0, std::nan("")), "budget.time_limit_seconds");
  rc_plan* plan = nullptr;
  EXPECT_EQ(rc_plan_measured(job.host.context, nullptr, &plan), RC_E_ARGUMENT);
  EXPECT_EQ(rc_plan_measured(nullptr, nullptr, &plan), RC_E_HANDLE);
}

// Where little time is left the hand-written settings still are there.
TEST(MeasuredPlanOf, ATimeLimitLeavesAPlanThatFits) {
  Job job;
  job.step(RC_STEP_PROFILE);
  const Json ends = job.ends();
  rc_plan_budget budget = job.bytes(ends["keep_all_peak_bytes"].get<uint64_t>() / 2);
  budget.time_limit_seconds = 1e-6;
  rc_plan* plan = nullptr;
  const rc_status status = rc_plan_measured(job.host.context, &budget, &plan);
  ASSERT_EQ(status, RC_OK) << last_message();
  EXPECT_LE(report(plan)["predicted_peak_bytes"], budget.bytes);
  rc_plan_release(plan);
}

}  // namespace
}  // namespace rc::testing
