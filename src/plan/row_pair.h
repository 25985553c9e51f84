// src/plan/row_pair.h: one memory row, or two of which the second is of an earlier layer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "src/plan/counts.h"

namespace rc {

// The row that all groups count in, and the earlier one, in which late groups do not.
struct RowPair {
  size_t outer = 0, inner = 0;  // equal: there is one row
  std::vector<bool> late;       // [group]
  int64_t floor = 0;            // of the weight of the late groups
};

// Whether a shared link frees something of the row by moving a member.
bool is_movable(const CountGroup& group, size_t row);

// Nothing where the rows are more, or do not nest.
std::optional<RowPair> row_pair(const CountProblem& problem);

// Whether the problem is of the kind that search_shared (shared_search.h) solves.
bool shares_one_link(const CountProblem& problem);

}  // namespace rc
