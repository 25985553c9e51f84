// src/plan/search.h: branch and bound over the counts of a CountProblem, exact.
//
// Depth first, group by group; a child is one split of a group's members among its options. Each
// memory row gives a bound: the knapsack of the groups left under that row alone, exact through
// its fronts (knapsack.h), where the link is added to the row's capacity (the surrogate
// memory + link) or priced (Lagrange). One row and no link of its own need no branching: the first
// dive follows the fronts to the optimum.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "src/plan/counts.h"
#include "src/plan/knapsack.h"

namespace rc {

enum class CountOutcome : uint8_t { kSolved, kInfeasible, kLimit };

struct CountLimits {
  std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max();
  uint64_t nodes = 5'000'000;
  size_t pairs = 2'000'000;

  bool late() const { return std::chrono::steady_clock::now() >= deadline; }
};

struct CountResult {
  CountOutcome outcome = CountOutcome::kLimit;
  bool found = false;  // counts hold a solution; kLimit may have one too
  int64_t cost = kNoCost;
  int64_t lower_bound = 0;
  std::vector<std::array<int32_t, kPlanOptions>> counts;  // [group][option]
  uint64_t nodes = 0;
};

class CountSearch {
 public:
  static constexpr size_t kMaxRows = 24;

  // problem outlives the search.
  explicit CountSearch(const CountProblem& problem);
  // known: the cost of a solution, of which no dearer one is wanted.
  CountResult run(const CountLimits& limits, int64_t known = kNoCost);
  // Lagrange prices of the rows at the root, for a proof; zero where a row takes no part.
  std::vector<double> prices() const;

 private:
  using Uses = std::array<int64_t, kMaxRows>;
  // A relaxation to one knapsack: weight = sum of factor * use, cost + sum of price * use.
  struct Bound {
    std::vector<int64_t> factor;
    std::vector<double> price;
    std::vector<int64_t> link_factor;  // [group]: of the shared link, for the groups from here on
    Knapsack knapsack;
    double offset;                   // price . capacity, with the link's share
    std::vector<double> link_price;  // [group]: of a byte of the shared link, from here on
    std::vector<double> tail;        // [group]: Lagrangian of the groups from here on
    // Each unit of weight beyond the row's own room went over the link, at this cost at least; it
    // is taken off the knapsack's costs per use.
    double slope = 0;
    size_t slope_row = 0;
    std::vector<double> discount = {};
  };
  struct Child {
    int64_t bound, cost, link;
    std::array<int32_t, kPlanOptions> counts;
    Uses left;
  };

  static constexpr size_t kSeenRows = 3;
  static constexpr uint64_t kFirstRound = 2000;
  struct SeenKey {
    int64_t depth;
    std::array<int64_t, kSeenRows> left;
    bool operator==(const SeenKey&) const = default;
  };
  struct SeenHash {
    size_t operator()(const SeenKey& key) const {
      uint64_t hash = uint64_t(key.depth);
      for (const int64_t left : key.left) {
        hash = (hash ^ uint64_t(left)) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 29;
      }
      return size_t(hash);
    }
  };

  void prepare_least_net();
  void order_groups();
  bool link_order_is_total() const;
  void add_bound(const std::vector<int64_t>& factor, const std::vector<double>& price,
                 int64_t free = 0, double slope = 0);
  void add_sloped_bound(size_t row, size_t link_row);
  void add_bounds_of_row(size_t row);
  void add_pair_bounds();
  double best_price(size_t row, size_t priced_row);
  std::vector<int64_t> link_factors(size_t row) const;
  int64_t rounded_up(int64_t cost) const;
  int64_t weight(const CountOption& option, const std::vector<int64_t>& factor) const;
  int64_t bound_at(size_t depth, int64_t cost, const Uses& left, int64_t link) const;
  void descend(size_t depth, int64_t cost, const Uses& left, int64_t link);
  void expand(size_t depth, size_t option, int32_t members, double slack, Child& child);
  bool take(size_t depth, size_t option, int32_t members, Child& child) const;
  double reduced(size_t depth, size_t option) const;
  void adopt_greedy();
  bool stopped();
  bool seen(size_t depth, int64_t cost, const Uses& left);
  CountResult finish(CountOutcome outcome);

  const CountProblem& problem_;
  std::vector<size_t> order_;  // groups in the order of the search
  std::vector<Bound> bounds_;
  std::vector<Uses> least_net_;  // [depth]
  bool feasible_ = true, exhausted_ = true;
  bool exact_ = true;   // the order of the link loses nothing
  int64_t unit_ = 1;    // of all costs
  int64_t floor_ = 0;   // proven
  int64_t cutoff_ = 0;  // only solutions below it are wanted
  CountLimits limits_;
  uint64_t round_nodes_ = 0, round_end_ = 0;
  std::unordered_map<SeenKey, int64_t, SeenHash> seen_;
  CountResult result_;
  std::vector<std::array<int32_t, kPlanOptions>> path_;
  std::vector<std::vector<Child>> children_;
};

}  // namespace rc
