// kernels/tensor.h: the strided view of host or device memory that every kernel reads and writes.
#pragma once

#include <cstdint>

namespace rc {

enum class DType : int32_t { f32, bf16, u8, i32, i64 };

constexpr int64_t dtype_bytes(DType t) {
  switch (t) {
    case DType::f32:
      return 4;
    case DType::bf16:
      return 2;
    case DType::u8:
      return 1;
    case DType::i32:
      return 4;
    case DType::i64:
      return 8;
  }
  return 0;
}

constexpr const char* dtype_name(DType t) {
  switch (t) {
    case DType::f32:
      return "float32";
    case DType::bf16:
      return "bfloat16";
    case DType::u8:
      return "uint8";
    case DType::i32:
      return "int32";
    case DType::i64:
      return "int64";
  }
  return "unknown";
}

inline constexpr int kMaxDims = 8;

// A borrowed view. Strides are in elements and are never negative. `data` may be null: as an output
// or saved tensor that means "not wanted", and the kernel skips the work that only it needs.
struct Tensor {
  void* data = nullptr;
  DType dtype = DType::f32;
  int ndim = 0;
  int64_t shape[kMaxDims] = {};
  int64_t stride[kMaxDims] = {};

  int64_t elements() const {
    int64_t n = 1;
    for (int i = 0; i < ndim; ++i) n *= shape[i];
    return n;
  }
  // Size of the innermost dimension; a scalar has one element in one row.
  int64_t cols() const { return ndim == 0 ? 1 : shape[ndim - 1]; }
  int64_t rows() const {
    int64_t n = 1;
    for (int i = 0; i + 1 < ndim; ++i) n *= shape[i];
    return n;
  }
  bool contiguous() const {
    int64_t expected = 1;
    for (int i = ndim - 1; i >= 0; --i) {
      if (shape[i] != 1 && stride[i] != expected) return false;
      expected *= shape[i];
    }
    return true;
  }
  // Element offset of row r, rows counted in row-major order over all dimensions but the last.
  int64_t row_offset(int64_t r) const {
    int64_t offset = 0;
    for (int i = ndim - 2; i >= 0; --i) {
      offset += (r % shape[i]) * stride[i];
      r /= shape[i];
    }
    return offset;
  }
};

}  // namespace rc
