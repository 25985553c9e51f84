// src/storage/storage.cc: the life of a block.
#include "src/storage/storage.h"

#include <algorithm>

namespace rc {
namespace {

// A dropped block that cannot be parked keeps its memory up to this size (the smallest that the CPU
// device parks by default), so that its address stays; above it the memory is given back and the
// refill moves.
constexpr uint64_t kRetainBytes = 256 * 1024;
// A host whose shapes change every step must not pay for a plan every step: the pause doubles up to
// this many steps.
constexpr uint32_t kMaxPlanPause = 64;
// Streams that gave up arena places in a step and are remembered for ordering; beyond them the host
// waits.
constexpr size_t kFreedStreams = 32;

// Takes back what an operation has charged unless it came to its end, also where it throws for want
// of memory.
class Charge {
 public:
  Charge(StorageStats* stats, uint64_t bytes) : stats_(stats), bytes_(bytes) {}
  ~Charge() {
    if (stats_) stats_->live_bytes -= bytes_;
  }
  void keep() { stats_ = nullptr; }

 private:
  StorageStats* stats_;
  uint64_t bytes_;
};

}  // namespace

Storage::Storage(std::unique_ptr<Device> device, bool use_arena)
    : device_(std::move(device)), use_arena_(use_arena), recording_on_(use_arena) {
  freed_streams_.reserve(kFreedStreams);
}

Storage::~Storage() {
  unmap_arena(nullptr);
  // No lock is held any more: what waits for one to be released can be freed here.
  for (const PendingFree& f : pending_frees_) device_->free(f.data, f.bytes, f.stream);
}

Block* Storage::new_block() {
  if (free_blocks_.empty()) {
    // What release paths push to grows here, so that these cannot fail.
    const size_t n = pool_.size() + 1;
    free_blocks_.reserve(n);
    by_address_.reserve(n);
    pending_frees_.reserve(n + 1);
    pool_.emplace_back();
    ++stats_.blocks;
    return &pool_.back();
  }
  Block* block = free_blocks_.back();
  free_blocks_.pop_back();
  *block = Block();
  return block;
}

Status Storage::charge(uint64_t bytes) {
  const uint64_t live = stats_.live_bytes + bytes;
  if (live > stats_.cap_bytes)
    return Status(
        RC_E_BUDGET, "cap_bytes",
        format("%llu B more would make %llu B; the step's cap is %llu B",
               static_cast<unsigned long long>(bytes), static_cast<unsigned long long>(live),
               static_cast<unsigned long long>(stats_.cap_bytes)));
  stats_.live_bytes = live;
  stats_.peak_bytes = std::max(stats_.peak_bytes, stats_.live_bytes);
  stats_.step_peak_bytes = std::max(stats_.step_peak_bytes, stats_.live_bytes);
  return ok_status();
}

Status Storage::add_foreign(uint64_t bytes) {
  return charge(bytes);
}
void Storage::remove_foreign(uint64_t bytes) {
  stats_.live_bytes -= bytes;
}

Status Storage::wait_for(Stream waiter, Stream other) {
  if (device_->synchronous() || waiter == other) return ok_status();
  Event event = 0;
  RC_TRY(device_->record(other, &event));
  Status waited = device_->wait(waiter, event);
  device_->release(event);
  return waited;
}

void Storage::index_insert(Block* block) {
  const auto at =
      std::upper_bound(by_address_.begin(), by_address_.end(), block,
                       [](const Block* a, const Block* b) { return a->data < b->data; });
  by_address_.insert(at, block);
}

void Storage::index_erase(Block* block) {
  auto at = std::lower_bound(by_address_.begin(), by_address_.end(), block,
                             [](const Block* a, const Block* b) { return a->data < b->data; });
  while (at != by_address_.end() && *at != block) ++at;
  if (at != by_address_.end()) by_address_.erase(at);
}

Block* Storage::find(const void* pointer, uint64_t bytes) {
  auto at = std::upper_bound(by_address_.begin(), by_address_.end(), pointer,
                             [](const void* p, const Block* b) { return p < b->data; });
  if (at == by_address_.begin()) return nullptr;
  Block* block = *--at;
  const char* end = static_cast<const char*>(block->data) + block->bytes;
  if (static_cast<const char*>(pointer) + bytes > end) return nullptr;
  return block->state == Block::kLive ? block : nullptr;
}

Status Storage::allocate_dynamic(uint64_t bytes, Stream stream, void** out) {
  if (!device_->calls_host()) return device_->allocate(bytes, stream, out);
  *out = host_memory_.take(bytes, stream);
  return *out ? ok_status() : Status(RC_E_MEMORY, "", "");
}

Status Storage::find_memory(Block* block, Stream stream, bool in_arena) {
  if (block->bytes == 0) return ok_status();
  if (in_arena) block->place = arena_.take(block->key, block->bytes);
  if (block->place == Arena::kNone) return allocate_dynamic(block->bytes, stream, &block->data);
  block->data = arena_.address(block->place);
  Status status = wait_for_freed(stream);
  if (!status.ok()) arena_.give(block->place);
  return status;
}

Status Storage::wait_for_freed(Stream stream) {
  for (Stream other : freed_streams_) RC_TRY(wait_for(stream, other));
  return ok_status();
}

Status Storage::allocate(const BlockKey& key, uint64_t bytes, Stream stream, uint64_t step_serial,
                         Block** out) {
  *out = nullptr;
  RC_TRY(charge(bytes));
  Charge charged(&stats_, bytes);
  const bool in_step = step_serial != 0 && step_serial == arena_step_;
  Block* block = new_block();
  block->bytes = bytes;
  block->key = key;
  Status status;
  try {
    status = find_memory(block, stream, in_step && arena_.planned() && !stale_);
  } catch (...) {
    free_blocks_.push_back(block);
    throw;
  }
  if (!status.ok()) {
    free_blocks_.push_back(block);
    return status;
  }
  charged.keep();
  if (in_step && (recording_on_ || block->place != Arena::kNone)) block->step_serial = step_serial;
  if (in_step && recording_on_) block->record = recording_.use(key, bytes);
  if (block->place != Arena::kNone) device_->unpoison(block->data, bytes);
  block->state = Block::kLive;
  block->refs = block->holds = 1;
  block->streams[0] = stream;
  block->n_streams = 1;
  if (bytes > 0) index_insert(block);
  *out = block;
  return ok_status();
}

Status Storage::refill(Block* block, Stream stream, bool* moved) {
  *moved = false;
  RC_TRY(charge(block->bytes));
  Charge charged(&stats_, block->bytes);
  RC_TRY(wait_for(stream, block->freed_on));
  void* before = block->data;
  if (block->place != Arena::kNone) {
    RC_TRY(wait_for_freed(stream));
    if (block->step_serial != arena_step_ || !arena_.retake(block->place)) {
      arena_.give(block->place);
      block->place = Arena::kNone;
      block->data = nullptr;
    }
  } else if (block->parked) {
    RC_TRY(device_->unpark(block->data, block->bytes, stream));
    block->parked = false;
  }
  if (block->data)
    device_->unpoison(block->data, block->bytes);
  else if (block->bytes > 0)
    RC_TRY(allocate_dynamic(block->bytes, stream, &block->data));
  charged.keep();
  if (block->record != Arena::kNone && recording_on_ && block->step_serial == arena_step_)
    recording_.use(block->key, block->bytes);
  *moved = block->data != before;
  block->state = Block::kLive;
  block->refillable = false;  // the next drop says again what becomes of it
  block->holds = 1;
  block->streams[0] = stream;
  block->n_streams = 1;
  stats_.regenerated_bytes += block->bytes;
  if (block->bytes > 0) index_insert(block);
  return ok_status();
}

Status Storage::use(Block* block, Stream stream, bool write) {
  if (device_->synchronous()) return ok_status();
  if (write) {
    // A writer waits for everyone who still reads what was there.
    join_users(block, stream);
    block->streams[0] = stream;
    block->n_streams = 1;
    return ok_status();
  }
  for (int i = 0; i < block->n_streams; ++i)
    if (block->streams[i] == stream) return ok_status();
  RC_TRY(wait_for(stream, block->streams[0]));
  if (block->n_streams == Block::kStreams) {
    // No room to remember another reader: let the last one stand for both.
    RC_TRY(wait_for(stream, block->streams[Block::kStreams - 1]));
    block->streams[Block::kStreams - 1] = stream;
  } else {
    block->streams[block->n_streams++] = stream;
  }
  return ok_status();
}

void Storage::join_users(Block* block, Stream stream) {
  if (device_->synchronous()) return;
  for (int i = 0; i < block->n_streams; ++i) join(stream, block->streams[i]);
}

void Storage::join(Stream waiter, Stream other) {
  if (!wait_for(waiter, other).ok()) (void)device_->synchronize(other).ok();  // slower, never wrong
}

void Storage::free_memory(void* data, uint64_t bytes, Stream stream) {
  if (!data) return;
  if (device_->calls_host())
    pending_frees_.push_back({data, bytes, stream});
  else
    device_->free(data, bytes, stream);
}

void Storage::drop_memory(Block* block, Stream stream, bool keep_address) {
  join_users(block, stream);
  block->freed_on = stream;
  stats_.live_bytes -= block->bytes;
  if (block->bytes > 0) index_erase(block);
  if (block->record != Arena::kNone && recording_on_ && block->step_serial == arena_step_)
    recording_.release(block->record);
  if (block->place != Arena::kNone) {
    device_->poison(block->data, block->bytes);
    keep_address ? arena_.drop(block->place) : arena_.give(block->place);
    if (!device_->synchronous() &&
        std::find(freed_streams_.begin(), freed_streams_.end(), stream) == freed_streams_.end()) {
      if (freed_streams_.size() < kFreedStreams)
        freed_streams_.push_back(stream);
      else
        (void)device_->synchronize(stream).ok();
    }
    return;
  }
  if (keep_address) {
    if (block->data && device_->park(block->data, block->bytes, stream)) {
      block->parked = true;
      return;
    }
    if (block->bytes <= kRetainBytes) {
      if (block->data) device_->poison(block->data, block->bytes);
      return;
    }
  }
  free_memory(block->data, block->bytes, stream);
  block->data = nullptr;
}

void Storage::unhold(Block* block, Stream stream, bool refillable) {
  block->refillable = block->refillable || refillable;
  if (--block->holds > 0 || (block->state != Block::kLive && block->state != Block::kSpoilt))
    return;
  block->state = Block::kDropped;
  drop_memory(block, stream, block->refillable);
  if (block->refillable) stats_.dropped_bytes += block->bytes;
}

void Storage::spoil(Block* block) {
  if (block->state == Block::kLive && block->holds > 0) block->state = Block::kSpoilt;
}

void Storage::unref(Block* block, Stream stream) {
  if (--block->refs > 0) return;
  if (block->state == Block::kDropped) {
    if (block->place != Arena::kNone) {
      arena_.give(block->place);
    } else if (block->data) {
      if (!block->parked) device_->unpoison(block->data, block->bytes);
      join(stream, block->freed_on);
      free_memory(block->data, block->bytes, stream);
    }
  }
  block->state = Block::kFree;
  free_blocks_.push_back(block);
}

void Storage::begin_step(uint64_t serial) {
  if (arena_step_ != 0 || !use_arena_) return;
  arena_step_ = serial;
  stats_.step_peak_bytes = stats_.live_bytes;
  if (recording_on_) recording_.begin_step();
  if (stale_ && arena_.idle()) unmap_arena(nullptr);
  if (arena_.planned() && !stale_) arena_.begin_step();
}

Status Storage::map_arena(Stream stream, std::unique_lock<std::mutex>* lock) {
  const uint64_t bytes = arena_.size().bytes;
  void* base = nullptr;
  Status status = allocate_dynamic(bytes, stream, &base);
  if (host_memory_.wanted()) {  // only this step can take or clear the arena meanwhile
    RC_TRY(host_memory_.fetch(*device_, lock));
    status = allocate_dynamic(bytes, stream, &base);
  }
  RC_TRY(std::move(status));
  device_->poison(base, bytes);
  arena_.set_memory(static_cast<char*>(base));
  freed_streams_.assign(1, stream);  // usable in the order of that stream
  return ok_status();
}

void Storage::unmap_arena(Stream stream) {
  if (arena_.memory()) {
    for (Stream other : freed_streams_) join(stream, other);
    device_->unpoison(arena_.memory(), arena_.size().bytes);
    free_memory(arena_.memory(), arena_.size().bytes, stream);
  }
  arena_.clear();
  stale_ = false;
}

void Storage::end_step(Stream stream, std::unique_lock<std::mutex>* lock) {
  last_misses_ = arena_.planned() ? arena_.misses() : 0;
  last_plan_ = arena_.size();
  if (!use_arena_) return;
  const bool wanted = !arena_.planned() || stale_ || last_misses_ > 0;
  if (recording_on_) {
    if (wanted && arena_.idle()) {
      unmap_arena(stream);
      plan_arena(stream, lock);
    }
    recording_on_ = false;
    steps_until_record_ = backoff_;
    backoff_ = std::min(2 * backoff_, kMaxPlanPause);
  } else if (wanted) {
    if (steps_until_record_ > 0) --steps_until_record_;
    if (steps_until_record_ == 0) recording_on_ = true;
  }
  arena_step_ = 0;  // last: while the lock was released, no other step could take the arena over
}

// Without a plan, or without memory for it as a whole, every block stays dynamic.
void Storage::plan_arena(Stream stream, std::unique_lock<std::mutex>* lock) {
  try {
    const bool planned = arena_.plan(recording_);
    device_->trim();
    if (planned && !map_arena(stream, lock).ok()) arena_.clear();
  } catch (const std::bad_alloc&) {
    arena_.clear();
  }
}

void Storage::forget_plan() {
  stale_ = arena_.planned();
  if (arena_step_ == 0 && arena_.idle()) unmap_arena(nullptr);
  recording_on_ = use_arena_ &&
                  arena_step_ == 0;  // half a step is no recording: then end_step asks for the next
  steps_until_record_ = 0;
  backoff_ = 1;
}

}  // namespace rc
