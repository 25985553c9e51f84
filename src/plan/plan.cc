// src/plan/plan.cc: every rank of a request solved, and the policy that carries the plan out.
#include "src/plan/plan.h"

#include "src/plan/check.h"
#include "src/plan/place.h"
#include "src/plan/simulate.h"
#include "src/plan/solve.h"
#include "src/plan/stage_problem.h"

namespace rc::plan {
namespace {

// Of the checker's proof: some hundredths of a second.
constexpr size_t kMostPartialPlans = 20'000;

// Free copies are no reason to make them: what fits without, latest layers first, stays. Their
// copies would be needed back first.
void keep_what_fits(const PlanStage& stage, StagePlan* plan) {
  std::vector<uint8_t*> offloaded;
  std::vector<uint8_t> before;
  for (size_t c = stage.chunks.size(); c-- > 0;) {
    for (size_t l = stage.chunks[c].layers.size(); l-- > 0;) {
      const auto& items = stage.classes[size_t(stage.chunks[c].layers[l])].items;
      for (size_t i = 0; i < items.size(); ++i) {
        uint8_t& choice = plan->choice[c][l][i];
        const PlanChoice& made = items[i].choices[choice];
        if (made.option != PlanOption::kOffload || made.cost != 0) continue;
        offloaded.push_back(&choice);
        before.push_back(choice);
      }
    }
  }
  // Choice 0 is keep; more kept never lowers the peak.
  auto fits = [&](size_t kept) {
    for (size_t i = 0; i < offloaded.size(); ++i) *offloaded[i] = i < kept ? 0 : before[i];
    measure_plan(stage, *plan);
    return plan->certificate.peak <= stage.budget;
  };
  size_t low = 0, high = offloaded.size() + 1;
  while (high - low > 1) {
    const size_t middle = low + (high - low) / 2;
    (fits(middle) ? low : high) = middle;
  }
  fits(low);
}

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
  if (out->plan.verdict == PlanVerdict::kInfeasible) return ok_status();
  if (out->plan.verdict == PlanVerdict::kSolved && out->plan.units.empty())
    keep_what_fits(out->stage, &out->plan);
  if (out->plan.verdict != PlanVerdict::kSolved) {
    return Status(RC_E_BUDGET, "/time_limit_seconds",
                  format("%g s found no plan on rank %u", r.time_limit, rank));
  }
  return verify_rank(r, rank, out);
}

// The rank that lacks most speaks for all: its least budget would do on every rank.
Status refuse_small_budgets(const Plan& plan) {
  const RankPlan* worst = nullptr;
  for (const RankPlan& rank : plan.ranks) {
    if (rank.plan.verdict != PlanVerdict::kInfeasible) continue;
    if (!worst || rank.plan.minimum_budget > worst->plan.minimum_budget) worst = &rank;
  }
  if (!worst) return ok_status();
  return Status(
      RC_E_BUDGET, "/budget_bytes",
      format("%lld bytes on rank %zu; the least that would do is %lld",
             static_cast<long long>(worst->stage.budget), size_t(worst - plan.ranks.data()),
             static_cast<long long>(worst->plan.minimum_budget)));
}

}  // namespace

Status verify_rank(const PlanRequest& r, uint32_t rank, RankPlan* out) {
  const auto wrong = [&](const std::string& what) {
    return Status(RC_E_INTERNAL, "",
                  format("the plan of rank %u is wrong: %s", rank, what.c_str()));
  };
  const PlanCertificate& claim = out->plan.certificate;
  const PlanCheck check = check_plan(out->stage, out->plan, kMostPartialPlans);
  if (!check.fits) return wrong(check.finding);
  out->bound_proven = check.bound_proven;
  const std::vector<PipelinePass> passes = scheduled_passes(r, rank);
  const int64_t microbatches = int64_t(passes.size()) / (2 * int64_t(r.layout.vpp));
  const PlanRun run = simulate_plan(out->stage, out->plan, passes);
  const struct {
    const char* what;
    int64_t ran, claimed;
  } figures[] = {{"peak", run.peak, claim.peak},
                 {"cost", run.cost, claim.objective * microbatches},
                 {"link", run.link, claim.link * microbatches},
                 {"bytes at the end", run.left, 0}};
  for (const auto& one : figures) {
    if (one.ran == one.claimed) continue;
    return wrong(format("%s %lld where it was run, the certificate says %lld", one.what,
                        (long long)one.ran, (long long)one.claimed));
  }
  return ok_status();
}

Status make_plan(PlanRequest request, std::shared_ptr<const Plan>* out) {
  auto plan = std::make_shared<Plan>();
  plan->request = std::move(request);
  if (plan->request.move_boundaries) RC_TRY(move_boundaries(&plan->request));
  for (uint32_t rank = 0; rank < plan->request.layout.pp; ++rank)
    RC_TRY(solve_rank(plan->request, rank, &plan->ranks.emplace_back()));
  RC_TRY(refuse_small_budgets(*plan));
  RC_TRY(create_policy(policy_of(*plan), &plan->policy));
  plan->report = make_report(*plan);
  *out = std::move(plan);
  return ok_status();
}

}  // namespace rc::plan
