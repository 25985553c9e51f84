// src/device/device.h: the small interface behind which memory, copies, events and streams live.
//
// One Device per context. Implementations: device_cpu (mmap, page parking), device_host (a host's
// allocator around another device), device_fake (tests: plays an asynchronous device and checks
// every use against stream order). A GPU backend is one more file; nothing above this line knows
// which one it talks to.
//
// Threads: every function may be called from several threads at once. No function calls back into
// the core. Streams: "in the order of s" means after the work already enqueued on s; on a
// synchronous device, now.
#pragma once

#include <cstddef>
#include <cstdint>

#include "src/status.h"

namespace rc {

using Stream = rc_stream;
using Event = uint64_t;  // 0 = no event: always complete
inline constexpr size_t kBlockAlignment = 256;

struct DeviceMemory {
  uint64_t reserved_bytes =
      0;  // of pages taken from the system (or the host) and not given back: in use or cached
  uint64_t parked_bytes =
      0;  // of blocks that are parked now; their pages went elsewhere and are counted there
  uint64_t allocations =
      0;  // times that new memory was taken from the system or the host's allocator, total
};

class Device {
 public:
  virtual ~Device() = default;

  // True if all work is complete when a call returns: then events are 0 and need no bookkeeping.
  virtual bool synchronous() const = 0;

  // True if allocate and free run code of the host: the core then calls them without holding its
  // lock.
  virtual bool calls_host() const { return false; }

  // A block of at least `bytes` (> 0), aligned to kBlockAlignment, usable in the order of `stream`.
  // Content undefined.
  virtual Status allocate(size_t bytes, Stream stream, void** out) = 0;
  // Gives it back in the order of `stream`; `bytes` is what allocate got. A parked block may be
  // freed as it is.
  virtual void free(void* pointer, size_t bytes, Stream stream) = 0;
  // Returns cached memory to the system. Blocks in use are untouched.
  virtual void trim() = 0;

  // Parking: the block keeps its address, its pages go to other blocks and its content is lost.
  // False = not possible for this block (too small, flag refused by the kernel, foreign memory):
  // nothing changed.
  virtual bool park(void* pointer, size_t bytes, Stream stream) = 0;
  // Puts pages (any) behind a parked block again, at the same address. Fails only for want of
  // memory.
  virtual Status unpark(void* pointer, size_t bytes, Stream stream) = 0;

  virtual Status copy(void* destination, const void* source, size_t bytes, Stream stream) = 0;

  // An event after the work enqueued on `stream` so far. Release each one once; a wait already
  // enqueued stays valid.
  virtual Status record(Stream stream, Event* out) = 0;
  virtual Status wait(
      Stream stream,
      Event event) = 0;  // later work on `stream` waits for `event`; host not blocked
  virtual bool query(Event event) = 0;  // complete?
  virtual void release(Event event) = 0;
  virtual Status synchronize(Stream stream) = 0;  // blocks the host
  virtual bool capturing(Stream stream) = 0;

  // Says that work enqueued on `stream` now reads or writes this range. Real devices ignore it; the
  // fake checks it.
  virtual void touch(Stream stream, const void* pointer, size_t bytes, bool write) = 0;

  // Debug aid: marks a range of a live block as (in)accessible for ASan and valgrind; no-ops
  // without them.
  virtual void poison(void* pointer, size_t bytes) = 0;
  virtual void unpoison(void* pointer, size_t bytes) = 0;

  virtual DeviceMemory memory() const = 0;
};

}  // namespace rc
