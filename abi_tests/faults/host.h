// abi_tests/faults/host.h: a host whose every callback can be told to fail, and which counts what
// it must get back.
#pragma once
#include <gtest/gtest.h>
#include <rcore/rcore.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace abi_tests {

enum class Fault { kNone, kAlloc, kCapture, kSwap, kReplay, kDrop, kRefill, kHeap };

constexpr int kN = 4096;
constexpr rc_status kHostFailure = static_cast<rc_status>(-1042);
inline const std::int64_t kShape[1] = {kN};

inline rc_tensor_spec floats(void* data) {
  rc_tensor_spec s = rc_tensor_spec_init();
  s.data = data;
  s.dtype_code = 2;
  s.dtype_bits = 32;
  s.dtype_lanes = 1;
  s.ndim = 1;
  s.shape = kShape;
  return s;
}

// Slots of the module: x (input), h = 2x (saved, the core's memory), y = h + 1 (output, the host's
// memory).
struct Host {
  // The k-th call of the callback `fault` fails, once.
  Host(Fault f, int k) : fault(f), countdown(k) {}
  bool fails(Fault f) {
    if (f != fault || countdown == 0 || --countdown != 0) return false;
    fired = true;
    return true;
  }

  Fault fault;
  int countdown;
  bool fired = false;
  // What must be balanced at the end.
  int blocks = 0, tokens = 0, tensors = 0, begun = 0;
  std::uint64_t bytes = 0;
  int allocator_gone = 0, sink_gone = 0, module_gone = 0, state_gone = 0, region_gone = 0;
  int replays = 0, installed = 1;
  float y[kN];  // the host's own output, "emptied" by poisoning it
  bool y_there = true;

  static Host* of(void* p) { return static_cast<Host*>(p); }

  static rc_status alloc(void* p, const rc_alloc_request* request, void** out) {
    EXPECT_EQ(RC_TYPE_ALLOC_REQUEST, request->head.struct_type);
    EXPECT_GT(request->bytes, 0u);
    EXPECT_GE(request->alignment, 256u);
    if (of(p)->fails(Fault::kAlloc)) return kHostFailure;
    const std::uint64_t whole =
        (request->bytes + request->alignment - 1) / request->alignment * request->alignment;
    *out = std::aligned_alloc(request->alignment, whole);
    if (*out == nullptr) return RC_E_MEMORY;
    std::memset(*out, 0xa5, whole);
    ++of(p)->blocks;
    of(p)->bytes += request->bytes;
    return RC_OK;
  }
  static void free_block(void* p, const rc_alloc_request* request, void* block) {
    --of(p)->blocks;
    of(p)->bytes -= request->bytes;
    std::free(block);
  }
  static rc_status capture(void* p, rc_context*, rc_region* region, void* region_data, rc_stream,
                           void** token) {
    EXPECT_NE(nullptr, region);
    EXPECT_EQ(p, region_data);
    if (of(p)->fails(Fault::kCapture)) return kHostFailure;
    return of(p)->make_token(token);
  }
  static rc_status swap(void* p, rc_context*, rc_region*, void*, rc_stream, void* install,
                        void** previous) {
    if (of(p)->fails(Fault::kSwap)) return kHostFailure;
    const rc_status status = of(p)->make_token(previous);
    if (status == RC_OK) of(p)->installed = *static_cast<int*>(install);
    return status;
  }
  static void drop_token(void* p, void* token) {
    --of(p)->tokens;
    std::free(token);
  }
  rc_status make_token(void** token) {
    int* copy = static_cast<int*>(std::malloc(sizeof(int)));
    if (copy == nullptr) return RC_E_MEMORY;
    *copy = installed;
    *token = copy;
    ++tokens;
    return RC_OK;
  }
  static rc_status replay(const rc_replay_args* args) {
    Host* host = of(args->module_data);
    if (host->fails(Fault::kReplay)) return kHostFailure;
    ++host->replays;
    EXPECT_EQ(1, host->installed) << "the forward's state";
    return host->compute(args->region);
  }
  static rc_status drop(const rc_slot_args* args) {
    Host* host = of(args->module_data);
    EXPECT_EQ(2u, args->slot);
    if (host->fails(Fault::kDrop)) return kHostFailure;
    std::memset(host->y, 0xff, sizeof host->y);
    host->y_there = false;
    return RC_OK;
  }
  static rc_status refill(const rc_slot_args* args) {
    Host* host = of(args->module_data);
    EXPECT_EQ(2u, args->slot);
    if (host->fails(Fault::kRefill)) return kHostFailure;
    host->y_there = true;
    return RC_OK;
  }
  rc_status compute(rc_region* region) {
    rc_tensor_spec x = rc_tensor_spec_init(), h = rc_tensor_spec_init();
    const rc_tensor_spec like = floats(nullptr);
    rc_status status = rc_region_view(region, 0, nullptr, &x);
    if (status < RC_OK) return status;
    status = rc_region_alloc(region, 1, &like, nullptr, &h);
    if (status < RC_OK) return status;
    const bool wants_y = rc_region_wants(region, 2) == RC_OK;
    for (int i = 0; i < kN; ++i) {
      const float twice = 2 * static_cast<const float*>(x.data)[i];
      if (h.data != nullptr) static_cast<float*>(h.data)[i] = twice;
      if (wants_y) y[i] = twice + 1;
    }
    return RC_OK;
  }
  static void tensor_gone(void* p) { --of(p)->tensors; }

  rc_context* make_context(rc_status* status) {
    rc_allocator a = rc_allocator_init();
    a.user_data = this;
    a.destroy = [](void* p) { ++of(p)->allocator_gone; };
    a.alloc = alloc;
    a.free = free_block;
    rc_sink s = rc_sink_init();
    s.user_data = this;
    s.destroy = [](void* p) { ++of(p)->sink_gone; };
    rc_context_desc d = rc_context_desc_init();
    d.allocator = &a;
    d.sink = &s;
    rc_context* out = nullptr;
    *status = rc_context_create(&d, &out);
    return out;
  }
  rc_module* make_module(rc_context* context, rc_status* status) {
    rc_slot_desc slots[3];
    const char* const names[3] = {"x", "h", "y"};
    const rc_role roles[3] = {RC_ROLE_INPUT, RC_ROLE_SAVED, RC_ROLE_OUTPUT};
    for (int i = 0; i < 3; ++i) {
      slots[i] = rc_slot_desc_init();
      slots[i].name = names[i];
      slots[i].role = roles[i];
    }
    rc_side_state state = rc_side_state_init();
    state.user_data = this;
    state.destroy = [](void* p) { ++of(p)->state_gone; };
    state.capture = capture;
    state.swap = swap;
    state.drop = drop_token;
    const rc_side_state* const states[1] = {&state};
    rc_module_ops ops = rc_module_ops_init();
    ops.user_data = this;
    ops.destroy = [](void* p) { ++of(p)->module_gone; };
    ops.replay = replay;
    ops.drop = drop;
    ops.refill = refill;
    rc_module_desc d = rc_module_desc_init();
    d.kind = "layernorm";
    d.slots = slots;
    d.n_slots = 3;
    d.slot_stride = sizeof slots[0];
    d.states = states;
    d.n_states = 1;
    d.ops = &ops;
    rc_module* out = nullptr;
    *status = rc_module_register(context, &d, &out);
    return out;
  }
};

inline rc_policy* recompute_layernorm(rc_status* status) {
  rc_policy_rule rule = rc_policy_rule_init();
  rule.kind = "layernorm";
  rule.action = RC_ACTION_RECOMPUTE;
  rc_policy_desc d = rc_policy_desc_init();
  d.num_layers = 1;
  d.rules = &rule;
  d.n_rules = 1;
  d.rule_stride = sizeof rule;
  rc_policy* out = nullptr;
  *status = rc_policy_create(&d, &out);
  return out;
}

}  // namespace abi_tests
