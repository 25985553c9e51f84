// src/testing/arena_trace_bench.cc: arena height over bound on the layer traces of every model.
//
// A line is one model and schedule under all policies: the time of packing them all, the largest
// and the mean height / bound, and the buffers of the largest trace. argument: schedule, 1: 1F1B,
// 2: interleaved with two chunks.
#include <benchmark/benchmark.h>

#include <algorithm>

#include "src/storage/packer.h"
#include "src/testing/arena_cases.h"

namespace rc {
namespace {

void pack_traces(benchmark::State& state) {
  const ArenaModel model = arena_models()[size_t(state.range(0))];
  const int32_t chunks = int32_t(state.range(1));
  const PlanStage stage = arena_stage(model, chunks);
  const auto passes = arena_passes(chunks);
  double worst = 0, sum = 0, buffers = 0, traces = 0;
  for (auto _ : state) {
    worst = sum = traces = 0;
    for (const ArenaPolicy& policy : arena_policies(stage)) {
      const PackingProblem problem =
          ArenaTrace(stage, passes, {.whole_layers = policy.whole_layers}).build(policy.choice);
      PackOptions options;
      options.time_limit = 2;
      const Packing packing = pack(problem, options);
      const double ratio = double(packing.height) / double(packing.lower_bound);
      worst = std::max(worst, ratio);
      sum += ratio;
      traces += 1;
      buffers = std::max(buffers, double(problem.buffers.size()));
    }
  }
  state.SetLabel(model.name + (chunks == 1 ? " 1f1b" : " interleaved"));
  state.counters["worst"] = worst;
  state.counters["mean"] = sum / traces;
  state.counters["buffers"] = buffers;
}
BENCHMARK(pack_traces)
    ->ArgNames({"model", "chunks"})
    ->ArgsProduct({benchmark::CreateDenseRange(0, 6, 1), {1, 2}})
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace rc

BENCHMARK_MAIN();
