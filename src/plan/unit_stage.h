// src/plan/unit_stage.h: units of layers written into a stage, so that what knows layers knows
// them.
//
// Backward of a unit runs all its layers again from the input of the first, the last one up to the
// last tensor it saves, and holds what that gives until each layer's backward is done. In the
// expanded stage a layer of a unit has one choice for every tensor; what earlier layers of its unit
// hold meanwhile counts among its moments.
#pragma once

#include <cstdint>

#include "src/plan/problem.h"

namespace rc {

struct UnitView {
  PlanStage stage;
  StagePlan plan;  // the same plan, without units
};

// plan is well formed; a plan without units comes back as it is.
UnitView expand_units(const PlanStage& stage, const StagePlan& plan);

// Whether layers of the class can be in a unit: it has an input that can be kept.
bool may_be_in_unit(const PlanLayerClass& layer_class);
// Bytes that running a layer again gives beyond what stays pinned; without its input.
int64_t regenerated_bytes(const PlanLayerClass& layer_class);
// Regenerating all of a layer, and what is beyond that where the next layer's input is needed too
// (or where some tensor cannot be regenerated alone).
int64_t rerun_cost(const PlanLayerClass& layer_class, bool to_its_end);

}  // namespace rc
