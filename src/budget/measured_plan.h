// src/budget/measured_plan.h: the cheapest policy for a budget, from what a profiled step measured.
//
// An exact search over the ways of all layers (src/budget/layer_path.h) proposes; the forecast,
// which is the region machine itself, disposes: a plan is taken only if its forecast fits the
// budget, and the search's own budget is moved until it meets the forecast's. Megatron's settings
// are forecast too, so that none that fits is cheaper than the plan. Virtual chunks have a search
// of their own (src/budget/row_path.h). What the search answers is checked without it
// (src/budget/check_path.h) before it becomes a policy.
#pragma once

#include <memory>

#include "src/budget/ways.h"
#include "src/plan/plan.h"

namespace rc {
class Context;
}

namespace rc::budget {

struct Budget {
  uint64_t bytes = 0;
  double fraction = 0;  // instead, of what keeping everything takes
  double time_limit = 10;
};

// A policy and its forecast.
struct Candidate {
  std::string name;
  PolicySpec spec;
  uint64_t peak = 0, replay_ns = 0, replays = 0;
};

struct MeasuredPlan {
  uint64_t budget = 0;
  Ways ways;
  std::vector<Candidate> hand;  // Megatron's settings
  uint64_t least_peak = 0;      // of all that does not depend on the budget
  Candidate chosen;
  RowPathPlan inner;         // what the search answered, if `chosen` is its plan
  int64_t inner_budget = 0;  // that it was asked with
  int64_t proven_bound = 0;  // of its cost, by src/budget/check_path.h
  bool improved = false;     // by forecasts, after the search
  uint64_t rounds = 0;
  double seconds = 0;
};

Status make_measured_plan(Context* context, const Budget& budget,
                          std::shared_ptr<const plan::Plan>* out);
std::string make_report(const Measured& measured, const MeasuredPlan& plan, const Policy& policy);
// Full recomputation, uniform and block, and sets of modules, as far as the step has such regions.
Status hand_candidates(const Measured& measured, const Ways& ways, std::vector<Candidate>* out);

}  // namespace rc::budget
