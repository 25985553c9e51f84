// src/plan/solve.h: the least-cost plan of a stage that fits its budget, with a proof.
//
// Rows (src/plan/counts.h) are added as the best plan so far breaks them: the first plan that
// breaks none is optimal, since every plan before it was optimal under fewer rows. Where offload is
// free inside its window, memory and link are one capacity and at most one tensor is cut between
// them. Where no plan layer by layer fits, units of layers (src/plan/units.h) take over.
#pragma once

#include "src/plan/problem.h"
#include "src/status.h"

namespace rc {

// Fails (RC_E_ARGUMENT) only for a stage that is ill-formed; a budget that is too small is
// PlanVerdict::kInfeasible with the minimum that would do. Pure; thread-safe.
Status solve_stage(const PlanStage& stage, const PlanOptions& options, StagePlan* plan);

}  // namespace rc
