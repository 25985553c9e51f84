// src/plan/bounded_lp.cc: see bounded_lp.h.
#include "src/plan/bounded_lp.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace rc {
namespace {

constexpr double kTiny = 1e-9;   // of bounds, which are of the order of 1
constexpr double kEntry = 1e-8;  // of what may be divided by

}  // namespace

BoundedLp::BoundedLp(std::vector<double> a, std::vector<double> b, std::vector<double> cost,
                     std::vector<double> low, std::vector<double> high)
    : rows_(b.size()),
      columns_(cost.size()),
      table_(std::move(a)),
      right_(std::move(b)),
      reduced_(std::move(cost)),
      low_(std::move(low)),
      high_(std::move(high)),
      value_(rows_ + columns_, 0),
      at_high_(rows_ + columns_, 0) {
  place_.resize(rows_ + columns_);
  for (size_t j = 0; j < columns_; ++j) {
    other_.push_back(int32_t(j));
    place_[j] = int32_t(j);
  }
  for (size_t i = 0; i < rows_; ++i) {
    basic_.push_back(int32_t(columns_ + i));
    place_[columns_ + i] = -1 - int32_t(i);
  }
}

void BoundedLp::set_values() {
  for (const int32_t v : other_)
    value_[size_t(v)] = at_high_[size_t(v)] ? high_[size_t(v)] : low_[size_t(v)];
  for (size_t i = 0; i < rows_; ++i) {
    double sum = right_[i];
    for (size_t j = 0; j < columns_; ++j) sum -= at(i, j) * value_[size_t(other_[j])];
    value_[size_t(basic_[i])] = sum;
  }
}

double BoundedLp::objective() const {
  double sum = offset_;
  for (size_t j = 0; j < columns_; ++j) sum += reduced_[j] * value_[size_t(other_[j])];
  return sum;
}

double BoundedLp::price(size_t row) const {
  const int32_t at = place_[columns_ + row];
  return at < 0 ? 0 : std::max(0.0, reduced_[size_t(at)]);
}

double BoundedLp::ray(size_t row) const {
  const int32_t column = place_[columns_ + row];
  double entry = size_t(-1 - column) == bad_row_ ? 1 : 0;
  if (column >= 0) entry = at(bad_row_, size_t(column));
  return std::max(0.0, bad_falls_ ? -entry : entry);
}

void BoundedLp::add_row(const std::vector<double>& a, double b) {
  std::vector<double> own(columns_, 0);
  for (size_t v = 0; v < columns_; ++v) {
    if (a[v] == 0) continue;
    if (place_[v] >= 0) {
      own[size_t(place_[v])] += a[v];
      continue;
    }
    const size_t row = row_of(v);
    for (size_t j = 0; j < columns_; ++j) own[j] -= a[v] * at(row, j);
    b -= a[v] * right_[row];
  }
  table_.insert(table_.end(), own.begin(), own.end());
  right_.push_back(b);
  basic_.push_back(int32_t(columns_ + rows_));
  place_.push_back(-1 - int32_t(rows_));
  low_.push_back(0);
  high_.push_back(std::numeric_limits<double>::infinity());
  value_.push_back(0);
  at_high_.push_back(0);
  ++rows_;
}

void BoundedLp::set_bounds(size_t variable, double low, double high) {
  low_[variable] = low;
  high_[variable] = high;
}

// Whether a column can move so that the basic variable of this entry falls, or rises.
bool BoundedLp::may_enter(size_t column, bool basic_falls, double entry) const {
  const size_t v = size_t(other_[column]);
  if (std::abs(entry) < kEntry || high_[v] - low_[v] < kTiny) return false;
  return (entry > 0) == (basic_falls != bool(at_high_[v]));
}

double BoundedLp::penalty(size_t variable, double by, bool up) const {
  const size_t row = row_of(variable);
  double least = std::numeric_limits<double>::infinity();
  for (size_t j = 0; j < columns_; ++j) {
    const double entry = at(row, j);
    if (may_enter(j, !up, entry)) least = std::min(least, std::abs(reduced_[j] / entry));
  }
  return least * by;
}

void BoundedLp::pivot(size_t row, size_t column) {
  const double inverse = 1 / at(row, column);
  double* own = &table_[row * columns_];
  for (size_t j = 0; j < columns_; ++j) own[j] *= inverse;
  own[column] = inverse;
  right_[row] *= inverse;
  const auto subtract = [&](double* to, double& right) {
    const double factor = to[column];
    if (factor == 0) return;
    for (size_t j = 0; j < columns_; ++j) to[j] -= factor * own[j];
    to[column] = -factor * inverse;
    right -= factor * right_[row];
  };
  for (size_t i = 0; i < rows_; ++i)
    if (i != row) subtract(&table_[i * columns_], right_[i]);
  // The objective's own right side has the other sign.
  offset_ = -offset_;
  subtract(reduced_.data(), offset_);
  offset_ = -offset_;
  std::swap(basic_[row], other_[column]);
  place_[size_t(basic_[row])] = -1 - int32_t(row);
  place_[size_t(other_[column])] = int32_t(column);
}

LpOutcome BoundedLp::solve(int most_pivots) {
  for (int pivots = 0;; ++pivots) {
    set_values();
    double worst = kTiny;
    size_t row = rows_;
    bool falls = false;
    for (size_t i = 0; i < rows_; ++i) {
      const size_t v = size_t(basic_[i]);
      const double over = value_[v] - high_[v], under = low_[v] - value_[v];
      if (std::max(over, under) <= worst) continue;
      worst = std::max(over, under);
      row = i;
      falls = over > under;
    }
    if (row == rows_) return LpOutcome::kOptimal;
    if (pivots >= most_pivots) return LpOutcome::kLimit;
    size_t enters = columns_;
    double least = std::numeric_limits<double>::infinity();
    for (size_t j = 0; j < columns_; ++j) {
      const double entry = at(row, j);
      if (!may_enter(j, falls, entry)) continue;
      const double ratio = std::abs(reduced_[j] / entry);
      // Of equal ones the largest entry, for the sake of precision.
      const bool better = enters == columns_ || ratio < least - 1e-12 ||
                          (ratio <= least + 1e-12 && std::abs(entry) > std::abs(at(row, enters)));
      if (!better) continue;
      least = std::min(least, ratio);
      enters = j;
    }
    if (enters == columns_) {
      bad_row_ = row;
      bad_falls_ = falls;
      return LpOutcome::kInfeasible;
    }
    at_high_[size_t(basic_[row])] = falls;
    pivot(row, enters);
  }
}

}  // namespace rc
