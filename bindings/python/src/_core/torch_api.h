// src/_core/torch_api.h: the functions of torch that the hot path calls, looked up once, and
// tensors' headers by DLPack.
//
// The extension is built without torch. rcore.torch hands over the Python callables it needs;
// tensor headers are read through the exchange capsule of the tensor type where torch has one, and
// through attributes where it has not.
#pragma once

#include <dlpack/dlpack.h>

#include <cstdint>
#include <vector>

#include "ref.h"

namespace rcpy {

struct TorchApi {
  bool ready = false;
  PyObject *is_grad_enabled, *set_grad_enabled, *push_hooks, *pop_hooks, *top_hooks, *graph_task_id,
      *graph_exec_group, *make_saved_tensor, *is_any_autocast, *function_modes, *dispatch_modes,
      *get_state, *set_state;
  PyObject *capture_environment, *replay_in_environment, *only_returns, *before_shared_replay,
      *profiler_enabled, *guard_function, *device_generators,
      *devices_of;  // rcore's own, for what is rare
  PyObject *stop_error, *checkpoint_error, *error, *saved_tensor_type, *tensor_type,
      *parameter_type, *nn_module_type, *function_type, *method_type, *partial_type;
  PyObject* device_module;  // of the accelerator, or None
};
extern TorchApi torch_api;

// Interned attribute names.
struct Names {
  PyObject *is_leaf, *base, *version, *unpack, *shape, *dtype, *device, *nbytes, *forward, *replay,
      *explain, *measure, *requires_grad, *untyped_storage, *cdata, *detach, *f_lasti, *f_back,
      *code, *globals, *co_names, *co_freevars, *co_kwonlyargcount, *closure, *cell_contents,
      *defaults, *keyword_defaults, *self, *function, *func, *args, *keywords, *initialized;
};
extern Names names;

PyObject* setup_torch(PyObject* self, PyObject* callables);
bool make_names();

// Calls with borrowed arguments; NULL with an error set on failure.
inline Ref call(PyObject* f) {
  return Ref(PyObject_CallNoArgs(f));
}
template <class... A>
inline Ref call(PyObject* f, A... arguments) {
  return Ref(PyObject_CallFunctionObjArgs(f, arguments..., nullptr));
}
// 1, 0, or -1 with an error set.
int call_bool(PyObject* f);

// What a determinism check compares. Exact: `shape` lies in a vector that its owner keeps beside
// it.
struct TensorHeader {
  DLDevice device;
  DLDataType dtype;
  int32_t ndim;  // -1 = `other` holds (shape, dtype, device) as Python objects; -2 = not looked at
  uint32_t shape_at;
  uint64_t bytes;
  int64_t version;  // of the tensor, in a forward
  PyObject* other;
};
// Reads a header; appends the shape to `shapes`. False with an error set.
bool read_header(PyObject* tensor, std::vector<int64_t>* shapes, TensorHeader* out);
// 1 the same, 0 not, -1 with an error set. `shape` are those of a.
int same_header(const TensorHeader& a, const int64_t* a_shape, const TensorHeader& b,
                const int64_t* b_shape);
// {'shape': ..., 'dtype': ..., 'device': ...} of a tensor, as torch prints it.
Ref describe_tensor(PyObject* tensor);
Ref describe_header(const TensorHeader& header, const int64_t* shape);
// How often it was changed in place; kNoVersion, without an error, of an inference tensor.
constexpr int64_t kNoVersion = -1;
int64_t version_of(PyObject* tensor);
// True of a parameter, and of a view of one: a transposed weight.
bool belongs_to_parameter(PyObject* tensor);
// True if it was not changed in place since; else false with autograd's own error set, which names
// `what`, and which of a region's they are unless `index` is kOnlyOne.
constexpr size_t kOnlyOne = SIZE_MAX;
bool is_unchanged(PyObject* tensor, int64_t version, const char* what, size_t index = kOnlyOne);
// Memory of a contiguous CPU tensor. False, without an error, where it is none.
bool cpu_bytes(PyObject* tensor, const void** data, uint64_t* bytes);
// Fills a DLTensor without a copy; false, without an error, where torch offers no way.
bool borrow_dltensor(PyObject* tensor, DLTensor* out);

}  // namespace rcpy
