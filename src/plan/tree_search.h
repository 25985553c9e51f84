// src/plan/tree_search.h: branch and bound by linear programs over the counts of a CountProblem.
//
// For several rows that are tight at once, where no knapsack of one row bounds well and tensors of
// one price per byte tie by the hundred: each node's program prices all rows at once, also in whole
// units (tree_model.h). A node is left where those prices prove, in integers, that nothing below
// the cutoff lies in its box of counts; the tree of such nodes is the certificate.
#pragma once

#include <vector>

#include "src/plan/counts.h"
#include "src/plan/search.h"

namespace rc {

struct TreeResult {
  CountResult counts;
  std::vector<PlanBoundRow> rows;
  std::vector<PlanBoundNode> tree;  // proves counts.lower_bound
};

// For a problem without a shared link. known: the cost of a solution, of which no dearer one is
// wanted.
TreeResult search_tree(const CountProblem& problem, const CountLimits& limits, int64_t known);

// The nearest counts to the linear program's solution, which may take a little too much, and the
// prices of rows there, up to a factor. False: it has none.
bool relax_counts(const CountProblem& problem, CountResult* result, std::vector<double>* prices);

}  // namespace rc
