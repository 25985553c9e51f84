// src/device/device_cpu.cc: mapped blocks, their cache, and the parking of their pages.
//
// A mapped block is a Range: addresses of ours, with or without pages behind them. Parking a block
// moves its pages to an idle Range of the same size, which other blocks then use; unparking takes
// the pages of such a Range. A Range without pages costs address space and one kernel mapping, no
// memory. Ranges live until trim, so in steady state every call finds its records in place and
// allocates nothing.
#include "src/device/device_cpu.h"

#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <unordered_map>
#include <vector>

#include "src/device/poison.h"
#include "src/device/small_blocks.h"

namespace rc {

namespace {

class CpuDevice final : public Device {
 public:
  explicit CpuDevice(const CpuDeviceOptions& options);
  ~CpuDevice() override;

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
  struct Bin;
  struct Range {
    enum State {
      kInUse,
      kParked,
      kBacked,
      kHollow
    };  // the last two are idle, with and without pages
    char* address;
    Bin* bin;
    State state;
  };
  struct Bin {
    size_t bytes = 0;
    size_t ranges = 0;
    std::vector<Range*> backed,
        hollow;  // idle; both can hold every range of the bin without growing
  };

  static size_t round_to_pages(size_t bytes) {
    return (bytes + page_bytes() - 1) & ~(page_bytes() - 1);
  }
  Bin* bin_of(size_t bytes);
  Range* map_range(Bin* bin);
  Range* range_at(void* pointer, size_t bytes);
  void forget(Range* range);
  void retire(Range* range, Range::State state);
  Range* take_idle(Bin* bin);
  Status take(size_t bytes, void** out);
  bool move_out(Range* range);
  void trim_locked();

  const size_t park_bytes_min_;
  const Parking parking_;
  const size_t mappings_max_;

  mutable std::mutex mutex_;
  SmallBlocks small_;
  std::map<size_t, Bin> bins_;
  std::unordered_map<char*, Range> ranges_;
  uint64_t backed_bytes_ = 0;
  uint64_t parked_bytes_ = 0;
  uint64_t fresh_ = 0;  // times that new pages were taken
};

// Where the pages go back to the system, a refault costs 60-150 us/MiB with huge pages and ten
// times that without: only blocks that can have huge pages are worth it.
size_t smallest_parked(const CpuDeviceOptions& options) {
  size_t least = options.park_bytes_min ? options.park_bytes_min : kParkBytesMin;
  if (options.parking == Parking::kDrop && least < kHugePage) least = kHugePage;
  return least;
}

CpuDevice::CpuDevice(const CpuDeviceOptions& options)
    : park_bytes_min_(smallest_parked(options)),
      parking_(options.parking),
      mappings_max_(options.mappings_max) {}

CpuDevice::~CpuDevice() {
  for (auto& [address, range] : ranges_) {
    forget_range(address, range.bin->bytes);
    unmap_pages(address, range.bin->bytes);
  }
}

CpuDevice::Bin* CpuDevice::bin_of(size_t bytes) {
  Bin& bin = bins_[bytes];
  bin.bytes = bytes;
  return &bin;
}

// A new address range, hollow until somebody writes to it. Throws bad_alloc; nullptr when the
// system refuses.
CpuDevice::Range* CpuDevice::map_range(Bin* bin) {
  if (bin->backed.capacity() == bin->ranges || bin->hollow.capacity() == bin->ranges) {
    bin->backed.reserve(2 * bin->ranges + 4);
    bin->hollow.reserve(2 * bin->ranges + 4);
  }
  // Past the limit ranges are not aligned, so that the kernel can join neighbours into one mapping.
  char* address = map_pages(bin->bytes, ranges_.size() < mappings_max_);
  if (!address) return nullptr;
  try {
    Range* range = &ranges_.emplace(address, Range{address, bin, Range::kHollow}).first->second;
    ++bin->ranges;
    poison_range(address, bin->bytes);
    return range;
  } catch (...) {
    unmap_pages(address, bin->bytes);
    throw;
  }
}

CpuDevice::Range* CpuDevice::range_at(void* pointer, size_t bytes) {
  const auto found = ranges_.find(static_cast<char*>(pointer));
  if (found == ranges_.end() || found->second.bin->bytes != round_to_pages(bytes)) return nullptr;
  return &found->second;
}

void CpuDevice::forget(Range* range) {
  --range->bin->ranges;
  ranges_.erase(range->address);
}

void CpuDevice::retire(Range* range, Range::State state) {
  range->state = state;
  (state == Range::kBacked ? range->bin->backed : range->bin->hollow).push_back(range);
}

CpuDevice::Range* CpuDevice::take_idle(Bin* bin) {
  std::vector<Range*>& list = bin->backed.empty() ? bin->hollow : bin->backed;
  if (list.empty()) return nullptr;
  Range* range = list.back();
  list.pop_back();
  return range;
}

Status CpuDevice::take(size_t bytes, void** out) {
  Bin* bin = bin_of(round_to_pages(bytes));
  Range* range = take_idle(bin);
  if (!range) range = map_range(bin);
  if (!range) {  // the cache may hold what is wanted, in other sizes
    trim_locked();
    range = map_range(bin);
  }
  if (!range) {
    return Status(RC_E_MEMORY, "",
                  format("the system has no %zu bytes (%llu are reserved)", bin->bytes,
                         static_cast<unsigned long long>(backed_bytes_)));
  }
  if (range->state == Range::kHollow) {
    backed_bytes_ += bin->bytes;
    ++fresh_;
  }
  range->state = Range::kInUse;
  *out = range->address;
  return ok_status();
}

Status CpuDevice::allocate(size_t bytes, Stream, void** out) {
  *out = nullptr;
  if (bytes == 0 || bytes > SIZE_MAX / 2) {
    return Status(RC_E_MEMORY, "", format("a block of %zu bytes cannot be had", bytes));
  }
  std::lock_guard lock(mutex_);
  try {
    if (bytes > SmallBlocks::kLargest) {
      RC_TRY(take(bytes, out));
    } else if (!(*out = small_.allocate(bytes))) {
      return Status(RC_E_MEMORY, "",
                    format("the system has no %zu bytes for small blocks", SmallBlocks::kSlab));
    }
  } catch (const std::bad_alloc&) {
    return Status(RC_E_MEMORY, "", "no heap memory for the record of a block");
  }
  unpoison_range(*out, bytes);
  return ok_status();
}

void CpuDevice::free(void* pointer, size_t bytes, Stream) {
  if (!pointer) return;
  std::lock_guard lock(mutex_);
  if (bytes <= SmallBlocks::kLargest) {
    small_.free(pointer, bytes);
    return;
  }
  Range* range = range_at(pointer, bytes);
  if (!range || (range->state != Range::kInUse && range->state != Range::kParked)) return;
  poison_range(range->address, range->bin->bytes);
  if (range->state == Range::kParked) parked_bytes_ -= range->bin->bytes;
  retire(range, range->state == Range::kParked ? Range::kHollow : Range::kBacked);
}

// Moves the pages of a block in use to an idle range, which becomes a cached one.
bool CpuDevice::move_out(Range* range) {
  Bin* bin = range->bin;
  Range* to = nullptr;
  if (!bin->hollow.empty()) {
    to = bin->hollow.back();
    bin->hollow.pop_back();
  } else {
    if (ranges_.size() + small_.slabs() >= mappings_max_) return false;
    try {
      to = map_range(bin);
    } catch (const std::bad_alloc&) {
      return false;
    }
    if (!to) return false;
  }
  bool lost = false;
  if (move_pages(to->address, range->address, bin->bytes, &lost)) {
    retire(to, Range::kBacked);
    return true;
  }
  if (lost)
    forget(to);
  else
    retire(to, Range::kHollow);
  return false;
}

bool CpuDevice::park(void* pointer, size_t bytes, Stream) {
  if (parking_ == Parking::kOff || bytes < park_bytes_min_ || bytes <= SmallBlocks::kLargest)
    return false;
  std::lock_guard lock(mutex_);
  Range* range = range_at(pointer, bytes);
  if (!range || range->state != Range::kInUse) return range && range->state == Range::kParked;
  if (parking_ == Parking::kMove) {
    if (!move_out(range)) return false;
  } else {
    if (!drop_pages(range->address, range->bin->bytes)) return false;
    backed_bytes_ -= range->bin->bytes;
  }
  poison_range(range->address, range->bin->bytes);
  range->state = Range::kParked;
  parked_bytes_ += range->bin->bytes;
  return true;
}

Status CpuDevice::unpark(void* pointer, size_t bytes, Stream) {
  std::lock_guard lock(mutex_);
  Range* range = bytes > SmallBlocks::kLargest ? range_at(pointer, bytes) : nullptr;
  if (!range || range->state != Range::kParked) return ok_status();
  Bin* bin = range->bin;
  if (parking_ == Parking::kMove && !bin->backed.empty()) {
    Range* from = bin->backed.back();
    bool lost = false;
    if (move_pages(range->address, from->address, bin->bytes, &lost)) {
      bin->backed.pop_back();
      retire(from, Range::kHollow);
    } else if (lost) {
      // The address may be somebody else's by now: out of the books, so that free leaves it alone.
      parked_bytes_ -= bin->bytes;
      forget(range);
      return Status(RC_E_MEMORY, "",
                    format("the kernel could not return %zu bytes to their address", bin->bytes));
    } else {
      backed_bytes_ += bin->bytes;  // its own range is mapped: the next use faults new pages in
      ++fresh_;
    }
  } else {
    backed_bytes_ += bin->bytes;
    ++fresh_;
  }
  range->state = Range::kInUse;
  parked_bytes_ -= bin->bytes;
  unpoison_range(pointer, bytes);
  return ok_status();
}

void CpuDevice::trim() {
  std::lock_guard lock(mutex_);
  trim_locked();
}

void CpuDevice::trim_locked() {
  small_.trim();
  for (auto& [bytes, bin] : bins_) {
    for (std::vector<Range*>* list : {&bin.backed, &bin.hollow}) {
      for (Range* range : *list) {
        if (range->state == Range::kBacked) backed_bytes_ -= bytes;
        forget_range(range->address, bytes);
        unmap_pages(range->address, bytes);
        forget(range);
      }
      list->clear();
    }
  }
}

DeviceMemory CpuDevice::memory() const {
  std::lock_guard lock(mutex_);
  DeviceMemory memory;
  memory.reserved_bytes = backed_bytes_ + small_.slabs() * SmallBlocks::kSlab;
  memory.parked_bytes = parked_bytes_;
  memory.allocations = fresh_ + small_.slabs_mapped();
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
