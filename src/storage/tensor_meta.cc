// src/storage/tensor_meta.cc: checks of tensor descriptions, and strided copies.
#include "src/storage/tensor_meta.h"

#include <cstring>

namespace rc {
namespace {

bool is_row_major(int ndim, const int64_t* shape, const int64_t* strides) {
  int64_t expected = 1;
  for (int i = ndim - 1; i >= 0; --i) {
    if (shape[i] != 1 && strides[i] != expected) return false;
    expected *= shape[i];
  }
  return true;
}

bool known_dtype(uint8_t code, uint8_t bits) {
  // DLPack codes: 0 int, 1 unsigned, 2 float, 3 opaque, 4 bfloat, 5 complex, 6 bool, 7.. float8 and
  // narrower.
  return bits > 0 && bits <= 128 && code <= 17;
}

// Calls visit(strided offset in elements, row-major index) for every element.
template <class Visit>
void for_each_element(const TensorMeta& meta, Visit visit) {
  int64_t index[TensorMeta::kMaxDims] = {};
  const int64_t* strides = meta.strides();
  for (uint64_t i = 0; i < meta.elements(); ++i) {
    int64_t offset = 0;
    for (int d = 0; d < meta.ndim(); ++d) offset += index[d] * strides[d];
    visit(offset, i);
    for (int d = meta.ndim() - 1; d >= 0 && ++index[d] == meta.shape()[d]; --d) index[d] = 0;
  }
}

}  // namespace

Status TensorMeta::read(const rc_tensor_spec& spec, const char* field, TensorMeta* out) {
  if (spec.ndim < 0 || spec.ndim > kMaxDims)
    return argument_error(std::string(field) + ".ndim",
                          format("ndim is %d; it must be 0 to %d", spec.ndim, kMaxDims));
  if (!known_dtype(spec.dtype_code, spec.dtype_bits))
    return argument_error(
        std::string(field) + ".dtype_bits",
        format("dtype code %u with %u bits is no DLPack dtype", spec.dtype_code, spec.dtype_bits));
  if (spec.ndim > 0 && !spec.shape)
    return argument_error(std::string(field) + ".shape", "shape is NULL");
  const uint16_t lanes = spec.dtype_lanes ? spec.dtype_lanes : 1;
  uint64_t elements = 1;
  for (int i = 0; i < spec.ndim; ++i) {
    if (spec.shape[i] < 0)
      return argument_error(
          std::string(field) + ".shape",
          format("shape[%d] is %lld; it must be >= 0", i, static_cast<long long>(spec.shape[i])));
    if (__builtin_mul_overflow(elements, static_cast<uint64_t>(spec.shape[i]), &elements))
      return argument_error(std::string(field) + ".shape", "the number of elements passes 2^64");
  }
  uint64_t bits = 0;
  if (__builtin_mul_overflow(elements, static_cast<uint64_t>(spec.dtype_bits) * lanes, &bits) ||
      bits > (uint64_t{1} << 62))
    return argument_error(std::string(field) + ".shape", "the number of bytes passes 2^59");
  const bool strided =
      spec.strides && elements > 1 && !is_row_major(spec.ndim, spec.shape, spec.strides);
  if (strided && (uint32_t{spec.dtype_bits} * lanes) % 8 != 0)
    return argument_error(std::string(field) + ".strides",
                          "strides of a type narrower than a byte are not supported");
  out->code_ = spec.dtype_code;
  out->bits_ = spec.dtype_bits;
  out->lanes_ = lanes;
  out->ndim_ = static_cast<int8_t>(spec.ndim);
  out->has_strides_ = strided;
  out->device_ = spec.device;
  out->device_id_ = spec.device_id;
  out->elements_ = elements;
  out->bytes_ = (bits + 7) / 8;
  int64_t* dims = out->small_;
  if (spec.ndim > kInlineDims) {
    out->large_.resize(2 * static_cast<size_t>(spec.ndim));
    dims = out->large_.data();
  } else {
    out->large_.clear();
  }
  if (spec.ndim > 0)
    std::memcpy(dims, spec.shape, sizeof(int64_t) * static_cast<size_t>(spec.ndim));
  if (strided)
    std::memcpy(dims + spec.ndim, spec.strides, sizeof(int64_t) * static_cast<size_t>(spec.ndim));
  return ok_status();
}

void TensorMeta::fill(void* data, rc_tensor_spec* out) const {
  out->data = data;
  out->dtype_code = code_;
  out->dtype_bits = bits_;
  out->dtype_lanes = lanes_;
  out->ndim = ndim_;
  out->shape = dims();
  out->strides = strides();
  out->device = device_;
  out->device_id = device_id_;
  out->bytes = bytes_;
}

void TensorMeta::clear() {
  bytes_ = elements_ = 0;
  ndim_ = 0;
  has_strides_ = false;
}

bool TensorMeta::same_as(const TensorMeta& other) const {
  return code_ == other.code_ && bits_ == other.bits_ && lanes_ == other.lanes_ &&
         ndim_ == other.ndim_ &&
         std::memcmp(dims(), other.dims(), sizeof(int64_t) * static_cast<size_t>(ndim_)) == 0;
}

void gather_elements(const TensorMeta& meta, const void* strided, void* contiguous) {
  const size_t width = static_cast<size_t>(meta.bytes() / (meta.elements() ? meta.elements() : 1));
  for_each_element(meta, [&](int64_t offset, uint64_t i) {
    std::memcpy(static_cast<char*>(contiguous) + i * width,
                static_cast<const char*>(strided) + offset * static_cast<int64_t>(width), width);
  });
}

void scatter_elements(const TensorMeta& meta, const void* contiguous, void* strided) {
  const size_t width = static_cast<size_t>(meta.bytes() / (meta.elements() ? meta.elements() : 1));
  for_each_element(meta, [&](int64_t offset, uint64_t i) {
    std::memcpy(static_cast<char*>(strided) + offset * static_cast<int64_t>(width),
                static_cast<const char*>(contiguous) + i * width, width);
  });
}

}  // namespace rc
