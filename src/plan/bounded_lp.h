// src/plan/bounded_lp.h: dual simplex for small dense programs of bounded variables.
//
// min c x, A x + s = b, every x and every s between bounds of its own. Starts from the slacks with
// all x at their lower bounds, which no cost below 0 may spoil, and goes on from where it was when
// bounds of basic variables have changed: what a search by branches needs (V. Chvatal, "Linear
// Programming", 1983, chapters 8 and 10). In floating point: what it finds is a guide, which its
// callers verify in integers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace rc {

enum class LpOutcome : uint8_t { kOptimal, kInfeasible, kLimit };

class BoundedLp {
 public:
  // a: rows by columns. Bounds of the columns, then of the rows' slacks.
  BoundedLp(std::vector<double> a, std::vector<double> b, std::vector<double> cost,
            std::vector<double> low, std::vector<double> high);

  // One more row over all columns, its slack from 0 up.
  void add_row(const std::vector<double>& a, double b);
  LpOutcome solve(int most_pivots);
  size_t columns() const { return columns_; }
  size_t rows() const { return rows_; }
  double objective() const;
  // Of a column, or of a slack (columns() + row).
  double value(size_t variable) const { return value_[variable]; }
  bool is_basic(size_t variable) const { return place_[variable] < 0; }
  // Change of the objective per unit of a slack: the price of its row.
  double price(size_t row) const;
  // After kInfeasible: of each row, in a combination that no bounds allow.
  double ray(size_t row) const;
  // What moving a basic variable down or up by so much costs at least (one step's worth).
  double penalty(size_t variable, double by, bool up) const;
  // Of a basic one.
  void set_bounds(size_t variable, double low, double high);

 private:
  double& at(size_t row, size_t column) { return table_[row * columns_ + column]; }
  double at(size_t row, size_t column) const { return table_[row * columns_ + column]; }
  size_t row_of(size_t variable) const { return size_t(-1 - place_[variable]); }
  void set_values();
  bool may_enter(size_t column, bool basic_falls, double entry) const;
  void pivot(size_t row, size_t column);

  size_t rows_, columns_;
  std::vector<double> table_, right_, reduced_;  // of the columns that are not basic
  std::vector<double> low_, high_, value_;       // [variable]
  std::vector<int32_t> basic_, other_;           // variable of each row, and of each column
  std::vector<int32_t> place_;                   // [variable] column, or -1 - row
  std::vector<uint8_t> at_high_;                 // [variable] that is not basic
  double offset_ = 0;
  size_t bad_row_ = 0;  // of kInfeasible
  bool bad_falls_ = false;
};

}  // namespace rc
