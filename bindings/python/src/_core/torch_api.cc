// src/_core/torch_api.cc: looking up what the hot path calls, and reading tensors' headers.
#include "torch_api.h"

#include <cstdio>
#include <cstring>

namespace rcpy {

TorchApi torch_api;
Names names;

namespace {

DLPackExchangeAPI* exchange = nullptr;

bool take(PyObject* callables, const char* key, PyObject** out) {
  PyObject* value = PyDict_GetItemString(callables, key);
  if (!value) {
    PyErr_SetString(PyExc_KeyError, key);
    return false;
  }
  *out = Py_NewRef(value);
  return true;
}

uint64_t element_bytes(const DLDataType& dtype, uint64_t n) {
  return (n * dtype.bits * dtype.lanes + 7) / 8;
}

bool is_contiguous(const DLTensor& t) {
  if (!t.strides) return true;
  int64_t expected = 1;
  for (int i = t.ndim - 1; i >= 0; --i) {
    if (t.shape[i] == 0) return true;
    if (t.shape[i] != 1 && t.strides[i] != expected) return false;
    expected *= t.shape[i];
  }
  return true;
}

}  // namespace

bool make_names() {
  const auto intern = [](PyObject** out, const char* text) {
    return (*out = PyUnicode_InternFromString(text)) != nullptr;
  };
  return intern(&names.is_leaf, "is_leaf") && intern(&names.base, "_base") &&
         intern(&names.version, "_version") && intern(&names.unpack, "unpack") &&
         intern(&names.shape, "shape") && intern(&names.dtype, "dtype") &&
         intern(&names.device, "device") && intern(&names.nbytes, "nbytes") &&
         intern(&names.forward, "forward") && intern(&names.replay, "replay") &&
         intern(&names.explain, "explain") && intern(&names.measure, "measure") &&
         intern(&names.requires_grad, "requires_grad") &&
         intern(&names.untyped_storage, "untyped_storage") && intern(&names.cdata, "_cdata") &&
         intern(&names.detach, "detach") && intern(&names.f_lasti, "f_lasti") &&
         intern(&names.f_back, "f_back") && intern(&names.code, "__code__") &&
         intern(&names.globals, "__globals__") && intern(&names.co_names, "co_names") &&
         intern(&names.co_freevars, "co_freevars") &&
         intern(&names.co_kwonlyargcount, "co_kwonlyargcount") &&
         intern(&names.closure, "__closure__") && intern(&names.cell_contents, "cell_contents") &&
         intern(&names.defaults, "__defaults__") &&
         intern(&names.keyword_defaults, "__kwdefaults__") && intern(&names.self, "__self__") &&
         intern(&names.function, "__func__") && intern(&names.func, "func") &&
         intern(&names.args, "args") && intern(&names.keywords, "keywords") &&
         intern(&names.initialized, "_initialized");
}

PyObject* setup_torch(PyObject*, PyObject* callables) {
  const struct {
    const char* key;
    PyObject** out;
  } wanted[] = {
      {"is_grad_enabled", &torch_api.is_grad_enabled},
      {"set_grad_enabled", &torch_api.set_grad_enabled},
      {"push_hooks", &torch_api.push_hooks},
      {"pop_hooks", &torch_api.pop_hooks},
      {"top_hooks", &torch_api.top_hooks},
      {"graph_task_id", &torch_api.graph_task_id},
      {"graph_exec_group", &torch_api.graph_exec_group},
      {"make_saved_tensor", &torch_api.make_saved_tensor},
      {"is_any_autocast", &torch_api.is_any_autocast},
      {"function_modes", &torch_api.function_modes},
      {"dispatch_modes", &torch_api.dispatch_modes},
      {"get_state", &torch_api.get_state},
      {"set_state", &torch_api.set_state},
      {"capture_environment", &torch_api.capture_environment},
      {"replay_in_environment", &torch_api.replay_in_environment},
      {"only_returns", &torch_api.only_returns},
      {"before_shared_replay", &torch_api.before_shared_replay},
      {"profiler_enabled", &torch_api.profiler_enabled},
      {"guard_function", &torch_api.guard_function},
      {"Module", &torch_api.nn_module_type},
      {"FunctionType", &torch_api.function_type},
      {"MethodType", &torch_api.method_type},
      {"partial", &torch_api.partial_type},
      {"device_module", &torch_api.device_module},
      {"device_generators", &torch_api.device_generators},
      {"devices_of", &torch_api.devices_of},
      {"StopReplay", &torch_api.stop_error},
      {"CheckpointError", &torch_api.checkpoint_error},
      {"Error", &torch_api.error},
      {"SavedTensor", &torch_api.saved_tensor_type},
      {"TensorBase", &torch_api.tensor_type},
      {"Parameter", &torch_api.parameter_type},
  };
  for (const auto& w : wanted)
    if (!take(callables, w.key, w.out)) return nullptr;
  PyObject* capsule = PyDict_GetItemString(callables, "dlpack_exchange_api");
  if (capsule && PyCapsule_IsValid(capsule, "dlpack_exchange_api")) {
    exchange =
        static_cast<DLPackExchangeAPI*>(PyCapsule_GetPointer(capsule, "dlpack_exchange_api"));
    if (exchange &&
        (exchange->header.version.major != 1 || !exchange->dltensor_from_py_object_no_sync))
      exchange = nullptr;
  } else {
    exchange = nullptr;
  }
  torch_api.ready = true;
  return PyBool_FromLong(exchange != nullptr);
}

int call_bool(PyObject* f) {
  const Ref result = call(f);
  return result ? result.get() == Py_True : -1;
}

bool borrow_dltensor(PyObject* tensor, DLTensor* out) {
  if (!exchange) return false;
  if (exchange->dltensor_from_py_object_no_sync(tensor, out) == 0) return true;
  PyErr_Clear();  // sparse, meta and quantized tensors have no header
  return false;
}

int64_t version_of(PyObject* tensor) {
  const Ref version(PyObject_GetAttr(tensor, names.version));
  if (version) return PyLong_AsLongLong(version.get());
  PyErr_Clear();
  return kNoVersion;
}

static bool is_true(PyObject* tensor, PyObject* name) {
  const Ref value(PyObject_GetAttr(tensor, name));
  if (!value) PyErr_Clear();
  return value.get() == Py_True;
}

static bool is_parameter(PyObject* tensor) {
  return PyObject_TypeCheck(tensor, reinterpret_cast<PyTypeObject*>(torch_api.parameter_type)) ||
         (is_true(tensor, names.is_leaf) && is_true(tensor, names.requires_grad));
}

bool belongs_to_parameter(PyObject* tensor) {
  if (is_parameter(tensor)) return true;
  const Ref base(PyObject_GetAttr(tensor, names.base));
  if (!base) PyErr_Clear();
  return base && base.get() != Py_None && is_parameter(base.get());
}

bool is_unchanged(PyObject* tensor, int64_t version, const char* what, size_t index) {
  const int64_t now = version_of(tensor);
  if (now == version) return true;
  char which[48] = "";
  if (index != kOnlyOne) std::snprintf(which, sizeof which, " %zu of a checkpointed region", index);
  PyErr_Format(PyExc_RuntimeError,
               "one of the variables needed for gradient computation has been modified by an "
               "inplace operation: %s%s is at version %lld; expected version %lld instead",
               what, which, static_cast<long long>(now), static_cast<long long>(version));
  return false;
}

bool cpu_bytes(PyObject* tensor, const void** data, uint64_t* bytes) {
  DLTensor t;
  if (!borrow_dltensor(tensor, &t) || t.device.device_type != kDLCPU || !is_contiguous(t))
    return false;
  uint64_t n = 1;
  for (int i = 0; i < t.ndim; ++i) n *= static_cast<uint64_t>(t.shape[i]);
  *data = static_cast<const char*>(t.data) + t.byte_offset;
  *bytes = element_bytes(t.dtype, n);
  return true;
}

bool read_header(PyObject* tensor, std::vector<int64_t>* shapes, TensorHeader* out) {
  out->shape_at = static_cast<uint32_t>(shapes->size());
  out->other = nullptr;
  DLTensor t;
  if (borrow_dltensor(tensor, &t)) {
    out->device = t.device;
    out->dtype = t.dtype;
    out->ndim = t.ndim;
    uint64_t n = 1;
    for (int i = 0; i < t.ndim; ++i) {
      shapes->push_back(t.shape[i]);
      n *= static_cast<uint64_t>(t.shape[i]);
    }
    out->bytes = element_bytes(t.dtype, n);
    return true;
  }
  out->ndim = -1;
  out->device = {};
  out->dtype = {};
  out->bytes = 0;
  const Ref shape(PyObject_GetAttr(tensor, names.shape)),
      dtype(PyObject_GetAttr(tensor, names.dtype)), device(PyObject_GetAttr(tensor, names.device));
  if (!shape || !dtype || !device) return false;
  const Ref bytes(PyObject_GetAttr(tensor, names.nbytes));
  if (bytes && PyLong_Check(bytes.get())) out->bytes = PyLong_AsUnsignedLongLong(bytes.get());
  PyErr_Clear();  // a sparse tensor has no nbytes, a symbolic shape has no number
  out->other = PyTuple_Pack(3, shape.get(), dtype.get(), device.get());
  return out->other != nullptr;
}

int same_header(const TensorHeader& a, const int64_t* a_shape, const TensorHeader& b,
                const int64_t* b_shape) {
  if (a.ndim == -2 || b.ndim == -2) return 1;
  if (a.ndim != b.ndim) return 0;
  if (a.ndim == -1) return PyObject_RichCompareBool(a.other, b.other, Py_EQ);
  return a.device.device_type == b.device.device_type && a.device.device_id == b.device.device_id &&
         a.dtype.code == b.dtype.code && a.dtype.bits == b.dtype.bits &&
         a.dtype.lanes == b.dtype.lanes &&
         std::memcmp(a_shape, b_shape, sizeof(int64_t) * static_cast<size_t>(a.ndim)) == 0;
}

Ref describe_tensor(PyObject* tensor) {
  const Ref shape(PyObject_GetAttr(tensor, names.shape)),
      dtype(PyObject_GetAttr(tensor, names.dtype)), device(PyObject_GetAttr(tensor, names.device));
  if (!shape || !dtype || !device) return Ref();
  return Ref(Py_BuildValue("{sOsOsO}", "shape", shape.get(), "dtype", dtype.get(), "device",
                           device.get()));
}

Ref describe_header(const TensorHeader& header, const int64_t* shape) {
  if (header.ndim < 0)
    return header.other ? Ref(Py_BuildValue("{sOsOsO}", "shape", PyTuple_GetItem(header.other, 0),
                                            "dtype", PyTuple_GetItem(header.other, 1), "device",
                                            PyTuple_GetItem(header.other, 2)))
                        : Ref::borrow(Py_None);
  static const char* const kCodes[] = {"int",    "uint",    "float", "opaque",
                                       "bfloat", "complex", "bool"};
  const char* code = header.dtype.code < 7 ? kCodes[header.dtype.code] : "dlpack";
  const Ref sizes(PyTuple_New(header.ndim));
  if (!sizes) return Ref();
  for (int i = 0; i < header.ndim; ++i)
    PyTuple_SetItem(sizes.get(), i, PyLong_FromLongLong(shape[i]));
  const Ref dtype(header.dtype.code == kDLBool
                      ? PyUnicode_FromString("torch.bool")
                      : PyUnicode_FromFormat("torch.%s%d", code, header.dtype.bits));
  const Ref device(header.device.device_type == kDLCPU
                       ? PyUnicode_FromString("cpu")
                       : PyUnicode_FromFormat("device type %d:%d",
                                              static_cast<int>(header.device.device_type),
                                              header.device.device_id));
  return Ref(Py_BuildValue("{sOsOsO}", "shape", sizes.get(), "dtype", dtype.get(), "device",
                           device.get()));
}

}  // namespace rcpy
