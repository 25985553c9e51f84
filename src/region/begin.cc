// src/region/begin.cc: opening a region: what nests it, what the policy says, what it captures.
#include "src/region/call_log.h"
#include "src/region/context.h"

namespace rc {
namespace {

// The ancestor whose replay this region is part of.
Region* replaying_ancestor(Region* parent) {
  while (parent && !parent->replaying) parent = parent->parent;
  return parent;
}

// A region here takes part in the record of an ancestor, or reads one: it cannot pass.
bool is_recorded(const Region* parent) {
  for (const Region* p = parent; p; p = p->parent) {
    if (p->records) return true;
    if (p->replaying) return false;
  }
  return false;
}

// Every ancestor that may be replayed runs the host's code again, and with it this region: each
// keeps what is drawn and decided here. Beyond an ancestor that is being replayed, forward recorded
// it.
void enter_journals(Region* r) {
  for (Region* p = r->parent; p && !p->replaying; p = p->parent) {
    if (!p->records || p->state == RC_REGION_CANCELLED) continue;
    r->recorders.reserve(r->recorders.size() + 1);
    p->journal.append().copy_from(r->entry, &r->context->storage);
    r->recorders.push_back({p, p->id, p->journal.size() - 1});
  }
}

void leave_journals(Region* r, Stream stream) {
  for (const Recorder& recorder : r->recorders)
    if (JournalEntry* entry = entry_at(recorder)) entry->clear(&r->context->storage, stream);
  r->recorders.clear();
}

void link_lists(Region* r) {
  r->module_next = r->module->live;
  if (r->module_next) r->module_next->module_prev = r;
  r->module->live = r;
  ++r->module->regions;
  if (r->step) {
    r->step_next = r->step->regions;
    if (r->step_next) r->step_next->step_prev = r;
    r->step->regions = r;
    ++r->step->regions_begun;
  }
  if (r->parent) {
    r->sibling_next = r->parent->children_head;
    if (r->sibling_next) r->sibling_next->sibling_prev = r;
    r->parent->children_head = r;
  }
}

void set_up_slots(Region* r, const SitePlan& plan, bool by_policy) {
  const size_t n = r->module->slots.size();
  if (r->slots.size() < n) r->slots.resize(n);
  r->n_slots = static_cast<uint32_t>(n);
  for (size_t i = 0; i < n; ++i) {
    r->slots[i].role = r->module->slots[i].role;
    r->slots[i].plan = by_policy ? plan.slots[i] : SlotPlan();
    if (r->module->slots[i].flags & RC_SLOT_HOST) r->slots[i].content = SlotState::kHostManaged;
  }
  for (int role = 0; role < 6; ++role)
    r->by_role[role] = by_policy ? plan.by_role[role] : SlotPlan();
  r->named = by_policy ? plan.named : nullptr;
}

void find_journal_entry(Region* r) {
  r->entry.module = r->module;
  r->entry.chunk = r->chunk;
  r->entry.microbatch = r->microbatch;
  r->reading = false;
  if (Region* replaying = replaying_ancestor(r->parent)) {
    if (JournalEntry* found = replaying->journal.next(r->module, r->chunk, r->microbatch)) {
      r->entry.copy_from(*found, &r->context->storage);
      r->reading = true;
    }
  }
}

// Tokens are taken without the lock, and become the region's when all are: it may be cancelled
// meanwhile, as by the end of its step. A failure drops those already taken.
Status capture_states(Locked& lock, Region* r) {
  const std::vector<rc_side_state>& states = r->module->states;
  if (states.empty() || r->transient) return ok_status();
  std::vector<void*> tokens = std::move(r->tokens);  // for its capacity
  tokens.assign(states.size(), nullptr);
  r->beginning = true;
  lock.unlock();
  rc_status code = RC_OK;
  size_t taken = 0;
  for (; taken < states.size() && code >= 0; ++taken)
    code = states[taken].capture(states[taken].user_data, reinterpret_cast<rc_context*>(r->context),
                                 reinterpret_cast<rc_region*>(r), r->user_data, r->stream,
                                 &tokens[taken]);
  if (code < 0) {
    tokens[--taken] = nullptr;  // the failed one made none
    for (size_t i = 0; i < taken; ++i)
      if (states[i].drop && tokens[i]) states[i].drop(states[i].user_data, tokens[i]);
    tokens.clear();
  }
  lock.relock();
  r->beginning = false;
  r->tokens = std::move(tokens);
  if (r->state == RC_REGION_CANCELLED) region_drop_tokens(r);
  if (code < 0)
    return Status(code, format("states[%zu].capture", taken),
                  format("capture of side state %zu of module '%s' failed with %d", taken,
                         r->module->name.c_str(), static_cast<int>(code)));
  return ok_status();
}

// Ends a region whose begin fails, by status or by want of memory.
class Undo {
 public:
  Undo(Locked& lock, Region* r, Stream stream) : lock_(lock), region_(r), stream_(stream) {}
  ~Undo() {
    if (!region_) return;
    leave_journals(region_, stream_);
    if (counted_)
      region_->module->take_back_occurrence(step_, region_->chunk, region_->microbatch,
                                            region_->occurrence);
    if (region_->step) --region_->step->regions_begun;
    --lock_.context()->counts.begun;
    --region_->handles;
    region_end_if_unused(lock_, region_, stream_);
  }
  void occurrence(uint64_t step) {
    counted_ = true;
    step_ = step;
  }
  void keep() { region_ = nullptr; }

 private:
  Locked& lock_;
  Region* region_;
  Stream stream_;
  bool counted_ = false;
  uint64_t step_ = 0;
};

}  // namespace

Region* recomputing_ancestor(const Region* r) {
  if (!r->transient) return nullptr;
  Region* parent = r->parent;
  while (parent && parent->transient) parent = parent->parent;
  return parent && parent->inside && parent->state != RC_REGION_CANCELLED ? parent : nullptr;
}

JournalEntry* entry_at(const Recorder& recorder) {
  Region* r = recorder.region;
  return r->id == recorder.id && r->state != RC_REGION_CANCELLED ? &r->journal.at(recorder.entry)
                                                                 : nullptr;
}

Status region_begin(Locked& lock, const rc_region_desc& desc, Region** out) {
  Context* context = lock.context();
  Module* module = reinterpret_cast<Module*>(desc.module);
  Region* parent = reinterpret_cast<Region*>(desc.parent);
  Step* step = reinterpret_cast<Step*>(desc.step);
  if (module->context != context)
    return Status(RC_E_HANDLE, "desc.module", "the module is of another context");
  if (parent && parent->context != context)
    return Status(RC_E_HANDLE, "desc.parent", "the parent is of another context");
  if (parent && parent->state != RC_REGION_OPEN && !parent->replaying)
    return Status(RC_E_STATE, "desc.parent", "the parent is neither open nor being replayed");
  if (step && step->context != context)
    return Status(RC_E_HANDLE, "desc.step", "the step is of another context");
  if (!step && parent) step = parent->step;

  const rc_phase outer = step ? step->phase : RC_PHASE_FORWARD;
  const bool in_replay = parent && (parent->replaying || parent->phase == RC_PHASE_REPLAY);
  const bool transient = outer == RC_PHASE_EVALUATION ||
                         (parent && !parent->replaying && (parent->transient || parent->inside));
  const bool explicit_region = (desc.flags & RC_REGION_EXPLICIT) != 0;
  const bool by_policy = !transient && (!in_replay || explicit_region);
  const SitePlan& plan = module->plan(desc.chunk, desc.microbatch);
  if ((desc.flags & RC_REGION_MAY_PASS) && module->states.empty() &&
      !context->flag(RC_CONTEXT_PROFILE) && !transient && (plan.plain || !by_policy) &&
      !is_recorded(parent) && !(step && step->profile)) {
    ++context->counts.passed;
    *out = nullptr;
    return Status::note(RC_PASS);
  }

  Region* r = context->new_region();
  r->module = module;
  r->step = step;
  r->parent = parent;
  r->state = RC_REGION_OPEN;
  r->phase = in_replay ? RC_PHASE_REPLAY : outer;
  r->transient = transient;
  r->by_policy = by_policy;
  r->records = (by_policy && !plan.plain) || (step && step->profile && !transient);
  r->inside = by_policy && plan.inside;
  r->discards_output = module->discards_output;
  r->chunk = desc.chunk;
  r->microbatch = desc.microbatch;
  r->handles = 1;
  r->stream = desc.stream;
  r->user_data = desc.user_data;
  link_lists(r);
  Undo undo(lock, r, desc.stream);
  const size_t announced = module->states.size() + (desc.destroy ? 1 : 0);
  context->expect_deferred(announced);
  r->announced = announced;
  set_up_slots(r, plan, by_policy);
  find_journal_entry(r);
  r->occurrence = r->reading ? r->entry.occurrence : desc.occurrence;
  if (r->occurrence == 0) {
    const uint64_t serial = step ? step->serial : 0;
    r->occurrence = module->next_occurrence(serial, desc.chunk, desc.microbatch);
    undo.occurrence(serial);
  }
  r->entry.occurrence = r->occurrence;
  enter_journals(r);
  RC_TRY(capture_states(lock, r));
  if (Region* ancestor = recomputing_ancestor(r)) ancestor->dropped_children = true;
  if (CallLog* log = log_of(r)) log->begin(r, desc.flags);
  if (r->step && r->step->profile) r->begun_ns = now_ns();
  undo.keep();
  ++module->counts.regions;
  r->destroy = desc.destroy;
  lock.trace(RC_EVENT_BEGIN, r, 0, 0);
  *out = r;
  return ok_status();
}

}  // namespace rc
