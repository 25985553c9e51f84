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
#include "src/plan/search.h"
#include "src/plan/stage_rules.h"
#include "src/plan/units.h"

namespace rc {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kMostRowsGiven = 4;

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
  void write_proof(const CountSearch& search, StagePlan& plan) const;

  const PlanStage& stage_;
  const CountLimits limits_;
  const bool free_;
  bool shared_ = false;
  std::vector<PlanRow> rows_;
  int64_t lower_bound_ = 0;
  int64_t shared_bound_ = kNoCost;  // of plans that may cut tensors between device and host
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
  if (broken || shared_) return broken;
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

void StageSolver::write_proof(const CountSearch& search, StagePlan& plan) const {
  const std::vector<double> prices = search.prices();
  for (size_t r = 0; r < rows_.size(); ++r) {
    PlanBoundRow row;
    row.kind = shared_ ? PlanBoundRow::kMemoryAndLink : PlanBoundRow::kMemory;
    if (rows_[r].kind == RowKind::kLink) row.kind = PlanBoundRow::kLink;
    if (rows_[r].kind == RowKind::kHost) row.kind = PlanBoundRow::kHost;
    row.state = rows_[r].state;
    row.layer = rows_[r].layer;
    row.moment = rows_[r].moment;
    row.price = int64_t(prices[r] * double(1 << 20));
    plan.certificate.proof.push_back(row);
  }
}

CountOutcome StageSolver::run(StagePlan& plan) {
  if (cheapest(plan)) {
    plan.certificate.lower_bound = lower_bound_;
    return CountOutcome::kSolved;
  }
  shared_ = link_is_shared(stage_);
  // A shared link is no row of its own: any row serves to start with.
  rows_.assign(1, PlanRow{});
  if (const std::optional<PlanRow> first = broken_row(plan)) {
    if (first->kind == RowKind::kMemory) rows_.clear();
    rows_.push_back(*first);
  }
  while (true) {
    lower_bound_ = 0;
    const CountProblem problem = count_problem(stage_, rows_, shared_, free_);
    CountSearch search(problem);
    CountResult result = search.run(limits_);
    nodes_ += result.nodes;
    if (result.outcome == CountOutcome::kInfeasible) return CountOutcome::kInfeasible;
    if (!result.found) return CountOutcome::kLimit;
    StagePlan next;
    if (!adopt(problem, std::move(result), next)) {
      // The shared bound stays true; whole tensors may still reach it.
      if (!shared_) return CountOutcome::kLimit;
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
    plan = std::move(next);
    measure_plan(stage_, plan);
    plan.certificate.lower_bound =
        std::min({lower_bound_, shared_bound_, plan.certificate.objective});
    write_proof(search, plan);
    return broken || !link_fits(stage_, plan) ? CountOutcome::kLimit : CountOutcome::kSolved;
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
