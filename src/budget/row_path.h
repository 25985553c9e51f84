// src/budget/row_path.h: a cheap way through the layers of several virtual chunks, with a bound.
//
// With virtual chunks each layer's backward meets other numbers of microbatches of the others, so
// that no one total stands for all. A row is one backward of one place: the bytes held then with
// everything kept, less what each treated place frees for each of its microbatches held then, plus
// what that place itself adds. Lagrange prices on the rows give plans and a lower bound; exchanges
// of ways mend the plans. The prices prove the bound to whoever adds it up again (row_path_bound).
#pragma once

#include "src/budget/layer_path.h"

namespace rc::budget {

struct RowPath {
  LayerPath path;  // kept: below zero by what is freed; transient: beyond that of keeping all
  std::vector<size_t> place;               // [row] that is in backward
  std::vector<std::vector<int64_t>> held;  // [row][place] microbatches
  std::vector<int64_t> base;               // [row] bytes where everything is kept
  std::vector<int64_t> most;               // [place] of its rows' bases
};

struct RowPathPlan {
  PathPlan plan;                // lower_bound: of the prices
  std::vector<int64_t> prices;  // [row] in 2^-20 of the costs' unit per byte
};

RowPathPlan solve_rows(const RowPath& rows, int64_t budget, const PathLimits& limits = {});
// Of least peak, to a hundredth of what can be freed.
RowPathPlan least_rows(const RowPath& rows, const PathLimits& limits = {});
// The most of any row.
int64_t row_path_peak(const RowPath& rows, const std::vector<PathStep>& steps);
// No way through the layers that fits costs less, whatever the prices (not below 0) are.
int64_t row_path_bound(const RowPath& rows, int64_t budget, const std::vector<int64_t>& prices);

}  // namespace rc::budget
