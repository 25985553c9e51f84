// src/_core/modules.cc: whether a plain function has modules at hand, whose buffers it may change.
#include "frame.h"

namespace rcpy {
namespace {

bool is_module(PyObject* value) {
  return PyObject_TypeCheck(value, reinterpret_cast<PyTypeObject*>(torch_api.nn_module_type));
}

// Nothing that has modules inside.
bool is_simple(PyObject* value) {
  return value == Py_None || PyLong_Check(value) || PyFloat_Check(value) ||
         PyUnicode_Check(value) ||
         PyObject_TypeCheck(value, reinterpret_cast<PyTypeObject*>(torch_api.tensor_type));
}

bool all_simple(PyObject* tuple) {
  for (Py_ssize_t i = 0; i < PyTuple_Size(tuple); ++i)
    if (!is_simple(PyTuple_GetItem(tuple, i))) return false;
  return true;
}

// Codes whose global names are no modules. A program has few that are regions.
constexpr size_t kCodes = 64;
PyObject* codes[kCodes];  // held

int names_modules(PyObject* function) {
  const Ref code(PyObject_GetAttr(function, names.code));
  if (!code) return -1;
  PyObject*& known = codes[reinterpret_cast<uintptr_t>(code.get()) / 16 % kCodes];
  if (known == code.get()) return 0;
  const Ref globals(PyObject_GetAttr(function, names.globals)),
      used(PyObject_GetAttr(code.get(), names.co_names));
  if (!globals || !used) return -1;
  for (Py_ssize_t i = 0; i < PyTuple_Size(used.get()); ++i) {
    PyObject* value = PyDict_GetItem(globals.get(), PyTuple_GetItem(used.get(), i));
    if (value && is_module(value)) return 1;
  }
  PyObject* const before = known;
  known = Py_NewRef(code.get());
  Py_XDECREF(before);
  return 0;
}

int closes_over_modules(PyObject* function) {
  const Ref closure(PyObject_GetAttr(function, names.closure));
  if (!closure) return -1;
  if (closure.get() == Py_None) return 0;
  for (Py_ssize_t i = 0; i < PyTuple_Size(closure.get()); ++i) {
    const Ref value(PyObject_GetAttr(PyTuple_GetItem(closure.get(), i), names.cell_contents));
    if (!value) PyErr_Clear();  // not assigned yet
    if (value && !is_simple(value.get())) return 1;
  }
  return 0;
}

}  // namespace

int has_modules(PyObject* function, PyObject* arguments, PyObject* keywords) {
  if (!Py_IS_TYPE(function, reinterpret_cast<PyTypeObject*>(torch_api.function_type))) return 0;
  if (!all_simple(arguments)) return 1;
  PyObject *key, *value;
  for (Py_ssize_t at = 0; keywords && PyDict_Next(keywords, &at, &key, &value);)
    if (!is_simple(value)) return 1;
  const Ref defaults(PyObject_GetAttr(function, names.defaults));
  if (!defaults) return -1;
  if (defaults.get() != Py_None && !all_simple(defaults.get())) return 1;
  const int closes = closes_over_modules(function);
  return closes != 0 ? closes : names_modules(function);
}

}  // namespace rcpy
