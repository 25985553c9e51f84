// src/region/slot.h: one tensor of a module that crosses between forward and backward.
#pragma once

#include <string>
#include <thread>

#include "src/storage/storage.h"
#include "src/storage/tensor_meta.h"

namespace rc {

struct Region;

// A host's tensor that was handed on: its deleter runs when the slot and every export have let go.
struct SharedTensor {
  rc_tensor* tensor;
  uint32_t holders;
};

// Declared with the module, or added to a region until its end.
struct SlotDef {
  std::string name;
  rc_role role = RC_ROLE_SAVED;
  rc_flags flags = 0;
};

// What the policy says for one slot.
struct SlotPlan {
  rc_action action = RC_ACTION_KEEP;
  rc_tier tier = RC_TIER_DEVICE;
  int32_t rule = -1;
};

// Content is in exactly one of: a block (owned, or of the slot this one refers to), an owned tensor
// of the host, or memory that stays the host's.
struct SlotState {
  enum Content : uint8_t { kEmpty, kBlock, kTensor, kHostKept, kHostManaged };

  rc_role role = RC_ROLE_SAVED;
  SlotPlan plan;
  Content content = kEmpty;
  bool owner = false;    // allocated the block itself
  bool holds = false;    // counts in block->holds
  bool dropped = false;  // let go by policy; replay brings it back
  bool done = false;     // let go by the host
  bool wanted = false;   // missing when the running replay started
  bool needed = false;   // a replay of a reader has counted on it: no discard takes it away
  bool digested = false;
  Block* block = nullptr;  // counts in block->refs
  uint64_t offset = 0;     // of the view in the block
  uint64_t relative = 0;   // of the view in the slot that it refers to
  rc_tensor* tensor = nullptr;
  SharedTensor* shared = nullptr;  // of `tensor`, once it was handed on
  void* host_data = nullptr;
  Region* source = nullptr;  // counts in source->links
  uint32_t source_slot = 0;
  uint32_t consumers = 0;  // slots that refer to this one now
  bool had_consumers = false;
  uint64_t digest = 0;
  rc_fence* fence = nullptr;
  std::thread::id filler;  // of a wanted slot: who gave it what it has now
  TensorMeta meta;

  // The content can be read now.
  bool present() const {
    switch (content) {
      case kBlock:
        return block && block->state == Block::kLive && !done;
      case kTensor:
        return tensor != nullptr;
      case kHostKept:
        return true;
      case kHostManaged:
        return !dropped;
      case kEmpty:
        break;
    }
    return false;
  }
  // Called where it was given memory or content: by the callback of a replay, if it is wanted.
  void note_filled() {
    if (wanted) filler = std::this_thread::get_id();
  }
  void reset();  // to empty; everything must have been let go before
};

}  // namespace rc
