// src/region/region_storage_test.cc: bytes, the arena of the second step, caps, host allocators,
// the system's own count.
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <memory>
#include <utility>

#include "src/device/poison.h"
#include "src/region/testing_model.h"

namespace rc::testing {
namespace {

constexpr uint64_t kMiB = 1 << 20;
// Whole multiples of the alignment, so that the arena's height can be compared with the bytes in
// it.
constexpr ModelSizes kAligned = {
    .x = 1024, .norm = 1280, .probs = 5120, .attention = 1536, .hidden = 4096, .choice = 256};

struct RegionStorage : ::testing::Test {
  // A forward and a backward of all microbatches, in the order given.
  rc_step_report step(Host& host, Model& model, std::vector<uint32_t> order = {0, 1}) {
    rc_step* step = host.step();
    for (uint32_t mb = 0; mb < order.size(); ++mb) model.forward(step, mb, static_cast<int>(mb));
    for (uint32_t mb : order) model.backward(mb);
    return host.end_step(step);
  }
};

TEST_F(RegionStorage, TheSecondStepRunsInTheArenaAndAllocatesOnlyIt) {
  for (int policy = 0; policy < 3; ++policy) {
    Host host;
    if (policy == 1) host.recompute({"layernorm", "core_attn", "mlp"});
    if (policy == 2) host.full(RC_METHOD_UNIFORM, 2, 5);
    Model model(host, 5, kAligned);
    const rc_step_report first = step(host, model);
    EXPECT_EQ(first.arena_bytes, 0u);
    const rc_step_report second = step(host, model);
    EXPECT_GT(second.arena_bytes, 0u);
    EXPECT_EQ(second.arena_misses, 0u);
    EXPECT_EQ(second.peak_bytes, first.peak_bytes);
    EXPECT_LE(second.arena_bytes, second.arena_bound * 1.02) << "policy " << policy;
    EXPECT_GE(second.arena_bytes, second.peak_bytes);
    const uint64_t allocations = host.stats().allocations, objects = host.stats().objects;
    for (int i = 0; i < 4; ++i) {
      const rc_step_report warm = step(host, model);
      EXPECT_EQ(warm.allocations, 0u);
      EXPECT_EQ(warm.arena_misses, 0u);
    }
    EXPECT_EQ(host.stats().allocations, allocations);
    EXPECT_EQ(host.stats().objects, objects);
    EXPECT_EQ(host.live(), 0u);
  }
}

TEST_F(RegionStorage, ARefilledBlockIsWhereItWas) {
  Host host;
  host.recompute({"layernorm"});
  TestModule& norm = host.module("layernorm", 0, {out("y")}, [](const rc_replay_args* args) {
    Bytes want(5000);
    rc_tensor_spec got = rc_tensor_spec_init();
    EXPECT_EQ(rc_region_alloc(args->region, 0, &want.spec, nullptr, &got), RC_OK);  // not RC_MOVED
    return RC_OK;
  });
  TestModule& other = host.module("core_attn", 0, {saved("p")});
  for (int i = 0; i < 3; ++i) {
    rc_step* step = host.step();
    rc_region* r = host.begin(norm, {.step = step});
    char* before = alloc(r, 0, 5000);
    ASSERT_EQ(rc_region_end(r, nullptr), RC_OK);
    ASSERT_EQ(rc_region_discard(r, nullptr), RC_OK);
    rc_region* gap = host.begin(other, {.step = step});
    char* in_gap = alloc(gap, 0, 4000);
    if (i > 0) EXPECT_EQ(in_gap, before);  // the arena reuses the gap
    rc_region_release(gap, nullptr);
    EXPECT_EQ(replay(r), RC_OK);
    EXPECT_EQ(view(r, 0), before);
    rc_region_release(r, nullptr);
    const rc_step_report report = host.end_step(step);
    EXPECT_EQ(report.arena_misses, 0u);
    if (i > 0) EXPECT_EQ(report.arena_bytes, 5000u);
  }
}

TEST_F(RegionStorage, AnEvaluationAndAnotherOrderDoNotShiftThePlan) {
  Host host;
  host.recompute({"layernorm", "core_attn"});
  Model model(host, 3), evaluated(host, 3);
  step(host, model, {0, 1, 2});
  rc_step* evaluation = host.step(RC_PHASE_EVALUATION);
  evaluated.forward(evaluation, 0, 1);
  rc_step* training = host.step();  // opened while the evaluation is open
  model.forward(training, 0, 1);
  evaluated.abandon(0);
  host.end_step(evaluation);
  model.forward(training, 1, 1);
  model.forward(training, 2, 1);
  for (uint32_t mb : {0u, 1u, 2u}) model.backward(mb);
  const rc_step_report report = host.end_step(training);
  EXPECT_GT(report.arena_bytes, 0u);
  EXPECT_EQ(report.arena_misses, 0u);
  step(host, model, {2, 1, 0});  // content stays right where places are missing
  step(host, model, {1, 2, 0});
  EXPECT_EQ(host.live(), 0u);
}

TEST_F(RegionStorage, AnotherShapeFallsBackAndIsPlannedAnew) {
  Host host;
  TestModule& m = host.module("core_attn", 0, {saved("p")});
  const auto run = [&](uint64_t bytes) {
    rc_step* step = host.step();
    rc_region* r = host.begin(m, {.step = step});
    fill(alloc(r, 0, bytes), bytes, 1);
    EXPECT_TRUE(filled(view(r, 0), bytes, 1));
    rc_region_release(r, nullptr);
    return host.end_step(step);
  };
  run(1000);
  EXPECT_EQ(run(1000).arena_bytes, 1000u);
  EXPECT_EQ(run(3000).arena_misses, 1u);
  rc_step_report last = rc_step_report_init();
  for (int i = 0; i < 4; ++i) last = run(3000);
  EXPECT_EQ(last.arena_bytes, 3000u);
  EXPECT_EQ(last.arena_misses, 0u);
  EXPECT_EQ(last.allocations, 0u);
}

TEST_F(RegionStorage, AnExportKeepsItsArenaMemoryAcrossReplans) {
  Host host;
  TestModule& m = host.module("core_attn", 0, {saved("p"), saved("q")});
  rc_tensor* exported = nullptr;
  const char* data = nullptr;
  const auto run = [&](bool keep) {
    rc_step* step = host.step();
    rc_region* r = host.begin(m, {.step = step});
    fill(alloc(r, 0, 1000), 1000, keep ? 7 : 1);
    fill(alloc(r, 1, 2000), 2000, 2);
    if (keep) {
      EXPECT_EQ(rc_region_tensor(r, 0, nullptr, &exported), RC_OK);
      data = view(r, 0);
    }
    rc_region_release(r, nullptr);
    return host.end_step(step);
  };
  run(false);
  run(true);
  for (int i = 0; i < 3; ++i) run(false);
  EXPECT_TRUE(filled(data, 1000, 7));
  host.recompute({"mlp"});  // forgets the plan
  for (int i = 0; i < 4; ++i) run(false);
  EXPECT_TRUE(filled(data, 1000, 7));
  EXPECT_EQ(host.live(), 1000u);
  rc_tensor_release(exported);
  EXPECT_EQ(host.live(), 0u);
  for (int i = 0; i < 4; ++i) run(false);
  EXPECT_EQ(run(false).arena_misses, 0u);
}

TEST_F(RegionStorage, ReconfiguringMidStepPlansTheNextWholeStep) {
  Host host;
  Model model(host, 3, kAligned);
  step(host, model);
  step(host, model);
  rc_step* half = host.step();
  model.forward(half, 0, 1);
  host.recompute({"core_attn"});
  model.forward(half, 1, 1);
  model.backward(0);
  model.backward(1);
  host.end_step(half);
  step(host, model);
  const rc_step_report planned = step(host, model);
  EXPECT_EQ(planned.arena_misses, 0u);
  EXPECT_LE(planned.arena_bytes, planned.arena_bound * 1.02);
  EXPECT_GE(planned.arena_bytes, planned.peak_bytes);
  EXPECT_LT(planned.arena_bytes, planned.peak_bytes * 1.2);
  EXPECT_EQ(step(host, model).allocations, 0u);
}

TEST_F(RegionStorage, OfSeveralOpenStepsTheFirstOwnsTheArena) {
  Host host;
  host.recompute({"core_attn"});
  Model a(host, 2), b(host, 2);
  for (int i = 0; i < 3; ++i) {
    rc_step* first = host.step();
    rc_step* second = host.step();
    a.forward(first, 0, 1);
    b.forward(second, 0, 2);
    a.backward(0);
    const rc_step_report of_first = host.end_step(first);
    b.backward(0);
    const rc_step_report of_second = host.end_step(second);
    EXPECT_EQ(of_second.arena_bytes, 0u);
    if (i > 0) EXPECT_GT(of_first.arena_bytes, 0u);
    EXPECT_EQ(of_first.arena_misses, 0u);
    EXPECT_EQ(of_first.regions_purged + of_second.regions_purged, 0u);
  }
  EXPECT_EQ(host.live(), 0u);
}

TEST_F(RegionStorage, NoArenaWhereTheHostSaysSo) {
  Host host(RC_CONTEXT_NO_ARENA);
  Model model(host, 2);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(step(host, model).arena_bytes, 0u);
}

TEST_F(RegionStorage, LiveAndPeakAreExactAtEveryPoint) {
  Host host;
  host.recompute({"mlp"});
  TestModule& m = host.module(
      "mlp", 0, {in("x"), saved("h"), saved("g"), out("y")}, [](const rc_replay_args* args) {
        for (uint32_t i = 0; i < args->n_missing; ++i)
          alloc(args->region, args->missing[i], args->missing[i] == 1 ? 111 : 222);
        return RC_OK;
      });
  char x[77] = {};
  rc_region* r = host.begin(m);
  EXPECT_EQ(save_bytes(r, 0, x, 77), RC_OK);
  EXPECT_EQ(host.live(), 77u);
  alloc(r, 1, 111);
  EXPECT_EQ(host.live(), 188u);
  alloc(r, 2, 222);
  alloc(r, 3, 333);
  EXPECT_EQ(host.live(), 743u);
  ASSERT_EQ(rc_region_end(r, nullptr), RC_OK);
  EXPECT_EQ(host.live(), 410u);
  EXPECT_EQ(host.stats().peak_bytes, 743u);
  ASSERT_EQ(rc_stats_reset_peak(host.context), RC_OK);
  EXPECT_EQ(host.stats().peak_bytes, 410u);
  ASSERT_EQ(replay(r), RC_OK);
  EXPECT_EQ(host.live(), 743u);
  EXPECT_EQ(rc_region_done(r, 1, nullptr), RC_OK);
  EXPECT_EQ(host.live(), 632u);
  EXPECT_EQ(info(r).held_bytes, 632u);
  EXPECT_EQ(rc_region_done(r, 3, nullptr), RC_OK);
  EXPECT_EQ(host.live(), 299u);
  rc_region_release(r, nullptr);
  EXPECT_EQ(host.live(), 0u);
  EXPECT_EQ(host.stats().peak_bytes, 743u);
  EXPECT_EQ(host.stats().dropped_bytes, 333u);
  EXPECT_EQ(host.stats().regenerated_bytes, 333u);
}

// What the system says about pages, in KiB rounding and with what the process needs beside.
TEST_F(RegionStorage, TheSystemSeesTheSameBytes) {
#if defined(RC_POISON_ASAN) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "shadow memory is resident too";
#endif
  const auto resident = [] {
    long pages = 0, total = 0;
    FILE* f = std::fopen("/proc/self/statm", "r");
    EXPECT_EQ(std::fscanf(f, "%ld %ld", &total, &pages), 2);
    std::fclose(f);
    return static_cast<uint64_t>(pages) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  };
  Host host(RC_CONTEXT_NO_ARENA);
  host.recompute({"mlp"});
  TestModule& m = host.module("mlp", 0, {saved("h"), out("y")}, [](const rc_replay_args* args) {
    std::memset(alloc(args->region, 0, 48 * kMiB), 2, 48 * kMiB);
    return RC_OK;
  });
  const uint64_t start = resident();
  const auto grown = [&] { return resident() - start; };
  rc_region* r = host.begin(m);
  std::memset(alloc(r, 0, 48 * kMiB), 1, 48 * kMiB);
  std::memset(alloc(r, 1, 16 * kMiB), 1, 16 * kMiB);
  EXPECT_NEAR(static_cast<double>(grown()), 64.0 * kMiB, 2.0 * kMiB);
  EXPECT_EQ(host.live(), 64 * kMiB);
  ASSERT_EQ(rc_region_end(r, nullptr), RC_OK);
  EXPECT_EQ(host.live(), 16 * kMiB);
  // The pages went to other blocks: the next one that large costs none.
  rc_region* other = host.begin(m);
  std::memset(alloc(other, 0, 48 * kMiB), 3, 48 * kMiB);
  EXPECT_NEAR(static_cast<double>(grown()), 64.0 * kMiB, 3.0 * kMiB);
  rc_region_release(other, nullptr);
  ASSERT_EQ(replay(r), RC_OK);
  EXPECT_NEAR(static_cast<double>(grown()), 64.0 * kMiB, 3.0 * kMiB);
  rc_region_release(r, nullptr);
}

// A host allocator that looks at the library from its callbacks.
struct Allocator {
  rc_context* context = nullptr;
  uint64_t bytes = 0, blocks = 0, calls = 0, refuse_above = UINT64_MAX;
  std::function<void()> meanwhile;  // once, while the core waits for memory
  rc_allocator table() {
    rc_allocator a = rc_allocator_init();
    a.user_data = this;
    a.alloc = [](void* u, const rc_alloc_request* request, void** pointer) -> rc_status {
      Allocator& self = *static_cast<Allocator*>(u);
      ++self.calls;
      self.look();
      if (self.meanwhile) std::exchange(self.meanwhile, nullptr)();
      EXPECT_EQ(request->alignment, 256u);
      if (request->bytes > self.refuse_above) return static_cast<rc_status>(-1300);
      *pointer = std::aligned_alloc(256, (request->bytes + 255) / 256 * 256);
      self.bytes += request->bytes;
      ++self.blocks;
      return RC_OK;
    };
    a.free = [](void* u, const rc_alloc_request* request, void* pointer) {
      Allocator& self = *static_cast<Allocator*>(u);
      self.look();
      self.bytes -= request->bytes;
      --self.blocks;
      std::free(pointer);
    };
    a.destroy = [](void* u) { static_cast<Allocator*>(u)->context = nullptr; };
    return a;
  }
  void look() {  // would hang if the context's lock were held
    if (!context) return;
    rc_stats s = rc_stats_init();
    EXPECT_EQ(rc_stats_get(context, &s), RC_OK);
  }
};

TEST_F(RegionStorage, AHostAllocatorIsCalledWithoutTheLockAndBalances) {
  Allocator mine;
  const rc_allocator table = mine.table();
  rc_context_desc desc = rc_context_desc_init();
  desc.allocator = &table;
  {
    Host host(desc);
    mine.context = host.context;
    host.recompute({"layernorm", "core_attn"});
    Model model(host, 3);
    for (int i = 0; i < 4; ++i) step(host, model);
    EXPECT_EQ(host.live(), 0u);
    EXPECT_EQ(host.stats().reserved_bytes, mine.bytes);
    EXPECT_EQ(host.stats().allocations, mine.calls);
    EXPECT_EQ(mine.blocks, 1u);  // the arena
    host.full(RC_METHOD_UNIFORM, 2, 3);
    for (int i = 0; i < 3; ++i) step(host, model);
    EXPECT_EQ(mine.blocks, 1u);
    mine.context = nullptr;  // the last frees come after the context's end
  }
  EXPECT_EQ(mine.blocks, 0u);
  EXPECT_EQ(mine.bytes, 0u);
}

struct AllocatorRaces : ::testing::Test {
  Allocator mine;
  rc_allocator table = mine.table();
  std::unique_ptr<Host> host;
  char content[64] = {1, 2, 3};
  void SetUp() override {
    rc_context_desc desc = rc_context_desc_init();
    desc.allocator = &table;
    host = std::make_unique<Host>(desc);
    host->recompute({"mlp"});
  }
  void TearDown() override {
    EXPECT_EQ(host->live(), 0u);
    host.reset();
    EXPECT_EQ(mine.blocks, 0u);
    EXPECT_EQ(mine.bytes, 0u);
  }
};

TEST_F(AllocatorRaces, ARegionCancelledWhileMemoryIsFetchedTakesNone) {
  TestModule& m = host->module("mlp", 0, {saved("h"), in("x"), decision("d")});
  const auto each = [&](const std::function<rc_status(rc_region*)>& operation) {
    rc_region* r = host->begin(m);
    mine.meanwhile = [&] { EXPECT_EQ(rc_region_cancel(r, nullptr), RC_OK); };
    EXPECT_EQ(operation(r), RC_E_STATE);
    EXPECT_EQ(mine.meanwhile, nullptr);
    EXPECT_EQ(mine.blocks, 0u);
    rc_region_release(r, nullptr);
  };
  each([](rc_region* r) { return try_alloc(r, 0, 4096); });
  each([&](rc_region* r) { return save_bytes(r, 1, content, sizeof content); });
  each([&](rc_region* r) {
    return rc_region_decide(r, 2, Bytes(sizeof content, content).get(), nullptr);
  });
}

TEST_F(AllocatorRaces, OfTwoThatFillASlotOneDoesAndTheOthersMemoryGoesBack) {
  TestModule& m = host->module("mlp", 0, {saved("h"), in("x"), saved("g")});
  rc_region* r = host->begin(m);
  mine.meanwhile = [&] { alloc(r, 0, 4096); };
  EXPECT_EQ(try_alloc(r, 0, 4096), RC_E_STATE);
  EXPECT_EQ(mine.blocks, 1u);
  // The item that needs no memory is as little taken as the one that came too late.
  int deleted = 0;
  rc_tensor* tensor = wrap(content, sizeof content, &deleted);
  rc_save items[2] = {rc_save_init(), rc_save_init()};
  Bytes view(sizeof content, content);
  items[0].slot = 2;
  items[0].tensor = tensor;
  items[1].slot = 1;
  items[1].view = &view.spec;
  mine.meanwhile = [&] { EXPECT_EQ(save_bytes(r, 1, content, sizeof content), RC_OK); };
  EXPECT_EQ(rc_region_save(r, items, 2, sizeof(rc_save), nullptr, nullptr), RC_E_STATE);
  EXPECT_EQ(mine.blocks, 2u);
  EXPECT_EQ(deleted, 0);
  rc_tensor_release(tensor);
  EXPECT_EQ(deleted, 1);
  EXPECT_EQ(host->live(), 4096u + sizeof content);
  rc_region_release(r, nullptr);
}

TEST_F(AllocatorRaces, ARefillThatTwoAskForHappensOnce) {
  rc_status first = RC_OK, second = RC_OK;
  TestModule& m = host->module("mlp", 0, {saved("h")}, [&](const rc_replay_args* args) {
    mine.meanwhile = [&] { second = try_alloc(args->region, 0, 2 * kMiB); };
    first = try_alloc(args->region, 0, 2 * kMiB);
    return RC_OK;
  });
  rc_region* r = host->begin(m);
  alloc(r, 0, 2 * kMiB);
  ASSERT_EQ(rc_region_end(r, nullptr), RC_OK);
  EXPECT_EQ(mine.blocks, 0u);
  EXPECT_EQ(replay(r), RC_OK) << last_message();
  EXPECT_GE(second, 0);
  EXPECT_EQ(first, RC_E_STATE);
  EXPECT_EQ(mine.blocks, 1u);
  EXPECT_EQ(host->live(), 2 * kMiB);
  rc_region_release(r, nullptr);
}

TEST_F(RegionStorage, AHostAllocatorsRefusalReachesTheCallerAsItIs) {
  Allocator mine;
  const rc_allocator table = mine.table();
  rc_context_desc desc = rc_context_desc_init();
  desc.allocator = &table;
  Host host(desc);
  host.recompute({"mlp"});
  TestModule& m = host.module("mlp", 0, {saved("h")}, [](const rc_replay_args* args) {
    return try_alloc(args->region, 0, 2 * kMiB);
  });
  rc_region* r = host.begin(m);
  mine.refuse_above = 100;
  EXPECT_EQ(static_cast<int>(try_alloc(r, 0, 2 * kMiB)), -1300);
  EXPECT_EQ(last_error().native_domain, RC_DOMAIN_HOST);
  EXPECT_EQ(host.live(), 0u);
  mine.refuse_above = UINT64_MAX;
  alloc(r, 0, 2 * kMiB);
  ASSERT_EQ(rc_region_end(r, nullptr), RC_OK);
  mine.refuse_above = 100;
  EXPECT_EQ(static_cast<int>(replay(r)), -1300);  // no parking: the refill asks again
  EXPECT_EQ(host.live(), 0u);
  mine.refuse_above = UINT64_MAX;
  EXPECT_EQ(replay(r), RC_OK) << last_message();
  rc_region_release(r, nullptr);
}

}  // namespace
}  // namespace rc::testing
