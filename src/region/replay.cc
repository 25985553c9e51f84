// src/region/replay.cc: rc_backward_replay: bring back what is missing, once, for whoever needs it.
#include <algorithm>

#include "src/region/call_log.h"
#include "src/region/context.h"
#include "src/region/fence.h"
#include "src/region/kernel_module.h"
#include "src/region/profile.h"

namespace rc {
namespace {

Status replay_one(Locked& lock, Region* r, Stream stream);

// True if waiting for `r` could never end: its replayer waits, through others, for this thread.
bool would_deadlock(const Context* context, const Region* r) {
  const std::thread::id self = std::this_thread::get_id();
  std::thread::id owner = r->replayer;
  for (size_t hops = 0; hops <= context->waits.size(); ++hops) {
    if (owner == self) return true;
    const auto wait = std::find_if(context->waits.begin(), context->waits.end(),
                                   [&](const Context::Wait& w) { return w.thread == owner; });
    if (wait == context->waits.end() || !wait->region->taken()) return false;
    owner = wait->region->replayer;
  }
  return true;
}

// `r` may be gone afterwards, unless the caller keeps it.
Status wait_for_replay(Locked& lock, Region* r, Stream stream) {
  Context* context = lock.context();
  if (r->replayer == std::this_thread::get_id())
    return Status(
        RC_E_STATE, "regions",
        format("module '%s', layer %u, is %s by this very thread", r->module->name.c_str(),
               r->module->layer, r->replaying ? "being replayed" : "being discarded or run"));
  if (would_deadlock(context, r))
    return Status(RC_E_STATE, "regions",
                  format("waiting for the replay of module '%s', layer %u, would never end",
                         r->module->name.c_str(), r->module->layer));
  context->waits.push_back({std::this_thread::get_id(), r});
  const Kept kept(lock, r, stream);  // its last count may go meanwhile
  context->replay_done.wait(*lock.lock(), [&] { return !r->taken(); });
  std::erase_if(context->waits,
                [](const Context::Wait& w) { return w.thread == std::this_thread::get_id(); });
  return ok_status();
}

void hold(Context* context, SlotState& s) {
  if (s.content != SlotState::kBlock || s.holds || s.source || s.done || !s.present()) return;
  context->storage.hold(s.block);
  s.holds = true;
  s.dropped = false;
}

// Content of another region that a slot of the replayed one refers to and does not hold itself.
void hold_origin(SlotState& s) {
  if (s.holds) return;
  Region* owner = nullptr;
  uint32_t slot = 0;
  for (const SlotState* at = &s; at->source; at = &owner->slots[slot]) {
    owner = at->source;
    slot = at->source_slot;
  }
  if (owner->transient || owner->state == RC_REGION_CANCELLED) {
    // Perhaps only an export keeps it: then the reader itself does from now on.
    if (s.content != SlotState::kBlock || !s.present()) return;
    owner->context->storage.hold(s.block);
    s.holds = true;
    return;
  }
  SlotState& origin = owner->slots[slot];
  hold(owner->context, origin);
  origin.needed = origin.holds;
}

// What is there after a replay stays until it is done: also content that only an export or another
// slot kept alive.
void hold_present(Region* r) {
  for (uint32_t i = 0; i < r->n_slots; ++i) {
    SlotState& s = r->slots[i];
    if (s.source) {
      if (!s.done && s.present()) hold_origin(s);
    } else if (s.role == RC_ROLE_SAVED || s.role == RC_ROLE_INPUT ||
               (s.role == RC_ROLE_OUTPUT && output_is_read(r, s))) {
      hold(r->context, s);
    }
  }
}

// Slots that refer to another region's dropped content: that region first.
Status replay_sources(Locked& lock, Region* r, Stream stream) {
  for (uint32_t i = 0; i < r->n_slots; ++i) {
    SlotState& s = r->slots[i];
    if (!s.source || s.done || s.content == SlotState::kEmpty) continue;
    SlotState* at = slot_resolve(r, i);
    while (Region* writer = region_writer(r, i).region) {
      RC_TRY(wait_for_replay(lock, writer, stream));
      at = slot_resolve(r, i);
    }
    if (at->present()) {
      hold_origin(s);
      continue;
    }
    if (!source_refills(s)) {
      if (s.role == RC_ROLE_INPUT)
        return Status(
            RC_E_STATE, "regions",
            format("input '%s' of module '%s', layer %u, was given up with the region it came from",
                   r->def(i).name.c_str(), r->module->name.c_str(), r->module->layer));
      continue;
    }
    // A slot on the way that is done is no longer read there: its own source brings the content
    // back.
    const SlotState* last = &s;
    for (const SlotState* from = &s.source->slots[s.source_slot]; from->done && from->source;) {
      last = from;
      from = &from->source->slots[from->source_slot];
    }
    Status status = replay_one(lock, last->source, stream);
    at = slot_resolve(r, i);
    if (at->present()) continue;  // also where the source was cancelled meanwhile
    RC_TRY(std::move(status));
    return Status(
        RC_E_STATE, "regions",
        format("replay of module '%s' did not bring back slot '%s', which '%s' of module '%s' "
               "refers to",
               s.source->module->name.c_str(), s.source->def(s.source_slot).name.c_str(),
               r->def(i).name.c_str(), r->module->name.c_str()));
  }
  return ok_status();
}

}  // namespace

bool region_needs_sources(Region* r) {
  for (uint32_t i = 0; i < r->n_slots; ++i) {
    const SlotState& s = r->slots[i];
    if (!s.source || s.done || s.content == SlotState::kEmpty) continue;
    if (slot_resolve(r, i)->present() ? region_writer(r, i).region != nullptr
                                      : s.role == RC_ROLE_INPUT || source_refills(s))
      return true;
  }
  return false;
}

namespace {

Status wait_for_fences(Locked& lock, Region* r) {
  for (uint32_t i = 0; i < r->n_slots; ++i) {
    Fence* fence = reinterpret_cast<Fence*>(r->slots[i].fence);
    if (!fence || r->slots[i].content != SlotState::kTensor) continue;
    lock.unlock();
    const rc_status code = fence->wait(UINT64_MAX);
    lock.relock();
    if (code < 0)
      return Status(code, "items.fence",
                    format("the fence of slot '%s' ended with %d", r->def(i).name.c_str(),
                           static_cast<int>(code)));
  }
  return ok_status();
}

// A token is spent once it was handed back, also where that failed. The region's own token is not
// (a host that swaps contents in place hands the same token back).
void spend(Region* r, size_t i, void* token) {
  rc_side_state& state = r->module->states[i];
  if (token && token != r->tokens[i] && state.drop) state.drop(state.user_data, token);
}

rc_status swap_one(Region* r, size_t i, Stream stream, void* install, void** previous) {
  rc_side_state& state = r->module->states[i];
  *previous = nullptr;
  return state.swap(state.user_data, reinterpret_cast<rc_context*>(r->context),
                    reinterpret_cast<rc_region*>(r), r->user_data, stream, install, previous);
}

// Takes back what was installed, all of it, last first; the first failure is the result.
rc_status restore_states(Region* r, Stream stream, size_t n) {
  rc_status result = RC_OK;
  for (size_t i = n; i-- > 0;) {
    void* const installed = r->previous_tokens[i];
    void* after = nullptr;
    const rc_status code = swap_one(r, i, stream, installed, &after);
    if (code >= 0 && after != installed) spend(r, i, after);
    spend(r, i, installed);
    if (code < 0 && result >= 0) result = code;
  }
  return result;
}

rc_status install_states(Region* r, Stream stream) {
  for (size_t i = 0; i < r->tokens.size(); ++i) {
    const rc_status code = swap_one(r, i, stream, r->tokens[i], &r->previous_tokens[i]);
    if (code < 0) {
      (void)restore_states(r, stream, i);
      return code;
    }
  }
  return RC_OK;
}

Status run_host(Locked& lock, Region* r, Stream stream) {
  rc_replay_args args = rc_replay_args_init();
  args.context = reinterpret_cast<rc_context*>(r->context);
  args.region = reinterpret_cast<rc_region*>(r);
  args.module_data = r->module->ops.user_data;
  args.region_data = r->user_data;
  args.stream = stream;
  args.missing = r->missing.data();
  args.n_missing = static_cast<uint32_t>(r->missing.size());
  lock.unlock();
  rc_status code = RC_OK;
  const char* what = "replay";
  if (r->tokens.empty()) {
    code = r->module->ops.replay(&args);
  } else {
    code = install_states(r, stream);
    if (code < 0) {
      what = "states.swap";
    } else {
      code = r->module->ops.replay(&args);
      const rc_status restored = restore_states(r, stream, r->tokens.size());
      if (code >= 0 && restored < 0) {
        code = restored;
        what = "states.swap";
      }
    }
  }
  lock.relock();
  if (code < 0)
    return Status(
        code, what,
        format("%s of module '%s', layer %u, failed with %d (%s)", what, r->module->name.c_str(),
               r->module->layer, static_cast<int>(code), rc_status_name(code)));
  return ok_status();
}

Status check_result(Locked& lock, Region* r) {
  for (uint32_t slot : r->missing) {
    SlotState& s = r->slots[slot];
    if (s.content == SlotState::kHostManaged) s.dropped = false;
    if (!s.present())
      return Status(RC_E_STATE, r->def(slot).name,
                    format("the replay of module '%s', layer %u, did not produce slot '%s'",
                           r->module->name.c_str(), r->module->layer, r->def(slot).name.c_str()));
  }
  return r->context->flag(RC_CONTEXT_VERIFY) ? region_check_digests(lock, r) : ok_status();
}

// What a failed callback has left is not to be trusted: the next replay makes it again. Others may
// hold its memory (an exported tensor), or it may be memory that belongs elsewhere.
void take_back(Locked& lock, Region* r, Stream stream) {
  for (uint32_t slot : r->missing) {
    SlotState& s = r->slots[slot];
    const bool filled = s.filler != std::thread::id();
    s.wanted = false;
    s.dropped = true;
    if (s.content == SlotState::kHostManaged) continue;
    slot_let_go(lock, r, s, stream, true);
    if (!filled || s.content != SlotState::kBlock) continue;
    if (s.owner) {
      lock.context()->storage.spoil(s.block);
    } else {
      slot_clear(lock, r, s, stream);
      s.content = SlotState::kBlock;  // of no memory, to be brought back
    }
  }
}

// Returns how many bytes are missing.
uint64_t want(Region* r) {
  uint64_t bytes = 0;
  for (uint32_t slot : r->missing) {
    SlotState& s = r->slots[slot];
    s.wanted = true;
    s.filler = {};
    bytes += s.meta.bytes();
  }
  return bytes;
}

// Want of memory is a failure like others: what was brought back so far is let go of again by
// run().
Status attempt(Locked& lock, Region* r, Stream stream) {
  try {
    RC_TRY(wait_for_fences(lock, r));
    RC_TRY(region_refill_host(lock, r, stream));
    RC_TRY(r->module->kernel ? run_kernel_module(lock, r, stream) : run_host(lock, r, stream));
    return check_result(lock, r);
  } catch (const std::bad_alloc&) {
    if (!lock.lock()->owns_lock()) lock.relock();
    return Status(RC_E_MEMORY, "regions", "out of host memory");
  }
}

Status run(Locked& lock, Region* r, Stream stream) {
  Context* context = lock.context();
  const uint64_t begin = now_ns();
  const uint64_t bytes = want(r);
  r->previous_tokens.assign(r->tokens.size(), nullptr);
  const bool was_reading = r->reading;
  r->reading = true;
  r->rng_cursor = 0;
  r->journal.rewind();
  Status status = attempt(lock, r, stream);
  r->reading = was_reading;
  if (!status.ok()) {
    take_back(lock, r, stream);
    return status;
  }
  for (uint32_t slot : r->missing) r->slots[slot].wanted = false;
  r->dropped_children = false;
  ++r->replays;
  ++context->counts.replays;
  ++r->module->counts.replays;
  if (r->step) ++r->step->replays;
  const uint64_t end = now_ns();
  context->counts.replay_ns += end - begin;
  r->module->counts.replay_ns += end - begin;
  if (log_of(r) && r->step->profile && context->profile && !LogPause::on())
    context->profile->add_replay(end - begin);
  lock.trace_now(RC_EVENT_REPLAY, r, bytes, begin);
  return status;
}

// A trial leaves no trace in what is counted, and its region as it was.
Status trial(Locked& lock, Region* r, Stream stream, uint64_t* ns) {
  Context* context = r->context;
  Device& device = context->storage.device();
  (void)want(r);
  for (uint32_t slot : r->missing)
    if (r->slots[slot].content == SlotState::kHostManaged)
      RC_TRY(region_drop_host(lock, r, slot, stream));
  r->previous_tokens.assign(r->tokens.size(), nullptr);
  RC_TRY(device.synchronize(stream));
  const bool was_reading = r->reading;
  r->reading = r->trial = true;
  r->rng_cursor = 0;
  r->journal.rewind();
  const uint64_t begin = now_ns();
  Status status = attempt(lock, r, stream);
  if (status.ok()) status = device.synchronize(stream);
  *ns = now_ns() - begin;
  r->reading = was_reading;
  r->trial = false;
  if (status.ok()) return status;
  take_back(lock, r, stream);
  r->state = RC_REGION_EMPTY;
  return status;
}

// What a replay answers whose region may have been cancelled meanwhile.
Status after_cancel(Locked& lock, Region* r, Stream stream, Status status) {
  if (region_cancel_if_asked(lock, r, stream) && status.ok())
    return Status(RC_E_STATE, "regions", "the region was cancelled during its replay");
  return status;
}

Status replay_one(Locked& lock, Region* r, Stream stream) {
  while (r->taken()) RC_TRY(wait_for_replay(lock, r, stream));
  if (r->state == RC_REGION_OPEN || r->state == RC_REGION_CANCELLED)
    return Status(
        RC_E_STATE, "regions",
        format("region of module '%s', layer %u, is %s", r->module->name.c_str(), r->module->layer,
               r->state == RC_REGION_OPEN ? "still open" : "cancelled"));
  region_find_missing(r);
  const bool run_needed = !r->missing.empty() || (r->dropped_children && !r->transient);
  if (!run_needed && !region_needs_sources(r)) {
    if (!r->transient) hold_present(r);
    if (r->state == RC_REGION_EMPTY) r->state = RC_REGION_READY;
    return ok_status();
  }
  if (r->transient)
    return Status(
        RC_E_STATE, "regions",
        format("region of module '%s', layer %u, %s", r->module->name.c_str(), r->module->layer,
               r->phase == RC_PHASE_EVALUATION
                   ? "was begun in evaluation and keeps nothing"
                   : "is begun anew by its parent's replay; this instance cannot be replayed"));
  Status status;
  try {
    const Taken taken(lock, r, Taken::kReplay);
    status = replay_sources(lock, r, stream);
    if (status.ok() && run_needed) {
      region_find_missing(r);  // a shared source may have changed it
      status = run(lock, r, stream);
    }
    if (status.ok()) {
      hold_present(r);
      r->state = RC_REGION_READY;
    }
  } catch (const std::bad_alloc&) {
    status = Status(RC_E_MEMORY, "regions", "out of host memory");
  }
  return after_cancel(lock, r, stream, std::move(status));
}

// Keeps regions alive while the host may release them from a callback.
class Pins {
 public:
  Pins(Locked& lock, Region* const* regions, uint32_t n, Stream stream)
      : lock_(lock), regions_(regions), n_(n), stream_(stream) {
    for (uint32_t i = 0; i < n; ++i)
      if (regions[i]) ++regions[i]->links;
  }
  ~Pins() {
    for (uint32_t i = 0; i < n_; ++i) {
      if (!regions_[i]) continue;
      --regions_[i]->links;
      region_end_if_unused(lock_, regions_[i], stream_);
    }
  }

 private:
  Locked& lock_;
  Region* const* regions_;
  uint32_t n_;
  Stream stream_;
};

}  // namespace

Status replay_trial(Locked& lock, Region* r, const std::vector<uint32_t>& slots, Stream stream,
                    uint64_t* ns) {
  const LogPause pause;
  Status status;
  {
    const Taken taken(lock, r, Taken::kReplay);
    r->missing = slots;
    status = trial(lock, r, stream, ns);
  }
  return after_cancel(lock, r, stream, std::move(status));
}

Status replay_regions(Locked& lock, Region* const* regions, uint32_t n, Stream stream) {
  const Pins pins(lock, regions, n, stream);
  for (uint32_t i = 0; i < n; ++i) {
    Region* r = regions[i];
    if (!r) continue;
    if (CallLog* log = log_of(r)) log->add(r, {.op = CallLog::kReplay});
    Status status = replay_one(lock, r, stream);
    if (status.ok() && r->step && r->step->profile) {
      status = try_replays(lock, r, stream);
      // A trial needs memory for what is nested in it; where there is none, nothing is measured.
      if (status.code() == RC_E_MEMORY || status.code() == RC_E_BUDGET)
        status = replay_one(lock, r, stream);
    }
    if (status.ok()) continue;
    lock.blame(r->id);
    return status;
  }
  return ok_status();
}

Status region_forward(Locked& lock, Region* r, Stream stream) {
  if (!r->module->kernel)
    return Status(RC_E_UNSUPPORTED, "region",
                  format("module '%s' has no built-in kernel", r->module->name.c_str()));
  if (r->state != RC_REGION_OPEN)
    return Status(RC_E_STATE, "region",
                  format("region of module '%s' is not open", r->module->name.c_str()));
  if (r->busy)
    return Status(RC_E_STATE, "region",
                  format("the forward of module '%s' is running", r->module->name.c_str()));
  Status status;
  const Kept kept(lock, r, stream);
  try {
    const Taken taken(lock, r, Taken::kCallback);
    status = run_kernel_module(lock, r, stream);
  } catch (const std::bad_alloc&) {
    status = Status(RC_E_MEMORY, "region", "out of host memory");
  }
  region_cancel_if_asked(lock, r, stream);
  return status;
}

}  // namespace rc
