// src/device/device_cpu.cc: the CPU device: slabs for small blocks, ranges of pages for large ones.
#include "src/device/device_cpu.h"

#include <cstring>
#include <mutex>
#include <new>

#include "src/device/page_ranges.h"
#include "src/device/poison.h"
#include "src/device/small_blocks.h"

namespace rc {

namespace {

class CpuDevice final : public Device {
 public:
  explicit CpuDevice(const CpuDeviceOptions& options);

  bool synchronous() const override { return true; }
  Status allocate(size_t bytes, Stream stream, void** out) override;
  void free(void* pointer, size_t bytes, Stream stream) override;
  void trim() override;
  bool park(void* pointer, size_t bytes, Stream stream) override;
  Status unpark(void* pointer, size_t bytes, Stream stream) override;
  Status copy(void* destination, const void* source, size_t bytes, Stream) override {
    if (bytes) std::memcpy(destination, source, bytes);
    return ok_status();
  }
  Status record(Stream, Event* out) override {
    *out = 0;
    return ok_status();
  }
  Status wait(Stream, Event) override { return ok_status(); }
  bool query(Event) override { return true; }
  void release(Event) override {}
  Status synchronize(Stream) override { return ok_status(); }
  bool capturing(Stream) override { return false; }
  void touch(Stream, const void*, size_t, bool) override {}
  void poison(void* pointer, size_t bytes) override { poison_range(pointer, bytes); }
  void unpoison(void* pointer, size_t bytes) override { unpoison_range(pointer, bytes); }
  DeviceMemory memory() const override;

 private:
  void trim_locked();

  const size_t park_bytes_min_;
  mutable std::mutex mutex_;
  SmallBlocks small_;
  PageRanges ranges_;
};

// Where the pages go back to the system, a refault costs 60-150 us/MiB with huge pages and ten
// times that without: only blocks that can have huge pages are worth it.
size_t smallest_parked(const CpuDeviceOptions& options) {
  size_t least = options.park_bytes_min ? options.park_bytes_min : kParkBytesMin;
  if (options.parking == Parking::kDrop && least < kHugePage) least = kHugePage;
  return least;
}

CpuDevice::CpuDevice(const CpuDeviceOptions& options)
    : park_bytes_min_(smallest_parked(options)), ranges_(options.parking, options.mappings_max) {}

Status CpuDevice::allocate(size_t bytes, Stream, void** out) {
  *out = nullptr;
  if (bytes == 0 || bytes > SIZE_MAX / 2) {
    return Status(RC_E_MEMORY, "", format("a block of %zu bytes cannot be had", bytes));
  }
  std::lock_guard lock(mutex_);
  try {
    const bool small = bytes <= SmallBlocks::kLargest;
    *out = small ? small_.allocate(bytes) : ranges_.allocate(bytes);
    if (!*out) {  // the cache may hold what is wanted, in other sizes
      trim_locked();
      *out = small ? small_.allocate(bytes) : ranges_.allocate(bytes);
    }
  } catch (const std::bad_alloc&) {
    return Status(RC_E_MEMORY, "", "no heap memory for the record of a block");
  }
  if (!*out) {
    return Status(RC_E_MEMORY, "",
                  format("the system has no %zu bytes (%llu are reserved)", bytes,
                         static_cast<unsigned long long>(ranges_.backed_bytes())));
  }
  unpoison_range(*out, bytes);
  return ok_status();
}

void CpuDevice::free(void* pointer, size_t bytes, Stream) {
  if (!pointer) return;
  std::lock_guard lock(mutex_);
  if (bytes <= SmallBlocks::kLargest) {
    small_.free(pointer, bytes);
  } else {
    ranges_.free(static_cast<char*>(pointer), bytes);
  }
}

bool CpuDevice::park(void* pointer, size_t bytes, Stream) {
  if (bytes < park_bytes_min_ || bytes <= SmallBlocks::kLargest) return false;
  std::lock_guard lock(mutex_);
  return ranges_.park(static_cast<char*>(pointer), bytes);
}

Status CpuDevice::unpark(void* pointer, size_t bytes, Stream) {
  if (bytes <= SmallBlocks::kLargest) return ok_status();
  std::lock_guard lock(mutex_);
  if (!ranges_.unpark(static_cast<char*>(pointer), bytes)) {
    return Status(RC_E_MEMORY, "",
                  format("the kernel could not return %zu bytes to their address", bytes));
  }
  return ok_status();
}

void CpuDevice::trim() {
  std::lock_guard lock(mutex_);
  trim_locked();
}

void CpuDevice::trim_locked() {
  small_.trim();
  ranges_.trim();
}

DeviceMemory CpuDevice::memory() const {
  std::lock_guard lock(mutex_);
  DeviceMemory memory;
  memory.reserved_bytes = ranges_.backed_bytes() + small_.slabs() * SmallBlocks::kSlab;
  memory.parked_bytes = ranges_.parked_bytes();
  memory.allocations = ranges_.fresh() + small_.slabs_mapped();
  return memory;
}

}  // namespace

std::unique_ptr<Device> make_cpu_device(size_t park_bytes_min) {
  CpuDeviceOptions options;
  options.park_bytes_min = park_bytes_min;
  return make_cpu_device(options);
}

std::unique_ptr<Device> make_cpu_device(const CpuDeviceOptions& options) {
  return std::make_unique<CpuDevice>(options);
}

}  // namespace rc
