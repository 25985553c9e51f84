// src/plan/cut.h: one tensor cut between keep and recompute along its rows.
#pragma once

#include <cstdint>

#include "src/plan/counts.h"
#include "src/plan/place.h"
#include "src/plan/search.h"

namespace rc {

struct CutResult {
  CutMember member;
  CountResult counts;  // of all but the cut member; cost is of the whole plan
};

// Tries each group whose item may be cut, with one member apart. True: `best` costs less than
// `cost`. *lower_bound becomes a bound on all plans with a cut; it is proven together with the
// bound of the plans without one.
bool best_cut(const PlanStage& stage, const CountProblem& problem, int64_t cost,
              const CountLimits& limits, CutResult& best, int64_t* lower_bound);

}  // namespace rc
