// src/budget/check_path.h: whether a search's answer is what it says, found out without the search.
//
// Reads the ways and the answer alone. Steps, cost and peak are added up again. The lower bound is
// proven by carrying all partial paths that no other one is as good as from place to place (one
// chain), or by the Lagrangian of the answer's prices (several chunks). That the ways are true to
// the machine is not its matter: there the forecast is the proof, since it runs the policy.
#pragma once

#include <string>

#include "src/budget/row_path.h"

namespace rc::budget {

struct PathCheck {
  bool fits = false;         // steps are a way through, cost and peak are theirs, the budget holds
  int64_t proven_bound = 0;  // no path that fits costs less; at most the answer's lower bound
  std::string finding;       // where one of them is not as the answer says
};

// partial_paths: carried at one place at most; beyond, nothing is proven.
PathCheck check_path(const LayerPath& path, int64_t budget, const PathPlan& answer,
                     size_t partial_paths = 100'000);
PathCheck check_rows(const RowPath& rows, int64_t budget, const RowPathPlan& answer);

}  // namespace rc::budget
