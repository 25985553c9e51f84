// src/region/region_bench.cc: host cost of a region through the C ABI, beside a bare malloc/free
// pair.
//
//   region_bench --benchmark_repetitions=9 --benchmark_report_aggregates_only=true
#include <benchmark/benchmark.h>

#include <cstdlib>

#include "include/rcore/rcore.h"

namespace {

rc_status empty_replay(const rc_replay_args*) {
  return RC_OK;
}

struct Host {
  rc_context* context = nullptr;
  rc_policy* policy = nullptr;
  rc_module* module = nullptr;

  explicit Host(bool recompute, uint32_t n_slots) {
    rc_context_desc context_desc = rc_context_desc_init();
    if (rc_context_create(&context_desc, &context) < 0) std::abort();
    rc_policy_desc policy_desc = rc_policy_desc_init();
    policy_desc.granularity = recompute ? RC_GRANULARITY_SELECTIVE : RC_GRANULARITY_NONE;
    const char* modules[] = {"mlp"};
    policy_desc.recompute_modules = modules;
    policy_desc.n_recompute_modules = 1;
    if (!recompute) {
      policy_desc.recompute_modules = nullptr;
      policy_desc.n_recompute_modules = 0;
    }
    if (rc_policy_create(&policy_desc, &policy) < 0) std::abort();
    if (rc_context_configure(context, policy) < 0) std::abort();
    rc_slot_desc slots[64];
    static const char* const names[] = {"s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7"};
    for (uint32_t i = 0; i < n_slots; ++i) {
      slots[i] = rc_slot_desc_init();
      slots[i].name = names[i];
      slots[i].role = i == 0 ? RC_ROLE_INPUT : RC_ROLE_SAVED;
    }
    rc_module_ops ops = rc_module_ops_init();
    ops.replay = empty_replay;
    rc_module_desc desc = rc_module_desc_init();
    desc.kind = "mlp";
    desc.slots = slots;
    desc.n_slots = n_slots;
    desc.slot_stride = sizeof(rc_slot_desc);
    desc.ops = &ops;
    if (rc_module_register(context, &desc, &module) < 0) std::abort();
  }
  ~Host() {
    rc_module_release(module);
    rc_policy_release(policy);
    rc_context_release(context);
  }
};

// begin, save one owned tensor, end, replay (nothing missing, but asked), release.
void region_life(benchmark::State& state) {
  Host host(true, 1);
  const int64_t shape[] = {1024, 1024};
  static float memory[1024 * 1024];
  rc_tensor_spec spec = rc_tensor_spec_init();
  spec.data = memory;
  spec.dtype_code = 2;
  spec.dtype_bits = 32;
  spec.ndim = 2;
  spec.shape = shape;
  rc_region_desc desc = rc_region_desc_init();
  desc.module = host.module;
  for (auto _ : state) {
    rc_tensor* tensor = nullptr;
    rc_region* region = nullptr;
    rc_save save = rc_save_init();
    bool ok = rc_tensor_wrap(&spec, nullptr, nullptr, &tensor) >= 0;
    save.tensor = tensor;
    ok = ok && rc_region_begin(host.context, &desc, &region) >= 0;
    ok = ok && rc_region_save(region, &save, 1, sizeof save, nullptr, nullptr) >= 0;
    ok = ok && rc_region_end(region, nullptr) >= 0;
    ok = ok && rc_backward_replay(&region, 1, nullptr) >= 0;
    rc_region_release(region, nullptr);
    if (!ok) state.SkipWithError("a call failed");
  }
}
BENCHMARK(region_life);

// The same with a nested region that makes the replay callback run, each time.
void region_life_with_callback(benchmark::State& state) {
  Host host(true, 1);
  rc_region_desc desc = rc_region_desc_init();
  desc.module = host.module;
  for (auto _ : state) {
    rc_region* region = nullptr;
    rc_region* nested = nullptr;
    bool ok = rc_region_begin(host.context, &desc, &region) >= 0;
    rc_region_desc inner = desc;
    inner.parent = region;
    ok = ok && rc_region_begin(host.context, &inner, &nested) >= 0;
    ok = ok && rc_region_end(nested, nullptr) >= 0;
    ok = ok && rc_region_end(region, nullptr) >= 0;
    ok = ok && rc_backward_replay(&region, 1, nullptr) >= 0;
    rc_region_release(nested, nullptr);
    rc_region_release(region, nullptr);
    if (!ok) state.SkipWithError("a call failed");
  }
}
BENCHMARK(region_life_with_callback);

// One slot of core memory, dropped at end and written again by the callback.
rc_status alloc_replay(const rc_replay_args* args) {
  const int64_t shape[] = {16, 16};
  rc_tensor_spec spec = rc_tensor_spec_init(), out = rc_tensor_spec_init();
  spec.dtype_code = 2;
  spec.dtype_bits = 32;
  spec.ndim = 2;
  spec.shape = shape;
  return rc_region_alloc(args->region, args->missing[0], &spec, args->stream, &out);
}

void region_alloc_drop_refill(benchmark::State& state) {
  Host host(true, 1);
  rc_slot_desc slot = rc_slot_desc_init();
  slot.name = "h";
  slot.role = RC_ROLE_SAVED;
  rc_module_ops ops = rc_module_ops_init();
  ops.replay = alloc_replay;
  rc_module_desc module_desc = rc_module_desc_init();
  module_desc.kind = "mlp";
  module_desc.slots = &slot;
  module_desc.n_slots = 1;
  module_desc.slot_stride = sizeof slot;
  module_desc.ops = &ops;
  rc_module* module = nullptr;
  if (rc_module_register(host.context, &module_desc, &module) < 0) std::abort();
  const int64_t shape[] = {16, 16};
  rc_tensor_spec spec = rc_tensor_spec_init(), out = rc_tensor_spec_init();
  spec.dtype_code = 2;
  spec.dtype_bits = 32;
  spec.ndim = 2;
  spec.shape = shape;
  rc_region_desc desc = rc_region_desc_init();
  desc.module = module;
  for (auto _ : state) {
    rc_region* region = nullptr;
    bool ok = rc_region_begin(host.context, &desc, &region) >= 0;
    ok = ok && rc_region_alloc(region, 0, &spec, nullptr, &out) >= 0;
    ok = ok && rc_region_end(region, nullptr) >= 0;
    ok = ok && rc_backward_replay(&region, 1, nullptr) >= 0;
    rc_region_release(region, nullptr);
    if (!ok) state.SkipWithError("a call failed");
  }
  rc_module_release(module);
}
BENCHMARK(region_alloc_drop_refill);

void malloc_free_pair(benchmark::State& state) {
  for (auto _ : state) {
    void* p = std::malloc(4096);
    benchmark::DoNotOptimize(p);
    std::free(p);
  }
}
BENCHMARK(malloc_free_pair);

}  // namespace

BENCHMARK_MAIN();
