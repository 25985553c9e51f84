// src/device/device_cpu.h: the CPU device: mapped blocks, cached by size, whose pages can be
// parked.
#pragma once

#include <cstddef>
#include <memory>

#include "src/device/device.h"
#include "src/device/pages.h"

namespace rc {

// Smallest block that is worth parking. Measured by parking_bench.cc (Linux 6.18, 2 cores): parking
// and unparking costs 10 us at 256 KiB, 17 us at 1 MiB, 14 us at 4 MiB (whole huge pages move from
// 2 MiB on) and 24 us at 16 MiB, where one streaming fill takes 39 us per MiB. At 1 MiB the pair is
// less than half of the cheapest possible replay; at 256 KiB it is as much as that replay, and
// still the only way to give the memory to others while the address stays. Below, storage keeps the
// block.
inline constexpr size_t kParkBytesMin = size_t{1} << 18;

struct CpuDeviceOptions {
  size_t park_bytes_min = 0;           // 0 = kParkBytesMin; never below the smallest mapped block
  Parking parking = probed_parking();  // for tests: the way of an older kernel
  size_t mappings_max = mapping_limit();  // no parking beyond this many mappings
};

// Synchronous: streams are ignored and events are 0. Blocks above 64 KiB are mappings of their own,
// rounded up to whole pages (ranges of 2 MiB and more ask for huge pages); a freed one is kept for
// the next block of its rounded size, or lends its pages to blocks of other sizes. Once the sizes
// in use repeat, neither the system nor the heap is asked for memory.
std::unique_ptr<Device> make_cpu_device(size_t park_bytes_min);
std::unique_ptr<Device> make_cpu_device(const CpuDeviceOptions& options);

}  // namespace rc
