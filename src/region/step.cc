// src/region/step.cc: opening and closing a step.
#include "src/region/step.h"

#include "src/region/call_log.h"
#include "src/region/context.h"

namespace rc {

Status step_begin(Locked& lock, const rc_step_desc& desc, Step** out) {
  Context* context = lock.context();
  if (desc.phase != RC_PHASE_FORWARD && desc.phase != RC_PHASE_EVALUATION)
    return argument_error(
        "desc.phase", format("%d; a step is FORWARD or EVALUATION", static_cast<int>(desc.phase)));
  Step* step = context->new_step();
  step->phase = desc.phase;
  step->log = (desc.flags & RC_STEP_LOG) != 0;
  step->cap_bytes = desc.cap_bytes;
  if (step->log) context->call_log = std::make_unique<CallLog>(step->serial);
  step->allocations_before = context->storage.device().memory().allocations;
  // An evaluation pass has other lifetimes: it never enters the plan.
  if (desc.phase == RC_PHASE_FORWARD) context->storage.begin_step(step->serial);
  context->apply_caps();
  if (context->steps.size() == 1)
    context->storage.stats().step_peak_bytes = context->storage.stats().live_bytes;
  lock.trace(RC_EVENT_STEP_BEGIN, nullptr, 0, 0);
  *out = step;
  return ok_status();
}

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
  // Newest first: consumers before what they refer to. What remains with a handle is a cancelled
  // region of no step.
  while (Region* r = step->regions) {
    if (r->handles > 0 && r->state != RC_REGION_CANCELLED) ++report->regions_purged;
    step->regions = r->step_next;
    if (r->step_next) r->step_next->step_prev = nullptr;
    r->step = nullptr;
    r->step_prev = r->step_next = nullptr;
    (void)region_cancel(lock, r, stream).ok();
  }
  if (owns_arena) {
    context->storage.end_step(stream, lock.lock());
    report->arena_bytes = context->storage.last_plan().bytes;
    report->arena_bound = context->storage.last_plan().bound;
    report->arena_misses = context->storage.last_misses();
  }
  context->recycle(step);
  context->apply_caps();
  lock.trace(RC_EVENT_STEP_END, nullptr, 0, 0);
  return ok_status();
}

}  // namespace rc
