// src/storage/storage.h: blocks of device memory with holders: allocate, drop (content gone,
// address kept), refill, free.
//
// Every function is called with the context's lock held, unless it says otherwise. A block lives
// while someone refers to it (`refs`); its content is there while someone holds it (`holds`). The
// last unhold drops the content: to DROPPED if the block is to be refilled (arena gap, parked
// pages, or nothing but the address on record), else it is freed.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "src/device/device.h"
#include "src/storage/arena.h"
#include "src/storage/host_memory.h"

namespace rc {

struct Block {
  // kSpoilt: what a failed replay has left in memory that others hold; nobody's content.
  enum State : uint8_t { kFree, kLive, kDropped, kSpoilt };
  void* data = nullptr;
  uint64_t bytes = 0;
  uint32_t refs = 0, holds = 0;
  State state = kFree;
  bool parked = false;      // dynamic: pages given away, address kept
  bool refillable = false;  // what the last unhold makes of it
  uint32_t place = Arena::kNone;
  uint32_t record = Arena::kNone;  // entry in the recording of `step_serial`
  uint64_t step_serial = 0;
  BlockKey key;
  void* owner = nullptr;  // the region whose slot allocated it, while it refers to it
  uint32_t owner_slot = 0;
  // Streams on which the content is used; [0] is the writer's. Only kept for asynchronous devices.
  static constexpr int kStreams = 4;
  Stream streams[kStreams] = {};
  uint8_t n_streams = 0;
  Stream freed_on = nullptr;
};

struct StorageStats {
  uint64_t live_bytes = 0, peak_bytes = 0;
  uint64_t dropped_bytes = 0, regenerated_bytes = 0;  // totals
  uint64_t step_peak_bytes = 0;
  uint64_t cap_bytes = UINT64_MAX;
  uint64_t blocks = 0;  // pooled Block objects
};

class Storage {
 public:
  Storage(std::unique_ptr<Device> device, bool use_arena);
  ~Storage();

  // A live block with one ref and one hold. step_serial 0 = dynamic. Where memory is the host's to
  // give, this and refill() fail with host_memory().wanted() until it was fetched.
  Status allocate(const BlockKey& key, uint64_t bytes, Stream stream, uint64_t step_serial,
                  Block** out);
  // DROPPED -> LIVE with one hold; *moved tells that the address changed.
  Status refill(Block* block, Stream stream, bool* moved);
  HostMemory& host_memory() { return host_memory_; }

  void hold(Block* block) { ++block->holds; }
  void unhold(Block* block, Stream stream, bool refillable);
  // The content is no good although someone holds it: it is as if dropped, the memory stays theirs.
  void spoil(Block* block);
  void ref(Block* block) { ++block->refs; }
  void unref(Block* block, Stream stream);

  // `stream` is going to read (or write) the content: waits for its writer there, and is remembered
  // as a user.
  Status use(Block* block, Stream stream, bool write);
  // The live block that contains [pointer, pointer + bytes), or NULL.
  Block* find(const void* pointer, uint64_t bytes);

  // Bytes that the core accounts for but does not allocate: tensors that a host handed over.
  Status add_foreign(uint64_t bytes);
  void remove_foreign(uint64_t bytes);

  // Steps: the arena serves one training step at a time.
  void begin_step(uint64_t serial);
  // Plans and maps the arena of the following steps, so that these allocate nothing.
  void end_step(Stream stream, std::unique_lock<std::mutex>* lock);
  void forget_plan();  // another policy: record anew
  uint64_t arena_step() const { return arena_step_; }
  const Arena& arena() const { return arena_; }

  Device& device() { return *device_; }
  const Device& device() const { return *device_; }
  const StorageStats& stats() const { return stats_; }
  void set_device(std::unique_ptr<Device> device) {
    device_ = std::move(device);
  }  // before the first block
  StorageStats& stats() { return stats_; }
  void reset_peak() { stats_.peak_bytes = stats_.live_bytes; }
  uint64_t last_misses() const { return last_misses_; }
  ArenaPlan last_plan() const { return last_plan_; }

  // Frees that run host code, put off until the lock is released. The caller swaps them out and
  // runs them.
  struct PendingFree {
    void* data;
    uint64_t bytes;
    Stream stream;
  };
  std::vector<PendingFree>& pending_frees() { return pending_frees_; }

 private:
  Block* new_block();
  // Of the arena where the block has a place there, else of the device.
  Status find_memory(Block* block, Stream stream, bool in_arena);
  Status wait_for_freed(Stream stream);  // what uses the arena's places on other streams
  Status charge(uint64_t bytes);
  void join_users(Block* block, Stream stream);
  void join(Stream waiter, Stream other);
  void drop_memory(Block* block, Stream stream, bool keep_address);
  void free_memory(void* data, uint64_t bytes, Stream stream);
  Status wait_for(Stream waiter, Stream other);
  void plan_arena(Stream stream, std::unique_lock<std::mutex>* lock);
  Status map_arena(Stream stream, std::unique_lock<std::mutex>* lock);
  void unmap_arena(Stream stream);
  Status allocate_dynamic(uint64_t bytes, Stream stream, void** out);
  void index_insert(Block* block);
  void index_erase(Block* block);

  std::unique_ptr<Device> device_;
  const bool use_arena_;
  Arena arena_;
  StepRecording recording_;
  bool recording_on_ = false;
  bool stale_ = false;  // the plan is for another policy; its memory goes when nothing lives in it
  uint64_t arena_step_ = 0;  // serial of the step that owns the arena; 0 = none
  uint32_t steps_until_record_ = 0, backoff_ = 1;
  uint64_t last_misses_ = 0;
  ArenaPlan last_plan_;
  std::vector<Stream>
      freed_streams_;  // of the arena's mapping, and on which its places were given up
  std::deque<Block> pool_;
  std::vector<Block*> free_blocks_;
  std::vector<Block*> by_address_;  // sorted; blocks with an address
  std::vector<PendingFree> pending_frees_;
  HostMemory host_memory_;
  StorageStats stats_;
};

}  // namespace rc
