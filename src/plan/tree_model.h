// src/plan/tree_model.h: a problem of counts for a search by branches: its linear program, rounded
// rows that make that tight, and the bound that prices of the rows prove in a box of counts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <vector>

#include "src/plan/bounded_lp.h"
#include "src/plan/counts.h"
#include "src/plan/search.h"
#include "src/plan/tree_rows.h"

namespace rc {

using TreeWide = __int128;
inline constexpr int kPriceBits = 40;  // of PlanBoundNode::price

// Between how many members take an option.
struct TreeBox {
  std::vector<std::vector<int32_t>> low, high;  // [class][option]
};

class TreeModel {
 public:
  // With rows that tighten the program: so many at once, and until so many rounds were idle.
  TreeModel(const CountProblem& problem, size_t most_added, int most_idle);
  // Without.
  explicit TreeModel(const CountProblem& problem) : TreeModel(problem, 0, 0) {}

  const std::vector<TreeClass>& classes() const { return classes_; }
  const std::vector<TreeRow>& rows() const { return rows_; }  // those of the problem first
  int64_t cost_unit() const { return cost_unit_; }            // of all costs
  TreeBox whole() const;

  BoundedLp program() const;
  // Adds the rows that the program lacks.
  void complete(BoundedLp* lp) const;
  // Rows that cut its solution off, where some are found.
  bool add_rounded(const BoundedLp& lp);
  // Of an option but the first of its class, which is what the others leave.
  size_t variable(size_t cls, size_t option) const { return variable_[cls][option]; }
  double value(const BoundedLp& lp, size_t cls, size_t option) const;
  double price(const BoundedLp& lp, size_t row) const {
    return place(row) < lp.rows() ? lp.price(place(row)) : 0;
  }
  double true_price(const BoundedLp& lp, size_t row) const;  // per unit of the row
  // Its values as whole counts, [class][option].
  std::vector<std::vector<int32_t>> counts_of(const BoundedLp& lp) const;
  // Counts of classes as those of the problem's groups, cost and all.
  void give(const std::vector<std::vector<int32_t>>& counts, CountResult* result) const;
  // Prices per unit of each row, in 2^-kPriceBits: of a solved program, or of one without solution
  // so many times what shows that.
  std::vector<int64_t> prices_of(const BoundedLp& lp) const;
  std::vector<int64_t> rays_of(const BoundedLp& lp, double scale) const;
  // What these prices prove of the box, in 2^-kPriceBits; false: the box is empty.
  bool bound(const TreeBox& box, const std::vector<int64_t>& prices, TreeWide* bound) const;

 private:
  void round_rows();
  size_t place(size_t row) const { return row < first_ ? row : row + ties_; }
  double coefficients(size_t row, double* a) const;
  bool best_rounded(const BoundedLp& lp, const TreeRow& sum, const std::vector<size_t>& bases,
                    TreeRow* best) const;
  double violation(const BoundedLp& lp, const TreeRow& row) const;
  std::set<int64_t> times_of(size_t row, size_t other) const;
  void drop_loose(const BoundedLp& lp, int most_idle);
  int64_t in_bits(double price, size_t row) const;

  const CountProblem& problem_;
  const size_t most_added_;
  const int most_idle_;
  std::vector<TreeClass> classes_;
  std::vector<TreeRow> rows_;
  std::vector<int> idle_;  // [row] rounds without a price
  std::vector<std::vector<size_t>> variable_;
  size_t columns_ = 0, ties_ = 0;
  size_t first_ = 0;  // rows before the ties of classes, in a program
  int64_t cost_unit_ = 0;
  double cost_scale_ = 1;
};

}  // namespace rc
