// src/budget/row_path.cc: see row_path.h.
//
// The prices follow subgradients with Polyak's step (B. Polyak, "Minimization of unsmooth
// functionals", 1969) towards the best plan's cost; every few rounds the cheapest path under
// raised prices is a plan.
#include "src/budget/row_path.h"

#include <algorithm>
#include <cmath>

namespace rc::budget {
namespace {

constexpr double kUnit = 1 << 20;  // of a price
constexpr int kMostRounds = 300;
constexpr uint64_t kMostEnumerated = 20'000;
constexpr int64_t kFar = INT64_MAX / 4;

// What a way asks of a row beyond the row's base.
int64_t use_of(const RowPath& rows, size_t row, size_t place, const PathWay& way) {
  const size_t end = place + way.layers, own = rows.place[row];
  const int64_t freed = rows.held[row][place] * way.kept;
  if (own < place || own >= end) return freed;
  const int64_t most =
      *std::max_element(rows.most.begin() + long(place), rows.most.begin() + long(end));
  return freed + way.transient + most - rows.most[own];
}

class RowSolver {
 public:
  RowSolver(const RowPath& rows, int64_t budget, const PathLimits& limits)
      : rows_(rows), ways_(rows.path.ways), budget_(budget), limits_(limits) {
    for (size_t p = 0; p < ways_.size(); ++p) {
      uses_.emplace_back();
      for (const PathWay& w : ways_[p]) {
        uses_.back().emplace_back();
        for (size_t r = 0; r < rows.base.size(); ++r)
          uses_.back().back().push_back(use_of(rows, r, p, w));
      }
    }
  }

  RowPathPlan run() {
    const size_t n = rows_.base.size();
    std::vector<double> prices(n, 0), best(n, 0);
    double best_value = 0, scale = 1;
    int since = 0;
    for (int round = 0; round < kMostRounds && !late(); ++round) {
      ++nodes_;
      double value = 0;
      const std::vector<PathStep> steps = cheapest(prices, &value);
      if (steps.empty() && n > 0) return {};
      const std::vector<int64_t> over = excess(steps);
      offer(steps, over);
      if (value > best_value || round == 0) {
        best_value = value;
        best = prices;
        since = 0;
      } else if (++since >= 12) {
        scale /= 2;
        since = 0;
        prices = best;
        if (scale < 1e-3) break;
        continue;
      }
      if (found_ && std::ceil(best_value - 0.5) >= double(cost_)) break;
      if (!move(over, scale, value, &prices)) break;
      if (round % 8 == 7) raise(best);
    }
    raise(best);
    improve();
    complete_ = enumerate(best);
    return answer(best);
  }

 private:
  bool late() const { return std::chrono::steady_clock::now() > limits_.deadline; }

  // Of cost + prices * use; value: the Lagrangian.
  std::vector<PathStep> cheapest(const std::vector<double>& prices, double* value) const {
    const size_t n = ways_.size();
    std::vector<double> behind(n + 1, double(kFar));
    std::vector<uint32_t> pick(n, 0);
    behind[n] = 0;
    for (size_t p = n; p-- > 0;) {
      for (uint32_t w = 0; w < ways_[p].size(); ++w) {
        const size_t to = p + ways_[p][w].layers;
        if (to > n || behind[to] >= double(kFar)) continue;
        double sum = double(ways_[p][w].cost) + behind[to];
        for (size_t r = 0; r < prices.size(); ++r)
          if (prices[r] > 0) sum += prices[r] * double(uses_[p][w][r]);
        if (sum >= behind[p]) continue;
        behind[p] = sum;
        pick[p] = w;
      }
    }
    std::vector<PathStep> steps;
    if (behind[0] >= double(kFar)) return steps;
    for (size_t p = 0; p < n; p += ways_[p][pick[p]].layers)
      steps.push_back({uint32_t(p), pick[p]});
    *value = behind[0];
    for (size_t r = 0; r < prices.size(); ++r)
      *value -= prices[r] * double(budget_ - rows_.base[r]);
    return steps;
  }

  std::vector<int64_t> excess(const std::vector<PathStep>& steps) const {
    std::vector<int64_t> over;
    for (size_t r = 0; r < rows_.base.size(); ++r) over.push_back(rows_.base[r] - budget_);
    for (const PathStep& s : steps)
      for (size_t r = 0; r < over.size(); ++r) over[r] += uses_[s.place][s.way][r];
    return over;
  }

  static bool fits(const std::vector<int64_t>& over) {
    return std::all_of(over.begin(), over.end(), [](int64_t o) { return o <= 0; });
  }

  bool offer(const std::vector<PathStep>& steps, const std::vector<int64_t>& over) {
    if (!fits(over)) return false;
    int64_t cost = 0;
    for (const PathStep& s : steps) cost += ways_[s.place][s.way].cost;
    if (found_ && cost >= cost_) return true;
    found_ = true;
    cost_ = cost;
    steps_ = steps;
    return true;
  }

  bool move(const std::vector<int64_t>& over, double scale, double value,
            std::vector<double>* prices) const {
    double norm = 0;
    for (size_t r = 0; r < over.size(); ++r)
      if (over[r] > 0 || (*prices)[r] > 0) norm += double(over[r]) * double(over[r]);
    if (norm == 0) return false;
    double aim = found_ ? double(cost_) : 2 * std::fabs(value) + dearest();
    aim = std::max(aim, value + 1);
    for (size_t r = 0; r < over.size(); ++r)
      (*prices)[r] = std::max(0.0, (*prices)[r] + scale * (aim - value) / norm * double(over[r]));
    return true;
  }

  double dearest() const {
    double sum = 0;
    for (const auto& ways : ways_) {
      int64_t most = 0;
      for (const PathWay& w : ways) most = std::max(most, w.cost);
      sum += double(most);
    }
    return sum;
  }

  // Prices so high that the cheapest path fits, as low as that can be.
  void raise(const std::vector<double>& prices) {
    const double floor = 1e-9 * (1 + dearest()) / (1 + std::fabs(double(budget_)));
    double low = 1, high = 0, factor = 1;
    for (int i = 0; i < 40 && !late(); ++i) {
      std::vector<double> raised = prices;
      for (double& p : raised) p = (p + floor) * factor;
      double ignored = 0;
      const std::vector<PathStep> steps = cheapest(raised, &ignored);
      if (offer(steps, excess(steps)))
        high = factor;
      else
        low = factor;
      if (high == 0)
        factor *= 2;
      else if (high - low < 1e-6 * high || high <= low)
        return;
      else
        factor = (low + high) / 2;
    }
  }

  // Depth first over all paths that the prices cannot exclude; true: none was left out.
  bool enumerate(const std::vector<double>& prices) {
    double value = 0;
    if (cheapest(prices, &value).empty()) return false;
    const size_t n = ways_.size();
    ahead_.assign(n + 1, double(kFar));
    ahead_[n] = 0;
    const size_t rows = prices.size();
    least_.assign(n + 1, std::vector<int64_t>(rows, kFar));
    least_[n].assign(rows, 0);
    for (size_t p = n; p-- > 0;)
      for (uint32_t w = 0; w < ways_[p].size(); ++w) {
        const size_t to = p + ways_[p][w].layers;
        if (to > n || ahead_[to] >= double(kFar)) continue;
        ahead_[p] = std::min(ahead_[p], priced(prices, p, w) + ahead_[to]);
        for (size_t r = 0; r < rows; ++r)
          least_[p][r] = std::min(least_[p][r], uses_[p][w][r] + least_[to][r]);
      }
    std::vector<PathStep> steps;
    enumerated_ = 0;
    return visit(prices, 0, 0, value - ahead_[0], excess({}), &steps);
  }
  double priced(const std::vector<double>& prices, size_t place, uint32_t way) const {
    double sum = double(ways_[place][way].cost);
    for (size_t r = 0; r < prices.size(); ++r)
      if (prices[r] > 0) sum += prices[r] * double(uses_[place][way][r]);
    return sum;
  }
  bool visit(const std::vector<double>& prices, size_t place, int64_t cost, double value,
             const std::vector<int64_t>& over, std::vector<PathStep>* steps) {
    if (++enumerated_ > kMostEnumerated || (enumerated_ % 256 == 0 && late())) return false;
    // Sums of doubles: half a unit covers their errors.
    if (found_ && value + ahead_[place] > double(cost_) - 0.5) return true;
    for (size_t r = 0; r < over.size(); ++r)
      if (over[r] + least_[place][r] > 0) return true;
    if (place == ways_.size()) {
      offer(*steps, over);
      return true;
    }
    for (uint32_t w = 0; w < ways_[place].size(); ++w) {
      const PathWay& way = ways_[place][w];
      if (place + way.layers > ways_.size()) continue;
      std::vector<int64_t> next = over;
      for (size_t r = 0; r < next.size(); ++r) next[r] += uses_[place][w][r];
      steps->push_back({uint32_t(place), w});
      const bool all = visit(prices, place + way.layers, cost + way.cost,
                             value + priced(prices, place, w), next, steps);
      steps->pop_back();
      if (!all) return false;
    }
    return true;
  }

  // One place's way, or two places' ways, for cheaper ones of as many layers.
  void improve() {
    while (found_ && !late() && (exchange(false) || (steps_.size() <= 64 && exchange(true)))) {
    }
  }
  bool exchange(bool two) {
    std::vector<int64_t> over = excess(steps_);
    for (size_t i = 0; i < steps_.size(); ++i) {
      if (late()) return false;
      for (const uint32_t w : others(steps_[i])) {
        const std::vector<int64_t> first = changed(over, steps_[i], w);
        const int64_t gain = saved(steps_[i], w);
        if (gain > 0 && fits(first)) return adopt(i, w, gain);
        if (!two || gain <= 0) continue;
        for (size_t j = 0; j < steps_.size(); ++j) {
          if (j == i) continue;
          for (const uint32_t v : others(steps_[j])) {
            const int64_t both = gain + saved(steps_[j], v);
            if (both <= 0 || !fits(changed(first, steps_[j], v))) continue;
            steps_[j].way = v;
            return adopt(i, w, both);
          }
        }
      }
    }
    return false;
  }
  bool adopt(size_t step, uint32_t way, int64_t gain) {
    steps_[step].way = way;
    cost_ -= gain;
    return true;
  }
  std::vector<uint32_t> others(const PathStep& step) const {
    std::vector<uint32_t> list;
    for (uint32_t w = 0; w < ways_[step.place].size(); ++w)
      if (w != step.way && ways_[step.place][w].layers == ways_[step.place][step.way].layers)
        list.push_back(w);
    return list;
  }
  int64_t saved(const PathStep& step, uint32_t way) const {
    return ways_[step.place][step.way].cost - ways_[step.place][way].cost;
  }
  std::vector<int64_t> changed(std::vector<int64_t> over, const PathStep& step,
                               uint32_t way) const {
    const auto &from = uses_[step.place][step.way], &to = uses_[step.place][way];
    for (size_t r = 0; r < over.size(); ++r) over[r] += to[r] - from[r];
    return over;
  }

  RowPathPlan answer(const std::vector<double>& best) const {
    RowPathPlan out;
    for (const double p : best) out.prices.push_back(int64_t(std::min(p * kUnit, 1e15)));
    out.plan.nodes = nodes_;
    out.plan.lower_bound = row_path_bound(rows_, budget_, out.prices);
    out.plan.found = found_;
    out.plan.optimal = complete_;
    if (!found_) return out;
    out.plan.cost = cost_;
    out.plan.lower_bound = complete_ ? cost_ : std::min(out.plan.lower_bound, cost_);
    out.plan.optimal = out.plan.lower_bound == cost_;
    out.plan.steps = steps_;
    out.plan.peak = row_path_peak(rows_, steps_);
    return out;
  }

  const RowPath& rows_;
  const std::vector<std::vector<PathWay>>& ways_;
  const int64_t budget_;
  const PathLimits limits_;
  std::vector<std::vector<std::vector<int64_t>>> uses_;  // [place][way][row]
  bool found_ = false;
  int64_t cost_ = 0;
  std::vector<PathStep> steps_;
  uint64_t nodes_ = 0;
  bool complete_ = false;
  uint64_t enumerated_ = 0;
  std::vector<double> ahead_;                // [place]: least priced cost from there on
  std::vector<std::vector<int64_t>> least_;  // [place][row]: least use from there on
};

}  // namespace

int64_t row_path_peak(const RowPath& rows, const std::vector<PathStep>& steps) {
  int64_t peak = 0;
  for (size_t r = 0; r < rows.base.size(); ++r) {
    int64_t bytes = rows.base[r];
    for (const PathStep& s : steps)
      bytes += use_of(rows, r, s.place, rows.path.ways[s.place][s.way]);
    peak = r == 0 ? bytes : std::max(peak, bytes);
  }
  return peak;
}

int64_t row_path_bound(const RowPath& rows, int64_t budget, const std::vector<int64_t>& prices) {
  using Wide = __int128;
  const size_t n = rows.path.ways.size();
  const Wide far = Wide(1) << 120, unit = Wide(1) << 20;
  std::vector<Wide> behind(n + 1, far);
  behind[n] = 0;
  for (size_t p = n; p-- > 0;)
    for (const PathWay& w : rows.path.ways[p]) {
      if (p + w.layers > n || behind[p + w.layers] >= far) continue;
      Wide sum = Wide(w.cost) * unit + behind[p + w.layers];
      for (size_t r = 0; r < prices.size(); ++r)
        if (prices[r] > 0) sum += Wide(prices[r]) * use_of(rows, r, p, w);
      behind[p] = std::min(behind[p], sum);
    }
  if (behind[0] >= far) return kFar;
  Wide value = behind[0];
  for (size_t r = 0; r < prices.size(); ++r)
    if (prices[r] > 0) value -= Wide(prices[r]) * (budget - rows.base[r]);
  return value <= 0 ? 0 : int64_t((value + unit - 1) / unit);
}

RowPathPlan least_rows(const RowPath& rows, const PathLimits& limits) {
  int64_t high = 0, low = 0;
  for (const int64_t base : rows.base) high = std::max(high, base);
  RowPathPlan least = solve_rows(rows, high, limits);
  high = least.plan.found ? least.plan.peak : high;
  const int64_t close = std::max<int64_t>(1, high / 100);
  while (high - low > close && std::chrono::steady_clock::now() < limits.deadline) {
    const int64_t middle = low + (high - low) / 2;
    RowPathPlan next = solve_rows(rows, middle, limits);
    if (next.plan.found) {
      high = next.plan.peak;
      least = std::move(next);
    } else {
      low = middle;
    }
  }
  return least;
}

RowPathPlan solve_rows(const RowPath& rows, int64_t budget, const PathLimits& limits) {
  return RowSolver(rows, budget, limits).run();
}

}  // namespace rc::budget
