// src/plan/plan.cc: every rank of a request solved, and the policy that carries the plan out.
#include "src/plan/plan.h"

#include "src/plan/solve.h"
#include "src/plan/stage_problem.h"

namespace rc::plan {
namespace {

Status solve_rank(const PlanRequest& r, uint32_t rank, RankPlan* out) {
  out->layers = layers_of(r, rank);
  out->stage = make_stage(r, rank);
  out->keep_all_peak = keep_all_peak(out->stage);
  for (const auto& chunk : out->layers) {
    for (const uint32_t layer : chunk) {
      const ClassSpec& c = r.classes[size_t(r.layer_class[layer])];
      out->forward_seconds += c.forward_seconds;
      out->backward_seconds += c.backward_seconds;
    }
  }
  RC_TRY(solve_stage(out->stage, {.time_limit = r.time_limit}, &out->plan));
  if (out->plan.verdict == PlanVerdict::kInfeasible) {
    return Status(RC_E_BUDGET, "/budget_bytes",
                  format("%lld bytes on rank %u, no plan needs less than %lld",
                         static_cast<long long>(out->stage.budget), rank,
                         static_cast<long long>(out->plan.minimum_budget)));
  }
  if (out->plan.verdict != PlanVerdict::kSolved) {
    return Status(RC_E_BUDGET, "/time_limit_seconds",
                  format("%g s found no plan on rank %u", r.time_limit, rank));
  }
  return ok_status();
}

}  // namespace

Status make_plan(PlanRequest request, std::shared_ptr<const Plan>* out) {
  auto plan = std::make_shared<Plan>();
  plan->request = std::move(request);
  for (uint32_t rank = 0; rank < plan->request.layout.pp; ++rank)
    RC_TRY(solve_rank(plan->request, rank, &plan->ranks.emplace_back()));
  RC_TRY(create_policy(policy_of(*plan), &plan->policy));
  plan->report = make_report(*plan);
  *out = std::move(plan);
  return ok_status();
}

}  // namespace rc::plan
