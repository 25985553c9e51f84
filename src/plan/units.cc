// src/plan/units.cc: see units.h.
#include "src/plan/units.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "src/plan/least_budget.h"
#include "src/plan/place.h"
#include "src/plan/unit_labels.h"
#include "src/plan/unit_stage.h"

namespace rc {
namespace {

// Enough for any plan that fits; too many labels only where nothing costs anything and much moves.
constexpr size_t kWidth = 1500, kNarrow = 100;

// A plan that fits, whatever it costs.
bool any_plan(const PlanStage& stage, const CountLimits& limits, StagePlan* plan, bool* sure) {
  const std::vector<UnitRow> rows = unit_rows(stage);
  if (rows.size() > UnitLabels::kMostRows || rows[0].capacity < 0) {
    *sure = rows[0].capacity < 0;
    return false;
  }
  const UnitSegments segments(stage, rows[0].capacity, true);
  UnitLabels labels(stage, segments, rows);
  const bool found = labels.run(1, kWidth, limits);
  *sure = found || labels.exhausted();
  if (!found) return false;
  labels.write(plan);
  measure_plan(stage, *plan);
  return true;
}

void write_proof(const std::vector<UnitRow>& rows, const std::vector<double>& prices,
                 StagePlan* plan) {
  for (size_t r = 0; r < rows.size(); ++r) {
    PlanBoundRow row;
    row.kind = rows[r].kind == UnitRow::kMemory ? PlanBoundRow::kMemory
               : rows[r].kind == UnitRow::kLink ? PlanBoundRow::kLink
                                                : PlanBoundRow::kHost;
    row.state = int32_t(rows[r].state);
    row.price = int64_t(prices[r] * double(1 << 20));
    plan->certificate.proof.push_back(row);
  }
}

}  // namespace

bool has_units(const PlanStage& stage) {
  if (!stage.allow_units) return false;
  for (const PlanChunk& chunk : stage.chunks) {
    for (size_t l = 1; l < chunk.layers.size(); ++l) {
      if (may_be_in_unit(stage.classes[size_t(chunk.layers[l - 1])]) &&
          may_be_in_unit(stage.classes[size_t(chunk.layers[l])])) {
        return true;
      }
    }
  }
  return false;
}

CountOutcome solve_units(const PlanStage& stage, const CountLimits& limits, StagePlan* plan) {
  bool sure = false;
  *plan = {};
  if (!any_plan(stage, limits, plan, &sure))
    return sure ? CountOutcome::kInfeasible : CountOutcome::kLimit;
  const std::vector<UnitRow> rows = unit_rows(stage);
  const UnitSegments segments(stage, rows[0].capacity, false);
  UnitLabels labels(stage, segments, rows);
  labels.find_prices();
  int64_t best = plan->certificate.objective, bound = int64_t(std::ceil(labels.bound() - 0.5));
  for (const size_t width : {kNarrow, kWidth}) {
    if (labels.run(best, width, limits)) {
      best = labels.cost();
      labels.write(plan);
    }
    bound = std::max(bound, std::min(best, labels.lower_bound()));
    if (labels.exhausted()) break;
  }
  plan->certificate = {};
  measure_plan(stage, *plan);
  plan->certificate.lower_bound = std::max<int64_t>(0, std::min(bound, best));
  write_proof(rows, labels.prices(), plan);
  return CountOutcome::kSolved;
}

int64_t least_budget_of_units(const PlanStage& stage, const CountLimits& limits) {
  PlanStage trial = stage;
  return least_budget(stage.budget, [&](int64_t budget) -> std::optional<int64_t> {
    trial.budget = budget;
    StagePlan plan;
    bool sure = false;
    if (!any_plan(trial, limits, &plan, &sure)) return std::nullopt;
    return plan.certificate.peak;
  });
}

}  // namespace rc
