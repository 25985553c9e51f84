// src/abi/region.cc: steps and regions.
#include "src/region/region.h"

#include "src/abi/guard.h"
#include "src/storage/tensor.h"

using rc::Locked;
using rc::Region;
using rc::Status;
using namespace rc::abi;

namespace {

Status read_items(const rc_save* items, uint32_t n, uint32_t stride, rc::SaveItem* out) {
  for (uint32_t i = 0; i < n; ++i) {
    RC_TRY(rc::import_array_element(items, i, stride, RC_TYPE_SAVE, "items", &out[i].save));
    Status read;
    if (out[i].save.tensor)
      read = rc::read_tensor(out[i].save.tensor, "tensor", &out[i].view);
    else if (out[i].save.view)
      read = rc::import_struct(out[i].save.view, RC_TYPE_TENSOR_SPEC, "view", &out[i].view);
    if (!read.ok()) return std::move(read).inside(rc::format("items[%u]", i));
  }
  return rc::ok_status();
}

Status save(Locked& lock, Region* r, const rc_save* items, uint32_t n, uint32_t stride,
            rc_stream stream, rc_tensor_spec* views) {
  constexpr uint32_t kInline = 8;
  rc::SaveItem small[kInline];
  std::vector<rc::SaveItem> large;
  if (n > kInline) large.resize(n);
  rc::SaveItem* list = n > kInline ? large.data() : small;
  RC_TRY(read_items(items, n, stride, list));
  if (views && n > 0) RC_TRY(rc::check_output(views, RC_TYPE_TENSOR_SPEC, "views"));
  const rc::Kept kept(lock, r, stream);  // for the views
  RC_TRY(rc::region_save(lock, r, list, n, stream));
  for (uint32_t i = 0; views && i < n; ++i) {
    rc_tensor_spec view = rc::make_struct<rc_tensor_spec>(RC_TYPE_TENSOR_SPEC);
    if (rc::region_view(lock, r, list[i].save.slot, stream, &view).ok())
      rc::export_struct(view, rc::output_element(views, i));
  }
  return rc::ok_status();
}

// What a call with a NULL region hands out: nothing. A malformed struct stays as it is.
template <class T>
void pass(const rc_region* region, T* out, rc_type tag) {
  if (!region && out && rc::check_output(out, tag, "out").ok()) rc::clear_output(out);
}

Status read_spec(const rc_tensor_spec* spec, const char* field, rc_tensor_spec* out) {
  return rc::import_struct(spec, RC_TYPE_TENSOR_SPEC, field, out);
}

void describe(Region* r, rc_region_info* info) {
  info->id = r->id;
  info->state =
      r->state == RC_REGION_SEALED && rc::region_needs_sources(r) ? RC_REGION_EMPTY : r->state;
  info->phase = r->replaying ? RC_PHASE_REPLAY : r->phase;
  info->chunk = r->chunk;
  info->microbatch = r->microbatch;
  info->occurrence = r->occurrence;
  info->n_slots = r->n_slots;
  info->replays = r->replays;
  info->user_data = r->user_data;
  for (uint32_t i = 0; i < r->n_slots; ++i) {
    const rc::SlotState& s = r->slots[i];
    if (s.holds || (s.content == rc::SlotState::kTensor && s.tensor))
      info->held_bytes += s.meta.bytes();
    if (s.dropped && !s.done && !s.present()) info->dropped_bytes += s.meta.bytes();
  }
}

Status describe_slot(Region* r, uint32_t slot, rc_slot_info* info) {
  RC_TRY(rc::check_slot(r, slot));
  const rc::SlotState& s = r->slots[slot];
  const rc::SlotState* at = rc::slot_resolve(r, slot);
  info->role = s.role;
  info->action = s.plan.action;
  info->bytes = s.content == rc::SlotState::kEmpty ? 0 : s.meta.bytes();
  info->present = at && at->present() && !rc::filled_elsewhere(r, slot);
  info->linked = s.source != nullptr;
  info->source_id = s.source ? s.source->id : 0;
  const std::string& name = r->def(slot).name;
  name.copy(info->name, sizeof info->name - 1);
  return rc::ok_status();
}

}  // namespace

extern "C" {

rc_status rc_step_begin(rc_context* handle, const rc_step_desc* in, rc_step** out) noexcept {
  return guard("rc_step_begin", [&](uint64_t*) -> Status {
    if (!out) return rc::argument_error("out", "out is NULL");
    *out = nullptr;
    RC_TRY(check(unwrap(handle)));
    rc_step_desc desc;
    RC_TRY(rc::import_struct(in, RC_TYPE_STEP_DESC, "desc", &desc));
    Locked lock(unwrap(handle));
    return rc::step_begin(lock, desc, reinterpret_cast<rc::Step**>(out));
  });
}

rc_status rc_step_end(rc_step* handle, rc_stream stream, rc_step_report* report) noexcept {
  return guard("rc_step_end", [&](uint64_t*) -> Status {
    if (!handle) return Status(RC_E_HANDLE, "step", "step is NULL");
    rc::Step* step = unwrap(handle);
    RC_TRY(check(step->context));
    if (report) RC_TRY(rc::check_output(report, RC_TYPE_STEP_REPORT, "report"));
    rc_step_report value = rc::make_struct<rc_step_report>(RC_TYPE_STEP_REPORT);
    Status status;
    {
      Locked lock(step->context);
      if (lock.context()->storage.device().capturing(stream))
        return Status(RC_E_CAPTURE, "stream",
                      "a step cannot end while its stream is being captured");
      status = rc::step_end(lock, step, stream, &value);
    }
    if (report) status.ok() ? rc::export_struct(value, report) : rc::clear_output(report);
    return status;
  });
}

rc_status rc_region_begin(rc_context* handle, const rc_region_desc* in, rc_region** out) noexcept {
  return guard("rc_region_begin", [&](uint64_t*) -> Status {
    if (!out) return rc::argument_error("out", "out is NULL");
    *out = nullptr;
    RC_TRY(check(unwrap(handle)));
    rc_region_desc desc;
    RC_TRY(rc::import_struct(in, RC_TYPE_REGION_DESC, "desc", &desc));
    if (!desc.module) return Status(RC_E_HANDLE, "desc.module", "module is NULL");
    Locked lock(unwrap(handle));
    return rc::region_begin(lock, desc, reinterpret_cast<Region**>(out));
  });
}

rc_status rc_region_save(rc_region* region, const rc_save* items, uint32_t n, uint32_t stride,
                         rc_stream stream, rc_tensor_spec* views) noexcept {
  return with_region("rc_region_save", region, [&](Locked& lock, Region* r) {
    return save(lock, r, items, n, stride, stream, views);
  });
}

rc_status rc_region_slot_add(rc_region* region, const rc_slot_desc* in, uint32_t* slot) noexcept {
  if (slot) *slot = 0;
  return with_region("rc_region_slot_add", region, [&](Locked&, Region* r) -> Status {
    if (!slot) return rc::argument_error("slot", "slot is NULL");
    rc_slot_desc desc;
    RC_TRY(rc::import_struct(in, RC_TYPE_SLOT_DESC, "desc", &desc));
    rc::SlotDef def;
    RC_TRY(read_slot(desc, "desc", &def));
    return rc::region_slot_add(r, def, slot);
  });
}

rc_status rc_region_alloc(rc_region* region, uint32_t slot, const rc_tensor_spec* spec,
                          rc_stream stream, rc_tensor_spec* out) noexcept {
  pass(region, out, RC_TYPE_TENSOR_SPEC);
  return with_region("rc_region_alloc", region, [&](Locked& lock, Region* r) -> Status {
    rc_tensor_spec s;
    RC_TRY(read_spec(spec, "spec", &s));
    return fill(out, RC_TYPE_TENSOR_SPEC, "out", [&](rc_tensor_spec* value) {
      return rc::region_alloc(lock, r, slot, s, stream, value);
    });
  });
}

rc_status rc_region_output(rc_region* region, uint32_t slot, rc_output_mode mode,
                           const rc_tensor_spec* view, rc_stream) noexcept {
  return with_region("rc_region_output", region, [&](Locked&, Region* r) -> Status {
    rc_tensor_spec s;
    RC_TRY(read_spec(view, "view", &s));
    return rc::region_output(r, slot, mode, s);
  });
}

rc_status rc_region_forward(rc_region* region, rc_stream stream) noexcept {
  return with_region("rc_region_forward", region,
                     [&](Locked& lock, Region* r) { return rc::region_forward(lock, r, stream); });
}

rc_status rc_region_end(rc_region* region, rc_stream stream) noexcept {
  return with_region("rc_region_end", region,
                     [&](Locked& lock, Region* r) { return rc::region_end(lock, r, stream); });
}

rc_status rc_region_discard(rc_region* region, rc_stream stream) noexcept {
  return with_region("rc_region_discard", region,
                     [&](Locked& lock, Region* r) { return rc::region_discard(lock, r, stream); });
}

rc_status rc_region_prefetch(rc_region* region, rc_stream) noexcept {
  // Nothing is stored elsewhere in this build, so there is never anything to fetch.
  return with_region("rc_region_prefetch", region, [&](Locked&, Region* r) -> Status {
    if (r->state == RC_REGION_OPEN) return Status(RC_E_STATE, "region", "the region is still open");
    return Status::note(RC_PASS);
  });
}

rc_status rc_backward_replay(rc_region* const* regions, uint32_t n, rc_stream stream) noexcept {
  return guard("rc_backward_replay", [&](uint64_t* blamed) -> Status {
    if (n > 0 && !regions) return rc::argument_error("regions", "regions is NULL");
    Region* first = nullptr;
    for (uint32_t i = 0; i < n; ++i) {
      Region* r = unwrap(regions[i]);
      if (!r) continue;
      RC_TRY(check(r));
      if (!first) first = r;
      if (r->context != first->context)
        return Status(RC_E_HANDLE, rc::format("regions[%u]", i),
                      "the region is of another context");
    }
    if (!first) return Status::note(RC_PASS);
    Locked lock(first->context);
    for (uint32_t i = 0; i < n; ++i)
      if (regions[i]) RC_TRY(check_live(unwrap(regions[i])));
    Status status = rc::replay_regions(lock, reinterpret_cast<Region* const*>(regions), n, stream);
    *blamed = lock.blamed();
    return status;
  });
}

rc_status rc_region_view(rc_region* region, uint32_t slot, rc_stream stream,
                         rc_tensor_spec* out) noexcept {
  pass(region, out, RC_TYPE_TENSOR_SPEC);
  return with_region("rc_region_view", region, [&](Locked& lock, Region* r) {
    return fill(out, RC_TYPE_TENSOR_SPEC, "out", [&](rc_tensor_spec* value) {
      return rc::region_view(lock, r, slot, stream, value);
    });
  });
}

rc_status rc_region_tensor(rc_region* region, uint32_t slot, rc_stream stream,
                           rc_tensor** out) noexcept {
  if (out) *out = nullptr;
  return with_region("rc_region_tensor", region, [&](Locked& lock, Region* r) -> Status {
    if (!out) return rc::argument_error("out", "out is NULL");
    return rc::region_tensor(lock, r, slot, stream, out);
  });
}

rc_status rc_region_restore(rc_region* region, uint32_t slot, rc_stream stream,
                            const rc_tensor_spec* destination) noexcept {
  return with_region("rc_region_restore", region, [&](Locked& lock, Region* r) -> Status {
    rc_tensor_spec s;
    RC_TRY(read_spec(destination, "destination", &s));
    return rc::region_restore(lock, r, slot, stream, s);
  });
}

rc_status rc_region_done(rc_region* region, uint32_t slot, rc_stream stream) noexcept {
  return with_region("rc_region_done", region, [&](Locked& lock, Region* r) {
    return rc::region_done(lock, r, slot, stream);
  });
}

rc_status rc_region_wants(rc_region* region, uint32_t slot) noexcept {
  if (!region) return RC_OK;  // a region that passed is always in its forward
  return with_region("rc_region_wants", region, [&](Locked&, Region* r) -> Status {
    RC_TRY(rc::check_slot(r, slot));
    return rc::region_wants(r, slot) ? rc::ok_status() : Status::note(RC_PASS);
  });
}

rc_status rc_region_missing(rc_region* region, uint32_t* slots, uint32_t capacity,
                            uint32_t* n) noexcept {
  if (n) *n = 0;
  return with_region("rc_region_missing", region, [&](Locked&, Region* r) -> Status {
    if (!n) return rc::argument_error("n", "n is NULL");
    if (capacity > 0 && !slots)
      return rc::argument_error("slots", "slots is NULL and capacity is not 0");
    if (!r->replaying) rc::region_find_missing(r);
    *n = static_cast<uint32_t>(r->missing.size());
    std::copy_n(r->missing.begin(), std::min(capacity, *n), slots);
    return rc::ok_status();
  });
}

rc_status rc_region_decide(rc_region* region, uint32_t slot, const rc_tensor_spec* value,
                           rc_stream stream) noexcept {
  return with_region("rc_region_decide", region, [&](Locked& lock, Region* r) -> Status {
    rc_tensor_spec s;
    RC_TRY(read_spec(value, "value", &s));
    return rc::region_decide(lock, r, slot, s, stream);
  });
}

rc_status rc_region_rng(rc_region* region, uint64_t blocks, rc_rng* out) noexcept {
  pass(region, out, RC_TYPE_RNG);
  return with_region("rc_region_rng", region, [&](Locked& lock, Region* r) {
    return fill(out, RC_TYPE_RNG, "out",
                [&](rc_rng* value) { return rc::region_rng(lock, r, blocks, value); });
  });
}

rc_status rc_region_rng_record(rc_region* region, uint32_t index, rc_rng* out) noexcept {
  pass(region, out, RC_TYPE_RNG);
  return with_region("rc_region_rng_record", region, [&](Locked&, Region* r) {
    return fill(out, RC_TYPE_RNG, "out", [&](rc_rng* value) -> Status {
      if (r->state == RC_REGION_CANCELLED)
        return Status(RC_E_STATE, "region", "the region is cancelled");
      if (index >= r->entry.rng.size()) return Status::note(RC_PASS);
      value->seed = r->context->rng_seed;
      value->offset = r->entry.rng[index].offset;
      return rc::ok_status();
    });
  });
}

rc_phase rc_region_phase(const rc_region* region) noexcept {
  const Region* r = reinterpret_cast<const Region*>(region);
  if (!r || r->context->fork_generation != rc::fork_generation()) return RC_PHASE_FORWARD;
  Locked lock(r->context);
  return r->replaying ? RC_PHASE_REPLAY : r->phase;
}

rc_status rc_region_query(rc_region* region, rc_region_info* out) noexcept {
  pass(region, out, RC_TYPE_REGION_INFO);
  return with_region("rc_region_query", region, [&](Locked&, Region* r) {
    return fill(out, RC_TYPE_REGION_INFO, "out", [&](rc_region_info* value) -> Status {
      describe(r, value);
      return rc::ok_status();
    });
  });
}

rc_status rc_region_slot_query(rc_region* region, uint32_t slot, rc_slot_info* out) noexcept {
  pass(region, out, RC_TYPE_SLOT_INFO);
  return with_region("rc_region_slot_query", region, [&](Locked&, Region* r) {
    return fill(out, RC_TYPE_SLOT_INFO, "out",
                [&](rc_slot_info* value) { return describe_slot(r, slot, value); });
  });
}

rc_status rc_region_find(rc_context* handle, uint64_t id, rc_region** out) noexcept {
  return guard("rc_region_find", [&](uint64_t*) -> Status {
    if (!out) return rc::argument_error("out", "out is NULL");
    *out = nullptr;
    RC_TRY(check(unwrap(handle)));
    Locked lock(unwrap(handle));
    Region* r = lock.context()->find(id);
    if (!r) return Status::note(RC_PASS);
    ++r->handles;
    *out = reinterpret_cast<rc_region*>(r);
    return rc::ok_status();
  });
}

rc_status rc_region_lookup(rc_context* handle, const rc_region_key* in, rc_region** out) noexcept {
  return guard("rc_region_lookup", [&](uint64_t*) -> Status {
    if (!out) return rc::argument_error("out", "out is NULL");
    *out = nullptr;
    RC_TRY(check(unwrap(handle)));
    rc_region_key key;
    RC_TRY(rc::import_struct(in, RC_TYPE_REGION_KEY, "key", &key));
    if (!key.module) return Status(RC_E_HANDLE, "key.module", "module is NULL");
    Locked lock(unwrap(handle));
    if (unwrap(key.module)->context != lock.context())
      return Status(RC_E_HANDLE, "key.module", "the module is of another context");
    for (Region* r = unwrap(key.module)->live; r; r = r->module_next) {
      if (r->step != unwrap(key.step) || r->chunk != key.chunk || r->microbatch != key.microbatch)
        continue;
      if (key.occurrence && r->occurrence != key.occurrence) continue;
      if (r->beginning) continue;
      ++r->handles;
      *out = reinterpret_cast<rc_region*>(r);
      return rc::ok_status();
    }
    return Status::note(RC_PASS);
  });
}

rc_status rc_region_retain(rc_region* region) noexcept {
  return with_region("rc_region_retain", region, [&](Locked&, Region* r) -> Status {
    ++r->handles;
    return rc::ok_status();
  });
}

rc_status rc_region_cancel(rc_region* region, rc_stream stream) noexcept {
  return with_region("rc_region_cancel", region,
                     [&](Locked& lock, Region* r) { return rc::region_cancel(lock, r, stream); });
}

void rc_region_release(rc_region* region, rc_stream stream) noexcept {
  (void)with_region("rc_region_release", region, [&](Locked& lock, Region* r) -> Status {
    rc::region_release(lock, r, stream);
    return rc::ok_status();
  });
}

}  // extern "C"
