// src/region/region.h: one run of a module for one microbatch; the region owns all state of its
// replay.
//
// Everything here is guarded by the context's lock, which is released while host code runs. See
// rcore.h for the contract of each operation; the functions below are their bodies after the
// arguments have been checked.
#pragma once

#include <deque>
#include <thread>
#include <vector>

#include "src/region/journal.h"
#include "src/region/module.h"
#include "src/region/slot.h"
#include "src/region/step.h"

namespace rc {

class Context;
class Locked;

// Where the draws of a nested region are kept for the replay of an ancestor.
struct Recorder {
  Region* region = nullptr;
  uint64_t id = 0;   // the ancestor may be gone, and its place taken
  size_t entry = 0;  // in its journal
};

struct Region {
  uint64_t id = 0;  // generation in the process << 24 | index in the pool; 0 = in the pool
  Context* context = nullptr;
  Module* module = nullptr;
  Step* step = nullptr;
  Region* parent = nullptr;  // only while the parent lives
  rc_region_state state = RC_REGION_OPEN;
  rc_phase phase = RC_PHASE_FORWARD;
  bool transient =
      false;  // a parent's replay begins it anew: its content never comes back by itself
  bool by_policy = false;        // its slots follow the policy; without, all is kept
  bool records = false;          // its replay may run: it keeps the draws of what is nested in it
  bool inside = false;           // its nested regions are transient
  bool discards_output = false;  // by the policy it was begun under
  bool beginning = false;        // its side states are being captured: nobody else knows of it yet
  bool replaying = false;
  bool busy = false;  // in a drop callback, or its forward kernel runs: nobody may end it meanwhile
  bool cancel_pending = false;
  bool dropped_children = false;
  bool reading = false;  // entry holds what the forward drew: replay or nested in one
  bool trial = false;    // the running replay is a trial: it writes over what is there
  bool tried = false;    // in a profiled step
  uint32_t chunk = 0, microbatch = 0, occurrence = 0;
  uint32_t handles = 0, links = 0, children = 0;
  uint32_t index = 0;  // in the pool
  uint64_t replays = 0;
  uint64_t begun_ns = 0;  // in a profiled step
  Stream stream = nullptr;
  void* user_data = nullptr;
  void (*destroy)(void*) = nullptr;
  size_t announced = 0;                     // of Context::expect_deferred
  SlotPlan by_role[6];                      // for slots added while it runs
  std::shared_ptr<const NamedPlans> named;  // the same for those that a rule names
  std::deque<SlotState>
      slots;  // the first n_slots are in use; views point into them, so they never move
  uint32_t n_slots = 0;
  std::vector<SlotDef> added;
  std::vector<uint32_t> missing;
  std::vector<void*> tokens;           // of side states
  std::vector<void*> previous_tokens;  // during a replay: what stood in their places
  JournalEntry entry;                  // own draws and decisions
  size_t rng_cursor = 0;
  Journal journal;  // of nested regions, if records
  std::vector<Recorder> recorders;
  std::thread::id replayer;  // while it is replaying or busy
  Region *step_prev = nullptr, *step_next = nullptr;
  Region *module_prev = nullptr, *module_next = nullptr;
  Region *children_head = nullptr, *sibling_prev = nullptr, *sibling_next = nullptr;

  // In the hands of one thread, also where it has released the lock.
  bool taken() const { return replaying || busy; }
  const SlotDef& def(uint32_t slot) const {
    const size_t declared = module->slots.size();
    return slot < declared ? module->slots[slot] : added[slot - declared];
  }
};

// Keeps a region while the host, or another thread, may let go of it.
class Kept {
 public:
  Kept(Locked& lock, Region* r, Stream stream) : lock_(lock), region_(r), stream_(stream) {
    ++r->links;
  }
  ~Kept();
  Kept(const Kept&) = delete;

 private:
  Locked& lock_;
  Region* region_;
  Stream stream_;
};

// While one lives a region is in the hands of this thread, also where the lock is released: replays
// on other threads wait, a cancel is put off. Ends on every way out, an exception included.
class Taken {
 public:
  enum For { kReplay, kCallback };
  Taken(Locked& lock, Region* r, For what) : lock_(lock), region_(r) {
    (what == kReplay ? r->replaying : r->busy) = true;
    r->replayer = std::this_thread::get_id();
  }
  ~Taken();
  Taken(const Taken&) = delete;

 private:
  Locked& lock_;
  Region* region_;
};

// begin.cc
// The ancestor whose replay begins a transient region anew; NULL if there is none.
Region* recomputing_ancestor(const Region* r);
// The entry of a nested region in an ancestor's journal; NULL if the ancestor is gone or cancelled.
JournalEntry* entry_at(const Recorder& recorder);
Status region_begin(Locked& lock, const rc_region_desc& desc, Region** out);
// save.cc
struct SaveItem {
  rc_save save;
  rc_tensor_spec view;  // of `tensor` or `view`
};
Status region_save(Locked& lock, Region* r, const SaveItem* items, uint32_t n, Stream stream);
Status region_slot_add(Region* r, const SlotDef& def, uint32_t* slot);
Status region_alloc(Locked& lock, Region* r, uint32_t slot, const rc_tensor_spec& spec,
                    Stream stream, rc_tensor_spec* out);
Status region_output(Region* r, uint32_t slot, rc_output_mode mode, const rc_tensor_spec& view);
// region.cc
Status region_end(Locked& lock, Region* r, Stream stream);
Status region_discard(Locked& lock, Region* r, Stream stream);
Status region_done(Locked& lock, Region* r, uint32_t slot, Stream stream);
Status region_cancel(Locked& lock, Region* r, Stream stream);
// A cancel that came while the region was taken takes effect now; true if there was one.
bool region_cancel_if_asked(Locked& lock, Region* r, Stream stream);
void region_drop_tokens(Region* r);
void region_release(Locked& lock, Region* r, Stream stream);
void region_end_if_unused(Locked& lock, Region* r, Stream stream);
// Asks the host to make its emptied outputs writable, before a replay.
Status region_refill_host(Locked& lock, Region* r, Stream stream);
bool region_wants(const Region* r, uint32_t slot);
void region_find_missing(Region* r);  // fills r->missing
// An output in the core's memory is needed by the regions that refer to it. Where none ever did,
// the host reads it by its pointer, which only kinds that discard their outputs allow.
bool output_is_read(const Region* r, const SlotState& s);
// Calls the module's drop for an output in the host's memory, without the lock.
Status region_drop_host(Locked& lock, Region* r, uint32_t slot, Stream stream);
// Lets go of a slot's content; `refillable` if replay brings it back. The link to a source stays.
void slot_let_go(Locked& lock, Region* r, SlotState& s, Stream stream, bool refillable);
// One holder less; the last one's end runs the deleter after the lock is released.
void shared_tensor_let_go(Context* context, SharedTensor* shared);
// Empties a slot for good, link included.
void slot_clear(Locked& lock, Region* r, SlotState& s, Stream stream);
// True if the region that `s` refers to can bring its content back.
bool source_refills(const SlotState& s);
// The slot that a replay on another thread is bringing back, where the content of slot `slot` of
// `r` is, or comes from; no region if there is none. Its memory is there from the first call of the
// callback on, its content only once that replay has ended.
struct Writer {
  Region* region = nullptr;
  uint32_t slot = 0;
};
Writer region_writer(const Region* r, uint32_t slot);
// The same for one who wants to read it now: the callback's own threads know what they have
// written.
bool filled_elsewhere(const Region* r, uint32_t slot);
// Follows links until a slot with content of its own; adopts the block there. NULL if there is
// none.
SlotState* slot_resolve(Region* r, uint32_t slot);
Status check_slot(const Region* r, uint32_t slot);
// access.cc
Status region_view(Locked& lock, Region* r, uint32_t slot, Stream stream, rc_tensor_spec* out);
Status region_tensor(Locked& lock, Region* r, uint32_t slot, Stream stream, rc_tensor** out);
Status region_restore(Locked& lock, Region* r, uint32_t slot, Stream stream,
                      const rc_tensor_spec& to);
Status region_decide(Locked& lock, Region* r, uint32_t slot, const rc_tensor_spec& value,
                     Stream stream);
Status region_rng(Locked& lock, Region* r, uint64_t blocks, rc_rng* out);
// replay.cc
bool region_needs_sources(Region* r);  // content that it refers to is missing now
Status replay_regions(Locked& lock, Region* const* regions, uint32_t n, Stream stream);
// Runs the replay of `slots`, all present, once more over their own memory; counts as nothing.
Status replay_trial(Locked& lock, Region* r, const std::vector<uint32_t>& slots, Stream stream,
                    uint64_t* ns);
Status region_forward(Locked& lock, Region* r, Stream stream);
// trial.cc: measures, in a profiled step, what the replays of this region take.
Status try_replays(Locked& lock, Region* r, Stream stream);
// digest.cc
uint64_t digest_bytes(const void* data, uint64_t bytes);
Status region_digest(Locked& lock, Region* r);         // at the end of a forward, in verify mode
Status region_check_digests(Locked& lock, Region* r);  // after a replay

}  // namespace rc
