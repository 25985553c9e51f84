// src/storage/packer_trace_test.cc: transformer traces with gaps pack within 2 % of the bound.
#include "src/storage/packer_trace.h"

#include <gtest/gtest.h>

#include "src/storage/packer.h"
#include "src/storage/validator.h"

namespace rc {
namespace {

struct TraceCase {
  int layers, microbatches, in_flight, full_recompute;
  bool discard;
  double jitter;
};

void PrintTo(const TraceCase& c, std::ostream* out) {
  *out << c.layers << "_layers_" << c.microbatches << "_microbatches_" << c.in_flight
       << "_in_flight_" << c.full_recompute << "_recomputed_"
       << (c.discard ? "discarding_" : "keeping_") << c.jitter;
}

class PackerTrace : public testing::TestWithParam<TraceCase> {};

TEST_P(PackerTrace, StaysWithinTwoPercentOfTheBound) {
  const TraceCase& c = GetParam();
  for (const uint64_t seed : {1, 2, 3}) {
    const PackingProblem problem = transformer_trace({.layers = c.layers,
                                                      .microbatches = c.microbatches,
                                                      .in_flight = c.in_flight,
                                                      .full_recompute = c.full_recompute,
                                                      .discard = c.discard,
                                                      .jitter = c.jitter,
                                                      .seed = seed});
    PackOptions options;
    options.time_limit = 1e9;  // limited by rounds alone: the same on a busy machine
    options.node_limit = 0;
    options.tolerance = 0.001;
    const Packing packing = pack(problem, options);
    ASSERT_EQ(packing_violation(problem, packing.offsets, packing.height), "");
    EXPECT_LE(double(packing.height), 1.02 * double(packing.lower_bound)) << "seed " << seed;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Transformers, PackerTrace,
    testing::Values(TraceCase{4, 2, 1, 0, true, 0.1}, TraceCase{8, 4, 2, 0, true, 0.1},
                    TraceCase{8, 4, 4, 0, true, 0.5}, TraceCase{16, 8, 4, 4, true, 0.1},
                    TraceCase{16, 8, 4, 16, true, 0.1}, TraceCase{16, 8, 4, 16, true, 0},
                    TraceCase{12, 8, 8, 0, false, 0.3}, TraceCase{32, 8, 4, 8, true, 0.1}));

TEST(PackerTrace, GapsOfDiscardedBuffersLowerTheArena) {
  TransformerTrace trace;
  trace.discard = false;
  const PackingProblem kept = transformer_trace(trace);
  trace.discard = true;
  const PackingProblem discarded = transformer_trace(trace);
  PackOptions options;
  options.tolerance = 0.001;
  options.node_limit = 0;
  // Norm and activation outputs are 5.5 of 17 units of a layer.
  EXPECT_LT(double(pack(discarded, options).height), 0.75 * double(pack(kept, options).height));
}

TEST(PackerTrace, PacksTwentyThousandBuffersWithinTwoPercent) {
  const PackingProblem problem = transformer_trace(
      {.layers = 80, .microbatches = 10, .in_flight = 8, .discard = true, .jitter = 0.1});
  ASSERT_GT(problem.buffers.size(), 19'000u);
  const Packing packing = pack(problem);
  ASSERT_EQ(packing_violation(problem, packing.offsets, packing.height), "");
  EXPECT_LE(double(packing.height), 1.02 * double(packing.lower_bound));
}

TEST(PackerTrace, ImprovementOfTheOrderAndExactSearchBothLowerSomeTrace) {
  int improved = 0, searched = 0;
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    const PackingProblem problem = transformer_trace(
        {.layers = 3, .microbatches = 3, .in_flight = 2, .jitter = 0.5, .seed = seed});
    PackOptions options;
    options.node_limit = 0;
    options.improvement_rounds = 0;
    const uint64_t plain = pack(problem, options).height;
    options.improvement_rounds = 200;
    const uint64_t better = pack(problem, options).height;
    options.node_limit = 3000;
    const uint64_t best = pack(problem, options).height;
    improved += better < plain;
    searched += best < better;
    EXPECT_LE(better, plain);
    EXPECT_LE(best, better);
  }
  EXPECT_GT(improved, 0);
  EXPECT_GT(searched, 0);
}

}  // namespace
}  // namespace rc
