// src/plan/units.h: plans where no plan layer by layer fits: several layers are run again from the
// input of the first, so that the others' inputs need not be kept.
//
// That is all a policy can say (kind layer, recompute, units of N layers), and so it is all that is
// planned: units of any sizes in any places, beside layers that are treated tensor by tensor; one
// level, no unit is replayed from within another (T. Chen, B. Xu, C. Zhang, C. Guestrin, "Training
// deep nets with sublinear memory cost", arXiv 1604.06174, with the layer-wise savings of Rockmate,
// ICML 2023). Of what can be recomputed only layer inputs are offloaded here.
//
// Exact, by labels over the layers in forward order: a label is a plan of the layers so far with
// what it takes; it goes where another one takes no more of anything, or where its Lagrangian bound
// reaches the best plan known.
#pragma once

#include "src/plan/problem.h"
#include "src/plan/search.h"

namespace rc {

// Whether some layers of the stage can be in a unit.
bool has_units(const PlanStage& stage);

// kSolved: plan has choices, units, lower bound and proof. kLimit: too many labels before a plan.
CountOutcome solve_units(const PlanStage& stage, const CountLimits& limits, StagePlan* plan);

// The least budget that has such a plan; -1: none has.
int64_t least_budget_of_units(const PlanStage& stage, const CountLimits& limits);

}  // namespace rc
