// src/storage/host_memory.h: memory of a host's allocator, fetched while no lock is held.
//
// A host's allocator is host code: it may take its time and may call the core, so it runs without
// the context's lock, and anything may have happened when the lock is back. An operation therefore
// never waits for it half done: where it lacks memory it fails and leaves nothing behind, its
// caller fetches what was wanted and begins the operation anew, all its checks included.
#pragma once

#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "src/device/device.h"

namespace rc {

class HostMemory {
 public:
  // A piece that this thread fetched for just that, or NULL; then it is what fetch() will get.
  void* take(uint64_t bytes, Stream stream);
  bool wanted() const { return wanted_by_ == std::this_thread::get_id(); }
  void forget_want() { wanted_by_ = {}; }
  // Releases the lock meanwhile.
  Status fetch(Device& device, std::unique_lock<std::mutex>* lock);
  // What this thread fetched and did not use goes back; releases the lock meanwhile.
  void return_unused(Device& device, std::unique_lock<std::mutex>* lock);

 private:
  struct Piece {
    void* data = nullptr;
    uint64_t bytes = 0;
    Stream stream = nullptr;
    std::thread::id fetched_by;
  };

  std::vector<Piece> pieces_;
  uint64_t wanted_bytes_ = 0;
  Stream wanted_stream_ = nullptr;
  std::thread::id wanted_by_;
};

}  // namespace rc
