// src/plan/request.h: PlanRequest, what a caller asks of the planner: a model and a layout, or
// measured tensors; a device; a budget; what may be done.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/plan/device_profile.h"
#include "src/plan/problem.h"
#include "src/policy/policy_spec.h"

namespace rc::plan {

// A tensor, or several that share one decision, with what each option takes.
struct TensorSpec {
  SavedTensor tensor;                   // bytes with those of its statistics
  std::vector<SavedTensor> statistics;  // dropped and moved with it
  double recompute_seconds = 0;
  double offload_seconds = 0;  // exposed, beyond the hidden copy
  int32_t moment = kEveryMoment;
};

// Layers that are alike.
struct ClassSpec {
  std::string name;
  std::vector<TensorSpec> tensors;
  std::vector<Tail> tails;
  std::vector<int64_t> moments = {0};
  double forward_seconds = 0, backward_seconds = 0;
  double tail_seconds = 0;  // of running it to its end, beyond regenerating its tensors
  uint64_t published_bytes = 0, gradient_bytes = 0, state_bytes = 0;
};

struct PlanRequest {
  Architecture model;  // name and num_layers only, where the tensors are measured
  Layout layout;
  DeviceProfile device;
  bool measured = false;
  std::vector<ClassSpec> classes;
  std::vector<int32_t> layer_class;  // per global layer
  std::vector<KindSpec> kinds;       // what the policy must declare

  std::vector<uint64_t> budget_bytes;  // one for all ranks, or one each
  uint64_t memory_bytes = 0;           // instead: with weights, gradients and optimizer
  bool move_boundaries = false;        // layers may change ranks
  double budget_fraction = 0;          // of what keeping everything takes; 0: budget_bytes says
  std::array<bool, kPlanOptions> allowed = {true, true, true, true, false};
  bool token_split = false;
  bool units = true;  // several layers run again from one input, where nothing else fits
  bool gradient_workspace = true;
  uint64_t workspace_bytes = 0;
  int64_t host_bytes = -1;
  uint64_t min_offload_bytes = 1 << 20;
  uint32_t tail_margin = 1;
  double time_limit = 10;
  bool compare = false;     // with Megatron's own settings, in the report
  bool fused_norm = false;  // norms run inside the linear behind them
  StageLayout stages;

  bool allows(PlanOption option) const { return allowed[static_cast<size_t>(option)]; }
  bool has_budget() const { return budget_fraction > 0 || !budget_bytes.empty(); }
};

// From the form that PLAN_JSON.md beside the public header documents. Errors carry the JSON
// pointer, or line and column.
Status read_request(std::string_view text, PlanRequest* out);

// The classes of a model under a layout and a device.
void make_classes(PlanRequest* request);

}  // namespace rc::plan
