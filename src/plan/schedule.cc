// src/plan/schedule.cc: see schedule.h.
#include "src/plan/schedule.h"

#include <algorithm>
#include <cstddef>

namespace rc {
namespace {

int32_t passes_ahead(int32_t stages, int32_t stage, int32_t chunks, int32_t microbatches) {
  const int32_t ahead =
      chunks == 1 ? stages - stage - 1 : 2 * (stages - stage - 1) + (chunks - 1) * stages;
  return std::min(ahead, chunks * microbatches);
}

// The chunk and microbatch of each forward pass in order; backward takes the chunks in reverse.
std::vector<PipelinePass> forward_order(int32_t stages, int32_t chunks, int32_t microbatches) {
  std::vector<PipelinePass> order;
  const int32_t group = chunks == 1 ? 1 : stages;
  for (int32_t first = 0; first < microbatches; first += group) {
    const int32_t last = std::min(first + group, microbatches);
    for (int32_t c = 0; c < chunks; ++c) {
      for (int32_t m = first; m < last; ++m) order.push_back({false, c, m});
    }
  }
  return order;
}

bool dominates(const PlanState& a, const PlanState& b) {
  if (a.chunk != b.chunk) return false;
  for (size_t c = 0; c < a.held.size(); ++c) {
    if (a.held[c] < b.held[c]) return false;
  }
  return true;
}

}  // namespace

std::vector<PipelinePass> pipeline_passes(int32_t stages, int32_t stage, int32_t chunks,
                                          int32_t microbatches) {
  const std::vector<PipelinePass> order = forward_order(stages, chunks, microbatches);
  const size_t ahead = size_t(passes_ahead(stages, stage, chunks, microbatches));
  std::vector<PipelinePass> passes(order.begin(), order.begin() + ahead);
  for (size_t k = 0; k < order.size(); ++k) {
    if (ahead + k < order.size()) passes.push_back(order[ahead + k]);
    passes.push_back({true, chunks - 1 - order[k].chunk, order[k].microbatch});
  }
  return passes;
}

std::vector<PlanState> peak_states(const std::vector<PipelinePass>& passes, int32_t chunks) {
  std::vector<PlanState> states;
  std::vector<int32_t> held(size_t(chunks), 0);
  for (const PipelinePass& pass : passes) {
    int32_t& mine = held[size_t(pass.chunk)];
    if (!pass.backward) {
      ++mine;
      continue;
    }
    const PlanState state{held, pass.chunk};
    --mine;
    const auto beaten = [&](const PlanState& other) { return dominates(other, state); };
    if (std::any_of(states.begin(), states.end(), beaten)) continue;
    std::erase_if(states, [&](const PlanState& other) { return dominates(state, other); });
    states.push_back(state);
  }
  return states;
}

int32_t most_in_flight(int32_t stages, int32_t stage, int32_t chunks, int32_t microbatches) {
  return std::min(passes_ahead(stages, stage, chunks, microbatches) + 1, chunks * microbatches);
}

}  // namespace rc
