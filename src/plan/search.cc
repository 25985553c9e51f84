// src/plan/search.cc: see search.h.
#include "src/plan/search.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "src/plan/greedy.h"

namespace rc {
namespace {

int64_t scaled(int64_t value, int64_t part, int64_t whole) {
  return int64_t(__int128(value) * part / whole);
}

// Relief by the link first; then large members, so that small ones fill gaps.
bool goes_before(const CountGroup& a, const CountGroup& b) {
  const bool moves_a = a.shared_option >= 0, moves_b = b.shared_option >= 0;
  if (moves_a != moves_b) return moves_a;
  if (moves_a) {
    if (relieves_more(a, b)) return true;
    if (relieves_more(b, a)) return false;
  }
  const auto size = [](const CountGroup& g) {
    int64_t most = 0;
    for (const CountOption& option : g.options) {
      if (!option.use.empty()) most = std::max(most, option.use[0]);
    }
    return most;
  };
  return size(a) > size(b);
}

}  // namespace

CountSearch::CountSearch(const CountProblem& problem) : problem_(problem) {
  unit_ = 0;
  for (const CountGroup& group : problem.groups)
    for (const CountOption& option : group.options) unit_ = std::gcd(unit_, option.cost);
  unit_ = std::max<int64_t>(unit_, 1);
  order_groups();
  exact_ = link_order_is_total();
  if (problem.rows.size() > kMaxRows) {
    exhausted_ = false;
    return;
  }
  bool any_memory = false;
  for (size_t r = 0; r < problem.rows.size(); ++r) {
    any_memory = any_memory || problem.rows[r].kind == RowKind::kMemory;
    if (problem.rows[r].kind == RowKind::kMemory) add_bounds_of_row(r);
  }
  if (!any_memory) {
    add_bound(std::vector<int64_t>(problem.rows.size(), 0),
              std::vector<double>(problem.rows.size(), 0));
  }
  if (problem.shared_link) add_pair_bounds();
  prepare_least_net();
  path_.resize(order_.size());
  children_.resize(order_.size() + 1);
}

// What the groups from each depth on take of a row at least, with all the link in the world.
void CountSearch::prepare_least_net() {
  least_net_.assign(order_.size() + 1, Uses{});
  for (size_t j = order_.size(); j-- > 0;) {
    const CountGroup& group = problem_.groups[order_[j]];
    for (size_t r = 0; r < problem_.rows.size(); ++r) {
      int64_t least = kNoCost;
      for (size_t o = 0; o < group.options.size(); ++o) {
        const bool moves = group.shared_option == int32_t(o);
        const int64_t relief = moves ? std::max<int64_t>(0, group.relief[r]) : 0;
        least = std::min(least, group.options[o].use[r] - relief);
      }
      least_net_[j][r] = least_net_[j + 1][r] + least * int64_t(group.places.size());
    }
  }
  for (size_t r = 0; r < problem_.rows.size(); ++r) {
    feasible_ = feasible_ && least_net_[0][r] <= problem_.capacity[r];
  }
}

void CountSearch::order_groups() {
  order_.resize(problem_.groups.size());
  std::iota(order_.begin(), order_.end(), size_t(0));
  std::stable_sort(order_.begin(), order_.end(), [&](size_t a, size_t b) {
    return goes_before(problem_.groups[a], problem_.groups[b]);
  });
}

// The search lets the link relieve groups in its own order. That loses nothing where the order by
// relief per byte is the same for every row.
bool CountSearch::link_order_is_total() const {
  const CountGroup* before = nullptr;
  for (const size_t g : order_) {
    const CountGroup& group = problem_.groups[g];
    if (group.shared_option < 0) continue;
    for (size_t r = 0; r < group.relief.size(); ++r) {
      if (group.relief[r] < 0) return false;
      if (before != nullptr && __int128(before->relief[r]) * group.link_bytes <
                                   __int128(group.relief[r]) * before->link_bytes) {
        return false;
      }
    }
    before = &group;
  }
  return true;
}

int64_t CountSearch::weight(const CountOption& option, const std::vector<int64_t>& factor) const {
  int64_t sum = 0;
  for (size_t r = 0; r < factor.size(); ++r) sum += factor[r] * option.use[r];
  return sum;
}

// The most relief per byte that a shared link gives a row among the groups from each one on.
std::vector<int64_t> CountSearch::link_factors(size_t row) const {
  std::vector<int64_t> most(order_.size() + 1, 0);
  for (size_t j = order_.size(); j-- > 0;) {
    const CountGroup& group = problem_.groups[order_[j]];
    most[j] = most[j + 1];
    if (group.shared_option < 0 || group.link_bytes == 0) continue;
    const int64_t relief = std::max<int64_t>(0, group.relief[row]);
    most[j] = std::max(most[j], (relief + group.link_bytes - 1) / group.link_bytes);
  }
  return most;
}

void CountSearch::add_bound(const std::vector<int64_t>& factor, const std::vector<double>& price,
                            int64_t free, double slope) {
  std::vector<KnapsackGroup> groups;
  for (const size_t g : order_) {
    const CountGroup& group = problem_.groups[g];
    KnapsackGroup simple{int32_t(group.places.size()), {}};
    for (const CountOption& option : group.options) {
      double cost = 0;
      for (size_t r = 0; r < price.size(); ++r) cost += price[r] * double(option.use[r]);
      simple.options.push_back({weight(option, factor), option.cost + int64_t(std::floor(cost))});
    }
    groups.push_back(std::move(simple));
  }
  std::vector<int64_t> link_factor(order_.size() + 1, 0);
  std::vector<double> link_price(order_.size() + 1, 0);
  int64_t capacity = 0;
  double offset = 0;
  for (size_t r = 0; r < factor.size(); ++r) {
    capacity += factor[r] * problem_.capacity[r];
    offset += price[r] * double(problem_.capacity[r]);
    if (!problem_.shared_link) continue;
    if (factor[r] > 0) link_factor = link_factors(r);
    if (price[r] == 0) continue;
    const std::vector<int64_t> relief = link_factors(r);
    for (size_t j = 0; j < relief.size(); ++j) link_price[j] += price[r] * double(relief[j]);
  }
  offset += link_price[0] * double(problem_.link);
  capacity += link_factor[0] * problem_.link;
  const Knapsack knapsack(groups, capacity, slope > 0 ? free : capacity, slope);
  bounds_.push_back({factor, price, link_factor, knapsack, offset, link_price, {}});
  Bound& bound = bounds_.back();
  feasible_ = feasible_ && bound.knapsack.feasible();
  bound.tail.assign(order_.size() + 1, 0);
  for (size_t j = order_.size(); j-- > 0;) {
    double least = 0;
    for (size_t o = 0; o < groups[j].options.size(); ++o) {
      const KnapsackOption& option = groups[j].options[o];
      const double value = double(option.cost) + bound.knapsack.price() * double(option.weight);
      least = o == 0 ? value : std::min(least, value);
    }
    bound.tail[j] = bound.tail[j + 1] + groups[j].count * least;
  }
}

// The price of a row under which the knapsack of another one bounds best; any is valid.
double CountSearch::best_price(size_t row, size_t priced_row) {
  const auto capacity = [&](size_t r) {
    const bool memory = problem_.rows[r].kind == RowKind::kMemory;
    const int64_t relief =
        memory && problem_.shared_link ? shared_link_factor(problem_, r) * problem_.link : 0;
    return problem_.capacity[r] + relief;
  };
  const auto value = [&](double price) {
    std::vector<KnapsackGroup> groups;
    for (const CountGroup& group : problem_.groups) {
      KnapsackGroup simple{int32_t(group.places.size()), {}};
      for (const CountOption& option : group.options) {
        simple.options.push_back(
            {option.use[row],
             option.cost + int64_t(std::floor(price * double(option.use[priced_row])))});
      }
      groups.push_back(std::move(simple));
    }
    const Knapsack knapsack(std::move(groups), capacity(row));
    return double(knapsack.relaxed()) - price * double(capacity(priced_row));
  };
  double low = 0, high = std::max(1.0, 2 * bounds_[0].knapsack.price());
  for (int i = 0; i < 18; ++i) {
    const double a = low + (high - low) / 3, b = high - (high - low) / 3;
    (value(a) < value(b) ? low : high) = value(a) < value(b) ? a : b;
  }
  return (low + high) / 2;
}

// One memory row exact, another one priced: where two are tight, neither alone bounds well.
void CountSearch::add_pair_bounds() {
  constexpr size_t kMostPairRows = 3;
  std::vector<size_t> memory;
  for (size_t r = 0; r < problem_.rows.size(); ++r) {
    if (problem_.rows[r].kind == RowKind::kMemory) memory.push_back(r);
  }
  if (memory.size() < 2 || memory.size() > kMostPairRows || !feasible_) return;
  for (const size_t r : memory) {
    for (const size_t q : memory) {
      if (q == r) continue;
      std::vector<int64_t> factor(problem_.rows.size(), 0);
      std::vector<double> price(problem_.rows.size(), 0);
      factor[r] = 1;
      price[q] = best_price(r, q);
      // Next to nothing: the other row is not tight.
      if (price[q] > 1e-3 * bounds_[0].knapsack.price()) add_bound(factor, price);
    }
  }
}

// Memory and link together: what leaves the device by the link counts no less than it frees. The
// cheapest byte of link is taken out of the costs and charged by how much must go over it.
void CountSearch::add_sloped_bound(size_t row, size_t link_row) {
  double cheapest = -1;
  for (const CountGroup& group : problem_.groups) {
    for (const CountOption& option : group.options) {
      if (option.use[link_row] == 0) continue;
      const double each = double(option.cost) / double(option.use[link_row]);
      cheapest = cheapest < 0 ? each : std::min(cheapest, each);
    }
  }
  const size_t rows = problem_.rows.size();
  std::vector<int64_t> factor(rows, 0);
  std::vector<double> price(rows, 0);
  factor[row] = 1;
  factor[link_row] = link_factor(problem_, row, link_row);
  price[link_row] = -std::max(0.0, cheapest);
  const double slope = -price[link_row] / double(factor[link_row]);
  add_bound(factor, price, problem_.capacity[row], slope);
  Bound& bound = bounds_.back();
  bound.slope = slope;
  bound.slope_row = row;
  bound.price.assign(rows, 0);
  bound.discount = price;
  bound.offset = 0;
}

void CountSearch::add_bounds_of_row(size_t row) {
  const size_t rows = problem_.rows.size();
  std::vector<int64_t> factor(rows, 0);
  std::vector<double> price(rows, 0);
  factor[row] = 1;
  std::vector<size_t> links;
  for (size_t r = 0; r < rows; ++r) {
    if (problem_.rows[r].kind != RowKind::kMemory) links.push_back(r);
  }
  if (links.empty()) {
    add_bound(factor, price);
    return;
  }
  for (const size_t q : links) {
    add_sloped_bound(row, q);
    if (!feasible_) return;
    std::vector<double> priced = price;
    priced[q] = best_price(row, q);
    add_bound(factor, priced);
  }
}

int64_t CountSearch::bound_at(size_t depth, int64_t cost, const Uses& left, int64_t link) const {
  int64_t best = 0;
  for (const Bound& bound : bounds_) {
    int64_t capacity = bound.link_factor[depth] * link;
    double priced = bound.link_price[depth] * double(link);
    for (size_t r = 0; r < bound.factor.size(); ++r) {
      capacity += bound.factor[r] * left[r];
      priced += bound.price[r] * double(left[r]);
    }
    const int64_t least = bound.slope > 0
                              ? bound.knapsack.least_sloped(depth, left[bound.slope_row], capacity)
                              : bound.knapsack.least(depth, capacity);
    if (least == kNoCost) return kNoCost;
    const int64_t total =
        priced == 0 ? cost + least : int64_t(std::ceil(double(cost + least) - priced - 1));
    best = std::max(best, total);
  }
  return rounded_up(best);
}

// Costs are whole units.
int64_t CountSearch::rounded_up(int64_t cost) const {
  return unit_ == 1 || cost <= 0 ? cost : (cost + unit_ - 1) / unit_ * unit_;
}

double CountSearch::reduced(size_t depth, size_t option) const {
  const Bound& bound = bounds_[0];
  const CountGroup& group = problem_.groups[order_[depth]];
  if (group.places.empty()) return 0;
  const CountOption& mine = group.options[option];
  double cost = double(mine.cost);
  for (size_t r = 0; r < bound.price.size(); ++r) {
    cost +=
        (bound.price[r] + (bound.discount.empty() ? 0 : bound.discount[r])) * double(mine.use[r]);
  }
  return cost + bound.knapsack.price() * double(weight(mine, bound.factor)) -
         (bound.tail[depth] - bound.tail[depth + 1]) / double(group.places.size());
}

// Gives `members` of the group the option; false where a row has no room for that.
bool CountSearch::take(size_t depth, size_t option, int32_t members, Child& child) const {
  const CountGroup& group = problem_.groups[order_[depth]];
  const CountOption& mine = group.options[option];
  child.counts[option] = members;
  child.cost += members * mine.cost;
  int64_t moved = 0;
  const int64_t whole = group.link_bytes * members;
  if (group.shared_option == int32_t(option)) moved = std::min(child.link, whole);
  child.link -= moved;
  bool fits = true;
  for (size_t r = 0; r < problem_.rows.size(); ++r) {
    child.left[r] -= members * mine.use[r];
    if (moved > 0) child.left[r] += scaled(group.relief[r] * members, moved, whole);
    fits = fits && child.left[r] >= least_net_[depth + 1][r];
  }
  return fits;
}

void CountSearch::expand(size_t depth, size_t option, int32_t members, double slack, Child& child) {
  const CountGroup& group = problem_.groups[order_[depth]];
  if (option + 1 == group.options.size()) {
    Child last = child;
    if (double(members) * reduced(depth, option) > slack) return;
    if (!take(depth, option, members, last)) return;
    last.bound = bound_at(depth + 1, last.cost, last.left, last.link);
    if (last.bound < cutoff_) children_[depth].push_back(last);
    return;
  }
  const double each = reduced(depth, option);
  for (int32_t n = 0; n <= members && n * each <= slack; ++n) {
    Child next = child;
    if (!take(depth, option, n, next)) break;
    expand(depth, option + 1, members - n, slack - n * each, next);
  }
}

void CountSearch::descend(size_t depth, int64_t cost, const Uses& left, int64_t link) {
  if (depth == order_.size()) {
    for (size_t r = 0; r < problem_.rows.size(); ++r) {
      if (left[r] < 0) return;
    }
    result_.found = true;
    result_.cost = cutoff_ = cost;
    for (size_t j = 0; j < order_.size(); ++j) result_.counts[order_[j]] = path_[j];
    return;
  }
  ++result_.nodes;
  if (seen(depth, cost, left)) return;
  const Bound& bound = bounds_[0];
  int64_t capacity = bound.link_factor[depth] * link;
  double lagrangian = double(cost) + bound.tail[depth] - bound.link_price[depth] * double(link);
  for (size_t r = 0; r < bound.factor.size(); ++r) {
    capacity += bound.factor[r] * left[r];
    lagrangian -= bound.price[r] * double(left[r]);
  }
  lagrangian -= bound.knapsack.worth(left[bound.slope_row], capacity);
  children_[depth].clear();
  Child child{0, cost, link, {}, left};
  expand(depth, 0, int32_t(problem_.groups[order_[depth]].places.size()),
         double(cutoff_) - lagrangian + 2 + double(problem_.groups[order_[depth]].places.size()),
         child);
  std::sort(children_[depth].begin(), children_[depth].end(),
            [](const Child& a, const Child& b) { return a.bound < b.bound; });
  for (size_t i = 0; i < children_[depth].size(); ++i) {
    const Child next = children_[depth][i];
    if (next.bound >= cutoff_) break;
    if (stopped() || (result_.found && result_.cost <= floor_)) return;
    path_[depth] = next.counts;
    descend(depth + 1, next.cost, next.left, next.link);
  }
}

bool CountSearch::stopped() {
  if (result_.nodes >= round_end_ || (result_.nodes % 64 == 0 && limits_.late()))
    exhausted_ = false;
  return !exhausted_;
}

// Whether the same groups with the same room were met before at no higher cost.
bool CountSearch::seen(size_t depth, int64_t cost, const Uses& left) {
  constexpr size_t kMostSeen = 1 << 20;
  if (problem_.rows.size() < 2 || problem_.rows.size() > kSeenRows || problem_.shared_link) {
    return false;
  }
  SeenKey key{int64_t(depth), {}};
  std::copy_n(left.begin(), problem_.rows.size(), key.left.begin());
  const auto at = seen_.find(key);
  if (at == seen_.end()) {
    if (seen_.size() < kMostSeen) seen_.emplace(key, cost);
    return false;
  }
  if (at->second <= cost) return true;
  at->second = cost;
  return false;
}

std::vector<double> CountSearch::prices() const {
  std::vector<double> prices(problem_.rows.size(), 0);
  if (bounds_.empty()) return prices;
  const Bound* best = &bounds_[0];
  for (const Bound& bound : bounds_) {
    if (double(bound.knapsack.relaxed()) - bound.offset >
        double(best->knapsack.relaxed()) - best->offset) {
      best = &bound;
    }
  }
  for (size_t r = 0; r < prices.size(); ++r) {
    prices[r] = best->price[r] + best->knapsack.price() * double(best->factor[r]);
  }
  return prices;
}

CountResult CountSearch::run(const CountLimits& limits, int64_t known) {
  limits_ = limits;
  result_ = {};
  result_.counts.resize(order_.size());
  if (!exhausted_) return finish(CountOutcome::kLimit);
  if (!feasible_) return finish(CountOutcome::kInfeasible);
  int64_t most = 1;
  for (const CountGroup& group : problem_.groups) {
    int64_t dearest = 0;
    for (const CountOption& option : group.options) dearest = std::max(dearest, option.cost);
    most += dearest * int64_t(group.places.size());
  }
  most = std::min(most, known);
  for (const Bound& bound : bounds_) {
    floor_ = std::max(floor_, bound.knapsack.relaxed() - int64_t(std::floor(bound.offset)) - 1);
  }
  Uses left{};
  std::copy(problem_.capacity.begin(), problem_.capacity.end(), left.begin());
  if (problem_.rows.size() > 1) adopt_greedy();
  const int64_t link = problem_.shared_link ? problem_.link : 0;
  // Raises the cutoff from the relaxation until a solution lies below it. A round that grows long
  // is left for a larger cutoff, under which a first solution is found sooner.
  round_nodes_ = kFirstRound;
  for (int64_t step = std::max<int64_t>(2, (most - floor_) / 20000);; step *= 4) {
    cutoff_ = std::min({most, floor_ + step, result_.cost});
    const int64_t tried = cutoff_;
    for (Bound& bound : bounds_) {
      const int64_t shift = int64_t(std::ceil(bound.offset));
      if (bound.knapsack.build(cutoff_ + shift, limits.pairs)) continue;
      // Where many tensors cost the same per byte, fronts hold all their sums.
      return finish(CountOutcome::kLimit);
    }
    const int64_t root = bound_at(0, 0, left, link);
    if (root < tried) floor_ = std::max(floor_, root);
    exhausted_ = true;
    seen_.clear();
    round_end_ = std::min(limits.nodes, result_.nodes + round_nodes_);
    round_nodes_ *= 2;
    if (root < tried) descend(0, 0, left, link);
    if (root >= tried || (exhausted_ && exact_)) {
      floor_ = std::max(floor_, std::min(tried, result_.cost));
    }
    // Nothing below the cutoff was left out: what was found is the best, or all there is is dearer.
    if (exhausted_ && result_.found && result_.cost <= tried) return finish(CountOutcome::kSolved);
    if (exhausted_ && tried >= most) {
      if (known < kNoCost) result_.found = false;
      return finish(known < kNoCost ? CountOutcome::kSolved : CountOutcome::kInfeasible);
    }
    if (result_.nodes >= limits.nodes || limits_.late()) return finish(CountOutcome::kLimit);
  }
}

// A solution to start with, where finding one is not the search's first step.
void CountSearch::adopt_greedy() {
  CountResult greedy;
  if (!greedy_counts(problem_, prices(), greedy)) return;
  result_.found = true;
  result_.cost = greedy.cost;
  result_.counts = greedy.counts;
}

CountResult CountSearch::finish(CountOutcome outcome) {
  if (outcome == CountOutcome::kLimit && !result_.found && !bounds_.empty()) adopt_greedy();
  result_.outcome = outcome;
  result_.lower_bound = result_.found ? std::min(rounded_up(floor_), result_.cost) : floor_;
  return result_;
}

}  // namespace rc
