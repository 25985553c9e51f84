// src/storage/tensor_meta.h: dtype and shape of a tensor as a slot remembers them, checked once on
// the way in.
#pragma once

#include <cstdint>
#include <vector>

#include "src/status.h"

namespace rc {

class TensorMeta {
 public:
  static constexpr int kMaxDims = 32;

  // Checks and copies dtype, shape and strides of `spec`; `field` names it in errors.
  static Status read(const rc_tensor_spec& spec, const char* field, TensorMeta* out);

  void fill(void* data, rc_tensor_spec* out) const;  // shape and strides point into this object
  void clear();

  uint64_t bytes() const { return bytes_; }  // of the elements, without stride gaps
  uint64_t elements() const { return elements_; }
  bool contiguous() const { return !has_strides_; }  // row-major strides are recognised as such
  bool same_as(const TensorMeta& other) const;       // dtype and shape
  uint8_t code() const { return code_; }
  uint8_t bits() const { return bits_; }
  uint16_t lanes() const { return lanes_; }
  int ndim() const { return ndim_; }
  const int64_t* shape() const { return dims(); }
  const int64_t* strides() const { return has_strides_ ? dims() + ndim_ : nullptr; }
  rc_device device() const { return device_; }
  int device_id() const { return device_id_; }

 private:
  static constexpr int kInlineDims = 5;
  const int64_t* dims() const { return large_.empty() ? small_ : large_.data(); }

  uint8_t code_ = 0, bits_ = 0;
  uint16_t lanes_ = 1;
  int8_t ndim_ = 0;
  bool has_strides_ = false;
  rc_device device_ = RC_DEVICE_CPU;
  int32_t device_id_ = 0;
  uint64_t bytes_ = 0, elements_ = 0;
  int64_t small_[2 * kInlineDims];  // not initialised: the hot path pays for each byte. Shape, then
                                    // strides; large_ where there are more dimensions
  std::vector<int64_t> large_;
};

// Copies the elements of `from` (any strides) into row-major memory, or back.
void gather_elements(const TensorMeta& meta, const void* strided, void* contiguous);
void scatter_elements(const TensorMeta& meta, const void* contiguous, void* strided);

}  // namespace rc
