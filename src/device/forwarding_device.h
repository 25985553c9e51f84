// src/device/forwarding_device.h: a device around another one, which answers what is not
// overridden.
#pragma once

#include <memory>
#include <utility>

#include "src/device/device.h"

namespace rc {

class ForwardingDevice : public Device {
 public:
  explicit ForwardingDevice(std::unique_ptr<Device> inner) : inner_(std::move(inner)) {}

  bool synchronous() const override { return inner_->synchronous(); }
  Status allocate(size_t bytes, Stream stream, void** out) override {
    return inner_->allocate(bytes, stream, out);
  }
  void free(void* pointer, size_t bytes, Stream stream) override {
    inner_->free(pointer, bytes, stream);
  }
  void trim() override { inner_->trim(); }
  bool park(void* pointer, size_t bytes, Stream stream) override {
    return inner_->park(pointer, bytes, stream);
  }
  Status unpark(void* pointer, size_t bytes, Stream stream) override {
    return inner_->unpark(pointer, bytes, stream);
  }
  Status copy(void* destination, const void* source, size_t bytes, Stream stream) override {
    return inner_->copy(destination, source, bytes, stream);
  }
  Status record(Stream stream, Event* out) override { return inner_->record(stream, out); }
  Status wait(Stream stream, Event event) override { return inner_->wait(stream, event); }
  bool query(Event event) override { return inner_->query(event); }
  void release(Event event) override { inner_->release(event); }
  Status synchronize(Stream stream) override { return inner_->synchronize(stream); }
  bool capturing(Stream stream) override { return inner_->capturing(stream); }
  void touch(Stream stream, const void* pointer, size_t bytes, bool write) override {
    inner_->touch(stream, pointer, bytes, write);
  }
  void poison(void* pointer, size_t bytes) override { inner_->poison(pointer, bytes); }
  void unpoison(void* pointer, size_t bytes) override { inner_->unpoison(pointer, bytes); }
  DeviceMemory memory() const override { return inner_->memory(); }

 protected:
  std::unique_ptr<Device> inner_;
};

}  // namespace rc
