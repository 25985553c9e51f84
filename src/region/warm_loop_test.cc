// src/region/warm_loop_test.cc: once the step loop is warm, no call of the library reaches operator
// new.
#include <atomic>
#include <cstdlib>
#include <new>

#include "src/region/testing_host.h"

namespace {

std::atomic<bool> counting{false};
std::atomic<uint64_t> allocated{0};

void* count_and_allocate(std::size_t bytes) {
  if (counting.load(std::memory_order_relaxed)) ++allocated;
  if (void* p = std::malloc(bytes ? bytes : 1)) return p;
  throw std::bad_alloc();
}

}  // namespace

void* operator new(std::size_t bytes) {
  return count_and_allocate(bytes);
}
void* operator new[](std::size_t bytes) {
  return count_and_allocate(bytes);
}
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  if (counting.load(std::memory_order_relaxed)) ++allocated;
  return std::malloc(bytes ? bytes : 1);
}
void operator delete(void* p) noexcept {
  std::free(p);
}
void operator delete[](void* p) noexcept {
  std::free(p);
}
void operator delete(void* p, std::size_t) noexcept {
  std::free(p);
}
void operator delete[](void* p, std::size_t) noexcept {
  std::free(p);
}

namespace rc::testing {
namespace {

constexpr uint32_t kLayers = 6;

// Plain C calls: what is counted is the library's.
struct Loop {
  rc_context* context = nullptr;
  rc_module *layer[kLayers], *inner[kLayers];
  rc_region *outer_region[kLayers], *inner_region[kLayers];
  char memory[512] = {};
  int failures = 0;

  void expect(rc_status status) { failures += status < 0; }
  char* alloc(rc_region* r, uint32_t slot, int64_t bytes) {
    const int64_t shape[] = {bytes};
    rc_tensor_spec spec = rc_tensor_spec_init(), got = rc_tensor_spec_init();
    spec.dtype_code = 1;
    spec.dtype_bits = 8;
    spec.ndim = 1;
    spec.shape = shape;
    expect(rc_region_alloc(r, slot, &spec, nullptr, &got));
    return static_cast<char*>(got.data);
  }
  void body(uint32_t l, rc_region* r) {
    rc_region_release(inner_region[l], nullptr);
    rc_region_desc desc = rc_region_desc_init();
    desc.module = inner[l];
    desc.parent = r;
    expect(rc_region_begin(context, &desc, &inner_region[l]));
    rc_save item = rc_save_init();
    item.source = r;
    expect(rc_region_save(inner_region[l], &item, 1, sizeof item, nullptr, nullptr));
    alloc(inner_region[l], 1, 3000);
    rc_rng rng = rc_rng_init();
    expect(rc_region_rng(inner_region[l], 4, &rng));
    const int64_t shape[] = {16};
    rc_tensor_spec choice = rc_tensor_spec_init();
    choice.dtype_code = 1;
    choice.dtype_bits = 8;
    choice.ndim = 1;
    choice.shape = shape;
    choice.data = memory;
    expect(rc_region_decide(inner_region[l], 2, &choice, nullptr));
    expect(rc_region_end(inner_region[l], nullptr));
    alloc(r, 1, 1000);
  }
  void step() {
    rc_step_desc step_desc = rc_step_desc_init();
    rc_step* step = nullptr;
    expect(rc_step_begin(context, &step_desc, &step));
    for (uint32_t l = 0; l < kLayers; ++l) {
      rc_region_desc desc = rc_region_desc_init();
      desc.module = layer[l];
      desc.step = step;
      desc.user_data = this;
      expect(rc_region_begin(context, &desc, &outer_region[l]));
      rc_save item = rc_save_init();
      const int64_t shape[] = {512};
      rc_tensor_spec spec = rc_tensor_spec_init();
      spec.dtype_code = 1;
      spec.dtype_bits = 8;
      spec.ndim = 1;
      spec.shape = shape;
      spec.data = memory;
      if (l == 0)
        item.view = &spec;
      else {
        item.source = outer_region[l - 1];
        item.source_slot = 1;
      }
      expect(rc_region_save(outer_region[l], &item, 1, sizeof item, nullptr, nullptr));
      body(l, outer_region[l]);
      expect(rc_region_end(outer_region[l], nullptr));
      if (l > 0) expect(rc_region_discard(outer_region[l - 1], nullptr));
    }
    for (uint32_t l = kLayers; l-- > 0;) {
      expect(rc_backward_replay(&outer_region[l], 1, nullptr));
      expect(rc_backward_replay(&inner_region[l], 1, nullptr));
      expect(rc_region_done(inner_region[l], 1, nullptr));
      rc_region_release(inner_region[l], nullptr);
      inner_region[l] = nullptr;
      rc_region_release(outer_region[l], nullptr);
    }
    rc_step_report report = rc_step_report_init();
    expect(rc_step_end(step, nullptr, &report));
    failures += report.regions_purged > 0;
  }
};

void run(const std::function<void(Host&)>& configure, rc_flags flags) {
  Host host(flags);
  configure(host);
  Loop loop;
  loop.context = host.context;
  for (uint32_t l = 0; l < kLayers; ++l) {
    loop.inner_region[l] = nullptr;
    TestModule& inner = host.module("core_attn", l, {in("x"), saved("p"), decision("d")});
    inner.replay = [&loop](const rc_replay_args* args) {
      rc_rng rng = rc_rng_init();
      loop.expect(rc_region_rng(args->region, 4, &rng));
      loop.alloc(args->region, 1, 3000);
      return RC_OK;
    };
    TestModule& outer = host.module("layer", l, {in("x"), out("y")});
    outer.replay = [&loop, l](const rc_replay_args* args) {
      loop.body(l, args->region);
      return RC_OK;
    };
    loop.inner[l] = inner;
    loop.layer[l] = outer;
  }
  for (int i = 0; i < 4; ++i) loop.step();
  const rc_stats before = host.stats();
  allocated = 0;
  counting = true;
  for (int i = 0; i < 5; ++i) loop.step();
  counting = false;
  EXPECT_EQ(allocated, 0u);
  EXPECT_EQ(loop.failures, 0);
  const rc_stats after = host.stats();
  EXPECT_EQ(after.objects, before.objects);
  EXPECT_EQ(after.allocations, before.allocations);
  EXPECT_EQ(after.live_bytes, 0u);
}

TEST(WarmLoop, KeepingAllocatesNothing) {
  run([](Host&) {}, 0);
}
TEST(WarmLoop, SelectiveAllocatesNothing) {
  run([](Host& h) { h.recompute({"core_attn"}); }, 0);
}
TEST(WarmLoop, FullByChunksAllocatesNothing) {
  run([](Host& h) { h.full(RC_METHOD_UNIFORM, 2, kLayers); }, 0);
}
TEST(WarmLoop, WithoutAnArenaToo) {
  run([](Host& h) { h.full(RC_METHOD_BLOCK, 3, kLayers); }, RC_CONTEXT_NO_ARENA);
}
TEST(WarmLoop, InVerifyModeToo) {
  run([](Host& h) { h.recompute({"core_attn"}); }, RC_CONTEXT_VERIFY);
}

}  // namespace
}  // namespace rc::testing
