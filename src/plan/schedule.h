// src/plan/schedule.h: the order of passes on a pipeline stage, and what is held as each begins.
#pragma once

#include <cstdint>
#include <vector>

#include "src/plan/problem.h"

namespace rc {

// One pass of one microbatch over one virtual chunk.
struct PipelinePass {
  bool backward = false;
  int32_t chunk = 0, microbatch = 0;
};

// The passes of stage `stage` of `stages` in the order in which it runs them: 1F1B for one chunk
// (Narayanan et al., arXiv 1806.03377), interleaved for more (Narayanan et al., arXiv 2104.04473):
// microbatches go through the chunks in groups of `stages`, the last group may be smaller, and
// 2 (stages - stage - 1) + (chunks - 1) stages passes go ahead of the first backward.
std::vector<PipelinePass> pipeline_passes(int32_t stages, int32_t stage, int32_t chunks,
                                          int32_t microbatches);

// The states at the start of each backward pass of such an order, without the dominated ones.
std::vector<PlanState> peak_states(const std::vector<PipelinePass>& passes, int32_t chunks);

// The most passes whose activations are held at once, the one in backward included: min(m, p - s)
// for 1F1B, min(v m, 2 (p - s - 1) + (v - 1) p + 1) for interleaved; in units of one chunk.
int32_t most_in_flight(int32_t stages, int32_t stage, int32_t chunks, int32_t microbatches);

}  // namespace rc
