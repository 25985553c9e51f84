// src/region/step.cc: opening and closing a step.
#include "src/region/step.h"

#include "src/region/call_log.h"
#include "src/region/context.h"
#include "src/region/profile.h"

namespace rc {

Status step_begin(Locked& lock, const rc_step_desc& desc, Step** out) {
  Context* context = lock.context();
  if (desc.phase != RC_PHASE_FORWARD && desc.phase != RC_PHASE_EVALUATION)
    return argument_error(
        "desc.phase", format("%d; a step is FORWARD or EVALUATION", static_cast<int>(desc.phase)));
  Step* step = context->new_step();
  step->phase = desc.phase;
  step->profile = (desc.flags & RC_STEP_PROFILE) != 0 && desc.phase == RC_PHASE_FORWARD;
  step->log = step->profile || (desc.flags & RC_STEP_LOG) != 0;
  step->cap_bytes = desc.cap_bytes;
  if (step->log) {
    context->call_log = std::make_shared<CallLog>(step->serial);
    context->profile = step->profile ? std::make_shared<Profile>(now_ns()) : nullptr;
  }
  step->allocations_before = context->storage.device().memory().allocations;
  // An evaluation pass has other lifetimes, and so have trials: they never enter the arena's plan.
  if (desc.phase == RC_PHASE_FORWARD && !step->profile) context->storage.begin_step(step->serial);
  context->apply_caps();
  if (context->steps.size() == 1)
    context->storage.stats().step_peak_bytes = context->storage.stats().live_bytes;
  lock.trace(RC_EVENT_STEP_BEGIN, nullptr, 0, 0);
  *out = step;
  return ok_status();
}

namespace {

// Newest first: consumers before what they refer to. What remains with a handle is a cancelled
// region of no step.
void purge(Locked& lock, Step* step, Stream stream, rc_step_report* report) {
  while (Region* r = step->regions) {
    if (r->handles > 0 && r->state != RC_REGION_CANCELLED) ++report->regions_purged;
    step->regions = r->step_next;
    if (r->step_next) r->step_next->step_prev = nullptr;
    r->step = nullptr;
    r->step_prev = r->step_next = nullptr;
    (void)region_cancel(lock, r, stream).ok();
  }
}

}  // namespace

Status step_end(Locked& lock, Step* step, Stream stream, rc_step_report* report) {
  Context* context = lock.context();
  for (Region* r = step->regions; r; r = r->step_next)
    if (r->replaying)
      return Status(RC_E_STATE, "step",
                    format("region %llu of module '%s' is being replayed",
                           static_cast<unsigned long long>(r->id), r->module->name.c_str()));
  const StorageStats& stats = context->storage.stats();
  report->regions_begun = step->regions_begun;
  report->replays = step->replays;
  report->peak_bytes = stats.step_peak_bytes;
  report->allocations = context->storage.device().memory().allocations - step->allocations_before;
  const bool owns_arena = context->storage.arena_step() == step->serial;
  purge(lock, step, stream, report);
  if (owns_arena) {
    context->storage.end_step(stream, lock.lock());  // may release the lock
    purge(lock, step, stream, report);
    report->arena_bytes = context->storage.last_plan().bytes;
    report->arena_bound = context->storage.last_plan().bound;
    report->arena_misses = context->storage.last_misses();
  }
  if (step->profile && context->profile && context->call_log->step() == step->serial)
    context->profile->settle(*context->call_log, now_ns());
  context->recycle(step);
  context->apply_caps();
  lock.trace(RC_EVENT_STEP_END, nullptr, 0, 0);
  return ok_status();
}

}  // namespace rc
