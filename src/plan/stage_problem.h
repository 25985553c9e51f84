// src/plan/stage_problem.h: the planner's input for one pipeline rank, from a request.
#pragma once

#include "src/plan/problem.h"
#include "src/plan/request.h"
#include "src/plan/schedule.h"

namespace rc::plan {

// The global layers of each chunk of a rank, in forward order.
std::vector<std::vector<uint32_t>> layers_of(const PlanRequest& request, uint32_t rank);
// Bytes on a rank that no layer's decision changes: the embedding's mask for every microbatch held,
// what the head saves, the request's workspace.
uint64_t fixed_bytes(const PlanRequest& request, uint32_t rank);
// How long a copy to the host may take unseen: in a pipeline the forward and backward of one
// microbatch, else its forward alone.
double link_window_seconds(const PlanRequest& request, uint32_t rank);
int64_t picoseconds(double seconds);
// What a tensor costs that is kept elsewhere or packed: offload, shard or compress.
double storing_seconds(const PlanRequest& request, const TensorSpec& spec, PlanOption option);
// The passes of a rank in a step, long ones cut where nothing new comes.
std::vector<PipelinePass> scheduled_passes(const PlanRequest& request, uint32_t rank);
// Weights, gradients and optimizer of a rank: its layers, and on the outer ranks the embedding.
uint64_t state_of_rank(const PlanRequest& request, uint32_t rank);

// A norm whose output the linear behind it makes for itself where norms are fused: no module of its
// own, so that nothing less than its whole layer can run it again.
bool is_fusible_norm(const PlanRequest& request, const ClassSpec& of, const SavedTensor& tensor);

// With the budget of the rank; `fraction` of keeping everything where the request says so.
PlanStage make_stage(const PlanRequest& request, uint32_t rank);
// The peak where everything is kept.
int64_t keep_all_peak(const PlanStage& stage);

}  // namespace rc::plan
