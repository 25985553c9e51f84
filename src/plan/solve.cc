// src/plan/solve.cc: see solve.h.
#include "src/plan/solve.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <optional>
#include <utility>

#include "src/plan/counts.h"
#include "src/plan/cut.h"
#include "src/plan/least_budget.h"
#include "src/plan/place.h"
#include "src/plan/row_pair.h"
#include "src/plan/search.h"
#include "src/plan/shared_search.h"
#include "src/plan/stage_rules.h"
#include "src/plan/tree_search.h"
#include "src/plan/units.h"

namespace rc {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kMostRowsGiven = 4;
// Before branches on linear programs take over.
constexpr uint64_t kFewNodes = 2000, kTreeNodes = 20'000;
constexpr size_t kFewPairs = 200'000;
constexpr int kMostRounds = 64;

// As a certificate has it.
int64_t price_of(double price) {
  return int64_t(price * double(1 << 20));
}

// Whether the offloaded bytes keep within link and host.
bool link_fits(const PlanStage& stage, const StagePlan& plan) {
  const PlanCertificate& c = plan.certificate;
  return c.link <= stage.link_bytes && (stage.host_bytes < 0 || c.host <= stage.host_bytes);
}

class StageSolver {
 public:
  StageSolver(const PlanStage& stage, const CountLimits& limits, bool free)
      : stage_(stage), limits_(limits), free_(free) {}

  CountOutcome run(StagePlan& plan);
  uint64_t nodes() const { return nodes_; }

 private:
  bool cheapest(StagePlan& plan);
  std::optional<PlanRow> broken_row(const StagePlan& plan) const;
  bool adopt(const CountProblem& problem, CountResult result, StagePlan& plan);
  CountOutcome run_shared(StagePlan& next);
  CountOutcome run_rows(StagePlan& next);
  bool is_whole() const;
  bool may_branch() const { return whole_ && !shared_ && !one_price_ && !branched_; }
  void relax_rows();
  CountOutcome run_tree(StagePlan& next);
  int64_t known_cost() const {
    return incumbent_.choice.empty() || !whole_ ? kNoCost : incumbent_.certificate.objective;
  }
  void leave_one_price(StagePlan& next);
  void keep_incumbent(StagePlan& next);
  CountOutcome finish(StagePlan& next, CountOutcome outcome, StagePlan& plan);
  void write_proof(const std::vector<double>& prices);

  const PlanStage& stage_;
  const CountLimits limits_;
  const bool free_;
  bool shared_ = false;     // keep and offload are one option
  bool one_price_ = false;  // and the rows are few enough for its own search
  bool whole_ = false;      // no tensor may be cut
  bool branching_ = false;  // on programs of all rows
  bool branched_ = false;   // and without a plan at the limit
  std::vector<PlanRow> rows_;
  int64_t lower_bound_ = 0;
  int64_t shared_bound_ = kNoCost;  // of plans that may cut tensors between device and host
  int64_t one_price_bound_ = 0;
  StagePlan incumbent_;  // of the search that one price allows, where that left something out
  std::vector<PlanBoundRow> proof_;
  // Of branches, and what they prove.
  std::vector<PlanBoundRow> tree_rows_;
  std::vector<PlanBoundNode> tree_;
  int64_t tree_bound_ = 0;
  uint64_t nodes_ = 0;
};

// Every item at its least cost and then at most kept; true where that fits.
bool StageSolver::cheapest(StagePlan& plan) {
  plan = {};
  for (const PlanChunk& chunk : stage_.chunks) {
    plan.choice.emplace_back();
    for (const int32_t k : chunk.layers) {
      plan.choice.back().emplace_back();
      for (const PlanItem& item : stage_.classes[size_t(k)].items) {
        const auto least = std::min_element(
            item.choices.begin(), item.choices.end(), [](const PlanChoice& a, const PlanChoice& b) {
              return a.cost != b.cost ? a.cost < b.cost : a.kept_bytes > b.kept_bytes;
            });
        plan.choice.back().back().push_back(uint8_t(least - item.choices.begin()));
      }
    }
  }
  measure_plan(stage_, plan);
  lower_bound_ = plan.certificate.objective;
  return plan.certificate.peak <= stage_.budget && link_fits(stage_, plan);
}

// What the plan takes too much of and no row says yet: memory in its worst moment, else the link,
// else the host in its fullest state.
std::optional<PlanRow> StageSolver::broken_row(const StagePlan& plan) const {
  std::optional<PlanRow> broken = worst_row(stage_, plan);
  if (broken || shared_ || one_price_) return broken;
  StagePlan measured = plan;
  measure_plan(stage_, measured);
  if (measured.certificate.link > link_capacity(stage_)) return PlanRow{RowKind::kLink, 0, 0, 0};
  if (stage_.host_bytes < 0 || measured.certificate.host <= stage_.host_bytes) return broken;
  return PlanRow{RowKind::kHost, int32_t(fullest_host(stage_, measured)), 0, 0};
}

// Turns counts into a plan; false where the rows of tensors are too coarse for the shared link.
bool StageSolver::adopt(const CountProblem& problem, CountResult result, StagePlan& plan) {
  lower_bound_ = std::max(lower_bound_, result.lower_bound);
  CutResult cut;
  int64_t cut_bound = result.cost;
  const bool found = !free_ && best_cut(stage_, problem, result.cost, limits_, cut, &cut_bound);
  lower_bound_ = std::min(lower_bound_, cut_bound);
  // Where memory and link are full to less than a row of the other cut, a row or two fewer kept
  // leave it room.
  for (int row = 0; found && row < kMostRowsGiven && cut.member.kept_rows > 0; ++row) {
    if (place_counts(stage_, problem, cut.counts, &cut.member, plan)) return true;
    --cut.member.kept_rows;
  }
  return place_counts(stage_, problem, result, nullptr, plan);
}

// The plan under one row, or two that nest, where the link has one price; kLimit: others have to
// look for it.
CountOutcome StageSolver::run_shared(StagePlan& next) {
  const CountProblem problem = count_problem(stage_, rows_, true, free_);
  if (!shares_one_link(problem)) return CountOutcome::kLimit;
  const SharedResult result = search_shared(stage_, problem, !free_, limits_);
  nodes_ += result.counts.nodes;
  lower_bound_ = result.counts.lower_bound;
  write_proof(result.prices);
  if (result.held_price > 0) {
    PlanBoundRow held = proof_[result.held_row];
    held.kind = PlanBoundRow::kMemory;
    held.price = price_of(result.held_price);
    proof_.push_back(held);
  }
  if (!result.counts.found) return result.counts.outcome;
  const CutMember* cut = result.has_cut ? &result.cut : nullptr;
  // Where the link costs nothing, what is needed back last goes first.
  if (!shared_ || !place_counts(stage_, problem, result.counts, cut, next))
    place_members(stage_, problem, result.counts, cut, result.link, next);
  return result.counts.outcome;
}

// The plan under all rows so far; solved without a plan: the link's tensors are too coarse.
CountOutcome StageSolver::run_rows(StagePlan& next) {
  const CountProblem problem = count_problem(stage_, rows_, shared_, free_);
  CountSearch search(problem);
  CountLimits limits = limits_;
  if (may_branch()) {
    limits.nodes = std::min(limits.nodes, kFewNodes);
    limits.pairs = std::min(limits.pairs, kFewPairs);
  }
  CountResult result = search.run(limits, known_cost());
  nodes_ += result.nodes;
  branching_ = result.outcome == CountOutcome::kLimit && may_branch();
  if (result.outcome == CountOutcome::kInfeasible) return CountOutcome::kInfeasible;
  if (!result.found && !whole_) return CountOutcome::kLimit;
  write_proof(search.prices());
  lower_bound_ = std::max(lower_bound_, result.lower_bound);
  if (!result.found) return result.outcome;
  if (!adopt(problem, std::move(result), next)) next = {};
  return CountOutcome::kSolved;
}

// Plans of whole tensors only; which of them fit at all is another question.
bool StageSolver::is_whole() const {
  if (free_) return false;
  for (const PlanLayerClass& layer_class : stage_.classes)
    for (const PlanItem& item : layer_class.items)
      if (item.rows > 1 && (item.cut_offload || item.cut_recompute)) return false;
  return true;
}

// Rows that are tight in the linear program under all rows.
void StageSolver::relax_rows() {
  for (int round = 0; round < kMostRounds; ++round) {
    const CountProblem problem = count_problem(stage_, rows_, false, false);
    CountResult result;
    std::vector<double> prices;
    if (!relax_counts(problem, &result, &prices)) return;
    StagePlan near;
    place_counts(stage_, problem, result, nullptr, near);
    const std::optional<PlanRow> broken = broken_row(near);
    if (broken && std::find(rows_.begin(), rows_.end(), *broken) == rows_.end()) {
      rows_.push_back(*broken);
      continue;
    }
    std::vector<PlanRow> tight;
    for (size_t r = 0; r < rows_.size(); ++r)
      if (prices[r] > 0) tight.push_back(rows_[r]);
    if (!tight.empty()) rows_ = std::move(tight);
    return;
  }
}

// The same by branches; without a plan where none is better than the incumbent.
CountOutcome StageSolver::run_tree(StagePlan& next) {
  const CountProblem problem = count_problem(stage_, rows_, false, false);
  CountLimits limits = limits_;
  limits.nodes = std::min(limits.nodes, kTreeNodes);
  TreeResult result = search_tree(problem, limits, known_cost());
  nodes_ += result.counts.nodes;
  lower_bound_ = tree_bound_ = result.counts.lower_bound;
  tree_rows_ = std::move(result.rows);
  tree_ = std::move(result.tree);
  if (result.counts.found) place_counts(stage_, problem, result.counts, nullptr, next);
  return result.counts.outcome;
}

void StageSolver::write_proof(const std::vector<double>& prices) {
  proof_.clear();
  for (size_t r = 0; r < rows_.size(); ++r) {
    PlanBoundRow row;
    row.kind = shared_ || one_price_ ? PlanBoundRow::kMemoryAndLink : PlanBoundRow::kMemory;
    if (rows_[r].kind == RowKind::kLink) row.kind = PlanBoundRow::kLink;
    if (rows_[r].kind == RowKind::kHost) row.kind = PlanBoundRow::kHost;
    row.state = rows_[r].state;
    row.layer = rows_[r].layer;
    row.moment = rows_[r].moment;
    row.price = price_of(prices[r]);
    proof_.push_back(row);
  }
}

// Where one row and one price are not enough, or too many leaves did not split.
void StageSolver::leave_one_price(StagePlan& next) {
  one_price_ = false;
  one_price_bound_ = lower_bound_;
  keep_incumbent(next);
}

// The better one of those that fit.
void StageSolver::keep_incumbent(StagePlan& next) {
  if (next.choice.empty() || broken_row(next)) return;
  measure_plan(stage_, next);
  if (next.certificate.peak > stage_.budget || !link_fits(stage_, next)) return;
  if (!incumbent_.choice.empty() && incumbent_.certificate.objective <= next.certificate.objective)
    return;
  next.certificate.proof = proof_;
  incumbent_ = std::move(next);
}

// The better of this plan and an earlier one, with what is proven of both.
CountOutcome StageSolver::finish(StagePlan& next, CountOutcome outcome, StagePlan& plan) {
  if (!next.choice.empty()) {
    measure_plan(stage_, next);
    next.certificate.proof = proof_;
  }
  const bool earlier = !incumbent_.choice.empty() &&
                       (next.choice.empty() || outcome != CountOutcome::kSolved ||
                        incumbent_.certificate.objective <= next.certificate.objective);
  plan = std::move(earlier ? incumbent_ : next);
  if (plan.choice.empty()) return CountOutcome::kLimit;
  PlanCertificate& c = plan.certificate;
  if (!tree_.empty() && tree_bound_ >= std::max(lower_bound_, one_price_bound_)) {
    c.proof = tree_rows_;
    c.tree = tree_;
    c.lower_bound = std::min(tree_bound_, c.objective);
    return earlier ? CountOutcome::kSolved : outcome;
  }
  c.lower_bound = std::min(lower_bound_, shared_bound_);
  c.lower_bound = std::min(std::max(c.lower_bound, one_price_bound_), c.objective);
  return earlier ? CountOutcome::kSolved : outcome;
}

CountOutcome StageSolver::run(StagePlan& plan) {
  if (cheapest(plan)) {
    plan.certificate.lower_bound = lower_bound_;
    return CountOutcome::kSolved;
  }
  shared_ = link_is_shared(stage_);
  one_price_ = link_has_one_price(stage_);
  whole_ = is_whole();
  // A shared link is no row of its own: any row serves to start with.
  rows_.assign(1, PlanRow{});
  if (const std::optional<PlanRow> first = broken_row(plan)) {
    if (first->kind == RowKind::kMemory) rows_.clear();
    rows_.push_back(*first);
  }
  while (true) {
    lower_bound_ = 0;
    StagePlan next;
    const bool branches = branching_;
    const CountOutcome outcome = branches     ? run_tree(next)
                                 : one_price_ ? run_shared(next)
                                              : run_rows(next);
    if (outcome == CountOutcome::kInfeasible) return outcome;
    if (branching_ && !branches) {
      keep_incumbent(next);
      relax_rows();
      continue;
    }
    if (branches && outcome == CountOutcome::kLimit) {
      // The knapsacks of single rows again, with all that is left of the limits.
      keep_incumbent(next);
      branched_ = true;
      branching_ = false;
      continue;
    }
    if (one_price_ && outcome == CountOutcome::kLimit) {
      leave_one_price(next);
      continue;
    }
    if (next.choice.empty()) {
      if (!shared_) return finish(next, outcome, plan);
      // The shared bound stays true; whole tensors may still reach it, or fit at least.
      shared_ = false;
      shared_bound_ = lower_bound_;
      rows_.resize(1);
      continue;
    }
    const std::optional<PlanRow> broken = broken_row(next);
    if (broken && std::find(rows_.begin(), rows_.end(), *broken) == rows_.end()) {
      rows_.push_back(*broken);
      continue;
    }
    measure_plan(stage_, next);
    const bool fits = !broken && link_fits(stage_, next);
    return finish(next, fits ? CountOutcome::kSolved : CountOutcome::kLimit, plan);
  }
}

// The least budget under which some plan fits; -1: none does.
int64_t minimum_budget(const PlanStage& stage, const CountLimits& limits) {
  PlanStage trial = stage;
  return least_budget(stage.budget, [&](int64_t budget) -> std::optional<int64_t> {
    trial.budget = budget;
    StagePlan plan;
    if (StageSolver(trial, limits, true).run(plan) != CountOutcome::kSolved) return std::nullopt;
    return plan.certificate.peak;
  });
}

// No plan layer by layer fits: units of layers, or the least budget that would do.
void go_below(const PlanStage& stage, const PlanOptions& options, const CountLimits& limits,
              StagePlan* plan) {
  const bool units = has_units(stage);
  if (units) {
    const CountOutcome outcome = solve_units(stage, limits, plan);
    PlanCertificate& certificate = plan->certificate;
    if (outcome == CountOutcome::kSolved) {
      plan->verdict = PlanVerdict::kSolved;
      certificate.optimal = certificate.objective == certificate.lower_bound;
    }
    if (outcome != CountOutcome::kInfeasible) return;
  }
  *plan = {};
  plan->verdict = PlanVerdict::kInfeasible;
  if (!options.find_minimum) return;
  plan->minimum_budget = minimum_budget(stage, limits);
  const int64_t least = units ? least_budget_of_units(stage, limits) : -1;
  if (least >= 0 && (plan->minimum_budget < 0 || least < plan->minimum_budget)) {
    plan->minimum_budget = least;
  }
}

}  // namespace

Status solve_stage(const PlanStage& stage, const PlanOptions& options, StagePlan* plan) {
  RC_TRY(check_stage(stage));
  const Clock::time_point start = Clock::now();
  CountLimits limits;
  limits.nodes = options.node_limit;
  if (options.time_limit < 1e6) {
    limits.deadline = start + std::chrono::duration_cast<Clock::duration>(
                                  std::chrono::duration<double>(options.time_limit));
  }
  StageSolver solver(stage, limits, false);
  const CountOutcome outcome = solver.run(*plan);
  PlanCertificate& certificate = plan->certificate;
  if (outcome == CountOutcome::kSolved) {
    plan->verdict = PlanVerdict::kSolved;
    certificate.optimal = certificate.objective == certificate.lower_bound;
  } else {
    *plan = {};
    if (outcome == CountOutcome::kInfeasible) go_below(stage, options, limits, plan);
  }
  certificate.nodes = solver.nodes();
  certificate.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return ok_status();
}

}  // namespace rc
