// src/storage/arena.h: the static arena: what a step asked for is recorded, packed, and served from
// then on.
//
// A block is one offset with several live intervals (alloc .. drop, refill .. free); other blocks
// use its gaps. Blocks are found by key (module, chunk, microbatch, occurrence, slot, phase), never
// by call order: a step that asks in another order, or for other blocks, gets a planned place only
// where no live or awaited block overlaps it, and a dynamic block elsewhere ("miss"). While a step
// follows the recorded order exactly, that check is skipped.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "src/storage/packing.h"

namespace rc {

struct BlockKey {
  uint64_t site = 0;      // module serial and virtual chunk
  uint64_t instance = 0;  // microbatch, occurrence
  uint32_t slot = 0;
  uint32_t incarnation = 0;  // phase, and what kind of block it is
  bool operator==(const BlockKey&) const = default;
};

struct BlockKeyHash {
  size_t operator()(const BlockKey& k) const {
    uint64_t h = k.site * 0x9E3779B97F4A7C15ull;
    h = (h ^ (h >> 29) ^ k.instance) * 0xBF58476D1CE4E5B9ull;
    h = (h ^ (h >> 32) ^ ((uint64_t{k.slot} << 32) | k.incarnation)) * 0x94D049BB133111EBull;
    return static_cast<size_t>(h ^ (h >> 31));
  }
};

// What one step asked for, in order.
class StepRecording {
 public:
  void begin_step();
  // Recording is an aid, never a reason to fail: for want of memory it gives up, and nothing is
  // planned from it. A block comes into use (first time or refilled); returns its index.
  uint32_t use(const BlockKey& key, uint64_t bytes);
  void release(uint32_t index);  // dropped or freed
  PackingProblem problem() const;
  bool broken() const { return broken_; }
  size_t size() const { return entries_.size(); }

  struct Entry {
    BlockKey key;
    uint64_t bytes = 0;
    int64_t begin = -1;      // of the open interval; -1 = not live
    bool ambiguous = false;  // two sizes, or two lives at once: left to dynamic memory
    std::vector<LiveInterval> live;
  };
  struct Move {
    uint32_t entry;
    bool use;
  };
  const std::vector<Entry>& entries() const { return entries_; }
  const std::vector<Move>& moves() const { return moves_; }

 private:
  std::unordered_map<BlockKey, uint32_t, BlockKeyHash> index_;
  std::vector<Entry> entries_;
  std::vector<Move> moves_;
  bool broken_ = false;
};

struct ArenaPlan {
  uint64_t bytes = 0;
  uint64_t bound = 0;  // max over time of live bytes
};

class Arena {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;

  // Packs the recording; replaces the plan. False if there is nothing to plan or it cannot be
  // packed.
  bool plan(const StepRecording& recording);
  bool planned() const { return !places_.empty(); }
  bool idle() const { return active_.empty(); }  // no place is live or awaited
  const ArenaPlan& size() const { return plan_; }
  void set_memory(char* base) { base_ = base; }
  char* memory() const { return base_; }
  void clear();

  void begin_step();
  // A place for the block, or kNone. Marks it live.
  uint32_t take(const BlockKey& key, uint64_t bytes);
  // A dropped place comes back into use; false if something live overlaps it now.
  bool retake(uint32_t place);
  void drop(uint32_t place);  // its gap is free for others, it will be retaken
  void give(uint32_t place);  // free for good in this step
  char* address(uint32_t place) const { return base_ + places_[place].offset; }
  uint64_t misses() const { return misses_; }
  void count_miss() { ++misses_; }

 private:
  struct Place {
    BlockKey key;
    uint64_t offset = 0, bytes = 0;
    enum State : uint8_t { kFree, kLive, kAwaited } state = kFree;
    uint32_t active = kNone;  // position in active_
  };
  bool fits(const Place& place) const;
  void activate(uint32_t place, Place::State state);
  void deactivate(uint32_t place);
  // True while this step has asked exactly what the recorded one did, in its order.
  bool follow(uint32_t place, bool use);

  std::unordered_map<BlockKey, uint32_t, BlockKeyHash> index_;
  std::vector<Place> places_;
  std::vector<uint32_t> active_;               // live or awaited places
  std::vector<StepRecording::Move> expected_;  // the recorded order
  size_t cursor_ = 0;
  bool on_plan_ = false;
  uint64_t misses_ = 0;
  ArenaPlan plan_;
  char* base_ = nullptr;
};

}  // namespace rc
