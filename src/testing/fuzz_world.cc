// src/testing/fuzz_world.cc: the host of fuzz_regions.
#include "src/testing/fuzz_world.h"

#include <cstring>
#include <random>

namespace rc::testing {
namespace {

// nullptr = no policy.
const char* const kPolicyText[World::kPolicies] = {
    nullptr,
    R"({"rcore_policy":1,"recompute_granularity":"selective"})",
    R"({"rcore_policy":1,"recompute_granularity":"selective","recompute_modules":["core_attn","mlp","layernorm"]})",
    R"({"rcore_policy":1,"recompute_granularity":"full","recompute_method":"uniform","recompute_num_layers":1,
        "num_layers":2})",
    R"({"rcore_policy":1,"recompute_granularity":"full","recompute_method":"uniform","recompute_num_layers":2,
        "num_layers":2})",
    R"({"rcore_policy":1,"recompute_granularity":"full","recompute_method":"block","recompute_num_layers":1,
        "num_layers":2})",
    R"({"rcore_policy":1,"kinds":[{"name":"mine","discards_output":true}],"num_layers":2,
        "rules":[{"kind":"mine","action":"recompute"},{"kind":"layernorm","role":"output","action":"recompute"},
                 {"kind":"mlp","slot":"s","action":"recompute"}]})",
    R"({"rcore_policy":1,"kinds":["mine"],"num_layers":2,
        "rules":[{"kind":"mine","action":"recompute","first_microbatch":1,"n_microbatches":1},
                 {"kind":"layer","action":"recompute","group_layers":2},{"kind":"mlp","role":"saved","action":"keep"}]})",
};

// Made once: they are immutable and of no context, and reading their text would be most of a run.
rc_policy* const* policy_tables() {
  static rc_policy* tables[World::kPolicies] = {};
  for (uint32_t i = 1; i < World::kPolicies && !tables[i]; ++i)
    RC_CHECK(rc_policy_create_json(kPolicyText[i], std::strlen(kPolicyText[i]), &tables[i]) >= 0,
             "policy %u: %s", i, last_error().c_str());
  return tables;
}

rc_status allocate(void* user_data, const rc_alloc_request* request, void** out) {
  World* world = static_cast<World*>(user_data);
  if (world->fail_alloc && --world->fail_alloc == 0) return static_cast<rc_status>(RC_E_HOST - 42);
  const uint64_t whole =
      (request->bytes + request->alignment - 1) / request->alignment * request->alignment;
  *out = std::aligned_alloc(request->alignment, whole);
  RC_CHECK(*out, "%zu B", static_cast<size_t>(whole));
  std::memset(*out, 0xa5, whole);
  ++world->blocks;
  return RC_OK;
}
void deallocate(void* user_data, const rc_alloc_request*, void* pointer) {
  --static_cast<World*>(user_data)->blocks;
  std::free(pointer);
}

rc_status capture(void* user_data, rc_context*, rc_region*, void*, rc_stream, void** token) {
  ++static_cast<World*>(user_data)->tokens;
  *token = std::malloc(1);
  return RC_OK;
}
rc_status swap_token(void* user_data, rc_context*, rc_region*, void*, rc_stream, void* install,
                     void** previous) {
  RC_CHECK(install, "a token");
  return capture(user_data, nullptr, nullptr, nullptr, nullptr, previous);
}
void drop_token(void* user_data, void* token) {
  --static_cast<World*>(user_data)->tokens;
  std::free(token);
}

}  // namespace

const unsigned char* pattern(uint64_t seed) {
  constexpr uint64_t kWindows = 4093;
  static const std::vector<unsigned char> table = [] {
    std::vector<unsigned char> bytes(kWindows + World::kMaxBytes);
    std::minstd_rand random(1);
    for (unsigned char& b : bytes) b = static_cast<unsigned char>(random() >> 8);
    return bytes;
  }();
  return table.data() + seed % kWindows;
}

const char* const World::kKinds[kModules] = {"layer",     "layer", "core_attn",
                                             "layernorm", "mlp",   "mine"};

World::World(Input* input) {
  rc_context_desc desc = rc_context_desc_init();
  const uint32_t flags = input->byte();
  verify = flags & 1;
  desc.flags = (verify ? RC_CONTEXT_VERIFY : 0) | (flags & 2 ? RC_CONTEXT_NO_ARENA : 0) |
               (flags & 4 ? RC_CONTEXT_PROFILE : 0);
  rc_allocator allocator = rc_allocator_init();
  allocator.user_data = this;
  allocator.alloc = allocate;
  allocator.free = deallocate;
  if (flags & 8) desc.allocator = &allocator;
  with_states = flags & 16;
  with_host_slots = flags & 64;
  if (flags & 32) desc.park_bytes_min = 4096;
  RC_CHECK(rc_context_create(&desc, &context) == RC_OK, "%s", last_error().c_str());
  policies = policy_tables();
  register_modules();
  configure(input->below(kPolicies));
}

void World::register_modules() {
  static const char* const names[kSlots] = {"x", "s", "t", "y", "d"};
  static const rc_role roles[kSlots] = {RC_ROLE_INPUT, RC_ROLE_SAVED, RC_ROLE_SAVED, RC_ROLE_OUTPUT,
                                        RC_ROLE_DECISION};
  rc_slot_desc slots[kSlots];
  for (int i = 0; i < kSlots; ++i) {
    slots[i] = rc_slot_desc_init();
    slots[i].name = names[i];
    slots[i].role = roles[i];
  }
  rc_module_ops ops = rc_module_ops_init();
  ops.user_data = this;
  ops.destroy = [](void* p) { ++static_cast<World*>(p)->modules_gone; };
  ops.replay = replay;
  ops.drop = drop;
  ops.refill = refill;
  rc_side_state state = rc_side_state_init();
  state.user_data = this;
  state.capture = capture;
  state.swap = swap_token;
  state.drop = drop_token;
  const rc_side_state* states[] = {&state};
  for (int i = 0; i < kModules; ++i) {
    rc_module_desc desc = rc_module_desc_init();
    desc.kind = kKinds[i];
    desc.layer = i == 1 || i == 4;
    for (int s = 0; s < kSlots; ++s)
      slots[s].flags = is_host_slot(i, s) ? RC_SLOT_HOST : RC_SLOT_OPTIONAL;
    desc.slots = slots;
    desc.n_slots = kSlots;
    desc.slot_stride = sizeof(rc_slot_desc);
    desc.ops = &ops;
    if (with_states && i % 2 == 0) {
      desc.states = states;
      desc.n_states = 1;
    }
    RC_CHECK(rc_module_register(context, &desc, &modules[i]) == RC_OK, "%s", last_error().c_str());
  }
}

void World::configure(uint32_t next) {
  RC_CHECK(rc_context_configure(context, policies[next]) >= 0, "%s", last_error().c_str());
  policy = next;
}

ModelRegion* World::begin(int module, int step, ModelRegion* parent, uint32_t microbatch,
                          rc_flags flags) {
  ModelRegion& r = regions.emplace_back();
  r.module = module;
  r.parent = parent;
  r.microbatch = microbatch;
  r.step = step >= 0 ? step : parent ? parent->step : -1;
  r.transient =
      (r.step >= 0 && evaluation[r.step]) || (parent && (parent->transient || parent->inside));
  r.slots.resize(kSlots);
  static const rc_role roles[kSlots] = {RC_ROLE_INPUT, RC_ROLE_SAVED, RC_ROLE_SAVED, RC_ROLE_OUTPUT,
                                        RC_ROLE_DECISION};
  static const char* const names[kSlots] = {"x", "s", "t", "y", "d"};
  const auto decide = [&](const char* slot, rc_role role) {
    if (!policies[policy] || r.transient) return RC_ACTION_KEEP;
    rc_site site = rc_site_init();
    site.kind = kKinds[module];
    site.layer = module == 1 || module == 4;
    site.microbatch = microbatch;
    site.slot = slot;
    site.slot_role = role;
    rc_decision decision = rc_decision_init();
    const rc_status status = rc_policy_decide(policies[policy], &site, &decision);
    return status >= 0 ? decision.action
                       : RC_ACTION_KEEP;  // a kind that the policy was not told of is kept
  };
  for (int i = 0; i < kSlots; ++i) {
    r.slots[i].role = roles[i];
    r.slots[i].action = decide(names[i], roles[i]);
    if (is_host_slot(module, i)) r.slots[i].content = ModelSlot::kHostOwn;
  }
  r.inside = decide(nullptr, RC_ROLE_SAVED) == RC_ACTION_RECOMPUTE;
  r.discards = policy != 0 && (module == 3 || (module == 5 && policy == 6));
  rc_region_desc desc = rc_region_desc_init();
  desc.module = modules[module];
  desc.step = step >= 0 ? steps[step] : nullptr;
  desc.parent = parent ? parent->handle : nullptr;
  desc.microbatch = microbatch;
  desc.flags = flags;
  desc.user_data = &r;
  desc.destroy = [](void* p) {
    RC_CHECK(!static_cast<ModelRegion*>(p)->destroyed, "destroy runs once");
    static_cast<ModelRegion*>(p)->destroyed = true;
  };
  const rc_status status = rc_region_begin(context, &desc, &r.handle);
  const bool parent_open = !parent || parent->state == ModelRegion::kOpen;
  if (!parent_open) RC_CHECK(status == RC_E_STATE, "begin in a sealed parent gave %d", status);
  if (parent_open) RC_CHECK(status >= 0, "begin gave %d: %s", status, last_error().c_str());
  RC_CHECK((r.handle != nullptr) == (status == RC_OK), "a handle comes with RC_OK only, not %d",
           status);
  if (!r.handle) {
    regions.pop_back();
    return nullptr;
  }
  r.handles = 1;
  ++begun;
  rc_region_info info = rc_region_info_init();
  RC_CHECK(rc_region_query(r.handle, &info) == RC_OK && info.state == RC_REGION_OPEN,
           "a region begins open");
  r.id = info.id;
  if (ModelRegion* recorder = recorder_of(r)) recorder->nested.push_back({&r, parent, {}, {}});
  return &r;
}

void World::compare(const ModelRegion& r, const ModelSlot& s, const rc_tensor_spec& view) {
  RC_CHECK(view.bytes == s.bytes, "module %d: %zu B, not %zu", r.module,
           static_cast<size_t>(view.bytes), static_cast<size_t>(s.bytes));
  RC_CHECK(has_pattern(view.data, s.bytes, s.seed), "module %d, role %d: other bytes than saved",
           r.module, s.role);
}

void World::check(const ModelRegion& r) {
  if (!r.usable()) return;
  rc_region_info info = rc_region_info_init();
  RC_CHECK(rc_region_query(r.handle, &info) == RC_OK && info.id == r.id, "%s",
           last_error().c_str());
  const bool open = info.state == RC_REGION_OPEN, cancelled = info.state == RC_REGION_CANCELLED;
  RC_CHECK(
      open == (r.state == ModelRegion::kOpen) && cancelled == (r.state == ModelRegion::kCancelled),
      "state %d of module %d, model %d", info.state, r.module, r.state);
  for (uint32_t i = 0; i < r.slots.size(); ++i) {
    const ModelSlot& s = r.slots[i];
    rc_tensor_spec view = rc_tensor_spec_init();
    const rc_status status = rc_region_view(r.handle, i, nullptr, &view);
    const Seen expected = seen(r, s);
    RC_CHECK(status >= 0 || status == RC_E_STATE, "view gave %d: %s", status, last_error().c_str());
    if (expected == Seen::kYes)
      RC_CHECK(status >= 0, "module %d, slot %u, state %d: %s", r.module, i, info.state,
               last_error().c_str());
    if (expected == Seen::kNo)
      RC_CHECK(status == RC_E_STATE, "module %d, slot %u, state %d is seen", r.module, i,
               info.state);
    if (status >= 0) compare(r, s, view);
  }
}

void World::check_bytes() {
  rc_stats stats = rc_stats_init();
  RC_CHECK(rc_stats_get(context, &stats) >= 0, "%s", last_error().c_str());
  const Bounds b = bounds(regions);
  RC_CHECK(stats.live_bytes >= b.least && stats.live_bytes <= b.most,
           "live_bytes %llu is not in [%llu, %llu]",
           static_cast<unsigned long long>(stats.live_bytes),
           static_cast<unsigned long long>(b.least), static_cast<unsigned long long>(b.most));
  RC_CHECK(stats.peak_bytes >= stats.live_bytes, "the peak is no less than what lives");
}

void World::check_null_region() {
  uint32_t n = 0;
  rc_tensor_spec view = rc_tensor_spec_init();
  RC_CHECK(
      rc_region_end(nullptr, nullptr) == RC_PASS && rc_region_discard(nullptr, nullptr) == RC_PASS,
      "end");
  RC_CHECK(rc_region_view(nullptr, 0, nullptr, &view) == RC_PASS &&
               rc_region_missing(nullptr, nullptr, 0, &n) == RC_PASS,
           "view");
  RC_CHECK(
      rc_region_cancel(nullptr, nullptr) == RC_PASS && rc_region_phase(nullptr) == RC_PHASE_FORWARD,
      "cancel");
  rc_region* none = nullptr;
  RC_CHECK(rc_backward_replay(&none, 1, nullptr) >= 0, "replay");
  rc_region_release(nullptr, nullptr);
}

void World::finish() {
  for (ModelRegion& r : regions)
    for (; r.handles > 0; --r.handles) rc_region_release(r.handle, nullptr);
  for (rc_tensor* tensor : exports) rc_tensor_release(tensor);
  exports.clear();
  for (rc_step*& step : steps)
    if (step) RC_CHECK(rc_step_end(step, nullptr, nullptr) >= 0, "%s", last_error().c_str());
  rc_stats stats = rc_stats_init();
  RC_CHECK(rc_stats_get(context, &stats) >= 0, "%s", last_error().c_str());
  RC_CHECK(stats.regions_live == 0, "%llu regions are left",
           static_cast<unsigned long long>(stats.regions_live));
  RC_CHECK(stats.live_bytes == 0, "%llu B are left",
           static_cast<unsigned long long>(stats.live_bytes));
  for (const ModelRegion& r : regions)
    RC_CHECK(r.destroyed, "destroy of a region of module %d did not run", r.module);
  RC_CHECK(tensors == 0, "%lld tensors were not given back", static_cast<long long>(tensors));
  RC_CHECK(tokens == 0, "%lld tokens were not dropped", static_cast<long long>(tokens));
  for (rc_module* module : modules) rc_module_release(module);
  RC_CHECK(modules_gone == kModules, "%lld modules were destroyed",
           static_cast<long long>(modules_gone));
  rc_context_release(context);
  RC_CHECK(blocks == 0, "%lld blocks of the host are left", static_cast<long long>(blocks));
}

}  // namespace rc::testing
