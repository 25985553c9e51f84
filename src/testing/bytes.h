// src/testing/bytes.h: a tensor of bytes, as a caller describes it.
#pragma once

#include <rcore/rcore.h>

#include <cstdint>

namespace rc::testing {

// Tensors of bytes: what is counted is what is written here.
struct Bytes {
  explicit Bytes(uint64_t count, const void* data = nullptr) : shape{static_cast<int64_t>(count)} {
    spec = rc_tensor_spec_init();
    spec.data = const_cast<void*>(data);
    spec.dtype_code = 1;
    spec.dtype_bits = 8;
    spec.ndim = 1;
    spec.shape = shape;
  }
  Bytes(const Bytes&) = delete;
  const rc_tensor_spec* get() const { return &spec; }
  int64_t shape[1];
  rc_tensor_spec spec;
};

}  // namespace rc::testing
