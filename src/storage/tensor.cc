// src/storage/tensor.cc: DLPack import and export.
#include "src/storage/tensor.h"

#include <dlpack/dlpack.h>

#include <memory>
#include <vector>

namespace rc {
namespace {

// What a tensor that we make owns: the shape that the DLTensor points at, and the host's release
// function.
struct Wrapped {
  DLManagedTensorVersioned managed = {};
  static constexpr size_t kInline = 6;
  int64_t inline_dims[2 * kInline];
  std::vector<int64_t> large;  // where there are more dimensions
  void (*release)(void*) = nullptr;
  void* user_data = nullptr;
};

void delete_wrapped(DLManagedTensorVersioned* self) {
  std::unique_ptr<Wrapped> wrapped(static_cast<Wrapped*>(self->manager_ctx));
  if (wrapped->release) wrapped->release(wrapped->user_data);
}

}  // namespace

Status read_tensor(const rc_tensor* tensor, const char* field, rc_tensor_spec* out) {
  if (!tensor) return argument_error(field, "tensor is NULL");
  if (tensor->version.major != DLPACK_MAJOR_VERSION)
    return Status(RC_E_VERSION, field,
                  format("tensor has DLPack version %u.%u; the library reads %d.x",
                         tensor->version.major, tensor->version.minor, DLPACK_MAJOR_VERSION));
  const DLTensor& t = tensor->dl_tensor;
  const bool cpu = t.device.device_type == kDLCPU || t.device.device_type == kDLCUDAHost;
  const bool cuda = t.device.device_type == kDLCUDA || t.device.device_type == kDLCUDAManaged;
  if (!cpu && !cuda)
    return Status(
        RC_E_UNSUPPORTED, field,
        format("DLPack device type %d is not supported", static_cast<int>(t.device.device_type)));
  out->data = t.data ? static_cast<char*>(t.data) + t.byte_offset : nullptr;
  out->dtype_code = t.dtype.code;
  out->dtype_bits = t.dtype.bits;
  out->dtype_lanes = t.dtype.lanes;
  out->ndim = t.ndim;
  out->shape = t.shape;
  out->strides = t.strides;
  out->device = cuda ? RC_DEVICE_CUDA : RC_DEVICE_CPU;
  out->device_id = t.device.device_id;
  TensorMeta meta;
  RC_TRY(TensorMeta::read(*out, field, &meta));
  out->bytes = meta.bytes();
  return ok_status();
}

Status wrap_tensor(const rc_tensor_spec& spec, void (*release)(void*), void* user_data,
                   rc_tensor** out) {
  TensorMeta meta;
  RC_TRY(TensorMeta::read(spec, "spec", &meta));
  if (!spec.data && meta.bytes() > 0) return argument_error("spec.data", "data is NULL");
  auto wrapped = std::make_unique<Wrapped>();
  wrapped->release = release;
  wrapped->user_data = user_data;
  const size_t ndim = static_cast<size_t>(meta.ndim());
  int64_t* dims = wrapped->inline_dims;
  if (ndim > Wrapped::kInline) {
    wrapped->large.resize(2 * ndim);
    dims = wrapped->large.data();
  }
  for (size_t i = ndim, stride = 1;
       i-- > 0;) {  // DLPack 1.2 forbids NULL strides: always write them out
    dims[i] = meta.shape()[i];
    dims[ndim + i] = meta.strides() ? meta.strides()[i] : static_cast<int64_t>(stride);
    stride *= static_cast<size_t>(meta.shape()[i]);
  }
  DLManagedTensorVersioned& m = wrapped->managed;
  m.version = {DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION};
  m.deleter = delete_wrapped;
  m.dl_tensor.data = spec.data;
  m.dl_tensor.device = {meta.device() == RC_DEVICE_CUDA ? kDLCUDA : kDLCPU, meta.device_id()};
  m.dl_tensor.ndim = meta.ndim();
  m.dl_tensor.dtype = {meta.code(), meta.bits(), meta.lanes()};
  m.dl_tensor.shape = dims;
  m.dl_tensor.strides = dims + ndim;
  m.manager_ctx = wrapped.get();
  *out = &wrapped.release()->managed;
  return ok_status();
}

void release_tensor(rc_tensor* tensor) {
  if (tensor && tensor->deleter) tensor->deleter(tensor);
}

bool tensor_is_read_only(const rc_tensor* tensor) {
  return (tensor->flags & DLPACK_FLAG_BITMASK_READ_ONLY) != 0;
}

}  // namespace rc
