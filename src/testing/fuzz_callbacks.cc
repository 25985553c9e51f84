// src/testing/fuzz_callbacks.cc: the replay of fuzz_regions' host: it does again what the forward
// did, or misbehaves.
#include <map>
#include <utility>

#include "src/testing/fuzz_world.h"

namespace rc::testing {

rc_status World::produce(ModelRegion* r, rc_region* handle, uint32_t slot, uint64_t seed) {
  ModelSlot& s = r->slots[slot];
  if (s.content == ModelSlot::kHostOwn) return RC_OK;
  if (s.content == ModelSlot::kHostManaged && handle == r->handle) {
    fill_pattern(s.host.data(), s.bytes, seed);
    return RC_OK;
  }
  const int64_t shape[1] = {static_cast<int64_t>(s.bytes)};
  const rc_tensor_spec like = bytes_spec(shape, nullptr);
  rc_tensor_spec memory = rc_tensor_spec_init();
  const rc_status status = rc_region_alloc(handle, slot, &like, nullptr, &memory);
  if (status < 0) {
    RC_CHECK(loose, "alloc of a wanted slot: %s", last_error().c_str());
    return status;
  }
  RC_CHECK(status != RC_PASS, "slot %u of module %d is wanted, alloc passed", slot, r->module);
  fill_pattern(memory.data, s.bytes, seed);
  return RC_OK;
}

rc_status World::redraw(const ModelRegion& like, const std::vector<ModelRegion::Draw>& draws,
                        const std::vector<uint32_t>& decided, rc_region* handle) {
  for (const ModelRegion::Draw& draw : draws) {
    rc_rng rng = rc_rng_init();
    const rc_status status = rc_region_rng(handle, draw.blocks, &rng);
    RC_CHECK(status == RC_OK, "a draw in replay: %s", last_error().c_str());
    RC_CHECK(rng.offset == draw.offset, "a draw at %llu, forward's was at %llu",
             static_cast<unsigned long long>(rng.offset),
             static_cast<unsigned long long>(draw.offset));
  }
  for (uint32_t slot : decided) {
    const ModelSlot& s = like.slots[slot];
    std::vector<unsigned char> value(s.bytes + 1, 0);
    const int64_t shape[1] = {static_cast<int64_t>(s.bytes)};
    const rc_tensor_spec spec = bytes_spec(shape, value.data());
    const rc_status status = rc_region_decide(handle, slot, &spec, nullptr);
    RC_CHECK(status == RC_PASS, "a decision in replay gave %d: %s", status, last_error().c_str());
    RC_CHECK(has_pattern(value.data(), s.bytes, s.seed), "a decision came back with other bytes");
  }
  return RC_OK;
}

// Begins every nested region anew, in the forward's order, and does in it what forward did.
rc_status World::replay_nested(ModelRegion* r, rc_region* handle) {
  std::map<const ModelRegion*, rc_region*> anew = {{r, handle}};
  std::vector<rc_region*> begun_here;
  rc_status status = RC_OK;
  for (size_t i = 0; i < r->nested.size() && status >= 0; ++i) {
    const ModelRegion::Nested nested = r->nested[i];
    rc_region_desc desc = rc_region_desc_init();
    desc.module = modules[nested.child->module];
    desc.microbatch = nested.child->microbatch;
    desc.parent = anew.at(nested.parent);
    rc_region* child = nullptr;
    status = rc_region_begin(context, &desc, &child);
    RC_CHECK(status == RC_OK, "begin in a replay gave %d: %s", status, last_error().c_str());
    RC_CHECK(rc_region_phase(child) == RC_PHASE_REPLAY, "a region begun in a replay is in replay");
    anew[nested.child] = child;
    begun_here.push_back(child);
    status = redraw(*nested.child, nested.draws, nested.decided, child);
    for (uint32_t slot = 0; slot < nested.child->slots.size() && status >= 0; ++slot) {
      const ModelSlot& s = nested.child->slots[slot];
      if (s.own() && s.role != RC_ROLE_DECISION && rc_region_wants(child, slot) == RC_OK)
        status = produce(nested.child, child, slot, s.seed);
    }
  }
  for (size_t i = begun_here.size(); i-- > 0;) {
    if (status >= 0) {
      const rc_status ended = rc_region_end(begun_here[i], nullptr);
      RC_CHECK(ended >= 0, "end in a replay: %s", last_error().c_str());
      RC_CHECK(rc_region_discard(begun_here[i], nullptr) >= 0, "discard in a replay: %s",
               last_error().c_str());
    }
    rc_region_release(begun_here[i], nullptr);
  }
  return status;
}

rc_status World::misbehave(ModelRegion* r, const rc_replay_args* args, Behaviour what) {
  rc_region* self = args->region;
  switch (what) {
    case Behaviour::kReplayItself:
      RC_CHECK(rc_backward_replay(&self, 1, nullptr) == RC_E_STATE, "a replay within itself");
      break;
    case Behaviour::kCancelItself:
      RC_CHECK(rc_region_cancel(self, nullptr) == RC_PENDING, "cancel within a replay is put off");
      to_cancel = r;
      interfered = true;
      break;
    case Behaviour::kReleaseItself:
      if (r->handles > 0) {
        --r->handles;
        rc_region_release(self, nullptr);
        RC_CHECK(!r->destroyed, "a region that is being replayed lives");
      }
      break;
    case Behaviour::kAllocUnwanted:
      for (uint32_t slot = 0; slot < r->slots.size(); ++slot) {
        const ModelSlot& s = r->slots[slot];
        if (s.role == RC_ROLE_DECISION || s.content == ModelSlot::kNone ||
            s.content == ModelSlot::kHostOwn || rc_region_wants(self, slot) == RC_OK)
          continue;
        const int64_t shape[1] = {static_cast<int64_t>(s.bytes)};
        const rc_tensor_spec like = bytes_spec(shape, nullptr);
        rc_tensor_spec memory = rc_tensor_spec_init();
        RC_CHECK(rc_region_alloc(self, slot, &like, nullptr, &memory) == RC_PASS && !memory.data,
                 "memory for slot %u, which is not wanted", slot);
      }
      break;
    case Behaviour::kReplayOther:
      if (other && other->usable()) {
        rc_region* handle = other->handle;
        other->replayed = true;
        const rc_status status = rc_backward_replay(&handle, 1, nullptr);
        if (other == r) RC_CHECK(status == RC_E_STATE, "a replay within itself");
        if (status >= 0)
          model_replayed(other);
        else
          RC_CHECK(status == RC_E_STATE || status == RC_E_HOST || loose, "%s",
                   last_error().c_str());
      }
      break;
    case Behaviour::kEndStep:
      if (r->step >= 0 && steps[r->step])
        RC_CHECK(rc_step_end(steps[r->step], nullptr, nullptr) == RC_E_STATE,
                 "a step ends within a replay");
      break;
    case Behaviour::kCallOutOfState: {
      RC_CHECK(rc_region_end(self, nullptr) == RC_E_STATE, "end within a replay");
      RC_CHECK(rc_region_done(self, 0, nullptr) == RC_E_STATE, "done within a replay");
      RC_CHECK(rc_region_phase(self) == RC_PHASE_REPLAY, "the phase of a replay");
      uint32_t slot = 0;
      rc_slot_desc added = rc_slot_desc_init();
      added.name = "late";
      added.role = RC_ROLE_SAVED;
      RC_CHECK(rc_region_slot_add(self, &added, &slot) == RC_E_STATE,
               "a slot is added within a replay");
      break;
    }
    default:
      break;
  }
  return RC_OK;
}

rc_status World::replay(const rc_replay_args* args) {
  World* world = static_cast<World*>(args->module_data);
  ModelRegion* r = static_cast<ModelRegion*>(args->region_data);
  RC_CHECK(r && args->region == r->handle && !r->destroyed, "the callback gets its own region");
  RC_CHECK(r->state == ModelRegion::kEnded && !r->transient, "only ended regions are replayed");
  const bool tried = world->may_be_tried(*r);
  RC_CHECK(args->n_missing > 0 || !r->nested.empty() || tried, "a replay for nothing, module %d",
           r->module);
  ++world->depth;
  const Behaviour what = std::exchange(world->behaviour, Behaviour::kGood);
  rc_status status = world->misbehave(r, args, what);
  if (status >= 0) status = world->redraw(*r, r->draws, r->decided, args->region);
  if (what == Behaviour::kDrawMore) {
    rc_rng rng = rc_rng_init();
    RC_CHECK(rc_region_rng(args->region, 1, &rng) == RC_E_MISMATCH, "one draw more than forward's");
  }
  if (status >= 0) status = world->replay_nested(r, args->region);
  const std::vector<uint32_t> missing(args->missing, args->missing + args->n_missing);
  for (size_t i = 0; i < missing.size() && status >= 0; ++i) {
    const uint32_t slot = missing[i];
    RC_CHECK(slot < r->slots.size() && (i == 0 || missing[i - 1] < slot),
             "missing slots are counted upwards");
    const ModelSlot& s = r->slots[slot];
    RC_CHECK(s.content != ModelSlot::kNone && !s.done && (tried || present(*r, s) != Seen::kYes),
             "slot %u is not missing", slot);
    RC_CHECK(s.role == RC_ROLE_SAVED || s.role == RC_ROLE_OUTPUT, "role %d is never missing",
             s.role);
    const bool last = i + 1 == missing.size();
    if (last && what == Behaviour::kFail) {
      world->interfered = true;
      status = RC_E_HOST;
      break;
    }
    if (last && !tried && what == Behaviour::kLeaveOut && s.content != ModelSlot::kHostManaged &&
        s.content != ModelSlot::kHostOwn) {
      world->interfered = true;
      break;
    }
    const bool differs = last && !tried && what == Behaviour::kOtherBytes && world->verify &&
                         s.content == ModelSlot::kBlock && s.bytes > 0;
    if (differs) world->interfered = true;
    status = world->produce(r, args->region, slot, s.seed + (differs ? 1 : 0));
  }
  --world->depth;
  if (status >= 0) model_reproduced(r);
  return status;
}

rc_status World::drop(const rc_slot_args* args) {
  ModelRegion* r = static_cast<ModelRegion*>(args->region_data);
  RC_CHECK(r && r->slots[args->slot].content == ModelSlot::kHostManaged, "drop of slot %u",
           args->slot);
  fill_pattern(r->slots[args->slot].host.data(), r->slots[args->slot].bytes,
               ~r->slots[args->slot].seed);
  return RC_OK;
}

rc_status World::refill(const rc_slot_args* args) {
  ModelRegion* r = static_cast<ModelRegion*>(args->region_data);
  RC_CHECK(r && r->slots[args->slot].content == ModelSlot::kHostManaged, "refill of slot %u",
           args->slot);
  return RC_OK;
}

}  // namespace rc::testing
