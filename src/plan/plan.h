// src/plan/plan.h: Plan, the answer to a request: what every rank does, its proof, and its policy.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "src/plan/request.h"
#include "src/policy/policy.h"

namespace rc::plan {

struct RankPlan {
  std::vector<std::vector<uint32_t>> layers;  // [chunk][place] global layer
  PlanStage stage;
  StagePlan plan;
  bool bound_proven = false;  // by the checker too, within its limit
  int64_t keep_all_peak = 0;
  double forward_seconds = 0, backward_seconds = 0;  // of one microbatch, without replay
  double replay_seconds() const { return double(plan.certificate.objective) * 1e-12; }
};

struct Plan {
  PlanRequest request;
  std::vector<RankPlan> ranks;
  std::shared_ptr<const Policy> policy;
  std::string report;  // JSON, as PLAN_JSON.md has it
};

// Gives each rank the layers with which the slowest one is fastest under its budget.
Status move_boundaries(PlanRequest* request);
// Checks a rank's answer without the solver: every figure of its certificate by the checker, peak,
// cost and copies by running the passes; RC_E_INTERNAL where one differs. Whether the checker could
// prove the bound too stands in bound_proven.
Status verify_rank(const PlanRequest& request, uint32_t rank, RankPlan* plan);
// RC_E_BUDGET where a rank's budget is too small; the message has the least that would do.
Status make_plan(PlanRequest request, std::shared_ptr<const Plan>* out);

// The settings a policy for this request begins with: sizes, layers, kinds.
PolicySpec policy_frame(const PlanRequest& request);
// The plan as a table. A tensor cut along its tokens is treated as a whole as its other part is.
PolicySpec policy_of(const Plan& plan);

// What a policy saves and costs on each rank.
struct RankEvaluation {
  uint64_t keep_all_peak = 0, peak = 0;
  uint64_t saved_bytes = 0, kept_bytes = 0, offloaded_bytes = 0, dropped_bytes = 0;  // a microbatch
  double forward_seconds = 0, backward_seconds = 0;
  double replay_seconds = 0;      // what is missing and no more
  double checkpoint_seconds = 0;  // replaying modules to their end, as a checkpoint call does
  double exposed_seconds = 0;     // of copies, gathers and packing: what they take from kernels,
                                  // and what passes the link's window
};
std::vector<RankEvaluation> evaluate(const PlanRequest& request, const Policy& policy);

// The settings of Megatron-Core a user would try by hand.
struct HandPolicy {
  std::string flags;  // on its command line
  std::shared_ptr<const Policy> policy;
  std::vector<RankEvaluation> ranks;
  uint64_t peak() const;
  double step_seconds() const;  // of the slowest rank, with what Megatron's checkpoints replay
};
std::vector<HandPolicy> hand_policies(const PlanRequest& request);

// JSON, as PLAN_JSON.md has it.
std::string make_report(const Plan& plan);
std::string describe_inventory(const PlanRequest& request);
std::string describe_evaluation(const PlanRequest& request, const Policy& policy);

}  // namespace rc::plan
