// src/device/device_host.cc: forwards memory to the host's allocator and all else to another
// device.
#include "src/device/device_host.h"

#include <atomic>

#include "src/device/forwarding_device.h"

namespace rc {
namespace {

class HostAllocatorDevice final : public ForwardingDevice {
 public:
  HostAllocatorDevice(const rc_allocator& allocator, std::unique_ptr<Device> inner,
                      int32_t device_id)
      : ForwardingDevice(std::move(inner)), allocator_(allocator), device_id_(device_id) {}
  ~HostAllocatorDevice() override {
    inner_.reset();
    if (allocator_.destroy) allocator_.destroy(allocator_.user_data);
  }

  bool calls_host() const override { return true; }

  Status allocate(size_t bytes, Stream stream, void** out) override;
  void free(void* pointer, size_t bytes, Stream stream) override;
  bool park(void*, size_t, Stream) override { return false; }
  Status unpark(void*, size_t, Stream) override { return ok_status(); }  // nothing is ever parked

  DeviceMemory memory() const override {
    DeviceMemory memory = inner_->memory();
    memory.reserved_bytes += reserved_.load(std::memory_order_relaxed);
    memory.allocations += allocations_.load(std::memory_order_relaxed);
    return memory;
  }

 private:
  // The same for alloc and free, as the ABI promises; the stream may differ.
  rc_alloc_request request_for(size_t bytes, Stream stream) const {
    rc_alloc_request request = rc_alloc_request_init();
    request.bytes = bytes;
    request.alignment = kBlockAlignment;
    request.memory = RC_MEMORY_DEVICE;
    request.device_id = device_id_;
    request.stream = stream;
    return request;
  }

  const rc_allocator allocator_;
  const int32_t device_id_;
  std::atomic<uint64_t> reserved_ = 0;
  std::atomic<uint64_t> allocations_ = 0;
};

Status HostAllocatorDevice::allocate(size_t bytes, Stream stream, void** out) {
  *out = nullptr;
  if (bytes == 0) return Status(RC_E_MEMORY, "", "a block of 0 bytes cannot be had");
  const rc_alloc_request request = request_for(bytes, stream);
  void* pointer = nullptr;
  const rc_status status = allocator_.alloc(allocator_.user_data, &request, &pointer);
  if (status < 0) {
    return Status(status, "allocator.alloc",
                  format("the host's allocator refused %zu bytes with %d", bytes, status))
        .with_native(RC_DOMAIN_HOST, status);
  }
  if (!pointer) {
    return Status(
        RC_E_MEMORY, "allocator.alloc",
        format("the host's allocator returned %d and no memory for %zu bytes", status, bytes));
  }
  if (reinterpret_cast<uintptr_t>(pointer) % kBlockAlignment != 0) {
    allocator_.free(allocator_.user_data, &request, pointer);
    return argument_error("allocator.alloc",
                          format("the host's allocator returned %p, which is not aligned to %zu",
                                 pointer, kBlockAlignment));
  }
  reserved_.fetch_add(bytes, std::memory_order_relaxed);
  allocations_.fetch_add(1, std::memory_order_relaxed);
  *out = pointer;
  return ok_status();
}

void HostAllocatorDevice::free(void* pointer, size_t bytes, Stream stream) {
  if (!pointer) return;
  inner_->unpoison(pointer, bytes);  // the host's allocator may write its own records there
  const rc_alloc_request request = request_for(bytes, stream);
  reserved_.fetch_sub(bytes, std::memory_order_relaxed);
  allocator_.free(allocator_.user_data, &request, pointer);
}

}  // namespace

std::unique_ptr<Device> make_host_allocator_device(const rc_allocator& allocator,
                                                   std::unique_ptr<Device> inner,
                                                   int32_t device_id) {
  return std::make_unique<HostAllocatorDevice>(allocator, std::move(inner), device_id);
}

}  // namespace rc
