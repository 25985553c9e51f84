// src/budget/measured_pipeline_test.cc: measured plans of a pipeline stage: several microbatches in
// flight in 1F1B order, and virtual chunks interleaved.
#include <nlohmann/json.hpp>

#include "src/budget/testing_report.h"
#include "src/plan/schedule.h"
#include "src/region/testing_model.h"

namespace rc::testing {
namespace {

using Json = nlohmann::json;

struct Layout {
  int32_t stages = 1, stage = 0, chunks = 1, microbatches = 1;
  uint32_t chunk_layers = 4;
};

std::ostream& operator<<(std::ostream& out, const Layout& l) {
  return out << l.stages << " stages, stage " << l.stage << ", " << l.chunks << " chunks of "
             << l.chunk_layers << " layers, " << l.microbatches << " microbatches";
}

// The host of one stage: its chunks are chunk_layers layers each, numbered as the whole model's.
struct Stage {
  explicit Stage(const Layout& layout, ModelSizes sizes = {})
      : layout(layout),
        host(RC_CONTEXT_NO_ARENA),
        model(host, layout.chunk_layers * uint32_t(layout.chunks), sizes, layout.chunk_layers,
              layout.chunk_layers * uint32_t(layout.stages)),
        passes(pipeline_passes(layout.stages, layout.stage, layout.chunks, layout.microbatches)) {
    rc_policy_desc desc = rc_policy_desc_init();
    desc.pp_size = uint32_t(layout.stages);
    desc.pp_rank = uint32_t(layout.stage);
    desc.vpp_size = uint32_t(layout.chunks);
    desc.num_layers = layout.chunk_layers * uint32_t(layout.stages * layout.chunks);
    host.configure(desc);
  }

  rc_step_report step(rc_flags flags = 0) {
    rc_step* step = host.step(RC_PHASE_FORWARD, flags);
    for (const PipelinePass& pass : passes) {
      const uint32_t chunk = uint32_t(pass.chunk), microbatch = uint32_t(pass.microbatch);
      if (pass.backward)
        model.backward_chunk(chunk, microbatch);
      else
        model.forward_chunk(step, chunk, microbatch, int(chunk * 100 + microbatch));
    }
    return host.end_step(step);
  }

  rc_plan* plan(uint64_t bytes) {
    rc_plan* out = nullptr;
    rc_plan_budget budget = rc_plan_budget_init();
    budget.bytes = bytes;
    EXPECT_EQ(rc_plan_measured(host.context, &budget, &out), RC_OK) << last_message();
    return out;
  }

  void adopt(const rc_plan* plan) {
    rc_policy* policy = nullptr;
    ASSERT_EQ(rc_plan_policy(plan, &policy), RC_OK);
    EXPECT_EQ(rc_context_configure(host.context, policy), RC_OK) << last_message();
    rc_policy_release(policy);
  }

  Layout layout;
  Host host;
  Model model;
  std::vector<PipelinePass> passes;
};

class MeasuredPipeline : public ::testing::TestWithParam<Layout> {};

TEST_P(MeasuredPipeline, HoldsToTheByteWhatItPredictsAtTenBudgets) {
  Stage stage(GetParam());
  stage.step(RC_STEP_PROFILE);
  rc_plan* keep = stage.plan(uint64_t{1} << 40);
  const Json ends = report(keep);
  rc_plan_release(keep);
  const uint64_t least = ends["least_budget_bytes"], all = ends["keep_all_peak_bytes"];
  EXPECT_EQ(ends["predicted_peak_bytes"], all);
  ASSERT_LT(least, all);
  std::vector<rc_plan*> plans;
  for (uint64_t i = 0; i < 10; ++i) plans.push_back(stage.plan(least + (all - least) * i / 9));
  std::vector<double> cost;
  for (uint64_t i = 0; i < 10; ++i) {
    const uint64_t budget = least + (all - least) * i / 9;
    SCOPED_TRACE(budget);
    const Json json = report(plans[i]);
    EXPECT_LE(json["predicted_peak_bytes"], budget);
    for (const Json& hand : json["hand_policies"])
      if (hand["peak_bytes"] <= budget) {
        EXPECT_LE(json["replay_seconds"], hand["replay_seconds"]) << hand.dump();
      }
    stage.adopt(plans[i]);
    rc_plan_release(plans[i]);
    const rc_step_report measured = stage.step();  // backward compares every byte
    EXPECT_EQ(measured.peak_bytes, json["predicted_peak_bytes"]);
    EXPECT_EQ(measured.replays, json["replays"]);
    cost.push_back(json["replay_seconds"]);
  }
  // A model that took no account of the chunks kept far more than needed at small budgets.
  for (size_t i = 1; i < cost.size(); ++i) EXPECT_LT(cost[i], cost[i - 1]) << i;
  EXPECT_EQ(stage.host.live(), 0u);
}
INSTANTIATE_TEST_SUITE_P(Layouts, MeasuredPipeline,
                         ::testing::Values(Layout{4, 0, 1, 8}, Layout{4, 2, 1, 6},
                                           Layout{4, 3, 1, 4}, Layout{2, 0, 2, 4, 3},
                                           Layout{2, 1, 2, 4, 3}, Layout{3, 0, 3, 6, 2}));

}  // namespace
}  // namespace rc::testing
