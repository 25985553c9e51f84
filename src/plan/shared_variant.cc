// src/plan/shared_variant.cc: see shared_variant.h.
#include "src/plan/shared_variant.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace rc {

int64_t CutItem::cost(int64_t kept) const {
  const auto share = [&](int64_t whole, int64_t part) {
    return int64_t((__int128(whole) * part + rows - 1) / rows);
  };
  return share(keep.cost, kept) + share(recompute.cost, rows - kept);
}

SharedVariant::SharedVariant(const SharedFrame& frame, const CutItem& cut, bool fills)
    : frame_(frame), cut_(cut), fills_(fills) {
  for (const SharedItem& item : frame.items)
    count_.push_back(item.count - (cut.rows > 0 && item.group == cut.group ? 1 : 0));
  add_stays();
  knapsack_.emplace(knapsack_of(0));
  relaxed_ = kNoCost;
  if (!knapsack_->feasible() || stays_[0] > frame.memory) return;
  ahead_ = ahead_of(*knapsack_, 0);
  relaxed_ = knapsack_->relaxed() + ahead_;
  if (frame.held_price <= 0 || has_late_cut()) return;
  held_.emplace(knapsack_of(frame.held_price));
  held_ahead_ = ahead_of(*held_, frame.held_price);
  relaxed_ = std::max(relaxed_, held_->relaxed() + held_ahead_);
}

// What cannot leave memory is as much dearer as it takes of it at held_price.
Knapsack SharedVariant::knapsack_of(double held_price) const {
  std::vector<KnapsackGroup> groups;
  for (size_t j = 0; j < frame_.items.size(); ++j) {
    groups.push_back({count_[j], {}});
    for (const SharedItem::Option& option : frame_.items[j].options) {
      const int64_t held = int64_t(std::floor(held_price * double(option.fixed)));
      groups.back().options.push_back({option.weight, option.cost + held});
    }
  }
  const int64_t least = cut_.lightest();
  KnapsackFloor floor;
  if (frame_.two) {
    const bool open = has_late_cut();
    floor = {frame_.first_late, frame_.floor_beside(cut_, least), frame_.share, open};
  }
  const int64_t capacity = frame_.room - least;
  if (!fills_)
    return Knapsack(std::move(groups), capacity, frame_.memory - least, frame_.price, frame_.jump,
                    floor);
  const double slope = cut_.slope() - held_price;
  return Knapsack(std::move(groups), capacity, slope > 0 ? frame_.room - cut_.heaviest() : capacity,
                  std::max(0.0, slope), 0, floor);
}

// Of the cut tensor, what it adds at least to the Lagrangian of the others beside its lightest way,
// less what all of memory is worth.
int64_t SharedVariant::ahead_of(const Knapsack& knapsack, double held_price) const {
  const double memory = held_price * double(frame_.memory);
  if (cut_.rows == 0) return -int64_t(std::ceil(memory));
  const double share = has_late_cut() ? frame_.share : 1;
  const auto priced = [&](int64_t kept) {
    const double weight = double(cut_.weight(kept));
    const double more = fills_ ? 0 : share * knapsack.price() * (weight - double(cut_.lightest()));
    return double(cut_.cost(kept)) + more + held_price * weight - memory;
  };
  // Costs of parts are rounded up. The slope has what fewer rows cost.
  if (fills_)
    return int64_t(std::floor(priced(cut_.slope() > held_price ? cut_.last : cut_.first))) - 2;
  return int64_t(std::floor(std::min(priced(cut_.first), priced(cut_.last)))) - 2;
}

void SharedVariant::add_stays() {
  const size_t n = frame_.items.size();
  const int64_t least = cut_.lightest();
  stays_.assign(n + 1, least);
  // Counted from the cut's lightest way, which the floor has in full.
  const auto raise = [&](size_t j) {
    if (frame_.two && j == frame_.first_late)
      stays_[j] = std::max(stays_[j], frame_.floor_beside(cut_, cut_.heaviest()) + least);
  };
  raise(n);
  for (size_t j = n; j-- > 0;) {
    int64_t each = kNoCost;
    for (const SharedItem::Option& option : frame_.items[j].options)
      each = std::min(each, option.fixed);
    stays_[j] = stays_[j + 1] + each * count_[j];
    raise(j);
  }
}

bool SharedVariant::build(int64_t cutoff, size_t limit) {
  if (held_ && !held_->build(cutoff - held_ahead_, limit)) held_.reset();
  return knapsack_->build(cutoff - ahead_, limit);
}

// A bound less what is left of memory is worth, where that has a price.
int64_t SharedVariant::least_held(size_t depth, const SharedLeft& left) const {
  const double price = frame_.held_price;
  int64_t least = 0;
  double rest = double(left.memory);
  if (fills_) {
    const bool sloped = cut_.slope() > price;
    const int64_t capacity = left.room - cut_.lightest();
    least = sloped ? held_->least_sloped(depth, left.room - cut_.heaviest(), capacity)
                   : held_->least(depth, capacity);
    if (least >= kNoCost) return kNoCost;
    return least + held_ahead_ + int64_t(std::floor(price * (double(frame_.memory) - rest)));
  }
  least = frame_.price > 0
              ? held_->least_sloped(depth, left.room - (frame_.room - frame_.memory), left.room)
              : held_->least(depth, left.room);
  if (least >= kNoCost) return kNoCost;
  rest -= double(cut_.lightest());
  return least - int64_t(std::ceil(price * rest));
}

int64_t SharedVariant::least(size_t depth, const SharedLeft& left) const {
  int64_t held = 0;
  if (held_ && (held = least_held(depth, left)) >= kNoCost) return kNoCost;
  if (fills_) {
    const int64_t least =
        knapsack_->least_sloped(depth, left.room - cut_.heaviest(), left.room - cut_.lightest());
    return least >= kNoCost ? kNoCost : std::max(held, ahead_ + least);
  }
  const int64_t link = frame_.room - frame_.memory, free = left.room - link;
  if (has_late_cut() && depth < frame_.first_late)
    return knapsack_->least_above(depth, left.floor, free, left.room);
  const int64_t least = frame_.price > 0 ? knapsack_->least_sloped(depth, free, left.room)
                                         : knapsack_->least(depth, left.room);
  if (least >= kNoCost) return kNoCost;
  // Of an open floor the fronts know nothing where the late ones begin, either.
  const bool begins = depth == frame_.first_late;
  if (frame_.price == 0 || !frame_.two || depth < frame_.first_late || (begins && !has_late_cut()))
    return std::max(held, least);
  const int64_t over = link + left.floor - (begins ? left.room : left.late_room);
  const double paid = frame_.price * double(std::max<int64_t>(0, over));
  const int64_t other = knapsack_->least(depth, left.room) + int64_t(std::ceil(paid - 0.01));
  return std::max({held, least, other});
}

}  // namespace rc
