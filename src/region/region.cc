// src/region/region.cc: sealing, discarding, letting go, and the end of a region.
#include "src/region/region.h"

#include "src/region/call_log.h"
#include "src/region/context.h"
#include "src/region/profile.h"
#include "src/storage/tensor.h"

namespace rc {
namespace {

bool policy_drops(const Region* r, const SlotState& s) {
  return r->transient || s.plan.action == RC_ACTION_RECOMPUTE;
}

// The slot that `s` refers to, through others where they refer on, is discarded by its own module
// once its readers are done: replay refills it first.
bool source_discards(const SlotState& s) {
  for (const SlotState* at = &s; at->source && !at->source->transient;) {
    const Region* source = at->source;
    at = &source->slots[at->source_slot];
    if (source->discards_output && at->role == RC_ROLE_OUTPUT &&
        at->plan.action == RC_ACTION_RECOMPUTE)
      return true;
  }
  return false;
}

uint64_t content_bytes(const SlotState& s) {
  return s.content == SlotState::kEmpty ? 0 : s.meta.bytes();
}

// Drops by policy; counts what became free.
uint64_t drop(Locked& lock, Region* r, SlotState& s, Stream stream) {
  StorageStats& stats = r->context->storage.stats();
  const uint64_t before = stats.live_bytes, counted = stats.dropped_bytes;
  slot_let_go(lock, r, s, stream, !r->transient && s.plan.action == RC_ACTION_RECOMPUTE);
  const uint64_t freed = before - stats.live_bytes;
  s.dropped = true;
  r->module->counts.dropped_bytes += freed;
  if (Region* recorder = recomputing_ancestor(r))
    recorder->module->counts.nested_dropped_bytes += freed;
  stats.dropped_bytes = counted + freed;  // the storage has counted some of it itself
  return freed;
}

// Calls the module's drop or refill for a slot in host memory, without the lock.
Status call_slot_op(Locked& lock, Region* r, uint32_t slot, Stream stream,
                    rc_status (*op)(const rc_slot_args*), const char* name) {
  rc_slot_args args = rc_slot_args_init();
  args.context = reinterpret_cast<rc_context*>(r->context);
  args.region = reinterpret_cast<rc_region*>(r);
  args.module_data = r->module->ops.user_data;
  args.region_data = r->user_data;
  args.stream = stream;
  args.slot = slot;
  ++r->links;
  lock.unlock();
  const rc_status code = op(&args);
  lock.relock();
  --r->links;
  if (code < 0)
    return Status(code, "ops." + std::string(name),
                  format("%s of slot '%s', module '%s', layer %u, failed with %d", name,
                         r->def(slot).name.c_str(), r->module->name.c_str(), r->module->layer,
                         static_cast<int>(code)));
  return ok_status();
}

void unlink_lists(Region* r) {
  (r->module_prev ? r->module_prev->module_next : r->module->live) = r->module_next;
  if (r->module_next) r->module_next->module_prev = r->module_prev;
  if (r->step) {
    (r->step_prev ? r->step_prev->step_next : r->step->regions) = r->step_next;
    if (r->step_next) r->step_next->step_prev = r->step_prev;
  }
  if (r->parent) {
    (r->sibling_prev ? r->sibling_prev->sibling_next : r->parent->children_head) = r->sibling_next;
    if (r->sibling_next) r->sibling_next->sibling_prev = r->sibling_prev;
  }
  for (Region* child = r->children_head; child;) {
    Region* next = child->sibling_next;
    child->parent = child->sibling_prev = child->sibling_next = nullptr;
    child = next;
  }
}

}  // namespace

void region_drop_tokens(Region* r) {
  for (size_t i = 0; i < r->tokens.size(); ++i) {
    rc_side_state& state = r->module->states[i];
    if (r->tokens[i] && state.drop)
      r->context->defer(
          [](void* drop, void* user_data, void* token) {
            reinterpret_cast<void (*)(void*, void*)>(drop)(user_data, token);
          },
          reinterpret_cast<void*>(state.drop), state.user_data, r->tokens[i], r->module);
  }
  r->tokens.clear();
}

namespace {

// Lets go of everything but the slots that other regions still refer to.
void clear_content(Locked& lock, Region* r, Stream stream) {
  for (uint32_t i = 0; i < r->n_slots; ++i)
    if (r->slots[i].consumers == 0) slot_clear(lock, r, r->slots[i], stream);
  r->entry.clear(&r->context->storage, stream);
  r->journal.clear(&r->context->storage, stream);
  region_drop_tokens(r);
}

void destroy(Locked& lock, Region* r, Stream stream) {
  Context* context = r->context;
  if (r->state == RC_REGION_EMPTY && !r->transient) ++context->counts.abandoned;
  clear_content(lock, r, stream);
  if (r->destroy)
    context->defer([](void* destroy, void* user_data,
                      void*) { reinterpret_cast<void (*)(void*)>(destroy)(user_data); },
                   reinterpret_cast<void*>(r->destroy), r->user_data, nullptr, r->module);
  context->settle_deferred(r->announced);
  r->announced = 0;
  unlink_lists(r);
  Module* module = r->module;
  for (uint32_t i = 0; i < r->n_slots; ++i) r->slots[i].reset();
  r->added.clear();
  r->missing.clear();
  r->n_slots = r->handles = r->links = 0;
  r->recorders.clear();
  r->named.reset();
  r->replaying = r->busy = r->beginning = r->cancel_pending = false;
  r->dropped_children = r->reading = r->transient = false;
  r->trial = r->tried = false;
  r->by_policy = r->records = r->inside = false;
  r->replays = r->begun_ns = 0;
  r->rng_cursor = 0;
  r->step = nullptr;
  r->parent = r->step_prev = r->step_next = r->module_prev = r->module_next = nullptr;
  r->children_head = r->sibling_prev = r->sibling_next = nullptr;
  r->module = nullptr;
  context->recycle(r);
  --module->regions;
  context->end_module_if_unused(module);
}

}  // namespace

void region_end_if_unused(Locked& lock, Region* r, Stream stream) {
  if (r->handles == 0 && r->links == 0 && !r->taken()) destroy(lock, r, stream);
}

Kept::~Kept() {
  --region_->links;
  region_end_if_unused(lock_, region_, stream_);
}

Taken::~Taken() {
  if (!lock_.lock()->owns_lock()) lock_.relock();
  if (region_->replaying)
    for (uint32_t i = 0; i < region_->n_slots; ++i) region_->slots[i].wanted = false;
  region_->replaying = region_->busy = false;
  lock_.context()->replay_done.notify_all();
}

void SlotState::reset() {
  content = kEmpty;
  owner = holds = dropped = done = wanted = needed = digested = had_consumers = false;
  filler = {};
  block = nullptr;
  tensor = nullptr;
  shared = nullptr;
  host_data = nullptr;
  source = nullptr;
  fence = nullptr;
  consumers = source_slot = 0;
  offset = relative = digest = 0;
  plan = SlotPlan();
  meta.clear();
}

Status check_slot(const Region* r, uint32_t slot) {
  if (slot < r->n_slots) return ok_status();
  return argument_error("slot", format("slot %u; region of module '%s' has %u", slot,
                                       r->module->name.c_str(), r->n_slots));
}

namespace {

// What is nested in a replay is part of it: it reads what the callback has written so far.
bool filled_by_another(const Region* reader, const Region* r, uint32_t slot) {
  if (!r->replaying || !r->slots[slot].wanted || r->replayer == std::this_thread::get_id())
    return false;
  if (reader->phase != RC_PHASE_REPLAY) return true;
  for (const Region* p = reader->parent; p; p = p->parent)
    if (p == r) return false;
  return true;
}

}  // namespace

Writer region_writer(const Region* r, uint32_t slot) {
  const SlotState& s = r->slots[slot];
  if (filled_by_another(r, r, slot)) return {const_cast<Region*>(r), slot};
  for (const SlotState* at = &s; at->source; at = &at->source->slots[at->source_slot])
    if (filled_by_another(r, at->source, at->source_slot)) return {at->source, at->source_slot};
  // Also where a view of its memory is referred to.
  if (s.content != SlotState::kBlock || !s.block || !s.block->owner) return {};
  Region* owner = static_cast<Region*>(s.block->owner);
  const uint32_t owner_slot = s.block->owner_slot;
  return filled_by_another(r, owner, owner_slot) ? Writer{owner, owner_slot} : Writer{};
}

bool filled_elsewhere(const Region* r, uint32_t slot) {
  const Writer writer = region_writer(r, slot);
  return writer.region && writer.region->slots[writer.slot].filler != std::this_thread::get_id();
}

bool source_refills(const SlotState& s) {
  for (const SlotState* at = &s; at->source;) {
    const Region* source = at->source;
    if (source->transient || source->state == RC_REGION_CANCELLED) return false;
    const SlotState& from = source->slots[at->source_slot];
    if (from.plan.action == RC_ACTION_RECOMPUTE || !from.source) return !from.done;
    at = &from;
  }
  return false;
}

SlotState* slot_resolve(Region* r, uint32_t slot) {
  SlotState& s = r->slots[slot];
  if (s.present() || !s.source || s.done) return s.content == SlotState::kEmpty ? nullptr : &s;
  uint64_t relative = s.relative;
  const SlotState* from = &s;
  do {  // a slot on the way may be done: it is no longer read there, but here
    from = &from->source->slots[from->source_slot];
    if (from->present()) break;
    relative += from->relative;
  } while (from->source);
  if (!from->present() || from->content != SlotState::kBlock) return &s;
  if (from->block != s.block) {
    Storage& storage = r->context->storage;
    storage.ref(from->block);
    if (s.holds) storage.hold(from->block);
    if (s.holds) storage.unhold(s.block, r->stream, false);  // a failed trial has spoilt it
    if (s.block) storage.unref(s.block, r->stream);
    s.block = from->block;
    s.owner = false;
  }
  s.content = SlotState::kBlock;
  s.offset = from->offset + relative;
  return &s;
}

void shared_tensor_let_go(Context* context, SharedTensor* shared) {
  if (--shared->holders > 0) return;
  context->settle_deferred(1);
  context->defer(
      [](void* s, void*, void*) {
        std::unique_ptr<SharedTensor> last(static_cast<SharedTensor*>(s));
        release_tensor(last->tensor);
      },
      shared);
}

void slot_let_go(Locked& lock, Region*, SlotState& s, Stream stream, bool refillable) {
  Storage& storage = lock.context()->storage;
  s.needed = false;
  if (s.content == SlotState::kBlock && s.holds) {
    s.holds = false;
    storage.unhold(s.block, stream, refillable && s.owner);
  } else if (s.content == SlotState::kTensor && s.tensor) {
    storage.remove_foreign(s.meta.bytes());
    if (!s.shared) lock.context()->settle_deferred(1);
    if (s.shared)
      shared_tensor_let_go(lock.context(), s.shared);
    else
      lock.context()->defer(
          [](void* t, void*, void*) { release_tensor(static_cast<rc_tensor*>(t)); }, s.tensor);
    s.shared = nullptr;
    s.tensor = nullptr;
    s.host_data = nullptr;
  }
}

void slot_clear(Locked& lock, Region* r, SlotState& s, Stream stream) {
  if (s.content == SlotState::kEmpty) return;
  slot_let_go(lock, r, s, stream, false);
  if (s.block && s.block->owner == r) s.block->owner = nullptr;
  if (s.block) lock.context()->storage.unref(s.block, stream);
  s.block = nullptr;
  s.content = SlotState::kEmpty;
  s.owner = s.holds = false;
  if (Region* source = s.source) {
    s.source = nullptr;
    SlotState& from = source->slots[s.source_slot];
    --source->links;
    if (--from.consumers == 0 && source->state == RC_REGION_CANCELLED)
      slot_clear(lock, source, from, stream);
    region_end_if_unused(lock, source, stream);
  }
}

Status region_end(Locked& lock, Region* r, Stream stream) {
  if (r->state != RC_REGION_OPEN)
    return Status(RC_E_STATE, "region",
                  format("region of module '%s' was ended before", r->module->name.c_str()));
  if (r->busy || r->beginning)
    return Status(RC_E_STATE, "region",
                  format("region of module '%s' is %s", r->module->name.c_str(),
                         r->busy ? "running its forward" : "still being begun"));
  if (r->context->flag(RC_CONTEXT_VERIFY)) RC_TRY(region_digest(lock, r));
  if (CallLog* log = log_of(r)) {
    log->add(r, {.op = CallLog::kEnd});
    const uint32_t logged = r->begun_ns && r->phase == RC_PHASE_FORWARD ? log->find(r) : log->kNone;
    if (logged != log->kNone && r->context->profile)
      r->context->profile->add_forward(logged, now_ns() - r->begun_ns);
  }
  bool empty = r->dropped_children && !r->transient;
  uint64_t dropped = 0;
  for (uint32_t i = 0; i < r->n_slots; ++i) {
    SlotState& s = r->slots[i];
    if (s.content == SlotState::kEmpty || (s.role != RC_ROLE_INPUT && s.role != RC_ROLE_SAVED))
      continue;
    if (source_discards(s)) {
      slot_let_go(lock, r, s, stream, false);
    } else if (policy_drops(r, s)) {
      if (s.role == RC_ROLE_INPUT && !r->transient && !source_refills(s)) {
        r->module->counts.kept_by_force = true;
        continue;
      }
      dropped += drop(lock, r, s, stream);
      empty = true;
    }
  }
  if (r->phase == RC_PHASE_EVALUATION) {
    for (uint32_t i = 0; i < r->n_slots; ++i)
      if (r->slots[i].role == RC_ROLE_DECISION) slot_let_go(lock, r, r->slots[i], stream, false);
    r->entry.clear(&r->context->storage, stream);
  }
  r->state = empty ? RC_REGION_EMPTY : RC_REGION_SEALED;
  lock.trace(RC_EVENT_END, r, dropped, 0);
  return ok_status();
}

Status region_discard(Locked& lock, Region* r, Stream stream) {
  if (r->state == RC_REGION_OPEN)
    return Status(RC_E_STATE, "region",
                  format("region of module '%s' is still open", r->module->name.c_str()));
  if (CallLog* log = log_of(r)) log->add(r, {.op = CallLog::kDiscard});
  if (r->state == RC_REGION_CANCELLED || r->state == RC_REGION_READY || r->taken())
    return Status::note(RC_PASS);
  uint64_t dropped = 0;
  bool any = false;
  Status status;
  const Kept kept(lock, r, stream);  // the host may release it from its drop callback
  for (uint32_t i = 0; i < r->n_slots && status.ok() && !r->cancel_pending; ++i) {
    SlotState& s = r->slots[i];
    if (s.role != RC_ROLE_OUTPUT || s.content == SlotState::kEmpty ||
        s.content == SlotState::kHostKept || s.dropped || s.needed || !policy_drops(r, s))
      continue;
    if (s.content == SlotState::kHostManaged) {
      if (r->transient) continue;  // the host's own memory: its forward frees it
      {
        const Taken taken(lock, r, Taken::kCallback);
        status = call_slot_op(lock, r, i, stream, r->module->ops.drop, "drop");
      }
      if (!status.ok()) continue;
      s.dropped = true;
      dropped += s.meta.bytes();
      r->module->counts.dropped_bytes += s.meta.bytes();
    } else {
      dropped += drop(lock, r, s, stream);
    }
    any = true;
  }
  if (any) r->state = RC_REGION_EMPTY;
  if (r->cancel_pending)
    lock.trace_now(RC_EVENT_DISCARD, r, dropped, 0);
  else
    lock.trace(RC_EVENT_DISCARD, r, dropped, 0);
  region_cancel_if_asked(lock, r, stream);
  if (!status.ok()) return status;
  return any ? ok_status() : Status::note(RC_PASS);
}

Status region_drop_host(Locked& lock, Region* r, uint32_t slot, Stream stream) {
  RC_TRY(call_slot_op(lock, r, slot, stream, r->module->ops.drop, "drop"));
  r->slots[slot].dropped = true;
  return ok_status();
}

Status region_refill_host(Locked& lock, Region* r, Stream stream) {
  for (uint32_t slot : r->missing)
    if (r->slots[slot].content == SlotState::kHostManaged && r->slots[slot].role == RC_ROLE_OUTPUT)
      RC_TRY(call_slot_op(lock, r, slot, stream, r->module->ops.refill, "refill"));
  return ok_status();
}

Status region_done(Locked& lock, Region* r, uint32_t slot, Stream stream) {
  RC_TRY(check_slot(r, slot));
  if (r->state == RC_REGION_OPEN || r->replaying)
    return Status(RC_E_STATE, "region",
                  "a slot can be done only after the region's end, outside its replay");
  if (CallLog* log = log_of(r)) log->add(r, {.op = CallLog::kDone, .slot = slot});
  SlotState& s = r->slots[slot];
  if (s.content == SlotState::kEmpty || s.done) return Status::note(RC_PASS);
  const uint64_t bytes = content_bytes(s);
  slot_let_go(lock, r, s, stream, false);
  s.done = true;
  lock.trace(RC_EVENT_DONE, r, bytes, 0);
  return ok_status();
}

Status region_cancel(Locked& lock, Region* r, Stream stream) {
  if (r->state == RC_REGION_CANCELLED) return Status::note(RC_PASS);
  if (r->taken()) {
    r->cancel_pending = true;
    return Status::note(RC_PENDING);
  }
  if (CallLog* log = log_of(r)) log->add(r, {.op = CallLog::kCancel});
  r->state = RC_REGION_CANCELLED;
  ++r->context->counts.cancelled;
  ++r->links;  // clearing a slot must not end the region under our feet
  clear_content(lock, r, stream);
  --r->links;
  lock.trace(RC_EVENT_CANCEL, r, 0, 0);
  region_end_if_unused(lock, r, stream);
  return ok_status();
}

bool region_cancel_if_asked(Locked& lock, Region* r, Stream stream) {
  if (!r->cancel_pending) return false;
  r->cancel_pending = false;
  (void)region_cancel(lock, r, stream).ok();
  return true;
}

void region_release(Locked& lock, Region* r, Stream stream) {
  lock.trace(RC_EVENT_RELEASE, r, 0, 0);
  if (CallLog* log = log_of(r); log && r->handles == 1) log->add(r, {.op = CallLog::kRelease});
  --r->handles;
  region_end_if_unused(lock, r, stream);
  lock.trace_live_bytes();
}

bool region_wants(const Region* r, uint32_t slot) {
  const SlotState& s = r->slots[slot];
  if (r->replaying) return s.wanted;
  return r->state == RC_REGION_OPEN;
}

bool output_is_read(const Region* r, const SlotState& s) {
  return s.had_consumers ? s.consumers > 0 : r->discards_output;
}

void region_find_missing(Region* r) {
  r->missing.clear();
  for (uint32_t i = 0; i < r->n_slots; ++i) {
    const SlotState& s = r->slots[i];
    if ((s.role != RC_ROLE_SAVED && s.role != RC_ROLE_OUTPUT) || s.content == SlotState::kEmpty ||
        s.done)
      continue;
    if (s.present() || (s.source && source_refills(s))) continue;
    // The same memory is another slot of this region, which brings it back.
    if (s.content == SlotState::kBlock && !s.owner && !s.source && s.block && s.block->owner == r &&
        s.block->state != Block::kSpoilt)
      continue;
    if (s.role == RC_ROLE_OUTPUT && s.content == SlotState::kBlock && !output_is_read(r, s))
      continue;
    r->missing.push_back(i);
  }
}

}  // namespace rc
