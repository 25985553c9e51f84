// src/plan/stage_rules.h: what a well-formed PlanStage is.
#pragma once

#include "src/plan/problem.h"
#include "src/status.h"

namespace rc {

// RC_E_ARGUMENT with the field ("classes[1].items[3].choices[0].kept_bytes"), its value and the
// limit where the stage is not one that can be planned.
Status check_stage(const PlanStage& stage);

}  // namespace rc
