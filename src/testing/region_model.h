// src/testing/region_model.h: what must be seen of regions, in a few rules, to compare the library
// with.
//
// The model knows nothing of blocks, arenas or replay order. Per slot it says whether a view must
// succeed, must fail or may do either (content that another slot or an exported tensor also holds),
// which bytes it then shows, and from that bounds of live_bytes. Everything in it is written from
// the contract in rcore.h, not from the library's source.
#pragma once

#include <rcore/rcore.h>

#include <deque>
#include <vector>

namespace rc::testing {

enum class Seen { kNo, kMaybe, kYes };

struct ModelRegion;

struct ModelSlot {
  // kHostOwn: RC_SLOT_HOST, in no memory that the core knows.
  enum Content { kNone, kBlock, kTensor, kHostKept, kHostManaged, kHostOwn, kLink };
  rc_role role = RC_ROLE_SAVED;
  rc_action action = RC_ACTION_KEEP;
  Content content = kNone;
  uint64_t seed = 0, bytes = 0;
  bool gone = false;       // dropped, not yet replayed
  bool uncertain = false;  // a link after its region's end: as present as what it refers to; or
                           // gone, and then brought back where another region's replay needed it
  bool done = false;
  bool shared = false;  // another slot or an exported tensor refers, or referred, to it
  ModelRegion* source = nullptr;
  uint32_t source_slot = 0;
  std::vector<unsigned char> host;  // RC_OUTPUT_*: the host's memory
  bool told = true;                 // the core knows where that is

  bool own() const { return content == kBlock || content == kTensor; }
};

struct ModelRegion {
  enum State { kOpen, kEnded, kCancelled };
  struct Draw {
    uint64_t blocks, offset;
  };
  struct Nested {
    ModelRegion* child;
    ModelRegion* parent;
    std::vector<Draw> draws;
    std::vector<uint32_t> decided;  // slots
  };

  rc_region* handle = nullptr;
  int handles = 0;
  bool destroyed = false;  // its `destroy` ran
  State state = kOpen;
  int module = 0, step = -1;
  uint32_t microbatch = 0;
  bool transient = false;  // recomputed with its parent, or begun in evaluation
  bool inside = false;     // recomputes what is nested in it
  bool discards = false;   // its kind discards outputs
  bool replayed = false;   // a replay of it was tried
  bool links_out = false;  // some slot refers to another region
  uint64_t id = 0;
  ModelRegion* parent = nullptr;
  std::vector<ModelSlot> slots;
  std::vector<Draw> draws;
  std::vector<uint32_t> decided;  // slots, in order
  std::vector<Nested> nested;     // recomputed with this one, in the order of their begin

  bool usable() const { return handles > 0; }
  bool shared() const {
    for (const ModelSlot& s : slots)
      if (s.shared) return true;
    return false;
  }
};

// Whether it needs no replay.
inline Seen present(const ModelRegion& r, const ModelSlot& s) {
  if (s.content == ModelSlot::kNone) return Seen::kNo;
  if (s.done) return s.own() || s.content == ModelSlot::kLink ? Seen::kNo : Seen::kMaybe;
  if (r.state == ModelRegion::kCancelled) return s.shared ? Seen::kMaybe : Seen::kNo;
  if (s.uncertain) return Seen::kMaybe;
  if (s.gone) return s.shared ? Seen::kMaybe : Seen::kNo;
  return Seen::kYes;
}

// Whether a view shows it.
inline Seen seen(const ModelRegion& r, const ModelSlot& s) {
  const bool unknown = s.content == ModelSlot::kHostOwn || (!s.told && s.bytes > 0);
  return unknown ? Seen::kNo : present(r, s);
}

inline void mark_shared(ModelRegion* r, uint32_t slot) {
  while (r) {
    ModelSlot& s = r->slots[slot];
    s.shared = true;
    r = s.source;
    slot = s.source_slot;
  }
}

// At `end` the policy's intermediates go, and what belongs to a region that is recomputed with its
// parent.
inline void model_end(ModelRegion* r) {
  r->state = ModelRegion::kEnded;
  for (ModelSlot& s : r->slots) {
    if (s.role == RC_ROLE_DECISION && r->transient)
      s.uncertain = true;  // its parent's record has it
    if (s.content == ModelSlot::kNone || (s.role != RC_ROLE_INPUT && s.role != RC_ROLE_SAVED))
      continue;
    const bool drops = r->transient || s.action == RC_ACTION_RECOMPUTE;
    if (s.content == ModelSlot::kLink) {
      const ModelSlot& from = s.source->slots[s.source_slot];
      if (drops || (from.role == RC_ROLE_OUTPUT && from.action == RC_ACTION_RECOMPUTE) ||
          from.source)
        s.uncertain = true;
    } else if (drops && (s.role == RC_ROLE_SAVED || r->transient)) {
      s.gone = true;  // an input of its own cannot come back: it is kept
    }
  }
}

inline void model_discard(ModelRegion* r) {
  if (r->state != ModelRegion::kEnded) return;
  for (ModelSlot& s : r->slots) {
    if (s.role != RC_ROLE_OUTPUT || s.content == ModelSlot::kNone ||
        s.content == ModelSlot::kHostKept)
      continue;
    if (!r->transient && s.action != RC_ACTION_RECOMPUTE) continue;
    if (s.content == ModelSlot::kHostManaged && r->transient) continue;
    if (s.content == ModelSlot::kLink || r->replayed)
      s.uncertain = true;
    else
      s.gone = true;
  }
}

// A replay came back with success: what backward may view of this region is there.
inline void model_replayed(ModelRegion* r) {
  for (ModelSlot& s : r->slots) {
    if (!s.gone || r->transient) continue;
    if (s.role == RC_ROLE_SAVED || s.content == ModelSlot::kHostManaged)
      s.gone = s.uncertain = false;
    if (s.role == RC_ROLE_OUTPUT && s.own()) {
      s.gone = false;
      s.uncertain = !r->discards || s.shared;
    }
  }
}

// A replay callback of it ran well: for a replay of the region, or of one that refers to it.
inline void model_reproduced(ModelRegion* r) {
  for (ModelSlot& s : r->slots) s.uncertain = s.uncertain || s.gone;
}

// A replay that was only tried, and failed, may have spoilt what was there.
inline void model_distrusted(ModelRegion* r) {
  for (ModelSlot& s : r->slots)
    if (s.role == RC_ROLE_SAVED || s.role == RC_ROLE_OUTPUT) s.uncertain = true;
}

inline void model_cancel(ModelRegion* r) {
  r->state = ModelRegion::kCancelled;
}

// Bounds of what the core holds: content that must be seen, and content that nothing has surely
// ended.
struct Bounds {
  uint64_t least = 0, most = 0;
};
inline Bounds bounds(const std::deque<ModelRegion>& regions) {
  Bounds b;
  for (const ModelRegion& r : regions) {
    const bool alive = r.usable() || r.shared();
    for (const ModelSlot& s : r.slots) {
      if (r.usable() && s.own() && seen(r, s) == Seen::kYes) b.least += s.bytes;
      const bool released =
          !alive || s.done || (s.gone && !s.uncertain) || r.state == ModelRegion::kCancelled;
      const bool recorded = s.role == RC_ROLE_DECISION;  // a parent's record may hold it too
      if ((s.own() || s.content == ModelSlot::kLink) && (!released || s.shared || recorded))
        b.most += s.bytes;
    }
  }
  return b;
}

// The region that begins `r` anew when it is replayed.
inline ModelRegion* recorder_of(const ModelRegion& r) {
  if (!r.transient) return nullptr;
  ModelRegion* p = r.parent;
  while (p && p->transient) p = p->destroyed ? nullptr : p->parent;
  return p && p->inside && !p->destroyed ? p : nullptr;
}

// Where a draw or a decision of `r` is also recorded, for the replay of its recorder.
inline ModelRegion::Nested* record_of(const ModelRegion& r) {
  if (ModelRegion* recorder = recorder_of(r))
    for (ModelRegion::Nested& n : recorder->nested)
      if (n.child == &r) return &n;
  return nullptr;
}

}  // namespace rc::testing
