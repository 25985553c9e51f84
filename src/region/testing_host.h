// src/region/testing_host.h: a small host for tests: a context, modules whose replay is a lambda,
// checked calls.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <deque>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/parallel.h"
#include "src/device/device_fake.h"
#include "src/region/context.h"
#include "src/testing/bytes.h"

namespace rc::testing {

inline rc_slot_desc slot(const char* name, rc_role role) {
  rc_slot_desc desc = rc_slot_desc_init();
  desc.name = name;
  desc.role = role;
  return desc;
}
inline rc_slot_desc in(const char* name) {
  return slot(name, RC_ROLE_INPUT);
}
inline rc_slot_desc saved(const char* name) {
  return slot(name, RC_ROLE_SAVED);
}
inline rc_slot_desc out(const char* name) {
  return slot(name, RC_ROLE_OUTPUT);
}
inline rc_slot_desc decision(const char* name) {
  return slot(name, RC_ROLE_DECISION);
}

using ReplayFunction = std::function<rc_status(const rc_replay_args*)>;
using SlotFunction = std::function<rc_status(const rc_slot_args*)>;

struct TestModule {
  rc_module* handle = nullptr;
  ReplayFunction replay;
  SlotFunction drop, refill;
  std::atomic<int> calls = 0;  // of replay
  operator rc_module*() const { return handle; }
};

struct ModuleOptions {
  bool host_slots = false;  // give it drop and refill
  std::vector<const rc_side_state*> states;
  int* destroyed = nullptr;  // counts ops.destroy
  const char* name = nullptr;
};

struct BeginOptions {
  rc_step* step = nullptr;
  rc_region* parent = nullptr;
  uint32_t chunk = 0, microbatch = 0, occurrence = 0;
  rc_flags flags = 0;
  rc_stream stream = nullptr;
  void* user_data = nullptr;
  void (*destroy)(void*) = nullptr;
};

inline rc_error_info last_error() {
  rc_error_info info = rc_error_info_init();
  if (rc_error_last(&info) < 0) ADD_FAILURE();
  return info;
}
inline std::string last_message() {
  return last_error().message;
}

class Host {
 public:
  explicit Host(rc_flags flags = 0) {
    rc_context_desc desc = rc_context_desc_init();
    desc.flags = flags;
    open(desc);
  }
  explicit Host(const rc_context_desc& desc) { open(desc); }
  explicit Host(std::unique_ptr<Device> device, rc_flags flags = 0) {
    open(std::move(device), flags);
  }
  // Over the fake asynchronous device; `fake` lives as long as the context.
  explicit Host(FakeDevice::Execution execution, rc_flags flags = 0) {
    auto device = std::make_unique<FakeDevice>(execution);
    fake = device.get();
    log = fake->log();
    open(std::move(device), flags);
  }
  ~Host() { close(); }
  Host(const Host&) = delete;

  // Drops the host's modules and its count of the context.
  void close() {
    for (TestModule& m : modules) rc_module_release(m.handle);
    modules.clear();
    rc_context_release(context);
    context = nullptr;
  }

  void configure(const rc_policy_desc& desc) {
    rc_policy* policy = make_policy(desc);
    ASSERT_EQ(rc_context_configure(context, policy), RC_OK) << last_message();
    rc_policy_release(policy);
  }
  static rc_policy* make_policy(const rc_policy_desc& desc) {
    rc_policy* policy = nullptr;
    EXPECT_EQ(rc_policy_create(&desc, &policy), RC_OK) << last_message();
    return policy;
  }
  // selective recomputation of these kinds
  void recompute(std::vector<const char*> kinds) {
    rc_policy_desc desc = rc_policy_desc_init();
    desc.granularity = RC_GRANULARITY_SELECTIVE;
    desc.recompute_modules = kinds.data();
    desc.n_recompute_modules = static_cast<uint32_t>(kinds.size());
    desc.flags = RC_POLICY_MOE_GROUPED_GEMM;  // moe_act needs it
    configure(desc);
  }
  // explicit rules alone
  struct Rule {
    const char *kind, *slot;
    rc_action action;
  };
  void rules(std::vector<Rule> list) {
    std::vector<rc_policy_rule> lines;
    for (const Rule& rule : list) {
      lines.push_back(rc_policy_rule_init());
      lines.back().kind = rule.kind;
      lines.back().slot = rule.slot;
      lines.back().action = rule.action;
    }
    rc_policy_desc desc = rc_policy_desc_init();
    desc.rules = lines.data();
    desc.n_rules = static_cast<uint32_t>(lines.size());
    desc.rule_stride = sizeof(rc_policy_rule);
    configure(desc);
  }
  void full(rc_method method, uint32_t n, uint32_t layers) {
    rc_policy_desc desc = rc_policy_desc_init();
    desc.granularity = RC_GRANULARITY_FULL;
    desc.method = method;
    desc.recompute_num_layers = n;
    desc.num_layers = layers;
    configure(desc);
  }

  TestModule& module(const char* kind, uint32_t layer, std::vector<rc_slot_desc> slots,
                     ReplayFunction replay = nullptr, ModuleOptions options = {}) {
    TestModule& m = modules.emplace_back();
    m.replay = std::move(replay);
    rc_module_ops ops = rc_module_ops_init();
    ops.user_data = &m;
    ops.replay = [](const rc_replay_args* args) -> rc_status {
      TestModule& self = *static_cast<TestModule*>(args->module_data);
      ++self.calls;
      return self.replay ? self.replay(args) : RC_OK;
    };
    if (options.host_slots) {
      ops.drop = [](const rc_slot_args* a) -> rc_status {
        TestModule& self = *static_cast<TestModule*>(a->module_data);
        return self.drop ? self.drop(a) : RC_OK;
      };
      ops.refill = [](const rc_slot_args* a) -> rc_status {
        TestModule& self = *static_cast<TestModule*>(a->module_data);
        return self.refill ? self.refill(a) : RC_OK;
      };
    }
    rc_module_desc desc = rc_module_desc_init();
    desc.kind = kind;
    desc.name = options.name;
    desc.layer = layer;
    desc.slots = slots.data();
    desc.n_slots = static_cast<uint32_t>(slots.size());
    desc.slot_stride = sizeof(rc_slot_desc);
    desc.states = options.states.data();
    desc.n_states = static_cast<uint32_t>(options.states.size());
    desc.ops = &ops;
    EXPECT_EQ(rc_module_register(context, &desc, &m.handle), RC_OK) << last_message();
    return m;
  }

  rc_status try_begin(rc_module* module, const BeginOptions& options, rc_region** region) {
    rc_region_desc desc = rc_region_desc_init();
    desc.module = module;
    desc.step = options.step;
    desc.parent = options.parent;
    desc.chunk = options.chunk;
    desc.microbatch = options.microbatch;
    desc.occurrence = options.occurrence;
    desc.flags = options.flags;
    desc.stream = options.stream;
    desc.user_data = options.user_data;
    desc.destroy = options.destroy;
    return rc_region_begin(context, &desc, region);
  }
  rc_region* begin(rc_module* module, const BeginOptions& options = {}) {
    rc_region* region = nullptr;
    EXPECT_EQ(try_begin(module, options, &region), RC_OK) << last_message();
    return region;
  }

  rc_step* step(rc_phase phase = RC_PHASE_FORWARD, rc_flags flags = 0, uint64_t cap = 0) {
    rc_step_desc desc = rc_step_desc_init();
    desc.phase = phase;
    desc.flags = flags;
    desc.cap_bytes = cap;
    rc_step* made = nullptr;
    EXPECT_EQ(rc_step_begin(context, &desc, &made), RC_OK) << last_message();
    return made;
  }
  static rc_step_report end_step(rc_step* step, rc_stream stream = nullptr) {
    rc_step_report report = rc_step_report_init();
    EXPECT_EQ(rc_step_end(step, stream, &report), RC_OK) << last_message();
    return report;
  }

  rc_stats stats() const {
    rc_stats s = rc_stats_init();
    EXPECT_EQ(rc_stats_get(context, &s), RC_OK);
    return s;
  }
  uint64_t live() const { return stats().live_bytes; }
  std::string report() const {
    uint64_t needed = 0;
    EXPECT_EQ(rc_report(context, nullptr, 0, &needed), RC_OK);
    std::string text(needed, '\0');
    EXPECT_EQ(rc_report(context, text.data(), needed, &needed), RC_OK);
    text.pop_back();
    return text;
  }

  rc_context* context = nullptr;
  std::deque<TestModule> modules;
  FakeDevice* fake = nullptr;
  std::shared_ptr<FakeLog> log;

 private:
  void open(std::unique_ptr<Device> device, rc_flags flags) {
    auto made = new Context(std::move(device), flags, 0);
    made->parallel = std::make_unique<SerialParallel>();
    context = reinterpret_cast<rc_context*>(made);
  }
  void open(const rc_context_desc& desc) {
    EXPECT_EQ(rc_context_create(&desc, &context), RC_OK) << last_message();
  }
};

// ---- threads

// At most ten seconds; a test that would hang fails instead, where it can.
inline bool eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 10000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}
// On another thread, to its end.
inline void elsewhere(const std::function<void()>& body) {
  std::thread(body).join();
}

// ---- calls on a region

inline char* alloc(rc_region* region, uint32_t slot, uint64_t bytes, rc_stream stream = nullptr) {
  Bytes want(bytes);
  rc_tensor_spec got = rc_tensor_spec_init();
  const rc_status status = rc_region_alloc(region, slot, &want.spec, stream, &got);
  EXPECT_GE(status, 0) << last_message();
  return static_cast<char*>(got.data);
}
inline rc_status try_alloc(rc_region* region, uint32_t slot, uint64_t bytes) {
  Bytes want(bytes);
  rc_tensor_spec got = rc_tensor_spec_init();
  return rc_region_alloc(region, slot, &want.spec, nullptr, &got);
}
inline rc_status save_view(rc_region* region, uint32_t slot, const rc_tensor_spec& view,
                           rc_stream stream = nullptr) {
  rc_save item = rc_save_init();
  item.slot = slot;
  item.view = &view;
  return rc_region_save(region, &item, 1, sizeof item, stream, nullptr);
}
inline rc_status save_bytes(rc_region* region, uint32_t slot, void* data, uint64_t bytes,
                            rc_stream stream = nullptr) {
  return save_view(region, slot, Bytes(bytes, data).spec, stream);
}
inline rc_status save_link(rc_region* region, uint32_t slot, rc_region* source,
                           uint32_t source_slot) {
  rc_save item = rc_save_init();
  item.slot = slot;
  item.source = source;
  item.source_slot = source_slot;
  return rc_region_save(region, &item, 1, sizeof item, nullptr, nullptr);
}
inline rc_status save_tensor(rc_region* region, uint32_t slot, rc_tensor* tensor) {
  rc_save item = rc_save_init();
  item.slot = slot;
  item.tensor = tensor;
  return rc_region_save(region, &item, 1, sizeof item, nullptr, nullptr);
}
// A tensor over memory of the test; `*deleted` counts its deleter.
inline rc_tensor* wrap(void* data, uint64_t bytes, int* deleted) {
  rc_tensor* tensor = nullptr;
  EXPECT_EQ(rc_tensor_wrap(Bytes(bytes, data).get(),
                           deleted ? +[](void* count) { ++*static_cast<int*>(count); } : nullptr,
                           deleted, &tensor),
            RC_OK);
  return tensor;
}
inline char* view(rc_region* region, uint32_t slot, rc_stream stream = nullptr) {
  rc_tensor_spec got = rc_tensor_spec_init();
  const rc_status status = rc_region_view(region, slot, stream, &got);
  EXPECT_EQ(status, RC_OK) << last_message();
  return static_cast<char*>(got.data);
}
inline rc_status try_view(rc_region* region, uint32_t slot) {
  rc_tensor_spec got = rc_tensor_spec_init();
  return rc_region_view(region, slot, nullptr, &got);
}
inline rc_status replay(rc_region* region, rc_stream stream = nullptr) {
  return rc_backward_replay(&region, 1, stream);
}
inline rc_region_info info(rc_region* region) {
  rc_region_info i = rc_region_info_init();
  EXPECT_EQ(rc_region_query(region, &i), RC_OK);
  return i;
}
inline rc_region_state state(rc_region* region) {
  return info(region).state;
}
inline rc_slot_info slot_info(rc_region* region, uint32_t slot) {
  rc_slot_info i = rc_slot_info_init();
  EXPECT_EQ(rc_region_slot_query(region, slot, &i), RC_OK);
  return i;
}
inline std::vector<uint32_t> missing(rc_region* region) {
  uint32_t n = 0;
  EXPECT_EQ(rc_region_missing(region, nullptr, 0, &n), RC_OK);
  std::vector<uint32_t> slots(n);
  EXPECT_EQ(rc_region_missing(region, slots.data(), n, &n), RC_OK);
  return slots;
}
inline void fill(char* data, uint64_t bytes, int seed) {
  for (uint64_t i = 0; i < bytes; ++i)
    data[i] = static_cast<char>(seed + 7 * static_cast<int>(i % 31));
}
inline bool filled(const char* data, uint64_t bytes, int seed) {
  for (uint64_t i = 0; i < bytes; ++i)
    if (data[i] != static_cast<char>(seed + 7 * static_cast<int>(i % 31))) return false;
  return true;
}

}  // namespace rc::testing
