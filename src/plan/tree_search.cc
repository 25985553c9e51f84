// src/plan/tree_search.cc: see tree_search.h.
#include "src/plan/tree_search.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <optional>
#include <utility>

#include "src/plan/tree_fill.h"
#include "src/plan/tree_model.h"

namespace rc {
namespace {

constexpr int kMostPivots = 400, kNodeRounds = 1;
constexpr size_t kMostRows = 40;
constexpr uint64_t kCutNodes = 30;

// How rows are rounded: which of them help a search is known only after it.
struct TreeForm {
  size_t most_added;
  int most_idle;
};
constexpr TreeForm kForms[] = {{6, 4}, {3, 8}, {6, 8}, {10, 4}};
constexpr uint64_t kFirstNodes = 1500;

class TreeSearch {
 public:
  TreeSearch(const CountProblem& problem, const CountLimits& limits, const TreeForm& form,
             int64_t known)
      : problem_(problem),
        limits_(limits),
        model_(problem, form.most_added, form.most_idle),
        cutoff_(known) {}

  // floor: proven before.
  TreeResult run(int64_t floor);

 private:
  struct Branch {
    size_t cls = 0, option = 0;
    int32_t most = 0;  // or more
    bool up_first = false;
  };

  void descend(BoundedLp lp, TreeBox& box);
  std::optional<std::vector<int64_t>> prices_of(const BoundedLp& lp, LpOutcome outcome,
                                                const TreeBox& box) const;
  bool closed(const TreeBox& box, const std::vector<int64_t>& prices) const;
  bool fractional(const BoundedLp& lp, const TreeBox& box, Branch* branch) const;
  bool any(const BoundedLp& lp, const TreeBox& box, Branch* branch) const;
  void try_counts(const std::vector<std::vector<int32_t>>& counts);
  bool breaks_row(const std::vector<std::vector<int32_t>>& counts) const;
  std::vector<int64_t> prices_of_one(const TreeBox& box);
  void set_box(BoundedLp& lp, const TreeBox& box, size_t cls) const;
  PlanBoundBase base_of(size_t cls, size_t option) const;
  void write_rows();
  void raise_cutoff(int64_t before);
  bool try_filled();
  bool stopped();
  int64_t floor_of(const std::vector<int64_t>& prices) const;

  const CountProblem& problem_;
  const CountLimits limits_;
  TreeModel model_;
  int64_t cutoff_;
  bool complete_ = true;
  std::vector<PlanBoundNode> tree_;
  TreeResult result_;
};

// Nothing in the box costs less than the cutoff: what does is a unit of costs below it.
bool TreeSearch::closed(const TreeBox& box, const std::vector<int64_t>& prices) const {
  TreeWide bound = 0;
  if (!model_.bound(box, prices, &bound)) return true;
  const int64_t unit = model_.cost_unit();
  const int64_t below = cutoff_ <= 0 ? -1 : (cutoff_ - 1) / unit * unit;
  return bound > TreeWide(below) << kPriceBits;
}

std::optional<std::vector<int64_t>> TreeSearch::prices_of(const BoundedLp& lp, LpOutcome outcome,
                                                          const TreeBox& box) const {
  if (outcome != LpOutcome::kInfeasible) {
    std::vector<int64_t> prices = model_.prices_of(lp);
    return closed(box, prices) ? std::optional(std::move(prices)) : std::nullopt;
  }
  for (double scale = 1; scale < 1e12; scale *= 32) {
    std::vector<int64_t> prices = model_.rays_of(lp, scale);
    if (closed(box, prices)) return prices;
  }
  return std::nullopt;
}

// The count that is not whole whose two branches both raise the bound most.
bool TreeSearch::fractional(const BoundedLp& lp, const TreeBox& box, Branch* branch) const {
  double best = -1;
  for (size_t k = 0; k < model_.classes().size(); ++k) {
    for (size_t o = 1; o < model_.classes()[k].options.size(); ++o) {
      const size_t variable = model_.variable(k, o);
      const double now = lp.value(variable), part = now - std::floor(now);
      if (!lp.is_basic(variable) || part < 1e-5 || part > 1 - 1e-5) continue;
      const double down = lp.penalty(variable, part, false);
      const double up = lp.penalty(variable, 1 - part, true);
      const double small = std::min(down, up), large = std::max(down, up);
      const double score = std::min(small, 1e6) + 0.1 * std::min(large, 1e6) + 1e-12;
      if (score <= best) continue;
      const int32_t most = int32_t(std::floor(now));
      if (most < box.low[k][o] || most >= box.high[k][o]) continue;
      best = score;
      *branch = {k, o, most, up < down};
    }
  }
  return best >= 0;
}

// Of whole counts that prove nothing yet.
bool TreeSearch::any(const BoundedLp& lp, const TreeBox& box, Branch* branch) const {
  for (size_t k = 0; k < model_.classes().size(); ++k) {
    for (size_t o = 1; o < model_.classes()[k].options.size(); ++o) {
      const int32_t low = box.low[k][o], high = box.high[k][o];
      if (low >= high) continue;
      const int32_t now = std::clamp(int32_t(std::lround(model_.value(lp, k, o))), low, high);
      *branch = {k, o, now < high ? now : now - 1, now >= high};
      return true;
    }
  }
  return false;
}

// Counts, where they are a solution.
void TreeSearch::try_counts(const std::vector<std::vector<int32_t>>& counts) {
  int64_t cost = 0;
  for (size_t k = 0; k < counts.size(); ++k)
    for (size_t o = 0; o < counts[k].size(); ++o)
      cost += counts[k][o] * model_.classes()[k].options[o].cost;
  if (cost >= cutoff_ || breaks_row(counts)) return;
  model_.give(counts, &result_.counts);
  cutoff_ = cost;
}

bool TreeSearch::breaks_row(const std::vector<std::vector<int32_t>>& counts) const {
  for (size_t r = 0; r < problem_.rows.size(); ++r) {
    int64_t left = problem_.capacity[r];
    for (size_t k = 0; k < counts.size(); ++k)
      for (size_t o = 0; o < counts[k].size(); ++o)
        left -= counts[k][o] * model_.classes()[k].options[o].use[r];
    if (left < 0) return true;
  }
  return false;
}

bool TreeSearch::stopped() {
  if (result_.counts.nodes >= limits_.nodes || (result_.counts.nodes % 16 == 0 && limits_.late()))
    complete_ = false;
  return !complete_;
}

PlanBoundBase TreeSearch::base_of(size_t cls, size_t option) const {
  const TreeClass& of = model_.classes()[cls];
  const CountGroup& group = problem_.groups[of.groups[0]];
  return {group.places[0].first, group.places[0].second, group.item,
          group.options[of.option[0][option]].choice};
}

void TreeSearch::write_rows() {
  for (size_t r = 0; r < model_.rows().size(); ++r) {
    const TreeRow& row = model_.rows()[r];
    PlanBoundRow made;
    if (r < problem_.rows.size()) {
      const PlanRow& of = problem_.rows[r];
      if (of.kind == RowKind::kLink) made.kind = PlanBoundRow::kLink;
      if (of.kind == RowKind::kHost) made.kind = PlanBoundRow::kHost;
      made.state = of.state;
      made.layer = of.layer;
      made.moment = of.moment;
    } else {
      made.kind = PlanBoundRow::kRounded;
      made.factors = row.factors;
      made.divisor = row.divisor;
      for (size_t k = 0; k < row.bases.size(); ++k)
        if (row.bases[k] > 0) made.bases.push_back(base_of(k, row.bases[k]));
    }
    result_.rows.push_back(made);
  }
}

// Of a box of one plan: a solution, or what it breaks at any price.
std::vector<int64_t> TreeSearch::prices_of_one(const TreeBox& box) {
  std::vector<std::vector<int32_t>> counts = box.low;
  for (size_t k = 0; k < counts.size(); ++k) {
    counts[k][0] = model_.classes()[k].count;
    for (size_t o = 1; o < counts[k].size(); ++o) counts[k][0] -= counts[k][o];
  }
  try_counts(counts);
  std::vector<int64_t> prices(model_.rows().size(), 0);
  for (size_t r = 0; r < prices.size(); ++r) {
    const TreeRow& row = model_.rows()[r];
    TreeWide over = -TreeWide(row.capacity);
    for (size_t k = 0; k < counts.size(); ++k)
      for (size_t o = 0; o < counts[k].size(); ++o)
        over += TreeWide(row.weight[k][o]) * counts[k][o];
    if (over <= 0) continue;
    prices[r] = int64_t(1) << 61;
    break;
  }
  return prices;
}

void TreeSearch::set_box(BoundedLp& lp, const TreeBox& box, size_t cls) const {
  for (size_t o = 1; o < box.low[cls].size(); ++o)
    lp.set_bounds(model_.variable(cls, o), box.low[cls][o], box.high[cls][o]);
}

void TreeSearch::descend(BoundedLp lp, TreeBox& box) {
  if (stopped()) return;
  ++result_.counts.nodes;
  model_.complete(&lp);
  LpOutcome outcome = lp.solve(kMostPivots);
  const size_t here = tree_.size();
  tree_.emplace_back();
  const auto leave = [&] {
    std::optional<std::vector<int64_t>> prices = prices_of(lp, outcome, box);
    if (prices) tree_[here].price = std::move(*prices);
    return prices.has_value();
  };
  if (leave()) return;
  if (outcome != LpOutcome::kOptimal) {
    // What rounding errors say has no solution starts anew.
    lp = model_.program();
    model_.complete(&lp);
    for (size_t k = 0; k < box.low.size(); ++k) set_box(lp, box, k);
    outcome = lp.solve(kMostPivots);
    if (leave()) return;
  }
  for (int round = 0; round < kNodeRounds && outcome == LpOutcome::kOptimal; ++round) {
    if (result_.counts.nodes > kCutNodes || model_.rows().size() > kMostRows ||
        !model_.add_rounded(lp))
      break;
    model_.complete(&lp);
    outcome = lp.solve(kMostPivots);
    if (leave()) return;
  }
  Branch branch;
  if (!fractional(lp, box, &branch)) {
    try_counts(model_.counts_of(lp));
    if (leave()) return;
    if (!any(lp, box, &branch)) {
      tree_[here].price = prices_of_one(box);
      complete_ = complete_ && closed(box, tree_[here].price);
      return;
    }
  }
  tree_[here].at = base_of(branch.cls, branch.option);
  tree_[here].most = branch.most;
  for (const bool up : {false, true}) {
    // The order of the tree is that of the walk.
    int32_t& bound = up ? box.low[branch.cls][branch.option] : box.high[branch.cls][branch.option];
    const int32_t before = bound;
    bound = up ? branch.most + 1 : branch.most;
    BoundedLp child = lp;
    set_box(child, box, branch.cls);
    descend(std::move(child), box);
    bound = before;
    if (!complete_) return;
  }
}

// Whether that is proven to be the best, too.
bool TreeSearch::try_filled() {
  const TreeModel plain(problem_);
  BoundedLp lp = plain.program();
  std::vector<std::vector<int32_t>> counts;
  if (lp.solve(kMostPivots) != LpOutcome::kOptimal) return false;
  if (!fill_row(problem_, plain, lp, &counts)) return false;
  try_counts(counts);
  if (!result_.counts.found && cutoff_ >= kNoCost) return false;
  // Where nothing else pays, the nearest sum is the best.
  PlanBoundNode node;
  node.price = plain.prices_of(lp);
  const int64_t unit = model_.cost_unit();
  const int64_t below = cutoff_ <= 0 ? -1 : (cutoff_ - 1) / unit * unit;
  const auto tight = std::max_element(node.price.begin(), node.price.end());
  node.filled = int32_t(tight - node.price.begin());
  if (!no_sum_fills(plain, node.price, size_t(node.filled), below)) return false;
  result_.tree = {node};
  result_.counts.lower_bound = cutoff_;
  result_.counts.outcome = CountOutcome::kSolved;
  return true;
}

// What prices prove of everything.
int64_t TreeSearch::floor_of(const std::vector<int64_t>& prices) const {
  TreeWide bound = 0;
  if (!model_.bound(model_.whole(), prices, &bound) || bound <= 0) return 0;
  const int64_t unit = model_.cost_unit();
  const TreeWide one = TreeWide(unit) << kPriceBits;
  return int64_t((bound + one - 1) / one) * unit;
}

TreeResult TreeSearch::run(int64_t floor) {
  raise_cutoff(floor);
  write_rows();
  return std::move(result_);
}

void TreeSearch::raise_cutoff(int64_t before) {
  CountResult& counts = result_.counts;
  const int64_t known = cutoff_;
  BoundedLp root = model_.program();
  const LpOutcome outcome = root.solve(kMostPivots);
  int64_t floor = 0, most = 1;
  if (outcome == LpOutcome::kOptimal) {
    PlanBoundNode node;
    node.price = model_.prices_of(root);
    floor = floor_of(node.price);
    result_.tree = {node};
  }
  counts.lower_bound = floor;
  if (floor < cutoff_ && try_filled()) return;
  for (const TreeClass& cls : model_.classes()) {
    int64_t dearest = 0;
    for (const TreeOption& option : cls.options) dearest = std::max(dearest, option.cost);
    most += dearest * cls.count;
  }
  most = std::min(most, cutoff_);
  // Raises the cutoff until a solution lies below it: depth first, dear ones would cost most.
  int64_t start = std::max(floor, before);
  for (int64_t step = std::max<int64_t>(1, (most - start) >> 14);; step *= 4) {
    const int64_t tried = cutoff_ = std::min(most, start + step);
    tree_.clear();
    complete_ = true;
    TreeBox box = model_.whole();
    descend(root, box);
    if (!complete_) {
      counts.outcome = CountOutcome::kLimit;
      return;
    }
    const bool best = counts.found && counts.cost <= tried;
    start = counts.lower_bound = best ? counts.cost : tried;
    result_.tree = std::move(tree_);
    if (!best && tried < most) continue;
    counts.outcome = best || known < kNoCost ? CountOutcome::kSolved : CountOutcome::kInfeasible;
    return;
  }
}

}  // namespace

bool relax_counts(const CountProblem& problem, CountResult* result, std::vector<double>* prices) {
  const TreeModel model(problem);
  BoundedLp lp = model.program();
  if (lp.solve(kMostPivots * 10) != LpOutcome::kOptimal) return false;
  model.give(model.counts_of(lp), result);
  prices->clear();
  for (size_t r = 0; r < problem.rows.size(); ++r) prices->push_back(model.price(lp, r));
  return true;
}

// In forms of the rounded rows by turns, each time with more nodes.
TreeResult search_tree(const CountProblem& problem, const CountLimits& limits, int64_t known) {
  TreeResult best;
  uint64_t nodes = kFirstNodes;
  for (size_t turn = 0;; ++turn, nodes *= 2) {
    CountLimits some = limits;
    const uint64_t spent = best.counts.nodes;
    some.nodes = std::min(nodes, limits.nodes - std::min(limits.nodes, spent));
    const CountResult& before = best.counts;
    TreeResult next = TreeSearch(problem, some, kForms[turn % std::size(kForms)],
                                 before.found ? before.cost : known)
                          .run(before.lower_bound);
    next.counts.nodes += spent;
    // Of what each found and proved, the better.
    const bool solved = next.counts.outcome != CountOutcome::kLimit;
    if (!next.counts.found && before.found) {
      next.counts.found = true;
      next.counts.cost = before.cost;
      next.counts.counts = before.counts;
    }
    if (!solved && turn > 0 && next.counts.lower_bound < before.lower_bound) {
      next.counts.lower_bound = before.lower_bound;
      next.rows = std::move(best.rows);
      next.tree = std::move(best.tree);
    }
    best = std::move(next);
    if (solved || limits.late() || best.counts.nodes >= limits.nodes) return best;
  }
}

}  // namespace rc
