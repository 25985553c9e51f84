// src/_core/forward.cc: the forward of a region: what it was called with, and a holder for all that
// its graph saves.
#include <algorithm>

#include "frame.h"

namespace rcpy {
namespace {

PyObject* object(void* o) {
  return static_cast<PyObject*>(o);
}

// True where the tensor's storage has not been counted yet. A storage that died in between has
// given its address away: the weak reference tells.
bool count_storage(FrameBody& b, PyObject* tensor) {
  const Ref storage(PyObject_CallMethodObjArgs(tensor, names.untyped_storage, nullptr));
  if (!storage) {  // of a wrapper without memory of its own
    PyErr_Clear();
    return true;
  }
  Ref& known = b.counted[storage.get()];
  if (known && call(known.get()).get() == storage.get()) return false;
  known = Ref(PyWeakref_NewRef(storage.get(), nullptr));
  if (!known) PyErr_Clear();
  return true;
}

// Counts memory that the graph would have kept: not parameters and inputs, and each block once.
void count_saved(FrameBody& b, PyObject* tensor, const TensorHeader& header) {
  if (header.ndim < 0 || !count_storage(b, tensor)) return;
  if (!belongs_to_parameter(tensor)) b.saved_bytes += header.bytes;
}

PyObject* pack(PyObject* self, PyObject* tensor) {
  Frame* frame = reinterpret_cast<Frame*>(self);
  FrameBody& b = frame->b;
  TensorHeader header{};
  header.ndim = -2;
  if (!read_header(tensor, &b.shapes, &header)) return nullptr;
  if (b.flags & kMeasure) {
    const Ref measure(PyObject_CallMethodObjArgs(b.extras, names.measure, tensor, nullptr));
    if (!measure || PyList_Append(b.measures, measure.get()) < 0) {
      Py_XDECREF(header.other);
      return nullptr;
    }
  }
  header.version = version_of(tensor);
  Holder* holder = new_holder(frame, b.holders.size());
  if (!holder) {
    Py_XDECREF(header.other);
    return nullptr;
  }
  b.headers.push_back(header);
  b.holders.push_back(holder);
  if (b.flags & kByPolicy)
    count_saved(b, tensor, header);
  else
    b.saved_bytes += header.bytes;
  b.last_save_ns = now_ns();
  return object(holder);
}

PyMethodDef pack_method = {"pack", pack, METH_O, nullptr};

bool has_version(PyObject* tensor, int64_t* out) {
  *out = version_of(tensor);
  return *out != kNoVersion;
}

// The layer before in the same recompute unit, if it just ran.
Frame* layer_before(Module* module) {
  Frame* latest = module->context->latest_layer;
  if (!latest || module->unit_layers < 2 || module->layer == module->first_layer) return nullptr;
  const Module* before = latest->b.module;
  return before->layer + 1 == module->layer && before->first_layer == module->first_layer ? latest
                                                                                          : nullptr;
}

// True where two tensors are the same elements of the same memory: a wrapper of modules (FSDP2)
// hands on aliases of what it gets.
bool same_elements(PyObject* a, PyObject* b) {
  if (a == b) return true;
  DLTensor s, t;
  if (!borrow_dltensor(a, &s) || !borrow_dltensor(b, &t)) return false;
  if (s.data != t.data || s.byte_offset != t.byte_offset || s.ndim != t.ndim) return false;
  if (s.dtype.code != t.dtype.code || s.dtype.bits != t.dtype.bits || !s.strides || !t.strides)
    return false;
  if (s.dtype.code == kDLComplex) return false;  // one may be the other's conjugate
  return std::equal(s.shape, s.shape + s.ndim, t.shape) &&
         std::equal(s.strides, s.strides + s.ndim, t.strides);
}

// True if `tensor` is an output of `before`, as it was returned: then a link is kept, and the
// tensor may go.
bool link_input(Frame* before, PyObject* tensor, Input* input) {
  if (!before) return false;
  for (size_t i = 0; i < before->b.outputs.size(); ++i) {
    const Returned& output = before->b.outputs[i];
    if (!output.weak || !has_version(tensor, &input->version)) continue;
    const Ref alive = call(output.weak);
    if (!alive || alive.get() == Py_None || input->version != output.version ||
        !same_elements(alive.get(), tensor))
      continue;
    input->kind = Input::kLinked;
    input->output = static_cast<uint32_t>(i);
    input->object = Py_NewRef(object(before));
    return true;
  }
  return false;
}

bool keep_input(Frame* before, PyObject* value, int* hooked, Input* input) {
  if (PyObject_TypeCheck(value, reinterpret_cast<PyTypeObject*>(torch_api.tensor_type))) {
    if (link_input(before, value, input)) return true;
    if (*hooked < 0) {
      const Ref top = call(torch_api.top_hooks, Py_True);
      if (!top) return false;
      *hooked = top.get() != Py_None;
    }
    if (*hooked) {  // an outer region, or an offloader, takes the input like any saved tensor
      input->kind = Input::kSaved;
      input->version = version_of(value);
      region_begins = true;
      input->object = call(torch_api.make_saved_tensor, value, Py_False).release();
      region_begins = false;
      return input->object != nullptr;
    }
    if (has_version(value, &input->version)) input->kind = Input::kVersioned;
  }
  input->object = Py_NewRef(value);
  return true;
}

// An input is not freed by its region: whatever of it is saved inside counts for nothing.
void count_input(FrameBody& b, PyObject* value) {
  if (!(b.flags & kByPolicy)) return;
  if (PyObject_TypeCheck(value, reinterpret_cast<PyTypeObject*>(torch_api.tensor_type)))
    count_storage(b, value);
  else if (PyTuple_Check(value))
    for (Py_ssize_t i = 0; i < PyTuple_Size(value); ++i) count_input(b, PyTuple_GetItem(value, i));
}

// What the region itself holds of an argument; a hook around it counts what it took.
void meter_input(FrameBody& b, const Input& input) {
  if (input.kind == Input::kPlain || input.kind == Input::kVersioned)
    meter_add_all(input.object, &b.metered);
}

// A tensor that hooks or a replay give back would be another object for each input.
bool same_as_before(FrameBody& b, size_t i, PyObject* value, PyObject* arguments,
                    PyObject* keywords) {
  const size_t n = static_cast<size_t>(PyTuple_Size(arguments));
  for (size_t j = 0; j < i; ++j) {
    if (b.inputs[j].kind != Input::kSaved && b.inputs[j].kind != Input::kLinked) continue;
    PyObject* before =
        j < n ? PyTuple_GetItem(arguments, static_cast<Py_ssize_t>(j))
              : PyDict_GetItem(keywords, PyTuple_GetItem(b.names, static_cast<Py_ssize_t>(j - n)));
    if (before != value) continue;
    b.inputs[i].kind = Input::kSame;
    b.inputs[i].output = static_cast<uint32_t>(j);
    return true;
  }
  return false;
}

bool keep_inputs(FrameBody& b, Frame* before, PyObject* arguments, PyObject* keywords) {
  const Py_ssize_t n = PyTuple_Size(arguments), k = keywords ? PyDict_Size(keywords) : 0;
  b.inputs.resize(static_cast<size_t>(n + k));
  int hooked = -1;
  const auto keep = [&](PyObject* value, size_t i) {
    if ((hooked > 0 || before) && same_as_before(b, i, value, arguments, keywords)) return true;
    if (!keep_input(before, value, &hooked, &b.inputs[i])) return false;
    count_input(b, value);
    meter_input(b, b.inputs[i]);
    return true;
  };
  for (Py_ssize_t i = 0; i < n; ++i)
    if (!keep(PyTuple_GetItem(arguments, i), static_cast<size_t>(i))) return false;
  if (k == 0) return true;
  b.names = PyTuple_New(k);
  if (!b.names) return false;
  PyObject *key, *value;
  Py_ssize_t at = 0;
  for (Py_ssize_t i = 0; PyDict_Next(keywords, &at, &key, &value); ++i) {
    PyTuple_SetItem(b.names, i, Py_NewRef(key));
    if (!keep(value, static_cast<size_t>(n + i))) return false;
  }
  return true;
}

// Remembers, without holding them, the tensors that the next layer of the unit may be called with.
void remember_outputs(Frame* frame, PyObject* result) {
  FrameBody& b = frame->b;
  const auto add = [&](PyObject* value) {
    Returned output = {nullptr, 0};
    if (PyObject_TypeCheck(value, reinterpret_cast<PyTypeObject*>(torch_api.tensor_type)) &&
        has_version(value, &output.version)) {
      output.weak = PyWeakref_NewRef(value, nullptr);
      if (!output.weak) PyErr_Clear();
    }
    b.outputs.push_back(output);
  };
  if (PyTuple_Check(result))
    for (Py_ssize_t i = 0; i < PyTuple_Size(result); ++i) add(PyTuple_GetItem(result, i));
  else
    add(result);
  b.module->context->latest_layer = frame;
}

// The generators' states that the replay begins with.
bool keep_generators(FrameBody& b, PyObject* arguments, PyObject* keywords) {
  if (!(b.flags & kPreserveRng)) return true;
  b.rng = call(torch_api.get_state).release();
  if (!b.rng || has_no_device()) return b.rng != nullptr;
  const int used = devices_are_used();
  b.begun_without_devices = used == 0;
  return used == 0 || (used == 1 && keep_devices(arguments, keywords, &b.devices));
}

// Refuses a region that was the first to use the devices: what it drew there cannot be repeated.
bool devices_unchanged(const FrameBody& b) {
  if (!b.begun_without_devices) return true;
  const int used = devices_are_used();
  if (used == 1)
    PyErr_SetString(
        PyExc_RuntimeError,
        "PyTorch's device state was initialized in the forward pass of a Checkpoint, which is not "
        "allowed. Please open an issue if you need this feature.");
  return used == 0;
}

// What is rarely there: autocast, a mode that sets the default device.
bool keep_environment(FrameBody& b) {
  int needed = call_bool(torch_api.is_any_autocast);
  if (needed == 0) {
    const Ref modes = call(torch_api.function_modes);
    if (!modes) return false;
    needed = PyLong_AsLong(modes.get()) != 0;
  }
  if (needed <= 0) return needed == 0;
  b.environment = call(torch_api.capture_environment).release();
  return b.environment != nullptr;
}

// The modules that a plain function runs are not known before: what of them it may change is
// copied.
bool guard_function(FrameBody& b, PyObject* arguments, PyObject* keywords) {
  if (!Py_IS_TYPE(b.function, reinterpret_cast<PyTypeObject*>(torch_api.function_type)) ||
      has_no_buffers(b.function, arguments, keywords))
    return true;
  Ref guard = call(torch_api.guard_function, b.function, arguments, keywords ? keywords : Py_None);
  if (!guard) return false;
  if (guard.get() != Py_None) b.extras = guard.release();
  return true;
}

// True if a region that a policy made is running: what is inside it is recomputed with it, once.
// The policy may have been another one when its forward ran.
bool inside_policy_region() {
  for (const Active& a : active())
    if (a.frame->b.flags & kByPolicy) return true;
  return false;
}

PyObject* call_forward(FrameBody& b, PyObject* arguments, PyObject* keywords) {
  if (b.extras == nullptr) return PyObject_Call(b.function, arguments, keywords);
  return PyObject_CallMethodObjArgs(b.extras, names.forward, b.function, arguments,
                                    keywords ? keywords : Py_None, nullptr);
}

Ref run_forward(Frame* frame, PyObject* arguments, PyObject* keywords) {
  FrameBody& b = frame->b;
  const Ref hook(PyCFunction_New(&pack_method, object(frame)));
  static PyMethodDef unpack_method = {"unpack", unpack, METH_O, nullptr};
  static PyObject* unpack_function = PyCFunction_New(&unpack_method, nullptr);
  if (!hook || !unpack_function || !call(torch_api.push_hooks, hook.get(), unpack_function))
    return Ref();
  Ref result;
  {
    const Activate here(frame, nullptr);
    result = Ref(call_forward(b, arguments, keywords));
  }
  b.tail_ns = now_ns() - b.last_save_ns;
  if (result) {
    if (!call(torch_api.pop_hooks)) result.clear();
  } else {
    const PendingError pending;
    if (!call(torch_api.pop_hooks)) PyErr_Clear();
  }
  return result;
}

}  // namespace

// run_region(module, flags, extras, function, arguments, keywords)
PyObject* run_region(PyObject*, PyObject* const* a, Py_ssize_t n) {
  if (n != 6 || !Py_IS_TYPE(a[0], module_type) || !PyTuple_Check(a[4]) || !torch_api.ready) {
    PyErr_SetString(PyExc_TypeError,
                    "run_region(module, flags, extras, function, arguments, keywords)");
    return nullptr;
  }
  Module* module = reinterpret_cast<Module*>(a[0]);
  const uint32_t flags = static_cast<uint32_t>(PyLong_AsUnsignedLong(a[1]));
  PyObject *function = a[3], *arguments = a[4];
  PyObject* keywords = PyDict_Check(a[5]) && PyDict_Size(a[5]) > 0 ? a[5] : nullptr;
  const int grad = call_bool(torch_api.is_grad_enabled);
  if (grad < 0) return nullptr;
  if (!grad) return PyObject_Call(function, arguments, keywords);
  if (flags & kByPolicy) {
    const bool inside = inside_policy_region();
    if (inside) ++module->counters.nested;
    if (inside || !module->recomputes) return PyObject_Call(function, arguments, keywords);
  }

  const Ref owner(object(new_frame()));
  if (!owner) return nullptr;
  Frame* frame = reinterpret_cast<Frame*>(owner.get());
  FrameBody& b = frame->b;
  b.module = reinterpret_cast<Module*>(Py_NewRef(object(module)));
  b.flags = flags;
  b.measurement = meter_measurement();
  b.function = Py_NewRef(function);
  if (a[2] != Py_None)
    b.extras = Py_NewRef(a[2]);
  else if (!guard_function(b, arguments, keywords))
    return nullptr;
  if ((flags & kMeasure) && !(b.measures = PyList_New(0))) return nullptr;
  if (!region_open(module, frame, &b.region)) return nullptr;
  Frame* before = flags & kByPolicy ? layer_before(module) : nullptr;
  const Ref keep_before = Ref::borrow(before ? object(before) : nullptr);  // hooks may run
  if (!keep_inputs(b, before, arguments, keywords)) return nullptr;
  if (!keep_generators(b, arguments, keywords) || !keep_environment(b)) return nullptr;

  const int64_t begin = is_traced() ? now_ns() : 0;
  Ref result = run_forward(frame, arguments, keywords);
  if (!result) return nullptr;
  b.completed = true;
  if (!b.counted.empty()) b.counted.clear();
  if (!devices_unchanged(b)) return nullptr;
  if (!b.replayed && !region_seal(b.region)) return nullptr;
  if (flags & kDiscards) discard_outputs(frame, result.get(), arguments, keywords);
  Counters& counters = module->counters;
  ++counters.regions;
  counters.saved_tensors += b.holders.size();
  counters.freed_bytes += b.saved_bytes;
  if ((flags & kByPolicy) && module->unit_layers > 1) remember_outputs(frame, result.get());
  if (begin) trace_event(frame, "forward", begin);
  collected(frame);
  return result.release();
}

}  // namespace rcpy
