// src/device/device_host.h: a device whose memory comes from the host's allocator.
#pragma once

#include <cstdint>
#include <memory>

#include "src/device/device.h"

namespace rc {

// Memory: the host's `alloc` and `free`, one call each per block, nothing cached and nothing
// parked; a failure keeps the host's code. Everything else: `inner`. The table is copied; its
// `destroy` runs once, with the device, after `inner` is gone. Nothing is locked here: the host's
// functions may run on several threads at once.
std::unique_ptr<Device> make_host_allocator_device(const rc_allocator& allocator,
                                                   std::unique_ptr<Device> inner,
                                                   int32_t device_id = 0);

}  // namespace rc
