// src/region/with_host_memory.h: operations on a region that may need memory of the host's
// allocator.
#pragma once

#include "src/region/context.h"

namespace rc {

// Runs `operation`, which leaves nothing behind where it fails. Where it lacks memory of the host,
// that is fetched with the lock released, and the operation runs again from its first check on: the
// region may have been cancelled meanwhile, or the slot filled by another thread.
template <class Operation>
Status with_host_memory(Locked& lock, Region* r, Stream stream, const Operation& operation) {
  Storage& storage = lock.context()->storage;
  HostMemory& memory = storage.host_memory();
  memory.forget_want();
  Status status = operation();
  if (status.ok() || !memory.wanted()) return status;
  const Kept kept(lock, r, stream);
  try {
    while (!status.ok() && memory.wanted()) {
      status = memory.fetch(storage.device(), lock.lock());
      if (status.ok()) status = operation();
    }
  } catch (const std::bad_alloc&) {
    status = Status(RC_E_MEMORY, "", "out of host memory");
  }
  memory.return_unused(storage.device(), lock.lock());
  return status;
}

}  // namespace rc
