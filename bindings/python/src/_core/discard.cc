// src/_core/discard.cc: outputs that are freed once read: consumers keep a note of where the value
// comes from.
//
// While a Scope is open, every tensor that autograd saves passes through it. One that lies in the
// memory of a discardable output is not kept: the graph gets an Output, which names the region and
// the view, and finds the value in a replay when it is asked for. So the memory goes with its last
// reader, whoever that is: nobody can read too late.
#include "frame.h"

namespace rcpy {

PyTypeObject *scope_type, *output_type;

namespace {

PyObject* object(void* o) {
  return static_cast<PyObject*>(o);
}

struct Discardable {
  PyObject* tensor;  // held while the scope is open, so that its address means it
  Frame* frame;
  size_t output;
  const char* base;
  uint64_t bytes;
  DLDevice device;
  DLDataType dtype;
  int64_t version;  // a change in place is no output of the function any more
};

struct Scope {
  PyObject_HEAD std::vector<Discardable>* items;
  Scope* outer;
  bool open;
  bool hooked;  // hooks stand around the scope: what it keeps, they take
};

// What a consumer's graph keeps of a discarded output.
struct Output {
  PyObject_HEAD Frame* frame;
  size_t output;
  std::vector<int64_t>* layout;  // sizes, then strides
  int64_t offset;                // in elements from the output's first
};

thread_local Scope* current = nullptr;

template <class T>
void free_object(T* self) {
  PyTypeObject* type = Py_TYPE(object(self));
  PyObject_Free(self);
  Py_DECREF(type);
}

uint64_t span_bytes(const DLTensor& t) {
  int64_t last = 0;
  int64_t row = 1;
  for (int i = t.ndim - 1; i >= 0; --i) {
    if (t.shape[i] == 0) return 0;
    last += (t.shape[i] - 1) * (t.strides ? t.strides[i] : row);
    row *= t.shape[i];
  }
  return (static_cast<uint64_t>(last) + 1) * t.dtype.bits * t.dtype.lanes / 8;
}

const char* address(const DLTensor& t) {
  return static_cast<const char*>(t.data) + t.byte_offset;
}

bool same_kind(const Discardable& d, const DLTensor& t) {
  return d.device.device_type == t.device.device_type && d.device.device_id == t.device.device_id &&
         d.dtype.code == t.dtype.code && d.dtype.bits == t.dtype.bits;
}

// -1 where it counts none.
// A header does not tell that values are to be read conjugated or negated.
bool is_lazy(PyObject* tensor, const DLTensor& t) {
  if (t.dtype.code != kDLComplex) return false;
  const Ref conj(PyObject_CallMethod(tensor, "is_conj", nullptr)),
      neg(PyObject_CallMethod(tensor, "is_neg", nullptr));
  if (!conj || !neg) PyErr_Clear();
  return conj.get() != Py_False || neg.get() != Py_False;
}

bool lies_in(const Discardable& d, const DLTensor& t) {
  const char* at = address(t);
  return at >= d.base && at < d.base + d.bytes && at + span_bytes(t) <= d.base + d.bytes &&
         same_kind(d, t);
}

// A note of where in an output `t` lies.
PyObject* make_note(const Discardable& d, const DLTensor& t) {
  Output* output = PyObject_New(Output, output_type);
  if (!output) return nullptr;
  output->frame = reinterpret_cast<Frame*>(Py_NewRef(object(d.frame)));
  ++d.frame->b.awaited;
  output->output = d.output;
  output->offset = (address(t) - d.base) * 8 / (d.dtype.bits * d.dtype.lanes);
  output->layout = new std::vector<int64_t>(t.shape, t.shape + t.ndim);
  int64_t row = 1;
  std::vector<int64_t> strides(static_cast<size_t>(t.ndim));
  for (int i = t.ndim - 1; i >= 0; row *= t.shape[i--])
    strides[static_cast<size_t>(i)] = t.strides ? t.strides[i] : row;
  output->layout->insert(output->layout->end(), strides.begin(), strides.end());
  return object(output);
}

// What the graph keeps of a tensor that is no discarded output: what it would without the scope.
PyObject* keep_in(const Scope* scope, PyObject* tensor) {
  return scope->hooked ? hand_on(tensor) : keep(tensor);
}

PyObject* pack(PyObject* self, PyObject* tensor) {
  const Scope* scope = reinterpret_cast<Scope*>(self);
  DLTensor t;
  if (!borrow_dltensor(tensor, &t)) return keep_in(scope, tensor);
  for (const Discardable& d : *scope->items)
    if (lies_in(d, t)) {
      const bool is_output = version_of(d.tensor) == d.version && !is_lazy(tensor, t);
      return is_output ? make_note(d, t) : keep_in(scope, tensor);
    }
  return keep_in(scope, tensor);
}

// note_output(region, index, output, saved) -> what a graph may keep of `saved` instead, or None
// where it is no part of that output.
PyObject* note_output(PyObject*, PyObject* arguments) {
  PyObject *region, *output, *saved;
  Py_ssize_t index;
  if (!PyArg_ParseTuple(arguments, "O!nOO", frame_type, &region, &index, &output, &saved))
    return nullptr;
  DLTensor whole, part;
  if (!borrow_dltensor(output, &whole) || !borrow_dltensor(saved, &part)) Py_RETURN_NONE;
  const Discardable d = {output,
                         reinterpret_cast<Frame*>(region),
                         static_cast<size_t>(index),
                         address(whole),
                         span_bytes(whole),
                         whole.device,
                         whole.dtype,
                         0};
  if (!lies_in(d, part) || is_lazy(saved, part)) Py_RETURN_NONE;
  return make_note(d, part);
}

Ref tuple_of(const int64_t* values, size_t n) {
  Ref tuple(PyTuple_New(static_cast<Py_ssize_t>(n)));
  for (size_t i = 0; tuple && i < n; ++i)
    PyTuple_SetItem(tuple.get(), static_cast<Py_ssize_t>(i), PyLong_FromLongLong(values[i]));
  return tuple;
}

PyObject* view_of(PyObject* value, const Output* output) {
  const size_t n = output->layout->size() / 2;
  const Ref plain(PyObject_CallMethod(value, "detach", nullptr));
  const Ref first(PyObject_CallMethod(value, "storage_offset", nullptr));
  if (!plain || !first) return nullptr;
  const Ref sizes = tuple_of(output->layout->data(), n),
            strides = tuple_of(output->layout->data() + n, n);
  if (!sizes || !strides) return nullptr;
  return PyObject_CallMethod(
      plain.get(), "as_strided", "OOL", sizes.get(), strides.get(),
      static_cast<long long>(PyLong_AsLongLong(first.get()) + output->offset));
}

PyObject* unpack_scoped(PyObject*, PyObject* packed) {
  if (!Py_IS_TYPE(packed, output_type)) return unpack_kept(packed);
  const Ref alive = Ref::borrow(packed);
  const Output* output = reinterpret_cast<Output*>(packed);
  const Ref value = replayed_output(output->frame, output->output);
  return value ? view_of(value.get(), output) : nullptr;
}

void output_free(PyObject* self) {
  PendingError pending;
  Output* output = reinterpret_cast<Output*>(self);
  Frame* frame = output->frame;
  if (--frame->b.awaited == 0)
    for (Run* run = frame->b.runs; run;) {
      const Ref keep = Ref::borrow(object(run));  // what is let go may run anything
      run_drop_outputs(run);
      run = run->b.next;
    }
  delete output->layout;
  free_object(output);
  Py_DECREF(object(frame));
}

void let_go(Scope* scope) {
  for (Discardable& d : *scope->items) {
    Py_DECREF(d.tensor);
    Py_DECREF(object(d.frame));
  }
  scope->items->clear();
}

void scope_free(PyObject* self) {
  Scope* scope = reinterpret_cast<Scope*>(self);
  let_go(scope);
  delete scope->items;
  free_object(scope);
}

PyObject* scope_make(PyObject*, PyObject*) {
  Scope* scope = PyObject_New(Scope, scope_type);
  if (!scope) return nullptr;
  scope->items = new std::vector<Discardable>();
  scope->outer = nullptr;
  scope->open = scope->hooked = false;
  return object(scope);
}

PyMethodDef pack_method = {"pack", pack, METH_O, nullptr};
PyMethodDef unpack_method = {"unpack", unpack_scoped, METH_O, nullptr};

PyObject* scope_enter(PyObject* self, PyObject*) {
  Scope* scope = reinterpret_cast<Scope*>(self);
  if (scope->open) {
    PyErr_SetString(PyExc_RuntimeError, "the scope is open already");
    return nullptr;
  }
  const Ref hook(PyCFunction_New(&pack_method, self)),
      unhook(PyCFunction_New(&unpack_method, nullptr));
  const Ref outside = call(torch_api.top_hooks, Py_True);
  if (!hook || !unhook || !outside || !call(torch_api.push_hooks, hook.get(), unhook.get()))
    return nullptr;
  scope->hooked = outside.get() != Py_None;
  scope->outer = current;
  scope->open = true;
  current = scope;
  return Py_NewRef(self);
}

PyObject* scope_exit(PyObject* self, PyObject*) {
  Scope* scope = reinterpret_cast<Scope*>(self);
  if (!scope->open) Py_RETURN_NONE;
  current = scope->outer;
  scope->open = false;
  const Ref popped = call(torch_api.pop_hooks);
  let_go(scope);
  return popped ? Py_NewRef(Py_None) : nullptr;
}

bool overlaps(PyObject* tensor, const DLTensor& t) {
  DLTensor other;
  if (!borrow_dltensor(tensor, &other)) return false;
  const char *begin = address(other), *end = begin + span_bytes(other);
  return address(t) < end && begin < address(t) + span_bytes(t);
}

// True where a tensor among the arguments, in containers too, has some of t's memory.
bool is_part_of(PyObject* value, const DLTensor& t) {
  if (PyObject_TypeCheck(value, reinterpret_cast<PyTypeObject*>(torch_api.tensor_type)))
    return overlaps(value, t);
  if (PyTuple_Check(value)) {
    for (Py_ssize_t i = 0; i < PyTuple_Size(value); ++i)
      if (is_part_of(PyTuple_GetItem(value, i), t)) return true;
  } else if (PyList_Check(value)) {
    for (Py_ssize_t i = 0; i < PyList_Size(value); ++i)
      if (is_part_of(PyList_GetItem(value, i), t)) return true;
  } else if (PyDict_Check(value)) {
    PyObject *key, *entry;
    for (Py_ssize_t at = 0; PyDict_Next(value, &at, &key, &entry);)
      if (is_part_of(entry, t)) return true;
  }
  return false;
}

PyMethodDef scope_methods[] = {{"__enter__", scope_enter, METH_NOARGS, nullptr},
                               {"__exit__", scope_exit, METH_VARARGS, nullptr},
                               {nullptr, nullptr, 0, nullptr}};
PyType_Slot scope_slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(scope_free)},
    {Py_tp_methods, scope_methods},
    {Py_tp_doc, const_cast<char*>("Where discardable outputs are read for the last time.")},
    {0, nullptr}};
PyType_Slot output_slots[] = {{Py_tp_dealloc, reinterpret_cast<void*>(output_free)}, {0, nullptr}};
constexpr unsigned kTypeFlags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION;
PyType_Spec scope_spec = {"rcore._core.Scope", sizeof(Scope), 0, kTypeFlags, scope_slots};
PyType_Spec output_spec = {"rcore._core.Output", sizeof(Output), 0, kTypeFlags, output_slots};
PyObject* is_open(PyObject*, PyObject*) {
  return PyBool_FromLong(current != nullptr);
}

PyMethodDef functions[] = {
    {"note_output", note_output, METH_VARARGS,
     "note_output(region, index, output, saved) -> what a graph may keep of `saved`, or None where "
     "it is no part of that output"},
    {"unpack_noted", unpack_scoped, METH_O, "unpack_noted(note) -> the tensor, from a replay"},
    {"scope_is_open", is_open, METH_NOARGS, "scope_is_open() -> whether this thread is in a Scope"},
    {"make_scope", scope_make, METH_NOARGS,
     "make_scope() -> Scope, a context manager: discarded outputs end with it"},
    {nullptr, nullptr, 0, nullptr}};

void register_output(Frame* frame, PyObject* value, size_t index, PyObject* arguments,
                     PyObject* keywords) {
  FrameBody& b = frame->b;
  DLTensor t;
  if (!PyObject_TypeCheck(value, reinterpret_cast<PyTypeObject*>(torch_api.tensor_type)) ||
      !borrow_dltensor(value, &t) || span_bytes(t) == 0 || is_part_of(arguments, t) ||
      (keywords && is_part_of(keywords, t)))
    return;
  const uint64_t bytes = span_bytes(t);
  for (const Discardable& d : *current->items)
    if (address(t) < d.base + d.bytes && d.base < address(t) + bytes)
      return;  // one output is a view of another
  current->items->push_back({Py_NewRef(value), reinterpret_cast<Frame*>(Py_NewRef(object(frame))),
                             index, address(t), bytes, t.device, t.dtype, version_of(value)});
  b.saved_bytes += bytes;
}

}  // namespace

void discard_outputs(Frame* frame, PyObject* result, PyObject* arguments, PyObject* keywords) {
  if (!current) return;
  if (!PyTuple_Check(result)) return register_output(frame, result, 0, arguments, keywords);
  for (Py_ssize_t i = 0; i < PyTuple_Size(result); ++i)
    register_output(frame, PyTuple_GetItem(result, i), static_cast<size_t>(i), arguments, keywords);
}

bool make_scope_types(PyObject* module) {
  const auto type = [](PyType_Spec* spec) {
    return reinterpret_cast<PyTypeObject*>(PyType_FromSpec(spec));
  };
  scope_type = type(&scope_spec);
  output_type = type(&output_spec);
  return scope_type && output_type && PyModule_AddFunctions(module, functions) == 0;
}

}  // namespace rcpy
