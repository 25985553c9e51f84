// src/policy/microbatch_window_test.cc: the window against a model of the two pipeline schedules.
#include "src/policy/microbatch_window.h"

#include <gtest/gtest.h>

#include <memory>

#include "src/policy/policy.h"

namespace rc {
namespace {

PolicySpec pipeline(uint32_t pp, uint32_t rank, uint32_t vpp, uint32_t microbatches, uint32_t n) {
  PolicySpec spec;
  spec.pp_size = pp;
  spec.pp_rank = rank;
  spec.vpp_size = vpp;
  spec.num_layers = pp * vpp;
  spec.num_microbatches = microbatches;
  spec.num_microbatches_with_partial_recompute = n;
  return spec;
}

TEST(MicrobatchWindow, FollowsOneForwardOneBackward) {
  for (uint32_t pp = 2; pp <= 5; ++pp) {
    for (uint32_t rank = 0; rank < pp; ++rank) {
      for (uint32_t m = 1; m <= 9; ++m) {
        for (uint32_t n = 1; n <= 4; ++n) {
          const MicrobatchWindow window(pipeline(pp, rank, 1, m, n));
          const uint32_t warm_up = std::min(pp - rank - 1, m);
          EXPECT_EQ(window.length(), warm_up + 1);
          for (uint32_t i = 0; i < m; ++i) {
            EXPECT_EQ(window.is_partial(0, i), !(i % (warm_up + 1) >= n));
          }
        }
      }
    }
  }
}

// The interleaved schedule counts (chunk, microbatch) pairs in the order of their forwards.
TEST(MicrobatchWindow, FollowsTheInterleavedSchedule) {
  for (uint32_t pp = 2; pp <= 4; ++pp) {
    for (uint32_t rank = 0; rank < pp; ++rank) {
      for (uint32_t vpp = 2; vpp <= 3; ++vpp) {
        for (uint32_t m = 1; m <= 10; ++m) {
          const MicrobatchWindow window(pipeline(pp, rank, vpp, m, 2));
          const uint32_t warm_up = std::min((pp - rank - 1) * 2 + (vpp - 1) * pp, m * vpp);
          ASSERT_EQ(window.length(), warm_up + 1);
          uint32_t running = 0;
          for (uint32_t group = 0; group < m; group += pp) {
            for (uint32_t chunk = 0; chunk < vpp; ++chunk) {
              for (uint32_t i = group; i < std::min(group + pp, m); ++i) {
                EXPECT_EQ(window.is_partial(chunk, i), running % (warm_up + 1) < 2)
                    << pp << " " << rank << " " << vpp << " " << m << " " << chunk << " " << i;
                ++running;
              }
            }
          }
        }
      }
    }
  }
}

TEST(MicrobatchWindow, IsOffByDefault) {
  const MicrobatchWindow none;
  EXPECT_FALSE(none.active());
  EXPECT_TRUE(none.is_partial(3, 1000));
}

TEST(MicrobatchWindow, OtherMicrobatchesAreRecomputedLayerByLayer) {
  PolicySpec spec = pipeline(4, 0, 1, 8, 1);
  spec.num_layers = 8;
  spec.granularity = RC_GRANULARITY_SELECTIVE;
  RuleSpec keep;
  keep.kind = "layer";
  keep.first_layer = 7;
  spec.rules = {keep};
  std::shared_ptr<const Policy> policy;
  ASSERT_TRUE(create_policy(spec, &policy).ok());
  EXPECT_TRUE(policy->depends_on_microbatch());
  EXPECT_FALSE(policy->depends_on_chunk());
  for (uint32_t m = 0; m < 8; ++m) {
    const bool partial = m % 4 == 0;
    const Decision attn = policy->decide({"core_attn", 1, 0, m}, {"p", RC_ROLE_SAVED});
    EXPECT_EQ(attn.action, partial ? RC_ACTION_RECOMPUTE : RC_ACTION_KEEP);
    const Decision layer = policy->decide({"layer", 1, 0, m}, {"p", RC_ROLE_SAVED});
    EXPECT_EQ(layer.action, partial ? RC_ACTION_KEEP : RC_ACTION_RECOMPUTE);
    EXPECT_EQ(layer.n_layers, 1u);
    const Decision ruled = policy->decide({"layer", 7, 0, m}, {"p", RC_ROLE_SAVED});
    EXPECT_EQ(ruled.action, RC_ACTION_KEEP);
    EXPECT_EQ(ruled.rule, 0);
  }
  EXPECT_EQ(policy->rule_text(2),
            "num_microbatches_with_partial_recompute: full from microbatch 1 of each window of 4");
}

}  // namespace
}  // namespace rc
