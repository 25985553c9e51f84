// src/plan/cut.cc: see cut.h.
#include "src/plan/cut.h"

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

namespace rc {
namespace {

// The member that is cut: what each of its rows takes when kept and when recomputed.
struct Cuttable {
  size_t group;
  int64_t rows;
  CountOption keep, recompute;

  int64_t cost(int64_t kept) const {
    const auto share = [&](int64_t whole, int64_t part) {
      return int64_t((__int128(whole) * part + rows - 1) / rows);
    };
    return share(keep.cost, kept) + share(recompute.cost, rows - kept);
  }
  int64_t use(size_t row, int64_t kept) const {
    return keep.use[row] / rows * kept + recompute.use[row] / rows * (rows - kept);
  }
};

bool find_cuttable(const PlanStage& stage, const CountProblem& problem, size_t g, Cuttable& out) {
  const CountGroup& group = problem.groups[g];
  const PlanItem& item = stage.classes[size_t(group.layer_class)].items[size_t(group.item)];
  if (!item.cut_recompute || item.rows < 2 || group.places.empty()) return false;
  const int32_t kept = choice_of(item, PlanOption::kKeep);
  const int32_t replayed = choice_of(item, PlanOption::kRecompute);
  if (kept < 0 || replayed < 0) return false;
  out = {g, item.rows, count_option(stage, problem, group, kept),
         count_option(stage, problem, group, replayed)};
  return true;
}

// A row, with the link added where there is one: weights are then use + factor * link use.
struct Surrogate {
  size_t row;
  size_t link_row = 0;
  int64_t factor = 0;
  int64_t capacity;
};

std::vector<Surrogate> surrogates(const CountProblem& problem) {
  std::vector<Surrogate> all;
  for (size_t r = 0; r < problem.rows.size(); ++r) {
    if (problem.rows[r].kind != RowKind::kMemory) continue;
    bool has_link_row = false;
    for (size_t q = 0; q < problem.rows.size(); ++q) {
      if (problem.rows[q].kind == RowKind::kMemory) continue;
      const int64_t factor = link_factor(problem, r, q);
      all.push_back({r, q, factor, problem.capacity[r] + factor * problem.capacity[q]});
      has_link_row = true;
    }
    if (has_link_row) continue;
    const int64_t link = problem.shared_link ? shared_link_factor(problem, r) * problem.link : 0;
    all.push_back({r, r, 0, problem.capacity[r] + link});
  }
  return all;
}

struct Kept {
  int64_t cost = kNoCost;  // of the whole plan
  int64_t rows = 0;
};

// The best number of kept rows under one capacity; kNoCost where none beats `cost`.
Kept cut_under(const CountProblem& problem, const Cuttable& cut, const Surrogate& under,
               int64_t cost, size_t pairs) {
  const auto weight = [&](const CountOption& option) {
    return option.use[under.row] + under.factor * option.use[under.link_row];
  };
  std::vector<KnapsackGroup> groups;
  groups.push_back(
      {1, {{weight(cut.keep), cut.keep.cost}, {weight(cut.recompute), cut.recompute.cost}}});
  for (size_t g = 0; g < problem.groups.size(); ++g) {
    const CountGroup& group = problem.groups[g];
    KnapsackGroup simple{int32_t(group.places.size()) - (g == cut.group ? 1 : 0), {}};
    for (const CountOption& option : group.options) {
      simple.options.push_back({weight(option), option.cost});
    }
    if (simple.count > 0) groups.push_back(std::move(simple));
  }
  Knapsack knapsack(std::move(groups), under.capacity);
  if (!knapsack.feasible()) return {};
  if (!knapsack.build(cost, pairs)) return {0, 1};
  Kept best;
  const int64_t each = cut.keep.use[under.row] / cut.rows - cut.recompute.use[under.row] / cut.rows;
  for (const KnapsackPair& pair : knapsack.front(1)) {
    const int64_t room = under.capacity - pair.weight - cut.use(under.row, 0);
    if (room < 0) break;
    const int64_t kept = each > 0 ? std::min(cut.rows - 1, room / each) : cut.rows - 1;
    if (kept < 1) continue;
    if (pair.cost + cut.cost(kept) < best.cost) best = {pair.cost + cut.cost(kept), kept};
  }
  return best.cost < cost ? best : Kept{};
}

// The cut of one group under all rows, by halving intervals of kept rows: the rest costs no less
// with more rows kept, the cut no more.
class CutSearch {
 public:
  CutSearch(const CountProblem& problem, const Cuttable& cut, const CountLimits& limits)
      : problem_(problem), cut_(cut), limits_(limits) {}

  // Costs at or above `cost` are of no interest, none below `bound` exists. `hint`: where to look
  // first.
  void run(int64_t cost, int64_t hint, int64_t bound) {
    best_cost_ = unproven_ = cost;
    probe(hint);
    if (best_cost_ > bound) visit(1, cut_.rows - 1, 0);
  }
  bool found() const { return found_; }
  int64_t lower_bound() const { return std::min(best_cost_, unproven_); }
  CutResult take() { return std::move(best_); }

 private:
  static constexpr int kMostProbes = 60;

  // The rest of the plan beside that many kept rows: a bound on its cost, kNoCost where nothing
  // fits.
  int64_t probe(int64_t rows) {
    ++probes_;
    CountProblem rest = problem_;
    rest.groups[cut_.group].places.pop_back();
    for (size_t r = 0; r < rest.capacity.size(); ++r) rest.capacity[r] -= cut_.use(r, rows);
    CountSearch search(rest);
    CountResult result = search.run(limits_);
    if (!result.found) return result.outcome == CountOutcome::kInfeasible ? kNoCost : 0;
    const int64_t bound = result.lower_bound;
    const int64_t total = result.cost + cut_.cost(rows);
    if (total < best_cost_) {
      best_cost_ = total;
      best_ = {{cut_.group, rows}, std::move(result)};
      best_.counts.cost = total;
      found_ = true;
    }
    return bound;
  }

  void visit(int64_t low, int64_t high, int64_t rest) {
    if (low > high || rest + cut_.cost(high) >= best_cost_) return;
    if (probes_ >= kMostProbes || limits_.late()) {
      unproven_ = std::min(unproven_, rest + cut_.cost(high));
      return;
    }
    rest = std::max(rest, probe(low));
    if (rest >= kNoCost || rest + cut_.cost(high) >= best_cost_ || low == high) return;
    const int64_t middle = low + (high - low) / 2;
    visit(low + 1, middle, rest);
    visit(middle + 1, high, rest);
  }

  const CountProblem& problem_;
  const Cuttable& cut_;
  const CountLimits limits_;
  int probes_ = 0;
  bool found_ = false;
  int64_t best_cost_ = 0, unproven_ = 0;
  CutResult best_;
};

}  // namespace

bool best_cut(const PlanStage& stage, const CountProblem& problem, int64_t cost,
              const CountLimits& limits, CutResult& best, int64_t* lower_bound) {
  bool found = false;
  *lower_bound = cost;
  const std::vector<Surrogate> capacities = surrogates(problem);
  for (size_t g = 0; g < problem.groups.size(); ++g) {
    Cuttable cut{};
    if (!find_cuttable(stage, problem, g, cut)) continue;
    // Each capacity alone bounds what the cut can reach; the largest bound is the likeliest place.
    Kept likely{0, 1};
    for (const Surrogate& under : capacities) {
      const Kept kept = cut_under(problem, cut, under, cost, limits.pairs);
      if (kept.cost > likely.cost) likely = kept;
    }
    if (likely.cost >= cost) continue;
    if (limits.late()) {
      *lower_bound = std::min(*lower_bound, likely.cost);
      continue;
    }
    CutSearch search(problem, cut, limits);
    search.run(cost, likely.rows, likely.cost);
    *lower_bound = std::min(*lower_bound, std::max(likely.cost, search.lower_bound()));
    if (!search.found()) continue;
    CutResult result = search.take();
    if (found && result.counts.cost >= best.counts.cost) continue;
    found = true;
    best = std::move(result);
  }
  return found;
}

}  // namespace rc
