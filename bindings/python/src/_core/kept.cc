// src/_core/kept.cc: see meter.h.
#include "meter.h"
#include "torch_api.h"

namespace rcpy {
namespace {

struct Kept {
  PyObject_HEAD PyObject* tensor;
  int64_t version;
  Metered metered;
};

PyTypeObject* kept_type;

void kept_free(PyObject* self) {
  Kept* kept = reinterpret_cast<Kept*>(self);
  PyTypeObject* type = Py_TYPE(self);
  meter_remove(kept->metered);
  Py_DECREF(kept->tensor);
  PyObject_Free(self);
  Py_DECREF(type);
}

PyObject* keep_saved(PyObject*, PyObject* tensor) {
  return keep(tensor);
}

PyObject* unpack_saved(PyObject*, PyObject* packed) {
  return unpack_kept(packed);
}

PyMethodDef functions[] = {
    {"keep_saved", keep_saved, METH_O, "keep_saved(tensor) -> what a hook may keep of it"},
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

PyObject* keep(PyObject* tensor) {
  const Metered metered = meter_add(tensor);
  const int64_t version = version_of(tensor);
  PyObject* alias = without_graph(tensor);
  Kept* kept = alias ? PyObject_New(Kept, kept_type) : nullptr;
  if (!kept) {
    meter_remove(metered);
    Py_XDECREF(alias);
    return nullptr;
  }
  kept->tensor = alias;
  kept->version = version;
  kept->metered = metered;
  return reinterpret_cast<PyObject*>(kept);
}

PyObject* unpack_kept(PyObject* packed) {
  if (!Py_IS_TYPE(packed, kept_type)) return Py_NewRef(packed);
  const Kept* kept = reinterpret_cast<Kept*>(packed);
  return is_unchanged(kept->tensor, kept->version, "it") ? Py_NewRef(kept->tensor) : nullptr;
}

bool make_kept_type(PyObject* module) {
  kept_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&kept_spec));
  return kept_type && PyModule_AddFunctions(module, functions) == 0;
}

}  // namespace rcpy
