// src/plan/place.h: from counts to layers: who recomputes, who offloads, what that takes.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "src/plan/counts.h"
#include "src/plan/search.h"

namespace rc {

// Everything the plan takes, into its certificate (bounds are left alone).
void measure_plan(const PlanStage& stage, StagePlan& plan);

// The row with the largest excess of this plan over its capacity; nothing where all fit.
std::optional<PlanRow> worst_row(const PlanStage& stage, const StagePlan& plan);

// The state in which the plan has most on the host.
size_t fullest_host(const PlanStage& stage, const StagePlan& plan);

// A member of a group that is cut between keep and recompute.
struct CutMember {
  size_t group = 0;
  int64_t kept_rows = 0;
};

// Who of the kept ones goes over a shared link.
struct LinkMembers {
  std::vector<int32_t> moved;  // [group] whole
  int64_t part_rows = 0;       // and so many rows of one member more
  size_t part_group = 0;
};

// Gives the counts to layers: what keeps least goes to the earliest ones, since the last layers'
// backward meets all that the earlier ones hold. With a shared link, offloads as much as the rows
// need, first what relieves most and is needed back last, and cuts one tensor where the link has
// no room for a whole one. False where rows of the tensors do not divide as finely as that needs.
bool place_counts(const PlanStage& stage, const CountProblem& problem, const CountResult& result,
                  const CutMember* cut, StagePlan& plan);

// The same where it is known who goes over the link.
void place_members(const PlanStage& stage, const CountProblem& problem, const CountResult& result,
                   const CutMember* cut, const LinkMembers& link, StagePlan& plan);

}  // namespace rc
