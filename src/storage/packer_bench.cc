// src/storage/packer_bench.cc: time and height of the packer on transformer traces of rising size.
#include <benchmark/benchmark.h>

#include "src/storage/packer.h"
#include "src/storage/packer_trace.h"

namespace rc {
namespace {

// Arguments: layers, microbatches, forwards in flight.
void pack_trace(benchmark::State& state) {
  const PackingProblem problem = transformer_trace({.layers = int(state.range(0)),
                                                    .microbatches = int(state.range(1)),
                                                    .in_flight = int(state.range(2))});
  PackOptions options;
  options.tolerance = 0.001;
  options.time_limit = 1;
  Packing packing;
  for (auto _ : state) packing = pack(problem, options);
  state.counters["buffers"] = double(problem.buffers.size());
  state.counters["height/bound"] = double(packing.height) / double(packing.lower_bound);
}
BENCHMARK(pack_trace)
    ->Args({4, 2, 1})
    ->Args({8, 4, 2})
    ->Args({16, 8, 4})
    ->Args({32, 8, 8})
    ->Args({80, 10, 8})
    ->Args({32, 26, 8})
    ->Unit(benchmark::kMillisecond);

// The greedy fit of one order alone.
void fit_trace(benchmark::State& state) {
  const PackingProblem problem = transformer_trace({.layers = int(state.range(0)),
                                                    .microbatches = int(state.range(1)),
                                                    .in_flight = int(state.range(2))});
  PackOptions options;
  options.time_limit = 0;
  for (auto _ : state) benchmark::DoNotOptimize(pack(problem, options));
  state.counters["buffers"] = double(problem.buffers.size());
}
BENCHMARK(fit_trace)->Args({8, 4, 2})->Args({80, 10, 8})->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace rc

BENCHMARK_MAIN();
