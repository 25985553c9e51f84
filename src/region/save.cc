// src/region/save.cc: how tensors come into a region: saved, allocated by the core, or declared as
// the host's.
#include <algorithm>

#include "src/region/call_log.h"
#include "src/region/context.h"
#include "src/region/with_host_memory.h"
#include "src/storage/tensor.h"

namespace rc {
namespace {

enum Incarnation : uint32_t { kOwnBlock = 0, kCopy = 16 };

Status needs_writable(const Region* r, const char* what) {
  if (r->state == RC_REGION_OPEN || r->replaying) return ok_status();
  return Status(
      RC_E_STATE, "region",
      format("%s is legal while the region is open or being replayed; '%s' is %s", what,
             r->module->name.c_str(), r->state == RC_REGION_CANCELLED ? "cancelled" : "sealed"));
}

// In replay, a slot that is not missing has its content already, or never had any.
bool ignored_in_replay(const Region* r, const SlotState& s) {
  return r->replaying && !s.wanted;
}

bool is_ancestor(const Region* maybe, const Region* r) {
  for (const Region* p = r->parent; p; p = p->parent)
    if (p == maybe) return true;
  return false;
}

void take_block(Region* r, SlotState& s, Block* block, uint64_t offset) {
  s.content = SlotState::kBlock;
  s.block = block;
  s.offset = offset;
  s.holds = true;
  s.done = s.dropped = false;
  r->context->storage.ref(block);
  r->context->storage.hold(block);
}

// Refilled blocks are counted where they are refilled.
void count_regenerated(Region* r, uint64_t bytes) {
  if (!r->replaying && r->phase != RC_PHASE_REPLAY) return;
  r->module->counts.regenerated_bytes += bytes;
  r->context->storage.stats().regenerated_bytes += bytes;
}

// The checked form of one item, so that committing cannot fail.
struct Prepared {
  Region* source = nullptr;
  uint32_t source_slot = 0;
  Block* block = nullptr;  // of the source, of a recognised view, or a fresh copy (then it has a
                           // ref and a hold)
  uint64_t offset = 0;
  uint64_t relative = 0;    // offset in the source slot
  Region* given = nullptr;  // the source before refer_to, for the log
  uint32_t given_slot = 0;
  bool fresh = false;
  bool ignore = false;
  TensorMeta meta;
};

// A region nested in the source lives inside it: it refers to what the source itself refers to, so
// that the two do not keep each other alive.
void refer_to(Region* r, Region* source, uint32_t slot, Prepared* out) {
  out->given = source;
  out->given_slot = slot;
  while (source && (source == r || is_ancestor(source, r))) {
    const SlotState& s = source->slots[slot];
    slot = s.source_slot;
    source = s.source;
  }
  out->source = source;
  out->source_slot = slot;
  if (source) out->relative = out->offset - source->slots[slot].offset;
}

bool has_consumers(const Region* r) {
  for (uint32_t i = 0; i < r->n_slots; ++i)
    if (r->slots[i].consumers > 0) return true;
  return false;
}

// True if `r` would wait for itself: something that `source` refers to, directly or through others,
// is of `r`. A region that nobody refers to yet, as at its first save, cannot.
bool closes_a_circle(const Region* r, const Region* source) {
  if (!source || !has_consumers(r)) return false;
  std::vector<const Region*> reached = {source};
  for (size_t i = 0; i < reached.size(); ++i) {
    const Region* at = reached[i];
    if (at == r) return true;
    for (uint32_t k = 0; k < at->n_slots; ++k) {
      const Region* next = at->slots[k].source;
      if (next && std::find(reached.begin(), reached.end(), next) == reached.end())
        reached.push_back(next);
    }
  }
  return false;
}

Status prepare_source(Region* r, const rc_save& save, Prepared* out) {
  Region* source = reinterpret_cast<Region*>(save.source);
  if (source->context != r->context)
    return Status(RC_E_HANDLE, "source", "the source is of another context");
  if (source == r) return argument_error("source", "a region cannot refer to itself");
  RC_TRY(check_slot(source, save.source_slot));
  SlotState* content = slot_resolve(source, save.source_slot);
  if (!content || content->content != SlotState::kBlock || !content->present() ||
      filled_elsewhere(source, save.source_slot))
    return Status(RC_E_STATE, "source_slot",
                  format("slot '%s' of the source holds no memory of the core now",
                         source->def(save.source_slot).name.c_str()));
  out->block = content->block;
  out->offset = content->offset;
  out->meta = source->slots[save.source_slot].meta;
  refer_to(r, source, save.source_slot, out);
  if (closes_a_circle(r, out->source))
    return argument_error(
        "source", format("module '%s', layer %u, refers to this region: the two would keep each "
                         "other alive",
                         source->module->name.c_str(), source->module->layer));
  return ok_status();
}

// Bytes from the first to the last element of a view.
uint64_t extent(const TensorMeta& meta) {
  if (meta.contiguous() || meta.elements() == 0) return meta.bytes();
  uint64_t last = 0;
  for (int i = 0; i < meta.ndim(); ++i)
    last += static_cast<uint64_t>(meta.shape()[i] - 1) * static_cast<uint64_t>(meta.strides()[i]);
  return (last + 1) * (meta.bytes() / meta.elements());
}

bool strides_are_positive(const TensorMeta& meta) {
  for (int i = 0; meta.strides() && i < meta.ndim(); ++i)
    if (meta.strides()[i] < 0) return false;
  return true;
}

Status prepare_copy(Region* r, const rc_save& save, const rc_tensor_spec& view, Stream stream,
                    Prepared* out) {
  Storage& storage = r->context->storage;
  RC_TRY(TensorMeta::read(view, "view", &out->meta));
  if (!view.data && out->meta.bytes() > 0) return argument_error("view.data", "data is NULL");
  if (out->meta.bytes() > 0 && strides_are_positive(out->meta)) {
    if (Block* known = storage.find(view.data, extent(out->meta))) {
      out->offset =
          static_cast<uint64_t>(static_cast<char*>(view.data) - static_cast<char*>(known->data));
      if (known->owner) refer_to(r, static_cast<Region*>(known->owner), known->owner_slot, out);
      if (!closes_a_circle(r, out->source)) {
        out->block = known;
        return ok_status();
      }
      TensorMeta meta = std::move(out->meta);  // a copy then, that refers to nobody
      *out = Prepared();
      out->meta = std::move(meta);
    }
  }
  if (!out->meta.contiguous() && !storage.device().synchronous())
    return Status(RC_E_UNSUPPORTED, "view.strides",
                  "borrowed views on this device must be row-major");
  const BlockKey key = {.site = (r->module->serial << 20) | r->chunk,
                        .instance = (uint64_t{r->microbatch} << 32) | r->occurrence,
                        .slot = save.slot,
                        .incarnation = kCopy + static_cast<uint32_t>(r->phase)};
  RC_TRY(
      storage.allocate(key, out->meta.bytes(), stream, r->step ? r->step->serial : 0, &out->block));
  out->fresh = true;
  return ok_status();
}

// Only where every item has its memory, so that nothing is copied twice.
Status copy_view(Region* r, const rc_tensor_spec& view, Stream stream, Prepared* p) {
  if (!p->meta.contiguous()) {
    gather_elements(p->meta, view.data, p->block->data);
    rc_tensor_spec packed = view;
    packed.strides = nullptr;
    return TensorMeta::read(packed, "view", &p->meta);
  }
  return p->meta.bytes()
             ? r->context->storage.device().copy(p->block->data, view.data, p->meta.bytes(), stream)
             : ok_status();
}

Status prepare(Region* r, const SaveItem& item, Stream stream, Prepared* out) {
  const rc_save& save = item.save;
  const int given = (save.tensor != nullptr) + (save.view != nullptr) + (save.source != nullptr);
  if (given != 1)
    return argument_error(
        "", format("%d of tensor, view and source are set; exactly one must be", given));
  if (save.slot >= r->n_slots)
    return argument_error("slot", format("slot %u; the region has %u", save.slot, r->n_slots));
  if (save.fence && !save.tensor) return argument_error("fence", "a fence needs an owned tensor");
  SlotState& s = r->slots[save.slot];
  out->ignore = ignored_in_replay(r, s);
  if (s.role == RC_ROLE_DECISION)
    return argument_error("slot", "decision slots are written by rc_region_decide");
  if (s.content != SlotState::kEmpty && !r->replaying)
    return Status(RC_E_STATE, "slot",
                  format("slot '%s' has content already", r->def(save.slot).name.c_str()));
  if (out->ignore) return ok_status();
  if (save.source) return prepare_source(r, save, out);
  if (save.view) return prepare_copy(r, save, item.view, stream, out);
  RC_TRY(TensorMeta::read(item.view, "tensor", &out->meta));
  RC_TRY(r->context->storage.add_foreign(out->meta.bytes()));
  try {
    r->context->expect_deferred(1);
  } catch (...) {
    r->context->storage.remove_foreign(out->meta.bytes());
    throw;
  }
  return ok_status();
}

void undo(Region* r, const SaveItem& item, Prepared& p, Stream stream) {
  Storage& storage = r->context->storage;
  if (p.fresh) {
    storage.unhold(p.block, stream, false);
    storage.unref(p.block, stream);
  } else if (item.save.tensor && !p.ignore) {
    storage.remove_foreign(p.meta.bytes());
    r->context->settle_deferred(1);
  }
}

void release_later(Context* context, rc_tensor* tensor) {
  context->defer([](void* t, void*, void*) { release_tensor(static_cast<rc_tensor*>(t)); }, tensor);
}

void log_save(Region* r, const SaveItem& item, const Prepared& p) {
  CallLog* log = log_of(r);
  if (!log) return;
  const uint64_t bytes = p.meta.bytes();
  if (p.given && p.given != r)
    log->link(r, item.save.slot, p.given, p.given_slot, bytes);
  else
    log->add(r, {.op = item.save.tensor ? CallLog::kSaveTensor : CallLog::kSaveCopy,
                 .slot = item.save.slot,
                 .bytes = bytes});
}

void commit(Locked& lock, Region* r, const SaveItem& item, Prepared& p, Stream stream) {
  Context* context = r->context;
  SlotState& s = r->slots[item.save.slot];
  if (p.ignore) {
    if (item.save.tensor) release_later(context, item.save.tensor);
    return;
  }
  if (s.content != SlotState::kEmpty) slot_clear(lock, r, s, stream);
  log_save(r, item, p);
  if (p.fresh || item.save.tensor) count_regenerated(r, p.meta.bytes());
  s.meta = std::move(p.meta);
  s.dropped = s.done = false;
  s.note_filled();
  if (item.save.tensor) {
    s.content = SlotState::kTensor;
    s.tensor = item.save.tensor;
    s.host_data = item.view.data;
    s.fence = item.save.fence;
    return;
  }
  take_block(r, s, p.block, p.offset);
  s.relative = p.relative;
  if (p.fresh) {  // the copy's own ref and hold become the slot's
    context->storage.unhold(p.block, stream, false);
    context->storage.unref(p.block, stream);
    s.owner = true;
    p.block->owner = r;
    p.block->owner_slot = item.save.slot;
  }
  if (p.source) {
    s.source = p.source;
    s.source_slot = p.source_slot;
    ++p.source->links;
    ++p.source->slots[p.source_slot].consumers;
    p.source->slots[p.source_slot].had_consumers = true;
  }
}

}  // namespace

namespace {

Status save(Locked& lock, Region* r, const SaveItem* items, uint32_t n, Stream stream) {
  RC_TRY(needs_writable(r, "rc_region_save"));
  constexpr uint32_t kInline = 8;
  Prepared small[kInline];
  std::vector<Prepared> large;
  if (n > kInline) large.resize(n);
  Prepared* prepared = n > kInline ? large.data() : small;
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < n; ++i) {
    Status status = prepare(r, items[i], stream, &prepared[i]);
    const bool made = status.ok();
    for (uint32_t k = 0; status.ok() && k < i; ++k)
      if (items[k].save.slot == items[i].save.slot)
        status = argument_error("slot", format("slot %u is given twice", items[i].save.slot));
      else if (items[i].save.tensor && items[k].save.tensor == items[i].save.tensor)
        status = argument_error("tensor",
                                format("the same tensor is item %u; it can be consumed once", k));
    if (!status.ok()) {
      if (made || prepared[i].fresh) undo(r, items[i], prepared[i], stream);
      for (uint32_t k = 0; k < i; ++k) undo(r, items[k], prepared[k], stream);
      return std::move(status).inside(format("items[%u]", i));
    }
    bytes += prepared[i].meta.bytes();
  }
  for (uint32_t i = 0; i < n; ++i) {
    Status status =
        prepared[i].fresh ? copy_view(r, items[i].view, stream, &prepared[i]) : ok_status();
    if (status.ok()) continue;
    for (uint32_t k = 0; k < n; ++k) undo(r, items[k], prepared[k], stream);
    return std::move(status).inside(format("items[%u]", i));
  }
  for (uint32_t i = 0; i < n; ++i) commit(lock, r, items[i], prepared[i], stream);
  lock.trace(RC_EVENT_SAVE, r, bytes, 0);
  return ok_status();
}

}  // namespace

Status region_save(Locked& lock, Region* r, const SaveItem* items, uint32_t n, Stream stream) {
  return with_host_memory(lock, r, stream, [&] { return save(lock, r, items, n, stream); });
}

namespace {

SlotPlan plan_of_added(Region* r, const SlotDef& def) {
  const SlotPlan* named = r->named ? r->named->find(def.name, def.role) : nullptr;
  if (!named) return r->by_role[def.role];
  Context* context = r->context;
  if (r->named->epoch == context->epoch && named->rule >= 0)
    ++context->rule_hits[static_cast<size_t>(named->rule)];
  if (named->action != RC_ACTION_KEEP) r->module->counts.asked = true;
  return *named;
}

}  // namespace

Status region_slot_add(Region* r, const SlotDef& def, uint32_t* slot) {
  if (r->state != RC_REGION_OPEN)
    return Status(RC_E_STATE, "region", "slots can be added while the region is open, not later");
  for (uint32_t i = 0; i < r->n_slots; ++i)
    if (r->def(i).name == def.name)
      return argument_error("desc.name",
                            format("'%s' is slot %u of this region already", def.name.c_str(), i));
  if (r->slots.size() == r->n_slots) r->slots.emplace_back();
  r->added.push_back(def);
  SlotState& s = r->slots[r->n_slots];
  s.role = def.role;
  s.plan = plan_of_added(r, def);
  if (def.flags & RC_SLOT_HOST) s.content = SlotState::kHostManaged;
  *slot = r->n_slots++;
  if (CallLog* log = log_of(r)) log->add(r, {.op = CallLog::kSlotAdd});
  return ok_status();
}

namespace {

Status alloc(Locked& lock, Region* r, uint32_t slot, const rc_tensor_spec& spec, Stream stream,
             rc_tensor_spec* out) {
  RC_TRY(needs_writable(r, "rc_region_alloc"));
  RC_TRY(check_slot(r, slot));
  Storage& storage = r->context->storage;
  SlotState& s = r->slots[slot];
  if (ignored_in_replay(r, s)) return Status::note(RC_PASS);
  TensorMeta meta;
  RC_TRY(TensorMeta::read(spec, "spec", &meta));
  if (!meta.contiguous())
    return argument_error("spec.strides", "memory of the core is row-major: strides must be NULL");
  // A trial writes over what is there, where that is memory of its own: else it takes some.
  if (r->trial && s.content == SlotState::kBlock && s.owner && s.present() &&
      meta.same_as(s.meta)) {
    RC_TRY(storage.use(s.block, stream, true));
    s.note_filled();
    s.meta.fill(static_cast<char*>(s.block->data) + s.offset, out);
    return ok_status();
  }
  if (s.content != SlotState::kEmpty && !r->trial && (!r->replaying || s.present()))
    return Status(RC_E_STATE, "slot",
                  format("slot '%s' has memory already", r->def(slot).name.c_str()));
  bool moved = false;
  if (s.content == SlotState::kBlock && s.owner && s.block->state == Block::kDropped) {
    if (s.block->bytes != meta.bytes())
      return Status(
          RC_E_MISMATCH, "spec.shape",
          format(
              "slot '%s' of module '%s', layer %u, had %llu B in forward and has %llu B in replay",
              r->def(slot).name.c_str(), r->module->name.c_str(), r->module->layer,
              static_cast<unsigned long long>(s.block->bytes),
              static_cast<unsigned long long>(meta.bytes())));
    RC_TRY(storage.refill(s.block, stream, &moved));
    s.holds = true;
    r->module->counts.regenerated_bytes += meta.bytes();
  } else {
    const BlockKey key = {.site = (r->module->serial << 20) | r->chunk,
                          .instance = (uint64_t{r->microbatch} << 32) | r->occurrence,
                          .slot = slot,
                          .incarnation = kOwnBlock + static_cast<uint32_t>(r->phase)};
    Block* block = nullptr;
    RC_TRY(storage.allocate(key, meta.bytes(), stream, r->step ? r->step->serial : 0, &block));
    if (s.content != SlotState::kEmpty) slot_clear(lock, r, s, stream);
    s.content = SlotState::kBlock;
    s.block = block;  // takes over the ref and the hold
    s.offset = s.relative = 0;
    s.holds = s.owner = true;
    block->owner = r;
    block->owner_slot = slot;
    count_regenerated(r, meta.bytes());
  }
  s.meta = std::move(meta);
  s.dropped = s.done = false;
  s.note_filled();
  s.meta.fill(s.block->data, out);
  if (CallLog* log = log_of(r))
    log->add(r, {.op = CallLog::kAlloc, .slot = slot, .bytes = s.meta.bytes()});
  lock.trace(RC_EVENT_ALLOC, r, s.meta.bytes(), 0);
  return moved ? Status::note(RC_MOVED) : ok_status();
}

}  // namespace

Status region_alloc(Locked& lock, Region* r, uint32_t slot, const rc_tensor_spec& spec,
                    Stream stream, rc_tensor_spec* out) {
  return with_host_memory(lock, r, stream, [&] { return alloc(lock, r, slot, spec, stream, out); });
}

Status region_output(Region* r, uint32_t slot, rc_output_mode mode, const rc_tensor_spec& view) {
  RC_TRY(needs_writable(r, "rc_region_output"));
  RC_TRY(check_slot(r, slot));
  SlotState& s = r->slots[slot];
  if (s.role != RC_ROLE_OUTPUT)
    return argument_error("slot", format("slot '%s' is no output", r->def(slot).name.c_str()));
  if (r->replaying) return Status::note(RC_PASS);
  if (s.content != SlotState::kEmpty)
    return Status(RC_E_STATE, "slot",
                  format("slot '%s' has content already", r->def(slot).name.c_str()));
  if (mode != RC_OUTPUT_KEEP && mode != RC_OUTPUT_HOST)
    return argument_error("mode", format("%d is no rc_output_mode", static_cast<int>(mode)));
  if (mode == RC_OUTPUT_HOST && !(r->module->ops.drop && r->module->ops.refill))
    return Status(RC_E_UNSUPPORTED, "mode",
                  format("module '%s' has no drop and refill callbacks", r->module->name.c_str()));
  TensorMeta meta;
  RC_TRY(TensorMeta::read(view, "view", &meta));
  s.meta = std::move(meta);
  s.content = mode == RC_OUTPUT_HOST ? SlotState::kHostManaged : SlotState::kHostKept;
  s.host_data = view.data;
  s.dropped = s.done = false;
  if (CallLog* log = log_of(r))
    log->add(r, {.op = CallLog::kOutput, .mode = mode, .slot = slot, .bytes = s.meta.bytes()});
  return ok_status();
}

}  // namespace rc
