// src/plan/shared_search.h: branch and bound for a link of one price per byte beside one memory row
// or two.
//
// Kept or offloaded then counts the same in memory + link, and which of the two only matters in
// sum. So the search chooses what is not recomputed, with one knapsack (knapsack.h) whose weight
// beyond the memory's room costs the link's price as an exact bound, and asks at its leaves alone
// whether what is left splits into memory and link (split.h). One tensor may be cut between keep
// and recompute: for each that may be, a knapsack of the others tells which numbers of its rows
// could pay.
//
// A second row is one of an earlier layer: of layers up to it that row asks what the first one
// does, of those behind it (the late ones) nothing. With capacities C1 and C2,
//   early + late <= C1, early <= C2   is   early + max(late, C1 - C2) <= C1:
// one knapsack whose late groups have a floor.
#pragma once

#include <vector>

#include "src/plan/counts.h"
#include "src/plan/place.h"
#include "src/plan/search.h"
#include "src/plan/split.h"

namespace rc {

struct SharedResult {
  CountResult counts;  // of all but the cut member; cost is of the whole plan
  bool has_cut = false;
  CutMember cut;
  LinkMembers link;
  std::vector<double> prices;  // [row] of a byte of memory and link at the root, for a proof
  size_t held_row = 0;         // and of what cannot leave memory in the row of all groups
  double held_price = 0;
};

// For such a problem.
SharedResult search_shared(const PlanStage& stage, const CountProblem& problem, bool cuts,
                           const CountLimits& limits);

}  // namespace rc
