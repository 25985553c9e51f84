// src/plan/knapsack.h: bounded multiple-choice knapsack: exact least cost of every tail of groups.
//
// A group has `count` equal members, each takes one option; the least total cost within a capacity
// is wanted for the groups from j on, for every j and every capacity that matters. Fronts of
// (weight, cost) pairs instead of dense tables, so that no common unit of the weights is needed:
// H. Kellerer, U. Pferschy, D. Pisinger, "Knapsack Problems", 2004, sections 3.4, 7.2 and 11.5.
// Pairs that cannot lead to a total below a cutoff, judged by the Lagrangian bound of the groups
// before j, are left out; a caller raises the cutoff until it finds a solution.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace rc {

inline constexpr int64_t kNoCost = std::numeric_limits<int64_t>::max() / 4;

struct KnapsackOption {
  int64_t weight = 0, cost = 0;
};
struct KnapsackGroup {
  int32_t count = 1;
  std::vector<KnapsackOption> options;  // not empty
};

// The least weight at which a cost is reached.
struct KnapsackPair {
  int64_t weight, cost;
};

// The groups from one on weigh at least so much together (a second capacity, of the groups before
// them alone, is that: shared_search.h). Their own weight is priced at a share of the price, the
// floor at the rest.
struct KnapsackFloor {
  size_t group = std::numeric_limits<size_t>::max();  // none
  int64_t weight = 0;
  double share = 1;
  // Known at a query only (least_above), with the capacity: what one is below `weight`, the other
  // is below the knapsack's own. Fronts of the groups before it end there.
  bool open = false;
};

class Knapsack {
 public:
  Knapsack(std::vector<KnapsackGroup> groups, int64_t capacity);
  // Weight beyond `free` costs `slope` a unit more, and any of it at least as much as `jump` units,
  // which least_sloped() counts and least() does not.
  Knapsack(std::vector<KnapsackGroup> groups, int64_t capacity, int64_t free, double slope,
           int64_t jump = 0, KnapsackFloor floor = {});

  bool feasible() const { return feasible_; }
  // A bound on the least total cost: the best Lagrangian, rounded up.
  int64_t relaxed() const { return relaxed_; }
  // Cost per unit of weight at which that bound is reached.
  double price() const { return price_; }

  // Fronts for totals below cutoff. False: more than `limit` pairs would be needed.
  bool build(int64_t cutoff, size_t limit);
  // The least cost of the groups from `group` on within a capacity; kNoCost where nothing below
  // the cutoff of the latest build can come of it.
  int64_t least(size_t group, int64_t capacity) const;
  // The same with what weight beyond `free` costs, as a whole number.
  int64_t least_sloped(size_t group, int64_t free, int64_t capacity) const;
  // For an open floor and the groups from one before it on.
  int64_t least_above(size_t group, int64_t floor, int64_t free, int64_t capacity) const;
  // The most that weight within these bounds is worth at price(): totals are no less than their
  // Lagrangian less this.
  double worth(int64_t free, int64_t capacity) const { return worth(price_, free, capacity); }
  // Rising weight, falling cost: all that promises a total below the cutoff of the latest build.
  const std::vector<KnapsackPair>& front(size_t group) const { return fronts_[group]; }
  size_t pairs() const { return pairs_; }

 private:
  using Pair = KnapsackPair;
  void plant(size_t group);
  void raise(std::vector<Pair>& front) const;
  double price_of(size_t group, double price) const {
    return group >= floor_.group ? floor_.share * price : price;
  }
  double floor_value(double price) const {
    return floor_.group > groups_.size() ? 0 : (1 - floor_.share) * price * double(floor_.weight);
  }
  void find_price();
  double value(double price, int64_t* weight) const;
  double worth(double price, int64_t free, int64_t capacity) const;
  struct Promise {
    int64_t weight;
    double price, value;  // cost + price * weight stays below it
    bool holds(const Pair& pair) const {
      return pair.weight <= weight && double(pair.cost) + price * double(pair.weight) < value;
    }
  };
  Promise promise(size_t group, double ahead) const;
  void add_two(size_t group, std::vector<Pair>& front);
  void add_many(size_t group, std::vector<Pair>& front);
  void merge(const std::vector<Pair>& a, const std::vector<Pair>& b, int64_t weight, int64_t cost,
             size_t group, double ahead);

  std::vector<KnapsackGroup> groups_;  // options: dominated ones removed, rising weight
  const int64_t capacity_, free_, jump_;
  const double slope_;
  const KnapsackFloor floor_;
  bool feasible_ = true;
  int64_t relaxed_ = 0;
  double price_ = 0, worth_ = 0;
  std::vector<double> before_;         // Lagrangian of the groups before j
  std::vector<int64_t> least_before_;  // least weight of the groups before j
  std::vector<std::vector<Pair>> fronts_;
  std::vector<std::vector<double>> trees_;  // per front: minima of cost + slope * weight
  std::vector<Pair> merged_;
  int64_t cutoff_ = 0;
  size_t pairs_ = 0;
};

}  // namespace rc
