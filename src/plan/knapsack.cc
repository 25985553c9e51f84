// src/plan/knapsack.cc: see knapsack.h.
#include "src/plan/knapsack.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace rc {
namespace {

// Sums of some hundred products below 10^15 in doubles: errors stay below one picosecond.
constexpr double kSlack = 1.0;

void remove_dominated(std::vector<KnapsackOption>& options) {
  std::sort(options.begin(), options.end(), [](const KnapsackOption& a, const KnapsackOption& b) {
    return a.weight != b.weight ? a.weight < b.weight : a.cost < b.cost;
  });
  size_t kept = 0;
  for (const KnapsackOption& option : options) {
    if (kept == 0 || option.cost < options[kept - 1].cost) options[kept++] = option;
  }
  options.resize(kept);
}

double least_priced(const KnapsackGroup& group, double price, int64_t* weight) {
  double best = 0;
  for (const KnapsackOption& option : group.options) {
    const double value = double(option.cost) + price * double(option.weight);
    if (&option == group.options.data() || value < best) {
      best = value;
      *weight = option.weight;
    }
  }
  return best;
}

}  // namespace

Knapsack::Knapsack(std::vector<KnapsackGroup> groups, int64_t capacity)
    : Knapsack(std::move(groups), capacity, capacity, 0) {}

Knapsack::Knapsack(std::vector<KnapsackGroup> groups, int64_t capacity, int64_t free, double slope,
                   int64_t jump, KnapsackFloor floor)
    : groups_(std::move(groups)),
      capacity_(capacity),
      free_(free),
      jump_(jump),
      slope_(slope),
      floor_(floor) {
  least_before_.push_back(0);
  for (KnapsackGroup& group : groups_) {
    remove_dominated(group.options);
    least_before_.push_back(least_before_.back() + group.count * group.options[0].weight);
  }
  feasible_ = least_before_.back() <= capacity_;
  if (floor_.group <= groups_.size())
    feasible_ = feasible_ && least_before_[floor_.group] + floor_.weight <= capacity_;
  fronts_.resize(groups_.size() + 1);
  if (feasible_) find_price();
}

// Weight is worth its price less what it costs itself: the most lies at one of the bounds.
double Knapsack::worth(double price, int64_t free, int64_t capacity) const {
  if (slope_ <= 0) return price * double(capacity);
  return price * double(free) + std::max(0.0, (price - slope_) * double(capacity - free));
}

double Knapsack::value(double price, int64_t* weight) const {
  double sum = floor_value(price) - worth(price, free_, capacity_), weights = 0;
  for (size_t j = 0; j < groups_.size(); ++j) {
    int64_t each = 0;
    sum += groups_[j].count * least_priced(groups_[j], price_of(j, price), &each);
    weights += price_of(j, 1) * double(groups_[j].count * each);
  }
  *weight = int64_t(std::ceil(weights + floor_value(1)));
  return sum;
}

// The Lagrangian is concave in the price; its slope is the weight over the capacity, which is
// the free one below the slope's price.
void Knapsack::find_price() {
  int64_t weight = 0;
  double low = 0, high = 0;
  const auto over = [&](double price) {
    value(price, &weight);
    return weight > (price < slope_ ? free_ : capacity_);
  };
  double best = value(0, &weight);
  if (over(0)) {
    for (high = 1e-6; over(high) && high < 1e18;) high *= 8;
    for (int i = 0; i < 80 && high - low > 1e-12 * high; ++i) {
      const double middle = (low + high) / 2;
      (over(middle) ? low : high) = middle;
    }
    int64_t ignored = 0;
    const double at_low = value(low, &ignored), at_high = value(high, &ignored);
    price_ = at_low > at_high ? low : high;
    best = std::max(at_low, at_high);
  }
  relaxed_ = int64_t(std::ceil(best - kSlack));
  worth_ = worth(free_, capacity_);
  before_.assign(1, 0);
  for (size_t j = 0; j < groups_.size(); ++j) {
    const double each = least_priced(groups_[j], price_of(j, price_), &weight);
    before_.push_back(before_.back() + groups_[j].count * each);
  }
}

// What a pair of a group's front may be, for a total below the cutoff.
Knapsack::Promise Knapsack::promise(size_t group, double ahead) const {
  double others = before_[group] + ahead - worth_;
  if (group >= floor_.group || floor_.open) others += floor_value(price_);
  if (group < floor_.group && floor_.open) others += before_.back() - before_[floor_.group];
  return {capacity_ - least_before_[group], price_of(group, price_),
          double(cutoff_) + kSlack - others};
}

// merged_ = the front of a and of b moved by (weight, cost), less what does not promise.
void Knapsack::merge(const std::vector<Pair>& a, const std::vector<Pair>& b, int64_t weight,
                     int64_t cost, size_t group, double ahead) {
  const Promise promise = this->promise(group, ahead);
  merged_.resize(a.size() + b.size());
  Pair* out = merged_.data();
  int64_t least = std::numeric_limits<int64_t>::max();  // cost so far
  const auto take = [&](const Pair& next) {
    if (next.cost >= least || !promise.holds(next)) return;
    least = next.cost;
    *out++ = next;
  };
  const Pair *i = a.data(), *j = b.data();
  const Pair *const a_end = i + a.size(), *const b_end = j + b.size();
  while (i < a_end && j < b_end) {
    const Pair moved = {j->weight + weight, j->cost + cost};
    const bool from_a =
        i->weight < moved.weight || (i->weight == moved.weight && i->cost <= moved.cost);
    take(from_a ? *i : moved);
    i += from_a;
    j += !from_a;
  }
  for (; i < a_end; ++i) take(*i);
  for (; j < b_end; ++j) take({j->weight + weight, j->cost + cost});
  merged_.resize(size_t(out - merged_.data()));
}

// Two options: all members take the lighter one, then blocks of 1, 2, 4, ... members change.
void Knapsack::add_two(size_t group, std::vector<Pair>& front) {
  const KnapsackGroup& g = groups_[group];
  const int64_t weight = g.options[1].weight - g.options[0].weight;
  const int64_t cost = g.options[1].cost - g.options[0].cost;
  const double gain = std::min(0.0, double(cost) + price_of(group, price_) * double(weight));
  for (Pair& pair : front) {
    pair.weight += g.count * g.options[0].weight;
    pair.cost += g.count * g.options[0].cost;
  }
  for (int32_t left = g.count, block = 1; left > 0; block *= 2) {
    const int32_t members = std::min(block, left);
    left -= members;
    merge(front, front, members * weight, members * cost, group, left * gain);
    front.swap(merged_);
  }
}

void Knapsack::add_many(size_t group, std::vector<Pair>& front) {
  const KnapsackGroup& g = groups_[group];
  int64_t ignored = 0;
  const double each = least_priced(g, price_of(group, price_), &ignored);
  std::vector<Pair> sum;
  for (int32_t left = g.count - 1; left >= 0; --left) {
    sum.clear();
    for (const KnapsackOption& option : g.options) {
      merge(sum, front, option.weight, option.cost, group, left * each);
      sum.swap(merged_);
    }
    front.swap(sum);
  }
}

bool Knapsack::build(int64_t cutoff, size_t limit) {
  cutoff_ = cutoff;
  pairs_ = 1;
  fronts_.back().assign(1, {0, 0});
  if (floor_.group == groups_.size() && !floor_.open) raise(fronts_.back());
  trees_.resize(fronts_.size());
  if (slope_ > 0) plant(groups_.size());
  std::vector<Pair> front = fronts_.back();
  for (size_t j = groups_.size(); j-- > 0;) {
    if (groups_[j].options.size() <= 2 && groups_[j].options.size() > 1) {
      add_two(j, front);
    } else {
      add_many(j, front);
    }
    if (j == floor_.group && !floor_.open) raise(front);
    fronts_[j] = front;
    if (j == floor_.group && floor_.open) front.assign(1, {0, 0});
    if (slope_ > 0) plant(j);
    pairs_ += front.size();
    if (pairs_ > limit) return false;
  }
  return true;
}

// What weighs less than the floor weighs as much.
void Knapsack::raise(std::vector<Pair>& front) const {
  const auto above = std::upper_bound(front.begin(), front.end(), floor_.weight,
                                      [](int64_t w, const Pair& p) { return w < p.weight; });
  if (above == front.begin()) return;
  front.erase(front.begin(), std::prev(above));
  front.front().weight = floor_.weight;
}

// A complete binary tree of minima, leaves last.
void Knapsack::plant(size_t group) {
  const std::vector<Pair>& front = fronts_[group];
  std::vector<double>& tree = trees_[group];
  tree.assign(2 * front.size(), 0);
  for (size_t i = 0; i < front.size(); ++i) {
    tree[front.size() + i] = double(front[i].cost) + slope_ * double(front[i].weight);
  }
  for (size_t i = front.size(); i-- > 1;) tree[i] = std::min(tree[2 * i], tree[2 * i + 1]);
}

int64_t Knapsack::least_sloped(size_t group, int64_t free, int64_t capacity) const {
  const std::vector<Pair>& front = fronts_[group];
  const auto beyond = [&](int64_t limit) {
    return size_t(std::upper_bound(front.begin(), front.end(), limit,
                                   [](int64_t c, const Pair& p) { return c < p.weight; }) -
                  front.begin());
  };
  const size_t none = beyond(free), first = beyond(std::min(capacity, free + jump_));
  const size_t last = beyond(capacity);
  double best = none > 0 ? double(front[none - 1].cost) : double(kNoCost);
  if (first > none) best = std::min(best, double(front[first - 1].cost) + slope_ * double(jump_));
  const std::vector<double>& tree = trees_[group];
  double sloped = double(kNoCost);
  for (size_t l = first + front.size(), r = last + front.size(); l < r; l /= 2, r /= 2) {
    if (l & 1) sloped = std::min(sloped, tree[l++]);
    if (r & 1) sloped = std::min(sloped, tree[--r]);
  }
  best = std::min(best, sloped - slope_ * double(free));
  // Costs are whole numbers; what doubles lose of sums below 10^13 is less than this.
  return best >= double(kNoCost) / 2 ? kNoCost : int64_t(std::ceil(best - 0.01));
}

int64_t Knapsack::least_above(size_t group, int64_t floor, int64_t free, int64_t capacity) const {
  const std::vector<Pair>& late = fronts_[floor_.group];
  auto pair = std::upper_bound(late.begin(), late.end(), floor,
                               [](int64_t f, const Pair& p) { return f < p.weight; });
  // Of those below the floor the last costs least.
  if (pair != late.begin()) --pair;
  int64_t best = kNoCost;
  for (; pair != late.end(); ++pair) {
    const int64_t weight = std::max(pair->weight, floor);
    if (weight > capacity) break;
    const int64_t early = slope_ > 0 ? least_sloped(group, free - weight, capacity - weight)
                                     : least(group, capacity - weight);
    if (early < kNoCost) best = std::min(best, pair->cost + early);
  }
  return best;
}

int64_t Knapsack::least(size_t group, int64_t capacity) const {
  const std::vector<Pair>& front = fronts_[group];
  const auto beyond = std::upper_bound(front.begin(), front.end(), capacity,
                                       [](int64_t c, const Pair& p) { return c < p.weight; });
  return beyond == front.begin() ? kNoCost : std::prev(beyond)->cost;
}

}  // namespace rc
