// src/storage/host_memory.cc: memory of a host's allocator, fetched while no lock is held.
#include "src/storage/host_memory.h"

namespace rc {

void* HostMemory::take(uint64_t bytes, Stream stream) {
  const std::thread::id self = std::this_thread::get_id();
  for (size_t i = 0; i < pieces_.size(); ++i) {
    const Piece piece = pieces_[i];
    if (piece.fetched_by != self || piece.bytes != bytes || piece.stream != stream) continue;
    pieces_.erase(pieces_.begin() + static_cast<long>(i));
    return piece.data;
  }
  wanted_bytes_ = bytes;
  wanted_stream_ = stream;
  wanted_by_ = self;
  return nullptr;
}

Status HostMemory::fetch(Device& device, std::unique_lock<std::mutex>* lock) {
  Piece piece = {nullptr, wanted_bytes_, wanted_stream_, std::this_thread::get_id()};
  forget_want();
  lock->unlock();
  Status status = device.allocate(piece.bytes, piece.stream, &piece.data);
  lock->lock();
  if (!status.ok()) return status;
  try {
    pieces_.push_back(piece);
  } catch (const std::bad_alloc&) {
    lock->unlock();
    device.free(piece.data, piece.bytes, piece.stream);
    lock->lock();
    return Status(RC_E_MEMORY, "", "out of host memory");
  }
  return status;
}

void HostMemory::return_unused(Device& device, std::unique_lock<std::mutex>* lock) {
  for (size_t i = 0; i < pieces_.size();) {
    const Piece piece = pieces_[i];
    if (piece.fetched_by != std::this_thread::get_id()) {
      ++i;
      continue;
    }
    pieces_.erase(pieces_.begin() + static_cast<long>(i));
    lock->unlock();
    device.free(piece.data, piece.bytes, piece.stream);
    lock->lock();
    i = 0;  // others may have come or gone
  }
}

}  // namespace rc
