// src/budget/measured_plan.cc: the search, and the plan it ends with.
#include "src/budget/measured_plan.h"

#include <algorithm>
#include <cmath>

#include "src/budget/check_path.h"
#include "src/region/context.h"

namespace rc::budget {
namespace {

constexpr int kMostRounds = 24;
// Rounds end where the search's budgets that fit and that do not are this close.
constexpr double kCloseEnough = 1e-4;

bool cheaper(const Candidate& a, const Candidate& b) {
  return a.replay_ns != b.replay_ns ? a.replay_ns < b.replay_ns : a.peak < b.peak;
}

class Search {
 public:
  Search(const Measured& measured, MeasuredPlan* plan) : m_(measured), plan_(*plan) {}

  Status run() {
    RC_TRY(find_ways(m_, &plan_.ways));
    if (plan_.ways.chunked)
      rows_ = plan_.ways.rows();
    else
      path_ = plan_.ways.path();
    RC_TRY(hand_candidates(m_, plan_.ways, &plan_.hand));
    for (const Candidate& c : plan_.hand) consider(c);
    Candidate least;
    const PathPlan least_steps =
        plan_.ways.chunked ? least_rows(rows_, limits()).plan : least_path(path_);
    RC_TRY(forecast_of("plan", least_steps.steps, &least));
    consider(least);
    plan_.least_peak = least.peak;
    for (const Candidate& c : plan_.hand) plan_.least_peak = std::min(plan_.least_peak, c.peak);
    if (plan_.budget < plan_.least_peak)
      return Status(RC_E_BUDGET, "budget.bytes",
                    format("%llu bytes; the least that would do is %llu",
                           static_cast<unsigned long long>(plan_.budget),
                           static_cast<unsigned long long>(plan_.least_peak)));
    RC_TRY(approach());
    RC_TRY(check());
    return improve();
  }

 private:
  Status forecast_of(const char* name, const std::vector<PathStep>& steps, Candidate* out) {
    out->name = name;
    out->spec = policy_of(m_, plan_.ways, steps);
    Forecast f;
    RC_TRY(m_.forecast_of(out->spec, ForecastDetail::kFigures, &f));
    ++plan_.ways.forecasts;
    out->peak = f.peak_bytes;
    out->replay_ns = f.replay_ns;
    out->replays = f.replays;
    return ok_status();
  }

  bool consider(const Candidate& c) {
    if (c.peak > plan_.budget) return false;
    if (found_ && !cheaper(c, plan_.chosen)) return false;
    plan_.chosen = c;
    found_ = true;
    steps_.clear();
    plan_.inner = {};
    return true;
  }

  // The search's model and the forecast differ by little; the search's budget moves by what the
  // forecast is off, between the largest that fitted and the smallest that did not.
  Status approach() {
    int64_t budget = int64_t(plan_.budget), fits = INT64_MIN, fails = INT64_MAX;
    std::vector<PathStep> before;
    for (; plan_.rounds < kMostRounds && !m_.late(); ++plan_.rounds) {
      const RowPathPlan whole = solve(budget);
      const PathPlan& answer = whole.plan;
      Candidate c;
      if (answer.found) RC_TRY(forecast_of("plan", answer.steps, &c));
      const bool good = answer.found && c.peak <= plan_.budget;
      if (good && consider(c)) {
        plan_.inner = whole;
        plan_.inner_budget = budget;
        steps_ = answer.steps;
      }
      const int64_t off = answer.found ? int64_t(c.peak) - int64_t(plan_.budget) : 0;
      if (good)
        fits = std::max(fits, budget);
      else
        answer.found ? fails = std::min(fails, budget) : fits = std::max(fits, budget);
      if (good && answer.cost == 0) break;
      int64_t next = budget - off;
      if (!answer.found && fails == INT64_MAX) next = budget + std::max<int64_t>(1, budget / 16);
      if (fits != INT64_MIN && fails != INT64_MAX) {
        if (double(fails - fits) < kCloseEnough * double(plan_.budget) || fails - fits < 2) break;
        if (next <= fits || next >= fails) next = fits + (fails - fits) / 2;
      }
      if (next == budget) break;
      budget = next;
    }
    return ok_status();
  }

  // Single layers of the plan that could do with less, by forecast: what the model rounds away.
  Status improve() {
    for (size_t i = 0; i < steps_.size() && !m_.late(); ++i) {
      const PathStep now = steps_[i];
      const std::vector<PathWay>& ways = chain().ways[now.place];
      std::vector<uint32_t> less;
      for (uint32_t w = 0; w < ways.size(); ++w)
        if (ways[w].layers == ways[now.way].layers && ways[w].cost < ways[now.way].cost)
          less.push_back(w);
      std::sort(less.begin(), less.end(),
                [&](uint32_t a, uint32_t b) { return ways[a].cost < ways[b].cost; });
      for (const uint32_t w : less) {
        if (m_.late()) break;
        std::vector<PathStep> steps = steps_;
        steps[i].way = w;
        Candidate c;
        RC_TRY(forecast_of("plan", steps, &c));
        const RowPathPlan inner = plan_.inner;
        if (!consider(c)) continue;
        steps_ = steps;
        plan_.inner = inner;
        plan_.inner.plan.steps = steps;
        plan_.improved = true;
        break;
      }
    }
    return ok_status();
  }

  PathLimits limits() const {
    PathLimits limits;
    limits.deadline = m_.deadline;
    return limits;
  }
  RowPathPlan solve(int64_t budget) const {
    if (plan_.ways.chunked) return solve_rows(rows_, budget, limits());
    return {solve_path(path_, budget, limits()), {}};
  }
  // The search's answer, by what does not know the search.
  Status check() {
    const RowPathPlan& answer = plan_.inner;
    if (!answer.plan.found) return ok_status();
    const PathCheck found = plan_.ways.chunked ? check_rows(rows_, plan_.inner_budget, answer)
                                               : check_path(path_, plan_.inner_budget, answer.plan);
    if (!found.fits) return Status(RC_E_INTERNAL, "plan", found.finding);
    plan_.proven_bound = found.proven_bound;
    return ok_status();
  }
  const LayerPath& chain() const { return plan_.ways.chunked ? rows_.path : path_; }

  const Measured& m_;
  MeasuredPlan& plan_;
  LayerPath path_;
  RowPath rows_;  // instead, with virtual chunks
  bool found_ = false;
  std::vector<PathStep> steps_;  // of the chosen plan, if the search found it
};

// What the last profiled step left, and the policy under which it ran.
Status take_measured(Context* context, Measured* out) {
  Locked lock(context);
  if (!context->profile || !context->profile->settled() || !context->call_log)
    return Status(RC_E_STATE, "context",
                  "no step was profiled: begin one with RC_STEP_PROFILE, and end it");
  out->log = context->call_log;
  out->profile = context->profile;
  out->flags = context->flags;
  out->base = base_of(context->policy.get(), *out->log);
  return ok_status();
}

}  // namespace

Status make_measured_plan(Context* context, const Budget& budget,
                          std::shared_ptr<const plan::Plan>* out) {
  const Clock::time_point start = Clock::now();
  if (budget.fraction != 0 && !(budget.fraction > 0 && budget.fraction <= 1))
    return argument_error("budget.fraction",
                          format("%g, must be above 0 and at most 1", budget.fraction));
  if (budget.fraction != 0 && budget.bytes != 0)
    return argument_error("budget.bytes", "set beside fraction; one of them says it");
  if (budget.fraction == 0 && budget.bytes == 0)
    return argument_error("budget.bytes", "0, and fraction is not set either");
  if (!(budget.time_limit >= 0 && budget.time_limit <= 3600))
    return argument_error("budget.time_limit_seconds",
                          format("%g, must be between 0 and 3600", budget.time_limit));
  Measured measured;
  RC_TRY(take_measured(context, &measured));
  const double limit = budget.time_limit > 0 ? budget.time_limit : 10;
  measured.deadline =
      start + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(limit));
  MeasuredPlan found;
  found.budget = budget.bytes;
  if (budget.fraction > 0) {
    Forecast all;
    RC_TRY(measured.forecast_of(measured.base, ForecastDetail::kFigures, &all));
    found.budget = uint64_t(budget.fraction * double(all.peak_bytes));
  }
  RC_TRY(Search(measured, &found).run());
  found.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  auto plan = std::make_shared<plan::Plan>();
  RC_TRY(create_policy(found.chosen.spec, &plan->policy));
  plan->report = make_report(measured, found, *plan->policy);
  *out = std::move(plan);
  return ok_status();
}

}  // namespace rc::budget
