// src/testing/shared_world.cc: the host of random_threads: tables of the context, and replays that
// take their time, give up, and do more than their own work.
#include "src/testing/shared_world.h"

#include <cstdlib>
#include <cstring>
#include <thread>

namespace rc::testing {

rc_status World::drop(const rc_slot_args* args) {
  Work* work = static_cast<WorkRef*>(args->region_data)->get();
  RC_CHECK(work->inside++ == 0, "a drop beside a replay of region %d", int(work->number));
  std::memset(work->host.data(), 0xdd, work->host.size());
  std::this_thread::yield();
  --work->inside;
  return RC_OK;
}

rc_status World::refill(const rc_slot_args* args) {
  Work* work = static_cast<WorkRef*>(args->region_data)->get();
  std::memset(work->host.data(), 0xee, work->host.size());
  return RC_OK;
}

// Fills the missing slots in two halves, as slow work does; may give up anywhere.
rc_status World::produce(Work* work, const rc_replay_args* args, Random* random) {
  for (uint32_t i = 0; i < args->n_missing; ++i) {
    const uint32_t slot = args->missing[i];
    if (random->one_in(20)) return kRefused;
    const std::vector<unsigned char>& content = work->content[slot];
    unsigned char* to = work->host.data();
    if (!(slot == kY && work->host_output)) {
      rc_tensor_spec memory = rc_tensor_spec_init();
      const rc_status status =
          rc_region_alloc(args->region, slot, Bytes(content.size()).get(), nullptr, &memory);
      if (status < 0) {
        RC_CHECK(status == RC_E_MEMORY || status == kRefused, "alloc in a replay: %s",
                 last_error().c_str());
        return status;
      }
      RC_CHECK(memory.data, "slot %u of region %d is wanted, alloc passed", slot,
               int(work->number));
      to = static_cast<unsigned char*>(memory.data);
    }
    const size_t half = content.size() / 2;
    std::memset(to, 0x11, content.size());
    std::memcpy(to, content.data(), half);
    std::this_thread::yield();
    if (random->one_in(20)) {
      rc_tensor* tensor = nullptr;
      if (random->one_in(2) && rc_region_tensor(args->region, slot, nullptr, &tensor) == RC_OK) {
        std::lock_guard lock(mutex);
        leftovers.push_back(tensor);
      }
      return kRefused;
    }
    std::memcpy(to + half, content.data() + half, content.size() - half);
  }
  return RC_OK;
}

rc_status World::replay_nested(Work* work, rc_region* region, Random* random) {
  for (size_t i = 1; i < work->draws.size(); ++i) {
    rc_region_desc desc = rc_region_desc_init();
    desc.module = modules[i % 2];
    desc.parent = region;
    rc_region* child = nullptr;
    const rc_status begun = rc_region_begin(context, &desc, &child);
    RC_CHECK(begun == RC_OK, "begin in a replay: %d %s", begun, last_error().c_str());
    rc_rng rng = rc_rng_init();
    rc_status status = rc_region_rng(child, 2, &rng);
    RC_CHECK(status == RC_OK && rng.offset == work->draws[i], "draw %d of region %d: %d %s", int(i),
             int(work->number), status, last_error().c_str());
    rc_tensor_spec memory = rc_tensor_spec_init();
    status = rc_region_alloc(child, kS, Bytes(100).get(), nullptr, &memory);
    if (status >= 0) std::memset(memory.data, 0x22, 100);
    if (status >= 0 && random->one_in(16)) status = kRefused;
    if (status >= 0) status = rc_region_end(child, nullptr);
    rc_region_release(child, nullptr);
    if (status < 0) return status;
  }
  return RC_OK;
}

rc_status World::replay(const rc_replay_args* args) {
  Work* work = static_cast<WorkRef*>(args->region_data)->get();
  World& world = *work->world;
  RC_CHECK(work->inside++ == 0, "region %d is replayed twice at once", int(work->number));
  Random random(world.seed * 1000003 + work->number * 1009 + work->tries++);
  if (args->n_missing > 0 && !work->given_up(kX)) {
    std::vector<unsigned char> x(work->bytes_of(kX).size());
    const rc_status status =
        rc_region_restore(args->region, kX, nullptr, Bytes(x.size(), x.data()).get());
    RC_CHECK(status == RC_OK || work->given_up(kX), "x of region %d in its replay: %s",
             int(work->number), last_error().c_str());
    RC_CHECK(status < 0 || x == work->bytes_of(kX), "x of region %d in its replay is not its input",
             int(work->number));
  }
  if (!work->draws.empty()) {
    rc_rng rng = rc_rng_init();
    const rc_status status = rc_region_rng(args->region, 1, &rng);
    RC_CHECK(status == RC_OK && rng.offset == work->draws[0], "the draw of region %d: %s",
             int(work->number), last_error().c_str());
    unsigned char choice[8] = {};
    const rc_status decided =
        rc_region_decide(args->region, kChoice, Bytes(8, choice).get(), nullptr);
    RC_CHECK(decided == RC_PASS && !std::memcmp(choice, work->content[kChoice].data(), 8),
             "the decision of region %d: %s", int(work->number), last_error().c_str());
  }
  if (world.nests_replays && random.one_in(12)) {
    if (const Shared other = world.pick(&random))
      if (const rc_status status = rc_backward_replay(&other->region, 1, nullptr); status < 0)
        RC_CHECK(status == RC_E_STATE || status == kRefused || status == RC_E_MEMORY,
                 "a replay in a replay: %d %s", status, last_error().c_str());
  }
  rc_status status = world.replay_nested(work, args->region, &random);
  if (status >= 0 && random.one_in(10)) {
    std::thread worker([&] { status = world.produce(work, args, &random); });
    worker.join();
  } else if (status >= 0) {
    status = world.produce(work, args, &random);
  }
  --work->inside;
  return status;
}

namespace {

World* of(void* user_data) {
  return static_cast<World*>(user_data);
}

rc_allocator allocator_of(World* world) {
  rc_allocator table = rc_allocator_init();
  table.user_data = world;
  table.alloc = [](void* w, const rc_alloc_request* request, void** out) {
    if (of(w)->refuses && of(w)->requests++ % 23 == 22) return RC_E_MEMORY;
    *out = std::aligned_alloc(request->alignment, (request->bytes + 255) / 256 * 256);
    ++of(w)->blocks;
    return *out ? RC_OK : RC_E_MEMORY;
  };
  table.free = [](void* w, const rc_alloc_request*, void* data) {
    std::free(data);
    --of(w)->blocks;
  };
  return table;
}

rc_sink sink_of(World* world) {
  rc_sink table = rc_sink_init();
  table.user_data = world;
  table.trace_mask = ~rc_flags{0};
  table.trace = [](void* w, const rc_trace_event* event) {
    if (event->kind)
      RC_CHECK(!std::strcmp(event->kind, "mine") || !std::strcmp(event->kind, "other"),
               "an event of kind '%s'", event->kind);
    ++of(w)->events;
  };
  return table;
}

rc_side_state state_of(World* world) {
  rc_side_state table = rc_side_state_init();
  table.user_data = world;
  table.capture = [](void* w, rc_context*, rc_region*, void*, rc_stream, void** token) {
    *token = new int(++of(w)->tokens);
    return RC_OK;
  };
  table.swap = [](void* w, rc_context*, rc_region*, void*, rc_stream, void*, void** previous) {
    *previous = new int(++of(w)->tokens);
    return RC_OK;
  };
  table.drop = [](void* w, void* token) {
    --of(w)->tokens;
    delete static_cast<int*>(token);
  };
  return table;
}

rc_policy* policy_of(const char* rules) {
  const std::string text =
      R"({"rcore_policy":1,"kinds":[{"name":"mine","discards_output":true},{"name":"other"}],)"
      R"("rules":[)" +
      std::string(rules) + "]}";
  rc_policy* policy = nullptr;
  RC_CHECK(rc_policy_create_json(text.data(), text.size(), &policy) >= 0, "%s",
           last_error().c_str());
  return policy;
}

}  // namespace

World::World(uint64_t number) : seed(number) {
  Random random(seed);
  const rc_allocator allocator = allocator_of(this);
  const rc_sink sink = sink_of(this);
  rc_context_desc desc = rc_context_desc_init();
  if (random.one_in(3)) desc.flags |= RC_CONTEXT_NO_ARENA;
  if (random.one_in(3)) desc.flags |= RC_CONTEXT_VERIFY;
  if (random.one_in(3)) desc.allocator = &allocator;
  if (random.one_in(3)) desc.sink = &sink;
  refuses = desc.allocator && random.one_in(2);
  nests_replays = random.one_in(3);
  RC_CHECK(rc_context_create(&desc, &context) == RC_OK, "%s", last_error().c_str());
  policies[0] = policy_of(R"({"kind":"mine","action":"recompute"},)"
                          R"({"kind":"other","action":"recompute"})");
  policies[1] = policy_of(R"({"kind":"mine","action":"recompute"},)"
                          R"({"kind":"other","slot":"s","action":"recompute"})");
  RC_CHECK(rc_context_configure(context, policies[0]) == RC_OK, "%s", last_error().c_str());
  static constexpr const char* kNames[kSlots] = {"x", "s", "y", "choice"};
  static constexpr rc_role kRoles[kSlots] = {RC_ROLE_INPUT, RC_ROLE_SAVED, RC_ROLE_OUTPUT,
                                             RC_ROLE_DECISION};
  rc_slot_desc slots[kSlots];
  for (uint32_t i = 0; i < kSlots; ++i) {
    slots[i] = rc_slot_desc_init();
    slots[i].name = kNames[i];
    slots[i].role = kRoles[i];
  }
  rc_module_ops ops = rc_module_ops_init();
  ops.replay = replay;
  ops.drop = drop;
  ops.refill = refill;
  const rc_side_state state = state_of(this);
  const rc_side_state* const states[] = {&state, &state};
  for (uint32_t i = 0; i < modules.size(); ++i) {
    rc_module_desc module = rc_module_desc_init();
    module.kind = i % 2 ? "other" : "mine";
    module.layer = i;
    module.slots = slots;
    module.n_slots = kSlots;
    module.slot_stride = sizeof slots[0];
    module.ops = &ops;
    module.states = states;
    module.n_states = i / 2 * 2;
    RC_CHECK(rc_module_register(context, &module, &modules[i]) == RC_OK, "%s",
             last_error().c_str());
  }
}

World::~World() {
  for (rc_policy* policy : policies) rc_policy_release(policy);
  for (rc_fence* fence : fences) rc_fence_release(fence);
  RC_CHECK(regions == 0 && tensors == 0 && tokens == 0 && blocks == 0,
           "left: %d regions, %d tensors, %d tokens, %d blocks", regions.load(), tensors.load(),
           tokens.load(), blocks.load());
}

}  // namespace rc::testing
