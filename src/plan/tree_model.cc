// src/plan/tree_model.cc: see tree_model.h.
#include "src/plan/tree_model.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <set>
#include <utility>

namespace rc {
namespace {

constexpr int kMostPivots = 2000, kMostRounds = 40;
constexpr size_t kMostDivisors = 40, kMostRatios = 8, kMostRows = 64, kFewRows = 14;
constexpr int64_t kMostTimes = 64;
constexpr double kTooLarge = 0x1p100;  // of sums of which a few thousand are added in 128 bits

// The largest difference between two options of a class: what a row is scaled by.
double span(const TreeRow& row) {
  int64_t most = 1;
  for (const auto& weights : row.weight)
    for (const int64_t weight : weights) most = std::max(most, std::abs(weight - weights[0]));
  return double(most);
}

}  // namespace

TreeModel::TreeModel(const CountProblem& problem, size_t most_added, int most_idle)
    : problem_(problem),
      most_added_(most_added),
      most_idle_(most_idle),
      classes_(classes_of(problem)) {
  double dearest = 1;
  for (const TreeClass& cls : classes_) {
    for (const TreeOption& option : cls.options) {
      dearest = std::max(dearest, double(option.cost));
      cost_unit_ = std::gcd(cost_unit_, option.cost);
    }
    variable_.emplace_back(cls.options.size());
    for (size_t o = 1; o < cls.options.size(); ++o) variable_.back()[o] = columns_++;
  }
  cost_unit_ = std::max<int64_t>(cost_unit_, 1);
  cost_scale_ = 1 / dearest;
  for (const TreeClass& cls : classes_) ties_ += cls.options.size() > 2;
  for (size_t r = 0; r < problem.rows.size(); ++r) rows_.push_back(plain_row(problem, classes_, r));
  idle_.assign(rows_.size(), 0);
  first_ = rows_.size();
  if (most_added > 0) round_rows();
}

void TreeModel::round_rows() {
  double before = -1;
  int still = 0;
  for (int round = 0; round < kMostRounds; ++round) {
    first_ = rows_.size();
    BoundedLp lp = program();
    if (lp.solve(kMostPivots) != LpOutcome::kOptimal) return;
    still = lp.objective() > before * (1 + 1e-5) ? 0 : still + 1;
    if (still == 0) before = lp.objective();
    const bool last = still > most_idle_ || round + 1 == kMostRounds;
    const bool more = !last && add_rounded(lp);
    drop_loose(lp, last ? 0 : most_idle_);
    first_ = rows_.size();
    if (!more) return;
  }
}

// Rounded rows without a price for some rounds, but for those that others are made of.
void TreeModel::drop_loose(const BoundedLp& lp, int most_idle) {
  std::vector<uint8_t> needed(rows_.size(), 0);
  for (size_t r = rows_.size(); r-- > 0;) {
    idle_[r] = r < problem_.rows.size() || price(lp, r) > 0 ? 0 : idle_[r] + 1;
    if (idle_[r] <= most_idle) needed[r] = 1;
    for (size_t q = 0; needed[r] != 0 && q < rows_[r].factors.size(); ++q)
      if (rows_[r].factors[q] != 0) needed[q] = 1;
  }
  std::vector<TreeRow> kept;
  std::vector<int> idle;
  for (size_t r = 0; r < rows_.size(); ++r) {
    if (needed[r] == 0) continue;
    std::vector<int64_t> factors;
    for (size_t q = 0; q < rows_[r].factors.size(); ++q)
      if (needed[q] != 0) factors.push_back(rows_[r].factors[q]);
    rows_[r].factors = std::move(factors);
    kept.push_back(std::move(rows_[r]));
    idle.push_back(idle_[r]);
  }
  rows_ = std::move(kept);
  idle_ = std::move(idle);
}

// By how much the program's solution breaks it, in its largest weights.
double TreeModel::violation(const BoundedLp& lp, const TreeRow& row) const {
  double over = -double(row.capacity), norm = 0;
  for (size_t k = 0; k < classes_.size(); ++k) {
    over += double(row.weight[k][0]) * classes_[k].count;
    for (size_t o = 1; o < row.weight[k].size(); ++o) {
      const double weight = double(row.weight[k][o] - row.weight[k][0]);
      over += weight * lp.value(variable_[k][o]);
      norm += weight * weight;
    }
  }
  return norm > 0 ? over / std::sqrt(norm) : 0;
}

bool TreeModel::best_rounded(const BoundedLp& lp, const TreeRow& sum,
                             const std::vector<size_t>& bases, TreeRow* best) const {
  std::set<int64_t> sizes, divisors;
  for (size_t k = 0; k < classes_.size(); ++k)
    for (const int64_t weight : sum.weight[k])
      if (weight != sum.weight[k][bases[k]])
        sizes.insert(std::abs(weight - sum.weight[k][bases[k]]));
  // Sizes, their simple parts, and what two of them share.
  for (const int64_t size : sizes) {
    if (divisors.size() > kMostDivisors) break;
    for (const int64_t part : {1, 2, 3, 4, 8}) divisors.insert(std::max<int64_t>(1, size / part));
  }
  for (const int64_t size : sizes)
    for (const int64_t other : sizes)
      if (other < size && divisors.size() < 2 * kMostDivisors)
        divisors.insert(std::gcd(size, other));
  double most = 1e-6;
  for (const int64_t divisor : divisors) {
    TreeRow rounded;
    if (!round_row(classes_, sum, divisor, bases, &rounded)) continue;
    const double by = violation(lp, rounded);
    if (by <= most) continue;
    most = by;
    *best = std::move(rounded);
  }
  return most > 1e-6;
}

// How many times one row added to another makes two options of a class take the same.
std::set<int64_t> TreeModel::times_of(size_t row, size_t other) const {
  std::set<int64_t> times;
  for (size_t k = 0; k < classes_.size(); ++k) {
    const std::vector<int64_t>&a = rows_[row].weight[k], &b = rows_[other].weight[k];
    for (size_t o = 1; o < a.size(); ++o) {
      for (size_t p = 0; p < o; ++p) {
        const int64_t more = a[p] - a[o], less = b[o] - b[p];
        if (less == 0 || more % less != 0) continue;
        const int64_t n = more / less;
        if (n > 0 && n <= kMostTimes && times.size() < kMostRatios) times.insert(n);
      }
    }
  }
  return times;
}

// The rounded rows that cut most off the program's solution: made of tight rows, and of two plain
// ones where that leaves some options no difference.
bool TreeModel::add_rounded(const BoundedLp& lp) {
  if (rows_.size() + most_added_ > kMostRows) return false;
  std::vector<size_t> bases;
  for (size_t k = 0; k < classes_.size(); ++k) {
    size_t base = 0;
    for (size_t o = 1; o < classes_[k].options.size(); ++o)
      if (value(lp, k, o) > value(lp, k, base)) base = o;
    bases.push_back(base);
  }
  std::vector<std::pair<double, TreeRow>> found;
  const auto round = [&](size_t r, size_t q, int64_t times) {
    std::vector<int64_t> factors(rows_.size(), 0);
    factors[r] = 1;
    if (times > 0) factors[q] = times;
    TreeRow sum;
    if (!add_rows(rows_, factors, &sum)) return;
    std::vector<size_t> lightest;
    for (const std::vector<int64_t>& weights : sum.weight)
      lightest.push_back(
          size_t(std::min_element(weights.begin(), weights.end()) - weights.begin()));
    for (const std::vector<size_t>& form : {bases, lightest}) {
      TreeRow best;
      if (best_rounded(lp, sum, form, &best))
        found.push_back({-violation(lp, best), std::move(best)});
    }
  };
  for (size_t r = 0; r < rows_.size(); ++r) {
    if (price(lp, r) <= 0) continue;
    round(r, r, 0);
    for (size_t q = 0; q < rows_.size(); ++q) {
      if (q == r || price(lp, q) <= 0) continue;
      if (r < problem_.rows.size() && q < problem_.rows.size()) {
        for (const int64_t times : times_of(r, q)) round(r, q, times);
      } else if (q < r && rows_.size() < kFewRows) {
        round(r, q, 1);
      }
    }
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  for (size_t i = 0; i < std::min(found.size(), most_added_); ++i) {
    rows_.push_back(std::move(found[i].second));
    idle_.push_back(-1);
  }
  return !found.empty();
}

// Of the columns; returns the right side.
double TreeModel::coefficients(size_t row, double* a) const {
  const double scale = 1 / span(rows_[row]);
  double right = double(rows_[row].capacity);
  for (size_t k = 0; k < classes_.size(); ++k) {
    const std::vector<int64_t>& weight = rows_[row].weight[k];
    right -= double(weight[0]) * classes_[k].count;
    for (size_t o = 1; o < weight.size(); ++o)
      a[variable_[k][o]] = double(weight[o] - weight[0]) * scale;
  }
  return right * scale;
}

void TreeModel::complete(BoundedLp* lp) const {
  std::vector<double> a(columns_, 0);
  for (size_t r = lp->rows() - ties_; r < rows_.size(); ++r) {
    const double right = coefficients(r, a.data());
    lp->add_row(a, right);
  }
}

BoundedLp TreeModel::program() const {
  const size_t all = first_ + ties_;
  std::vector<double> a(all * columns_, 0), b(all), cost(columns_), low(all + columns_, 0),
      high(all + columns_, std::numeric_limits<double>::infinity());
  for (size_t r = 0; r < first_; ++r) b[r] = coefficients(r, a.data() + r * columns_);
  size_t tie = first_;
  for (size_t k = 0; k < classes_.size(); ++k) {
    const TreeClass& cls = classes_[k];
    const bool tied = cls.options.size() > 2;
    for (size_t o = 1; o < cls.options.size(); ++o) {
      cost[variable_[k][o]] = double(cls.options[o].cost - cls.options[0].cost) * cost_scale_;
      high[variable_[k][o]] = cls.count;
      if (tied) a[tie * columns_ + variable_[k][o]] = 1;
    }
    if (!tied) continue;
    b[tie] = high[columns_ + tie] = cls.count;
    ++tie;
  }
  return BoundedLp(std::move(a), std::move(b), std::move(cost), std::move(low), std::move(high));
}

double TreeModel::value(const BoundedLp& lp, size_t cls, size_t option) const {
  if (option > 0) return lp.value(variable_[cls][option]);
  double left = classes_[cls].count;
  for (size_t o = 1; o < classes_[cls].options.size(); ++o) left -= lp.value(variable_[cls][o]);
  return left;
}

std::vector<std::vector<int32_t>> TreeModel::counts_of(const BoundedLp& lp) const {
  std::vector<std::vector<int32_t>> counts;
  for (size_t k = 0; k < classes_.size(); ++k) {
    counts.emplace_back(classes_[k].options.size(), 0);
    int32_t rest = classes_[k].count;
    for (size_t o = counts[k].size(); o-- > 1;) {
      counts[k][o] = std::clamp(int32_t(std::lround(value(lp, k, o))), 0, rest);
      rest -= counts[k][o];
    }
    counts[k][0] = rest;
  }
  return counts;
}

void TreeModel::give(const std::vector<std::vector<int32_t>>& counts, CountResult* result) const {
  result->found = true;
  result->cost = 0;
  result->counts.assign(problem_.groups.size(), {});
  for (size_t k = 0; k < counts.size(); ++k) {
    const TreeClass& cls = classes_[k];
    std::vector<int32_t> left = counts[k];
    for (size_t o = 0; o < left.size(); ++o) result->cost += left[o] * cls.options[o].cost;
    for (size_t g = 0; g < cls.groups.size(); ++g) {
      int32_t room = int32_t(problem_.groups[cls.groups[g]].places.size());
      for (size_t o = 0; o < left.size(); ++o) {
        const int32_t taken = std::min(room, left[o]);
        result->counts[cls.groups[g]][cls.option[g][o]] += taken;
        left[o] -= taken;
        room -= taken;
      }
    }
  }
}

TreeBox TreeModel::whole() const {
  TreeBox box;
  for (const TreeClass& cls : classes_) {
    box.low.emplace_back(cls.options.size(), 0);
    box.high.emplace_back(cls.options.size(), cls.count);
  }
  return box;
}

double TreeModel::true_price(const BoundedLp& lp, size_t row) const {
  return price(lp, row) / (cost_scale_ * span(rows_[row]));
}

int64_t TreeModel::in_bits(double price, size_t row) const {
  const double each = price / (cost_scale_ * span(rows_[row]));
  return std::llround(std::min(each * double(int64_t(1) << kPriceBits), 0x1p61));
}

std::vector<int64_t> TreeModel::prices_of(const BoundedLp& lp) const {
  std::vector<int64_t> prices;
  for (size_t r = 0; r < rows_.size() && place(r) < lp.rows(); ++r)
    prices.push_back(in_bits(price(lp, r), r));
  return prices;
}

std::vector<int64_t> TreeModel::rays_of(const BoundedLp& lp, double scale) const {
  std::vector<int64_t> prices;
  for (size_t r = 0; r < rows_.size() && place(r) < lp.rows(); ++r)
    prices.push_back(in_bits(scale * lp.ray(place(r)), r));
  return prices;
}

bool TreeModel::bound(const TreeBox& box, const std::vector<int64_t>& prices,
                      TreeWide* bound) const {
  TreeWide sum = 0;
  for (size_t r = 0; r < prices.size(); ++r) {
    if (double(prices[r]) * (span(rows_[r]) + std::abs(double(rows_[r].capacity))) < kTooLarge)
      continue;
    *bound = -1;
    return true;
  }
  for (size_t r = 0; r < prices.size(); ++r) sum -= TreeWide(prices[r]) * rows_[r].capacity;
  std::vector<std::pair<TreeWide, size_t>> priced;
  for (size_t k = 0; k < classes_.size(); ++k) {
    const TreeClass& cls = classes_[k];
    int64_t left = cls.count;
    priced.clear();
    for (size_t o = 0; o < cls.options.size(); ++o) {
      TreeWide each = TreeWide(cls.options[o].cost) << kPriceBits;
      for (size_t r = 0; r < prices.size(); ++r)
        if (prices[r] > 0) each += TreeWide(prices[r]) * rows_[r].weight[k][o];
      if (box.low[k][o] > box.high[k][o]) return false;
      sum += each * box.low[k][o];
      left -= box.low[k][o];
      priced.push_back({each, o});
    }
    if (left < 0) return false;
    std::sort(priced.begin(), priced.end());
    for (const auto& [each, o] : priced) {
      const int64_t more = std::min<int64_t>(left, box.high[k][o] - box.low[k][o]);
      sum += each * more;
      left -= more;
    }
    if (left > 0) return false;
  }
  *bound = sum;
  return true;
}

}  // namespace rc
