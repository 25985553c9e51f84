// src/_core/kept.cc: see meter.h.
#include "meter.h"
#include "torch_api.h"

namespace rcpy {
namespace {

struct Kept {
  PyObject_HEAD PyObject* object;  // the tensor, or torch's SavedTensor of what hooks around took
  bool is_taken;
  int64_t version;  // of a tensor
  Metered metered;
};

PyTypeObject* kept_type;

void kept_free(PyObject* self) {
  Kept* kept = reinterpret_cast<Kept*>(self);
  PyTypeObject* type = Py_TYPE(self);
  meter_remove(kept->metered);
  Py_DECREF(kept->object);
  PyObject_Free(self);
  Py_DECREF(type);
}

PyObject* keep_saved(PyObject*, PyObject* tensor) {
  return keep(tensor);
}

PyObject* hand_on_saved(PyObject*, PyObject* tensor) {
  return hand_on(tensor);
}

PyObject* unpack_saved(PyObject*, PyObject* packed) {
  return unpack_kept(packed);
}

PyMethodDef functions[] = {
    {"keep_saved", keep_saved, METH_O, "keep_saved(tensor) -> what a hook may keep of it"},
    {"hand_on_saved", hand_on_saved, METH_O,
     "hand_on_saved(tensor) -> the same, for a hook that others stand around: they take it"},
    {"unpack_saved", unpack_saved, METH_O, "unpack_saved(kept) -> the tensor"},
    {nullptr, nullptr, 0, nullptr}};
PyType_Slot kept_slots[] = {{Py_tp_dealloc, reinterpret_cast<void*>(kept_free)}, {0, nullptr}};
PyType_Spec kept_spec = {"rcore._core.Kept", sizeof(Kept), 0,
                         Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, kept_slots};

}  // namespace

PyObject* without_graph(PyObject* tensor) {
  const Ref leaf(PyObject_GetAttr(tensor, names.is_leaf));
  if (!leaf) return nullptr;
  return leaf.get() == Py_True ? Py_NewRef(tensor)
                               : PyObject_CallMethodObjArgs(tensor, names.detach, nullptr);
}

static PyObject* make_kept(PyObject* tensor, PyObject* object, bool is_taken) {
  Kept* kept = object ? PyObject_New(Kept, kept_type) : nullptr;
  if (!kept) {
    Py_XDECREF(object);
    return nullptr;
  }
  kept->object = object;
  kept->is_taken = is_taken;
  kept->version = version_of(tensor);
  kept->metered = meter_add(tensor);
  return reinterpret_cast<PyObject*>(kept);
}

PyObject* keep(PyObject* tensor) {
  return make_kept(tensor, without_graph(tensor), false);
}

PyObject* hand_on(PyObject* tensor) {
  const Ref plain(without_graph(tensor)), own = call(torch_api.top_hooks, Py_True);
  if (!plain || !own || !call(torch_api.pop_hooks)) return nullptr;
  Ref taken = call(torch_api.make_saved_tensor, plain.get(), Py_False);
  bool again = false;
  {
    const PendingError pending;
    again = static_cast<bool>(Ref(PyObject_CallObject(torch_api.push_hooks, own.get())));
    if (!again) PyErr_Clear();
  }
  return taken && again ? make_kept(tensor, taken.release(), true) : nullptr;
}

PyObject* unpack_kept(PyObject* packed) {
  if (!Py_IS_TYPE(packed, kept_type)) return Py_NewRef(packed);
  const Ref alive = Ref::borrow(packed);
  const Kept* kept = reinterpret_cast<Kept*>(packed);
  if (kept->is_taken) return PyObject_CallMethodObjArgs(kept->object, names.unpack, nullptr);
  return is_unchanged(kept->object, kept->version, "it") ? Py_NewRef(kept->object) : nullptr;
}

bool make_kept_type(PyObject* module) {
  kept_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&kept_spec));
  return kept_type && PyModule_AddFunctions(module, functions) == 0;
}

}  // namespace rcpy
