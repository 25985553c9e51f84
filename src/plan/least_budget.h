// src/plan/least_budget.h: the least budget that has a plan, of any kind of plan.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

namespace rc {

// peak_within(budget) is the peak of some plan that fits the budget, or empty where none does; that
// must be monotone in the budget. `refused` has no plan. -1: no budget has one.
template <class PeakWithin>
int64_t least_budget(int64_t refused, const PeakWithin& peak_within) {
  int64_t low = refused, high = std::max<int64_t>(1, 2 * refused);
  std::optional<int64_t> peak;
  while (!(peak = peak_within(high))) {
    low = high;
    high *= 2;
    if (high > int64_t(1) << 50) return -1;
  }
  high = *peak;  // a plan that fits names a smaller budget that will do
  // Usually the first plan found holds the least already; else halves and peaks by turns.
  for (bool halve = false; high - low > 1; halve = !halve) {
    const int64_t next = halve ? low + (high - low) / 2 : high - 1;
    peak = peak_within(next);
    if (peak) {
      high = *peak;
    } else {
      low = next;
    }
  }
  return high;
}

}  // namespace rc
