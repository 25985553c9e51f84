// src/plan/pipeline.h: movable stage boundaries: which layers each stage gets, and its plan.
//
// The slowest stage's forward + backward + recomputation paces 1F1B, so that is what is minimized:
//   best(s, i) = min over j of max(best(s - 1, j), cost_s(j .. i))
// over exact stage plans (the outer dynamic program of AdaPipe, ASPLOS 2024). Segments that cannot
// beat the best split known, by their compute alone, are never planned; equal ones once. Units of
// layers are planned where no boundaries have a plan layer by layer.
#pragma once

#include "src/plan/problem.h"
#include "src/status.h"

namespace rc {

// Fails (RC_E_ARGUMENT) for a pipeline that is ill-formed. One chunk a stage. Pure; thread-safe.
Status solve_pipeline(const PlanPipeline& pipeline, const PlanOptions& options, PipelinePlan* plan);

// The stage's problem for the layers [first, last) of the pipeline.
PlanStage pipeline_stage(const PlanPipeline& pipeline, int32_t stage, int32_t first, int32_t last);

}  // namespace rc
