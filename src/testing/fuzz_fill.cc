// src/testing/fuzz_fill.cc: what fuzz_regions does to an open region: content, draws and decisions.
#include <cstdlib>

#include "src/testing/fuzz_driver.h"

namespace rc::testing {

bool Driver::writable(ModelRegion* r, uint32_t slot, rc_status status) {
  const ModelSlot& s = r->slots[slot];
  if (r->state != ModelRegion::kOpen)
    RC_CHECK(status == RC_E_STATE, "content for a region that is not open gave %d", status);
  else if (s.content != ModelSlot::kNone)
    RC_CHECK(status < 0, "content for a slot that has some gave %d", status);
  return r->state == ModelRegion::kOpen && s.content == ModelSlot::kNone;
}

void Driver::store(ModelRegion* r, uint32_t slot, ModelSlot::Content content, uint64_t bytes,
                   uint64_t seed) {
  ModelSlot& s = r->slots[slot];
  s.content = content;
  s.bytes = bytes;
  s.seed = seed;
}

void Driver::save_tensor() {
  ModelRegion* r = pick();
  if (!r) return;
  struct Owned {
    World* world;
    unsigned char bytes[1];
  };
  const uint32_t at = slot();
  const uint64_t bytes = kSizes[in_.below(14)], seed = w_.next_seed++;
  Owned* owned = static_cast<Owned*>(std::malloc(sizeof(Owned) + bytes));
  owned->world = &w_;
  fill_pattern(owned->bytes, bytes, seed);
  const int64_t shape[1] = {static_cast<int64_t>(bytes)};
  const rc_tensor_spec spec = bytes_spec(shape, owned->bytes);
  rc_save item = rc_save_init();
  item.slot = at;
  const auto gone = [](void* p) {
    --static_cast<Owned*>(p)->world->tensors;
    std::free(p);
  };
  RC_CHECK(rc_tensor_wrap(&spec, gone, owned, &item.tensor) == RC_OK, "%s", last_error().c_str());
  ++w_.tensors;
  const int64_t before = w_.tensors;
  rc_tensor_spec view = rc_tensor_spec_init();
  const rc_status status = rc_region_save(r->handle, &item, 1, sizeof item, nullptr, &view);
  const bool possible = writable(r, at, status) && r->slots[at].role != RC_ROLE_DECISION;
  if (status < 0) {
    RC_CHECK(!possible || w_.loose, "save of a tensor: %s", last_error().c_str());
    RC_CHECK(w_.tensors == before, "a save that failed consumes nothing");
    return rc_tensor_release(item.tensor);
  }
  RC_CHECK(possible, "a save succeeded where it cannot");
  store(r, at, ModelSlot::kTensor, bytes, seed);
  w_.compare(*r, r->slots[at], view);
}

void Driver::save_view() {
  ModelRegion* r = pick();
  if (!r) return;
  const uint32_t at = slot();
  const uint64_t bytes = kSizes[in_.below(16)], seed = w_.next_seed++;
  std::vector<unsigned char> memory(bytes + 1);
  fill_pattern(memory.data(), bytes, seed);
  const int64_t shape[1] = {static_cast<int64_t>(bytes)};
  const rc_tensor_spec spec = bytes_spec(shape, memory.data());
  rc_save item = rc_save_init();
  item.slot = at;
  item.view = &spec;
  const rc_status status = rc_region_save(r->handle, &item, 1, sizeof item, nullptr, nullptr);
  const bool possible = writable(r, at, status) && r->slots[at].role != RC_ROLE_DECISION;
  if (status >= 0) {
    RC_CHECK(possible, "a save succeeded where it cannot");
    store(r, at, ModelSlot::kBlock, bytes, seed);
  } else {
    RC_CHECK(!possible || w_.loose, "save of a view: %s", last_error().c_str());
  }
}

// Links a slot to one of another region, by its handle or by saving a view of its memory.
void Driver::save_link(bool by_address) {
  ModelRegion* source = pick();
  ModelRegion* r = pick();
  if (!r || !source) return;
  const uint32_t from = slot(), at = slot();
  const ModelSlot& s = source->slots[from];
  rc_tensor_spec view = rc_tensor_spec_init();
  rc_save item = rc_save_init();
  item.slot = at;
  const ModelRegion* owner = source;
  uint32_t owner_slot = from;
  while (owner->slots[owner_slot].content == ModelSlot::kLink) {
    const ModelSlot& link = owner->slots[owner_slot];
    owner_slot = link.source_slot;
    owner = link.source;
  }
  const bool of_core = owner->slots[owner_slot].content == ModelSlot::kBlock;
  if (by_address) {
    if (!of_core || s.bytes == 0 || rc_region_view(source->handle, from, nullptr, &view) < 0)
      return;
    item.view = &view;
  } else {
    item.source = source->handle;
    item.source_slot = from;
  }
  const rc_status status = rc_region_save(r->handle, &item, 1, sizeof item, nullptr, nullptr);
  const bool possible = writable(r, at, status) && r->slots[at].role != RC_ROLE_DECISION;
  if (status < 0) {
    RC_CHECK(status == RC_E_STATE || status == RC_E_ARGUMENT || w_.loose, "%s",
             last_error().c_str());
    if (by_address && of_core)
      RC_CHECK(!possible || w_.loose, "save of a view of the core's memory: %s",
               last_error().c_str());
    return;
  }
  RC_CHECK(possible && (by_address || source != r), "a link succeeded where it cannot");
  RC_CHECK(seen(*source, s) != Seen::kNo, "a link to a slot without content");
  store(r, at, ModelSlot::kLink, s.bytes, s.seed);
  r->slots[at].source = source;
  r->slots[at].source_slot = from;
  r->links_out = true;
  mark_shared(source, from);
}

void Driver::alloc() {
  ModelRegion* r = pick();
  if (!r) return;
  const uint32_t at = slot();
  const uint64_t bytes = kSizes[in_.below(16)], seed = w_.next_seed++;
  const int64_t shape[1] = {static_cast<int64_t>(bytes)};
  const rc_tensor_spec like = bytes_spec(shape, nullptr);
  rc_tensor_spec memory = rc_tensor_spec_init();
  const rc_status status = rc_region_alloc(r->handle, at, &like, nullptr, &memory);
  const bool possible = writable(r, at, status);
  if (status < 0) {
    RC_CHECK(!possible || w_.loose || r->slots[at].role == RC_ROLE_DECISION, "alloc: %s",
             last_error().c_str());
    RC_CHECK(!memory.data, "a failure clears its output");
    return;
  }
  RC_CHECK(possible && memory.bytes == bytes, "an alloc succeeded where it cannot");
  RC_CHECK(reinterpret_cast<uintptr_t>(memory.data) % 256 == 0, "alignment of %p", memory.data);
  fill_pattern(memory.data, bytes, seed);
  store(r, at, ModelSlot::kBlock, bytes, seed);
}

void Driver::output() {
  ModelRegion* r = pick();
  if (!r) return;
  const uint32_t at = slot();
  const uint32_t how = in_.byte();
  const rc_output_mode mode = how & 1 ? RC_OUTPUT_HOST : RC_OUTPUT_KEEP;
  const bool told = !(how & 2);
  const uint64_t bytes = kSizes[in_.below(8)], seed = w_.next_seed++;
  std::vector<unsigned char> memory(bytes + 1);
  fill_pattern(memory.data(), bytes, seed);
  const int64_t shape[1] = {static_cast<int64_t>(bytes)};
  const rc_tensor_spec spec = bytes_spec(shape, told ? memory.data() : nullptr);
  const rc_status status = rc_region_output(r->handle, at, mode, &spec, nullptr);
  const bool possible = writable(r, at, status) && r->slots[at].role == RC_ROLE_OUTPUT;
  RC_CHECK((status == RC_OK) == possible, "an output gave %d: %s", status, last_error().c_str());
  if (!possible) return;
  store(r, at, mode == RC_OUTPUT_HOST ? ModelSlot::kHostManaged : ModelSlot::kHostKept, bytes,
        seed);
  r->slots[at].host = std::move(memory);  // keeps its address
  r->slots[at].told = told;
}

void Driver::decide() {
  ModelRegion* r = pick();
  if (!r) return;
  const uint32_t at = in_.byte() & 3 ? World::kSlots - 1 : slot();
  const uint64_t bytes = kSizes[in_.below(8)], seed = w_.next_seed++;
  std::vector<unsigned char> value(bytes + 1);
  fill_pattern(value.data(), bytes, seed);
  const int64_t shape[1] = {static_cast<int64_t>(bytes)};
  const rc_tensor_spec spec = bytes_spec(shape, value.data());
  const rc_status status = rc_region_decide(r->handle, at, &spec, nullptr);
  const bool possible = writable(r, at, status) && r->slots[at].role == RC_ROLE_DECISION;
  if (status < 0) {
    RC_CHECK(!possible || w_.loose, "decide: %s", last_error().c_str());
    return;
  }
  RC_CHECK(possible && status == RC_OK, "decide gave %d", status);
  store(r, at, ModelSlot::kBlock, bytes, seed);
  r->decided.push_back(at);
  if (ModelRegion::Nested* record = record_of(*r)) record->decided.push_back(at);
}

void Driver::rng() {
  ModelRegion* r = pick();
  if (!r) return;
  rc_rng rng = rc_rng_init();
  const uint64_t blocks = in_.below(9);
  const rc_status status = rc_region_rng(r->handle, blocks, &rng);
  RC_CHECK((status == RC_OK) == (r->state == ModelRegion::kOpen), "a draw gave %d", status);
  if (status < 0) return;
  r->draws.push_back({blocks, rng.offset});
  if (ModelRegion::Nested* record = record_of(*r)) record->draws.push_back({blocks, rng.offset});
}

}  // namespace rc::testing
