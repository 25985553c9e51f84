// src/region/digest.cc: verify mode: digests of what is dropped, compared with what replay brings
// back.
#include <string_view>

#include "src/region/context.h"

namespace rc {
namespace {

// Waits until the content can be read by the host; device memory would be copied out here.
Status settle(Region* r, const SlotState& s) {
  Device& device = r->context->storage.device();
  if (device.synchronous() || s.content != SlotState::kBlock) return ok_status();
  for (int i = 0; i < s.block->n_streams; ++i) RC_TRY(device.synchronize(s.block->streams[i]));
  return ok_status();
}

// Memory of the core, or a tensor of the host that the host's own code can read at once.
bool has_digest(const Region* r, const SlotState& s) {
  if ((s.role != RC_ROLE_SAVED && s.role != RC_ROLE_OUTPUT) || !s.present()) return false;
  const bool synchronous = r->context->storage.device().synchronous();
  return (s.content == SlotState::kBlock && (s.meta.contiguous() || synchronous)) ||
         (s.content == SlotState::kTensor && synchronous);
}

uint64_t digest_slot(const SlotState& s) {
  const char* data = s.content == SlotState::kBlock
                         ? static_cast<const char*>(s.block->data) + s.offset
                         : static_cast<const char*>(s.host_data);
  if (s.meta.contiguous()) return digest_bytes(data, s.meta.bytes());
  std::vector<char> packed(s.meta.bytes());
  gather_elements(s.meta, data, packed.data());
  return digest_bytes(packed.data(), packed.size());
}

Status mismatch(const Region* r, uint32_t slot, uint64_t forward, uint64_t replay) {
  return Status(RC_E_MISMATCH, r->def(slot).name,
                format("replay of module '%s' (%s), layer %u, gave other bytes for slot '%s': "
                       "digest %016llx, forward "
                       "%016llx",
                       r->module->name.c_str(), r->module->kind.c_str(), r->module->layer,
                       r->def(slot).name.c_str(), static_cast<unsigned long long>(replay),
                       static_cast<unsigned long long>(forward)));
}

}  // namespace

uint64_t digest_bytes(const void* data, uint64_t bytes) {
  return std::hash<std::string_view>{}(std::string_view(static_cast<const char*>(data), bytes));
}

Status region_digest(Locked&, Region* r) {
  // An end that failed, as by a mismatch, may be tried again.
  for (const Recorder& recorder : r->recorders)
    if (JournalEntry* entry = entry_at(recorder)) entry->digests.clear();
  for (uint32_t i = 0; i < r->n_slots; ++i) {
    SlotState& s = r->slots[i];
    if (!has_digest(r, s)) continue;
    RC_TRY(settle(r, s));
    s.digest = digest_slot(s);
    s.digested = true;
    for (const Recorder& recorder : r->recorders)
      if (JournalEntry* entry = entry_at(recorder))
        entry->digests.push_back({.slot = i, .digest = s.digest, .bytes = s.meta.bytes()});
    if (!r->reading) continue;
    // Begun again by a parent's replay: compare with what forward's instance had.
    for (const DigestRecord& d : r->entry.digests)
      if (d.slot == i && (d.digest != s.digest || d.bytes != s.meta.bytes()))
        return mismatch(r, i, d.digest, s.digest);
  }
  return ok_status();
}

Status region_check_digests(Locked&, Region* r) {
  for (uint32_t slot : r->missing) {
    SlotState& s = r->slots[slot];
    if (!s.digested || !has_digest(r, s)) continue;
    RC_TRY(settle(r, s));
    const uint64_t digest = digest_slot(s);
    if (digest != s.digest) return mismatch(r, slot, s.digest, digest);
  }
  return ok_status();
}

}  // namespace rc
