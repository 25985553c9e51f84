// src/region/meanwhile_test.cc: a kernel or other code of the host runs, and meanwhile somebody
// would take away what it works on.
#include <thread>

#include "src/region/testing_host.h"

namespace rc::testing {
namespace {

// ---- forward kernels

struct ForwardKernel : ::testing::Test {
  static constexpr int64_t kElements = 1 << 16;
  void SetUp() override {
    rc_parallel parallel = rc_parallel_init();
    parallel.user_data = this;
    parallel.width = 4;
    parallel.run = [](void* self, int64_t n, void (*task)(void*, int64_t), void* argument) {
      ForwardKernel* t = static_cast<ForwardKernel*>(self);
      if (t->meanwhile) std::exchange(t->meanwhile, nullptr)();
      for (int64_t i = 0; i < n; ++i) task(argument, i);
    };
    rc_context_desc desc = rc_context_desc_init();
    desc.parallel = &parallel;
    host = std::make_unique<Host>(desc);
    rc_kernel_desc kernel = rc_kernel_desc_init();
    kernel.kernel = RC_KERNEL_GELU;
    rc_module_desc of = rc_module_desc_init();
    of.kind = "moe_act";
    of.kernel = &kernel;
    ASSERT_EQ(rc_module_register(host->context, &of, &module), RC_OK);
    region = host->begin(module);
    save_input();
  }
  void save_input() {
    rc_tensor_spec x = rc_tensor_spec_init();
    x.data = input.data();
    x.dtype_code = 2;
    x.dtype_bits = 32;
    x.ndim = 1;
    x.shape = &kElements;
    ASSERT_EQ(save_view(region, 0, x), RC_OK);
  }
  void TearDown() override {
    rc_region_release(region, nullptr);
    EXPECT_EQ(host->live(), 0u);
    rc_module_release(module);
  }
  std::vector<float> input = std::vector<float>(kElements, 1.0f);
  std::function<void()> meanwhile;
  std::unique_ptr<Host> host;
  rc_module* module = nullptr;
  rc_region* region = nullptr;
};

TEST_F(ForwardKernel, ACancelTakesItsMemoryAwayOnlyAfterIt) {
  bool asked = false;
  meanwhile = [&] {
    asked = true;
    elsewhere([&] { EXPECT_EQ(rc_region_cancel(region, nullptr), RC_PENDING); });
    EXPECT_EQ(host->live(), 2 * kElements * sizeof(float));
  };
  EXPECT_EQ(rc_region_forward(region, nullptr), RC_OK) << last_message();
  EXPECT_TRUE(asked);
  EXPECT_EQ(state(region), RC_REGION_CANCELLED);
  EXPECT_EQ(host->live(), 0u);
}

TEST_F(ForwardKernel, NobodyEndsTheRegionMeanwhile) {
  bool asked = false;
  meanwhile = [&] {
    asked = true;
    elsewhere([&] {
      EXPECT_EQ(rc_region_end(region, nullptr), RC_E_STATE);
      EXPECT_EQ(rc_region_forward(region, nullptr), RC_E_STATE);
    });
  };
  EXPECT_EQ(rc_region_forward(region, nullptr), RC_OK) << last_message();
  EXPECT_TRUE(asked);
  EXPECT_EQ(rc_region_end(region, nullptr), RC_OK);
}

TEST_F(ForwardKernel, TheStepsEndCancelsItAfterIt) {
  rc_step* step = host->step();
  rc_region_release(std::exchange(region, host->begin(module, {.step = step})), nullptr);
  save_input();
  meanwhile = [&] {
    EXPECT_EQ(host->end_step(step).regions_purged, 1u);
    EXPECT_EQ(host->live(), 2 * kElements * sizeof(float));
  };
  EXPECT_EQ(rc_region_forward(region, nullptr), RC_OK) << last_message();
  EXPECT_EQ(state(region), RC_REGION_CANCELLED);
}

// ---- the end of a module, beside host code that is still running for it

struct ModuleEnd : ::testing::Test {
  rc_module* register_module(const rc_side_state* state) {
    rc_module_ops ops = rc_module_ops_init();
    ops.user_data = this;
    ops.destroy = [](void* self) { ++static_cast<ModuleEnd*>(self)->destroyed; };
    ops.replay = [](const rc_replay_args*) { return RC_OK; };
    rc_module_desc of = rc_module_desc_init();
    of.kind = "mlp";
    of.name = "decoder.17.mlp, a name that is no short string";
    of.ops = &ops;
    of.states = &state;
    of.n_states = state ? 1 : 0;
    rc_module* module = nullptr;
    EXPECT_EQ(rc_module_register(host->context, &of, &module), RC_OK) << last_message();
    return module;
  }
  // Any other call ends what can be ended.
  void another_call() {
    elsewhere([this] { EXPECT_EQ(rc_context_poll(host->context), RC_OK); });
  }
  std::unique_ptr<Host> host;
  int destroyed = 0, ran = 0;
};

TEST_F(ModuleEnd, ComesAfterTheDropOfItsTokensAndTheDestroyOfItsRegions) {
  host = std::make_unique<Host>();
  rc_side_state state = rc_side_state_init();
  state.user_data = this;
  state.capture = [](void*, rc_context*, rc_region*, void*, rc_stream, void** token) {
    *token = token;
    return RC_OK;
  };
  state.swap = [](void*, rc_context*, rc_region*, void*, rc_stream, void*, void**) {
    return RC_OK;
  };
  const auto check = [](void* self) {
    ModuleEnd* t = static_cast<ModuleEnd*>(self);
    t->another_call();
    EXPECT_EQ(t->destroyed, 0);
    ++t->ran;
  };
  state.drop = [](void* self, void*) {
    ModuleEnd* t = static_cast<ModuleEnd*>(self);
    t->another_call();
    EXPECT_EQ(t->destroyed, 0);
    ++t->ran;
  };
  rc_module* module = register_module(&state);
  rc_region* r = host->begin(module, {.user_data = this, .destroy = check});
  rc_module_release(module);
  rc_region_release(r, nullptr);
  EXPECT_EQ(ran, 2);
  EXPECT_EQ(destroyed, 1);
}

TEST_F(ModuleEnd, ComesAfterTheSinkHasReadItsNames) {
  rc_sink sink = rc_sink_init();
  sink.user_data = this;
  sink.trace_mask = rc_flags{1} << RC_EVENT_RELEASE;
  sink.trace = [](void* self, const rc_trace_event* event) {
    ModuleEnd* t = static_cast<ModuleEnd*>(self);
    t->another_call();
    EXPECT_EQ(t->destroyed, 0);
    EXPECT_STREQ(event->kind, "mlp");
    EXPECT_STREQ(event->module_name, "decoder.17.mlp, a name that is no short string");
    ++t->ran;
  };
  rc_context_desc desc = rc_context_desc_init();
  desc.sink = &sink;
  host = std::make_unique<Host>(desc);
  rc_module* module = register_module(nullptr);
  rc_region* r = host->begin(module);
  rc_module_release(module);
  rc_region_release(r, nullptr);
  EXPECT_EQ(ran, 1);
  EXPECT_EQ(destroyed, 1);
}

}  // namespace
}  // namespace rc::testing
