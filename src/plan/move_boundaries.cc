// src/plan/move_boundaries.cc: the layers of each rank chosen together with what they do.
#include "src/plan/pipeline.h"
#include "src/plan/plan.h"
#include "src/plan/stage_problem.h"

namespace rc::plan {
namespace {

// The head's GEMM, forward and twice backward, on the last rank.
int64_t head_cost(const PlanRequest& r) {
  if (r.measured) return 0;
  const double flops =
      2.0 * double(r.layout.tokens()) * r.model.hidden * r.model.vocab / double(r.layout.tp);
  return picoseconds(3 * seconds({.gemm_flops = flops, .kernels = 1}, r.device));
}

PlanPipeline make_pipeline(const PlanRequest& r) {
  PlanPipeline p;
  const PlanStage any = make_stage(r, 0);
  p.classes.assign(any.classes.begin(), any.classes.begin() + int64_t(r.classes.size()));
  p.layers = r.layer_class;
  p.stages = int32_t(r.layout.pp);
  p.microbatches = int32_t(std::min(r.layout.step_microbatches(), 4 * r.layout.pp));
  p.link_rate = r.allows(PlanOption::kOffload) ? host_rate(r.device) : 0;
  p.host_bytes = r.host_bytes;
  p.min_offload_bytes = int64_t(r.min_offload_bytes);
  p.tail_margin = int32_t(r.tail_margin);
  p.allow_units = any.allow_units;
  for (uint32_t rank = 0; rank < r.layout.pp; ++rank) {
    const PlanStage stage = make_stage(r, rank);
    int64_t own = 0;  // what the rank's layers weigh, which moves with them
    for (const auto& chunk : layers_of(r, rank))
      for (const uint32_t layer : chunk)
        own += int64_t(r.classes[size_t(r.layer_class[layer])].state_bytes);
    p.device_bytes.push_back(stage.budget + (r.memory_bytes > 0 ? own : 0));
    p.extra_bytes.push_back(stage.fixed_bytes);
    p.extra_cost.push_back(rank + 1 == r.layout.pp ? head_cost(r) : 0);
  }
  if (r.memory_bytes == 0)
    for (PlanLayerClass& c : p.classes) c.state_bytes = 0;
  return p;
}

}  // namespace

Status move_boundaries(PlanRequest* r) {
  PipelinePlan plan;
  RC_TRY(solve_pipeline(make_pipeline(*r), {.time_limit = r->time_limit}, &plan));
  if (plan.verdict != PlanVerdict::kSolved) {
    return Status(RC_E_BUDGET, "/move_boundaries",
                  "no way to spread the layers over the ranks fits their budgets");
  }
  std::vector<uint32_t> layers;
  for (size_t s = 0; s < plan.first_layer.size(); ++s) {
    const bool last = s + 1 == plan.first_layer.size();
    const auto end = last ? int32_t(r->model.num_layers) : plan.first_layer[s + 1];
    layers.push_back(uint32_t(end - plan.first_layer[s]));
  }
  r->layout.first_stage_layers = r->layout.last_stage_layers = 0;
  r->layout.layers_per_virtual_stage = std::move(layers);
  return make_stages(r->layout, r->model, &r->stages);
}

}  // namespace rc::plan
