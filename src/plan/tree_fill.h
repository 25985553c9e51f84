// src/plan/tree_fill.h: counts that fill one tight row to the byte.
//
// Where one row alone has a price and many classes are free to take either of two options at it,
// the best counts are a sum of their sizes that comes as near to the capacity as any: all such sums
// at once, and the few members of other classes that pay for coming nearer.
#pragma once

#include <cstdint>
#include <vector>

#include "src/plan/bounded_lp.h"
#include "src/plan/tree_model.h"

namespace rc {

// lp: the solved program of a model without rounded rows. False: more rows than one have a price,
// or the sums are too many.
bool fill_row(const CountProblem& problem, const TreeModel& model, const BoundedLp& lp,
              std::vector<std::vector<int32_t>>* counts);

// Whether no counts that cost `below` or less, of plans that these prices of the model's rows leave
// possible, come near enough the capacity of this row.
bool no_sum_fills(const TreeModel& model, const std::vector<int64_t>& prices, size_t row,
                  int64_t below);

}  // namespace rc
