// src/plan/shared_variant.h: all plans of a shared search with one tensor cut between keep and
// recompute, or without: what its tensors cost at least, from each on.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "src/plan/counts.h"
#include "src/plan/knapsack.h"

namespace rc {

// A group as the search sees it: weights in memory + factor * link.
struct SharedItem {
  struct Option {
    size_t option;
    int64_t weight, cost;
    int64_t fixed;  // of the weight: what cannot leave memory
  };
  size_t group = 0;
  int32_t count = 0;
  std::vector<Option> options;
};

// The tensor that is cut between keep and recompute; none where rows is 0.
struct CutItem {
  size_t group = 0;
  bool late = false;
  int64_t rows = 0;
  int64_t first = 1, last = 0;  // kept rows that are tried
  SharedItem::Option keep{}, recompute{};

  int64_t cost(int64_t kept) const;
  int64_t weight(int64_t kept) const {
    return keep.weight / rows * kept + recompute.weight / rows * (rows - kept);
  }
  int64_t lightest() const { return rows > 0 ? std::min(weight(first), weight(last)) : 0; }
  int64_t heaviest() const { return rows > 0 ? std::max(weight(first), weight(last)) : 0; }
  // Whole, one of the ways is no dearer and no heavier.
  bool is_better_whole() const {
    return keep.cost <= recompute.cost ? keep.weight <= recompute.weight
                                       : keep.weight >= recompute.weight;
  }
  // Cost of a unit of weight that is not kept.
  double slope() const {
    return double(recompute.cost - keep.cost) / double(keep.weight - recompute.weight);
  }
};

// What all variants share.
struct SharedFrame {
  std::vector<SharedItem> items;  // late ones last
  int64_t memory = 0, room = 0;   // room: memory and link
  double price = 0;               // of weight beyond memory
  int64_t jump = 0;               // the least of it that a whole tensor is
  bool two = false;               // rows; late ones are in the outer one alone
  size_t first_late = std::numeric_limits<size_t>::max();
  int64_t floor = 0;      // of the late ones' weight
  double share = 1;       // of the price of weight, that late ones pay
  double held_price = 0;  // of what cannot leave memory

  // Beside a cut that weighs so much.
  int64_t floor_beside(const CutItem& cut, int64_t weight) const {
    return floor - (two && cut.late ? weight : 0);
  }
};

// On the way down.
struct SharedLeft {
  int64_t room = 0;
  int64_t memory = 0;     // for what cannot leave it; a cut's lightest way is still to come
  int64_t floor = 0;      // beside the cut as it is
  int64_t late_room = 0;  // where the late ones begin
};

class SharedVariant {
 public:
  // fills: the rows of the cut are chosen last. In bounds it takes what room the others leave, so
  // that all numbers of rows are searched at once, less exactly than one after another.
  SharedVariant(const SharedFrame& frame, const CutItem& cut, bool fills = false);

  // A bound on all its plans; kNoCost: it has none.
  int64_t relaxed() const { return relaxed_; }
  // Of weight, beside held_price.
  double price() const { return held_ ? held_->price() : knapsack_->price(); }
  size_t pairs() const { return knapsack_->pairs(); }
  // Below a cutoff. False: more than `limit` pairs would be needed.
  bool build(int64_t cutoff, size_t limit);
  // Of the tensors from one on; where it fills, with the cut.
  int64_t least(size_t depth, const SharedLeft& left) const;

  const CutItem& cut() const { return cut_; }
  bool fills() const { return fills_; }
  bool has_late_cut() const { return frame_.two && cut_.rows > 0 && cut_.late; }
  int32_t count(size_t item) const { return count_[item]; }
  // What the tensors from one on hold in memory at least, the cut in its lightest way with them.
  int64_t stays(size_t item) const { return stays_[item]; }

 private:
  Knapsack knapsack_of(double held_price) const;
  int64_t ahead_of(const Knapsack& knapsack, double held_price) const;
  void add_stays();
  int64_t least_held(size_t depth, const SharedLeft& left) const;

  const SharedFrame& frame_;
  const CutItem cut_;
  const bool fills_;
  std::vector<int32_t> count_;
  std::vector<int64_t> stays_;
  std::optional<Knapsack> knapsack_;
  std::optional<Knapsack> held_;        // with a price on what cannot leave memory
  int64_t ahead_ = 0, held_ahead_ = 0;  // what the cut adds to the bounds
  int64_t relaxed_ = 0;
};

}  // namespace rc
