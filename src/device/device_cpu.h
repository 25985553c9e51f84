// src/device/device_cpu.h: the CPU device: mapped blocks, cached by size, whose pages can be
// parked.
#pragma once

#include <cstddef>
#include <memory>

#include "src/device/device.h"
#include "src/device/pages.h"

namespace rc {

// Smallest block that is worth parking; see parking_bench.cc for the figures behind it.
inline constexpr size_t kParkBytesMin = size_t{1} << 20;

struct CpuDeviceOptions {
  size_t park_bytes_min = 0;           // 0 = kParkBytesMin; never below the smallest mapped block
  Parking parking = probed_parking();  // for tests: the way of an older kernel
  size_t mappings_max = mapping_limit();  // no parking beyond this many mappings
};

// Synchronous: streams are ignored and events are 0. Blocks above 64 KiB are mappings of their own,
// rounded up to whole pages (ranges of 2 MiB and more ask for huge pages); a freed one is kept for
// the next block of exactly its rounded size. Once the sizes in use repeat, neither the system nor
// the heap is asked for memory.
std::unique_ptr<Device> make_cpu_device(size_t park_bytes_min);
std::unique_ptr<Device> make_cpu_device(const CpuDeviceOptions& options);

}  // namespace rc
