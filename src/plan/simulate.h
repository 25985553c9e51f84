// src/plan/simulate.h: executes a plan pass by pass: what is allocated, freed, copied and replayed.
#pragma once

#include <cstdint>
#include <vector>

#include "src/plan/problem.h"
#include "src/plan/schedule.h"

namespace rc {

enum class PlanEventKind : uint8_t {
  kAlloc,    // device bytes
  kFree,     // device bytes
  kCopyOut,  // to the host: host bytes taken
  kCopyIn,   // from the host: host bytes given back
  kReplay,   // work of `cost` that forward did already
  kForward,  // a layer's forward begins
  kBackward  // a layer's backward begins
};
struct PlanEvent {
  PlanEventKind kind = PlanEventKind::kForward;
  int32_t microbatch = 0, chunk = 0, layer = 0;
  int32_t item = -1;   // -1: the layer's own bytes (moments)
  int32_t buffer = 0;  // which allocation of the item: a refilled tensor is a second one
  int64_t bytes = 0, cost = 0;
};

struct PlanRun {
  std::vector<PlanEvent> events;  // in order; empty unless asked for
  int64_t peak = 0;               // device bytes, fixed bytes included
  int64_t host_peak = 0;
  int64_t cost = 0;  // of all microbatches
  int64_t link = 0;  // bytes copied out, all microbatches
  int64_t left = 0;  // device bytes that are still live at the end beyond the fixed ones
};

// Runs the passes of one stage (pipeline_passes) under the plan. Bytes of cut tensors are those of
// their parts. A unit's layers come back together when backward reaches its last one.
PlanRun simulate_plan(const PlanStage& stage, const StagePlan& plan,
                      const std::vector<PipelinePass>& passes, bool record = false);

}  // namespace rc
