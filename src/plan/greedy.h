// src/plan/greedy.h: a first solution of a CountProblem, near the prices of its relaxation.
#pragma once

#include <vector>

#include "src/plan/search.h"

namespace rc {

// Starts from the options that are cheapest under the prices, moves members until every row has
// room, then spends the room that is left. False where it finds no way to fit; the shared link is
// not for it. Fills counts and cost.
bool greedy_counts(const CountProblem& problem, const std::vector<double>& prices,
                   CountResult& result);

}  // namespace rc
