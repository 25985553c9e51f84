// src/plan/check.h: verifies a plan and its certificate without the solver: shares problem.h only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "src/plan/problem.h"

namespace rc {

struct PlanCheck {
  bool fits = false;          // well formed, within every capacity, certificate figures exact
  bool bound_proven = false;  // no plan costs less than certificate.lower_bound
  std::string finding;        // one line: the first thing that is wrong or was not proven
};

// Recomputes cost, peaks, link and host use of a solved plan layer by layer; then proves the lower
// bound by enumeration: partial plans under the certificate's rows, one tensor after another, less
// those that others dominate and those whose Lagrangian bound reaches the claim. None may be left
// at the end. Gives up (bound_proven false) above `partial_plans` at once.
PlanCheck check_plan(const PlanStage& stage, const StagePlan& plan,
                     size_t partial_plans = 4'000'000);

// The second half alone: no plan costs less than `claim`.
bool prove_bound(const PlanStage& stage, const StagePlan& plan, int64_t claim, size_t partial_plans,
                 std::string* finding);

// The same where the certificate has one memory row, or two that nest, beside a link of one price.
bool prove_shared_bound(const PlanStage& stage, const StagePlan& plan, int64_t claim,
                        size_t partial_plans, bool* applies);

// The same where the certificate has a tree of branches.
bool prove_bound_by_branches(const PlanStage& stage, const StagePlan& plan, int64_t claim,
                             std::string* finding);

// The same over all plans that may have units of layers. Both halves are called by check_plan.
bool prove_bound_of_units(const PlanStage& stage, const StagePlan& plan, int64_t claim,
                          size_t partial_plans, std::string* finding);

}  // namespace rc
