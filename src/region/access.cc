// src/region/access.cc: how content leaves a region, and what replay must hand back: decisions and
// draws.
#include "src/region/call_log.h"
#include "src/region/context.h"
#include "src/region/with_host_memory.h"
#include "src/storage/tensor.h"

namespace rc {
namespace {

Status missing_error(const Region* r, uint32_t slot) {
  const SlotState& s = r->slots[slot];
  const char* why = s.content == SlotState::kEmpty ? "was never given content"
                    : s.done                       ? "is done"
                                                   : "was dropped; replay the region first";
  return Status(RC_E_STATE, "slot",
                format("slot '%s' of module '%s', layer %u, %s", r->def(slot).name.c_str(),
                       r->module->name.c_str(), r->module->layer, why));
}

// Content that is there, in memory that the core knows.
Status find_readable(Region* r, uint32_t slot, SlotState** out) {
  RC_TRY(check_slot(r, slot));
  SlotState* s = slot_resolve(r, slot);
  if (!s || !s->present()) return missing_error(r, slot);
  if (filled_elsewhere(r, slot))
    return Status(RC_E_STATE, "slot",
                  format("slot '%s' of module '%s', layer %u, is being brought back by a replay on "
                         "another thread; replay the region, which waits for it",
                         r->def(slot).name.c_str(), r->module->name.c_str(), r->module->layer));
  const bool of_host = s->content == SlotState::kHostKept || s->content == SlotState::kHostManaged;
  if (of_host && !s->host_data && (s->meta.bytes() > 0 || s->role == RC_ROLE_SAVED))
    return Status(RC_E_STATE, "slot",
                  format("slot '%s' is in the host's memory, at an address the core was not told",
                         r->def(slot).name.c_str()));
  *out = s;
  return ok_status();
}

void* slot_data(const SlotState& s) {
  return s.content == SlotState::kBlock
             ? (s.block->data ? static_cast<char*>(s.block->data) + s.offset : nullptr)
             : s.host_data;
}

}  // namespace

Status region_view(Locked&, Region* r, uint32_t slot, Stream stream, rc_tensor_spec* out) {
  SlotState* s = nullptr;
  RC_TRY(find_readable(r, slot, &s));
  if (s->content == SlotState::kBlock) RC_TRY(r->context->storage.use(s->block, stream, false));
  s->meta.fill(slot_data(*s), out);
  return ok_status();
}

namespace {

// An exported tensor keeps its block; the context lives until it is gone.
struct Export {
  Context* context;
  Block* block;  // one of these two
  SharedTensor* shared;
  Stream stream;
};

void release_export(void* user_data) {
  std::unique_ptr<Export> e(static_cast<Export*>(user_data));
  if (e->context->fork_generation != fork_generation()) return;
  Locked lock(e->context);
  if (e->shared) {
    shared_tensor_let_go(e->context, e->shared);
  } else {
    e->context->storage.unhold(e->block, e->stream, false);
    e->context->storage.unref(e->block, e->stream);
  }
  --e->context->objects;
}

}  // namespace

Status region_tensor(Locked& lock, Region* r, uint32_t slot, Stream stream, rc_tensor** out) {
  rc_tensor_spec spec = rc_tensor_spec_init();
  RC_TRY(region_view(lock, r, slot, stream, &spec));
  SlotState& s = *slot_resolve(r, slot);
  if (s.content != SlotState::kBlock && s.content != SlotState::kTensor)
    return Status(RC_E_UNSUPPORTED, "slot",
                  format("slot '%s' is in the host's own memory", r->def(slot).name.c_str()));
  auto held = std::make_unique<Export>(Export{r->context, s.block, nullptr, stream});
  if (s.content == SlotState::kTensor && !s.shared) s.shared = new SharedTensor{s.tensor, 1};
  RC_TRY(wrap_tensor(spec, release_export, held.get(), out));
  if (s.content == SlotState::kTensor) {
    held->shared = s.shared;
    ++s.shared->holders;
  } else {
    r->context->storage.ref(s.block);
    r->context->storage.hold(s.block);
  }
  held.release();
  ++r->context->objects;
  return ok_status();
}

Status region_restore(Locked&, Region* r, uint32_t slot, Stream stream, const rc_tensor_spec& to) {
  SlotState* s = nullptr;
  RC_TRY(find_readable(r, slot, &s));
  TensorMeta meta;
  RC_TRY(TensorMeta::read(to, "destination", &meta));
  if (!meta.same_as(s->meta))
    return argument_error(
        "destination.shape",
        format("dtype and shape differ from slot '%s' (%llu B against %llu B)",
               r->def(slot).name.c_str(), static_cast<unsigned long long>(meta.bytes()),
               static_cast<unsigned long long>(s->meta.bytes())));
  if (!to.data && meta.bytes() > 0) return argument_error("destination.data", "data is NULL");
  Storage& storage = r->context->storage;
  if (s->content == SlotState::kBlock) RC_TRY(storage.use(s->block, stream, false));
  const void* from = slot_data(*s);
  if (meta.bytes() == 0) return ok_status();
  if (meta.contiguous() && s->meta.contiguous())
    return storage.device().copy(to.data, from, meta.bytes(), stream);
  if (!storage.device().synchronous())
    return Status(RC_E_UNSUPPORTED, "destination.strides",
                  "strided restore is not supported on this device");
  if (s->meta.contiguous()) {
    scatter_elements(meta, from, to.data);
    return ok_status();
  }
  std::vector<char> packed(meta.bytes());
  gather_elements(s->meta, from, packed.data());
  if (meta.contiguous()) return storage.device().copy(to.data, packed.data(), meta.bytes(), stream);
  scatter_elements(meta, packed.data(), to.data);
  return ok_status();
}

namespace {

void make_room(Region* r) {
  r->entry.make_room();
  for (const Recorder& recorder : r->recorders)
    if (JournalEntry* entry = entry_at(recorder)) entry->make_room();
}

Status decide(Region* r, uint32_t slot, const rc_tensor_spec& value, Stream stream) {
  RC_TRY(check_slot(r, slot));
  if (r->state != RC_REGION_OPEN && !r->replaying)
    return Status(RC_E_STATE, "region",
                  "decisions are taken while the region is open or being replayed");
  SlotState& s = r->slots[slot];
  if (s.role != RC_ROLE_DECISION)
    return argument_error("slot",
                          format("slot '%s' is no decision slot", r->def(slot).name.c_str()));
  TensorMeta meta;
  RC_TRY(TensorMeta::read(value, "value", &meta));
  if (!value.data && meta.bytes() > 0) return argument_error("value.data", "data is NULL");
  if (!meta.contiguous()) return argument_error("value.strides", "decisions must be row-major");
  Storage& storage = r->context->storage;
  if (r->reading || r->replaying) {
    const DecisionRecord* record = r->entry.decision(slot);
    if (!record || !record->meta.same_as(meta))
      return Status(RC_E_MISMATCH, "value",
                    format("forward recorded %s for slot '%s' of module '%s', layer %u",
                           record ? "another dtype or shape" : "no decision",
                           r->def(slot).name.c_str(), r->module->name.c_str(), r->module->layer));
    RC_TRY(storage.use(record->block, stream, false));
    if (meta.bytes() > 0)
      RC_TRY(storage.device().copy(value.data, record->block->data, meta.bytes(), stream));
    if (s.content == SlotState::kEmpty) {  // a region begun anew: its slot shows the record too
      s.content = SlotState::kBlock;
      s.block = record->block;
      s.meta = meta;
      s.holds = true;
      storage.ref(s.block);
      storage.hold(s.block);
    }
    return Status::note(RC_PASS);
  }
  if (s.content != SlotState::kEmpty)
    return Status(RC_E_STATE, "slot",
                  format("slot '%s' was decided before", r->def(slot).name.c_str()));
  constexpr uint32_t kDecisionIncarnation = 32;
  const BlockKey key = {.site = (r->module->serial << 20) | r->chunk,
                        .instance = (uint64_t{r->microbatch} << 32) | r->occurrence,
                        .slot = slot,
                        .incarnation = kDecisionIncarnation};
  make_room(r);
  Block* block = nullptr;
  RC_TRY(storage.allocate(key, meta.bytes(), stream, r->step ? r->step->serial : 0, &block));
  Status copied = meta.bytes()
                      ? storage.device().copy(block->data, value.data, meta.bytes(), stream)
                      : ok_status();
  if (!copied.ok()) {
    storage.unhold(block, stream, false);
    storage.unref(block, stream);
    return copied;
  }
  s.content = SlotState::kBlock;
  s.block = block;
  s.offset = 0;
  s.holds = s.owner = true;
  s.meta = meta;
  const auto keep = [&](JournalEntry& entry) {
    storage.ref(block);
    storage.hold(block);
    entry.decisions.push_back({slot, block, meta});
  };
  keep(r->entry);
  if (CallLog* log = log_of(r))
    log->add(r, {.op = CallLog::kDecide, .slot = slot, .bytes = meta.bytes()});
  for (const Recorder& recorder : r->recorders)
    if (JournalEntry* entry = entry_at(recorder)) keep(*entry);
  return ok_status();
}

}  // namespace

Status region_decide(Locked& lock, Region* r, uint32_t slot, const rc_tensor_spec& value,
                     Stream stream) {
  return with_host_memory(lock, r, stream, [&] { return decide(r, slot, value, stream); });
}

Status region_rng(Locked& lock, Region* r, uint64_t blocks, rc_rng* out) {
  if (r->state != RC_REGION_OPEN && !r->replaying)
    return Status(RC_E_STATE, "region",
                  "draws are made while the region is open or being replayed");
  Context* context = lock.context();
  out->seed = context->rng_seed;
  if (r->reading || r->replaying) {
    if (r->rng_cursor >= r->entry.rng.size() || r->entry.rng[r->rng_cursor].blocks != blocks)
      return Status(RC_E_MISMATCH, "blocks",
                    format("draw %zu of module '%s', layer %u, is %llu blocks; forward drew %llu",
                           r->rng_cursor, r->module->name.c_str(), r->module->layer,
                           static_cast<unsigned long long>(blocks),
                           static_cast<unsigned long long>(r->rng_cursor < r->entry.rng.size()
                                                               ? r->entry.rng[r->rng_cursor].blocks
                                                               : 0)));
    out->offset = r->entry.rng[r->rng_cursor++].offset;
    return ok_status();
  }
  make_room(r);
  const RngRecord record = {context->rng_offset, blocks};
  context->rng_offset += blocks;
  out->offset = record.offset;
  r->entry.rng.push_back(record);
  for (const Recorder& recorder : r->recorders)
    if (JournalEntry* entry = entry_at(recorder)) entry->rng.push_back(record);
  return ok_status();
}

}  // namespace rc
