// src/plan/schedule_test.cc: orders of passes against the published factors.
#include "src/plan/schedule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>
#include <tuple>

namespace rc {
namespace {

int32_t fullest(const std::vector<PlanState>& states) {
  int32_t most = 0;
  for (const PlanState& s : states) {
    most = std::max(most, std::accumulate(s.held.begin(), s.held.end(), 0));
  }
  return most;
}

TEST(Schedule, EveryPassRunsOnceAndForwardComesFirst) {
  for (const int stages : {1, 2, 4}) {
    for (const int chunks : {1, 2, 3}) {
      for (const int microbatches : {1, 3, 8}) {
        for (int stage = 0; stage < stages; ++stage) {
          const auto passes = pipeline_passes(stages, stage, chunks, microbatches);
          EXPECT_EQ(passes.size(), size_t(2 * chunks * microbatches));
          std::set<std::pair<int, int>> open;
          for (const PipelinePass& pass : passes) {
            const std::pair<int, int> key = {pass.chunk, pass.microbatch};
            if (pass.backward) {
              EXPECT_EQ(open.erase(key), 1u);
            } else {
              EXPECT_TRUE(open.insert(key).second);
            }
          }
          EXPECT_TRUE(open.empty());
        }
      }
    }
  }
}

TEST(Schedule, OneChunkHoldsTheSmallerOfMicrobatchesAndStagesLeft) {
  for (int stage = 0; stage < 8; ++stage) {
    for (const int microbatches : {1, 2, 5, 16}) {
      const auto states = peak_states(pipeline_passes(8, stage, 1, microbatches), 1);
      ASSERT_EQ(states.size(), 1u);
      EXPECT_EQ(states[0].held[0], std::min(microbatches, 8 - stage));
      EXPECT_EQ(most_in_flight(8, stage, 1, microbatches), states[0].held[0]);
    }
  }
}

// Korthikanti et al., arXiv 2205.05198, section 4.2: 1 + (p - 1) / (p v) times the memory of L
// layers on the first stage.
TEST(Schedule, InterleavedFirstStageHoldsKorthikantisFactor) {
  for (const int stages : {2, 4, 8}) {
    for (const int chunks : {2, 3, 5}) {
      const int microbatches = 4 * stages;
      const auto states = peak_states(pipeline_passes(stages, 0, chunks, microbatches), chunks);
      // In chunks of L / (p v) layers: p v (1 + (p - 1) / (p v)) = p v + p - 1.
      EXPECT_EQ(fullest(states), stages * chunks + stages - 1);
      EXPECT_EQ(most_in_flight(stages, 0, chunks, microbatches), stages * chunks + stages - 1);
    }
  }
}

TEST(Schedule, StatesHoldNoDominatedOne) {
  const auto states = peak_states(pipeline_passes(4, 1, 3, 16), 3);
  for (const PlanState& a : states) {
    for (const PlanState& b : states) {
      if (&a == &b || a.chunk != b.chunk) continue;
      bool below = true;
      for (size_t c = 0; c < a.held.size(); ++c) below = below && a.held[c] <= b.held[c];
      EXPECT_FALSE(below);
    }
  }
}

}  // namespace
}  // namespace rc
