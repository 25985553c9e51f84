// src/_core/modules.cc: whether a callable has modules at hand that may have buffers to change.
// Most have none; to see that here costs a tenth of what it costs in rcore.torch.state.
#include <unordered_map>

#include "frame.h"

namespace rcpy {
namespace {

// How deep callables, lists and dictionaries are looked into.
constexpr int kDepth = 4;

bool is_a(PyObject* value, PyObject* type) {
  return PyObject_TypeCheck(value, reinterpret_cast<PyTypeObject*>(type));
}

// Modules without a buffer in their whole tree, as rcore.torch.state has found; held weakly.
// Never destroyed: the interpreter ends before.
using WeakModules = std::unordered_map<PyObject*, Ref>;
WeakModules& quiet_modules = *new WeakModules;

bool is_quiet_module(PyObject* module) {
  const auto known = quiet_modules.find(module);
  if (known == quiet_modules.end()) return false;
  if (call(known->second.get()).get() == module) return true;
  quiet_modules.erase(known);  // it died, and another has its address
  return false;
}

// What the code of a function says, for all functions made of it. A program has few that are
// regions.
struct Code {
  PyObject* code = nullptr;  // held
  bool closes = false, has_keywords = false, names_modules = false;
};
constexpr size_t kCodes = 64;
Code codes[kCodes];

bool is_zero(PyObject* code, PyObject* count) {
  const Ref n(PyObject_GetAttr(code, count));
  return n && PyLong_AsLong(n.get()) == 0;
}

// The modules among the names that a function may look up. A name that is none when it is first
// asked about is taken to stay so.
template <class Use>
bool each_global_module(PyObject* function, PyObject* code, Use use) {
  const Ref globals(PyObject_GetAttr(function, names.globals)),
      used(PyObject_GetAttr(code, names.co_names));
  if (!globals || !used) return false;
  for (Py_ssize_t i = 0; i < PyTuple_Size(used.get()); ++i) {
    PyObject* value = PyDict_GetItem(globals.get(), PyTuple_GetItem(used.get(), i));
    if (value && is_a(value, torch_api.nn_module_type) && !use(value)) return false;
  }
  return true;
}

const Code* code_of(PyObject* function) {
  const Ref code(PyObject_GetAttr(function, names.code));
  if (!code) return nullptr;
  Code& known = codes[reinterpret_cast<uintptr_t>(code.get()) / 16 % kCodes];
  if (known.code == code.get()) return &known;
  Code read;
  if (!each_global_module(function, code.get(),
                          [&](PyObject*) { return read.names_modules = true; }))
    return nullptr;
  const Ref free(PyObject_GetAttr(code.get(), names.co_freevars));
  if (!free) return nullptr;
  read.closes = PyTuple_Size(free.get()) > 0;
  read.has_keywords = !is_zero(code.get(), names.co_kwonlyargcount);
  read.code = Py_NewRef(code.get());
  const Ref before(known.code);
  known = read;
  return &known;
}

bool is_quiet(PyObject* value, int depth);

bool all_quiet(PyObject* values, int depth) {
  if (PyTuple_Check(values)) {
    for (Py_ssize_t i = 0; i < PyTuple_Size(values); ++i)
      if (!is_quiet(PyTuple_GetItem(values, i), depth)) return false;
    return true;
  }
  if (PyList_Check(values)) {
    for (Py_ssize_t i = 0; i < PyList_Size(values); ++i)
      if (!is_quiet(PyList_GetItem(values, i), depth)) return false;
    return true;
  }
  PyObject *key, *value;
  for (Py_ssize_t at = 0; PyDict_Next(values, &at, &key, &value);)
    if (!is_quiet(value, depth)) return false;
  return true;
}

bool attribute_is_quiet(PyObject* owner, PyObject* name, int depth) {
  const Ref value(PyObject_GetAttr(owner, name));
  return value && is_quiet(value.get(), depth);
}

bool closure_is_quiet(PyObject* function, int depth) {
  const Ref closure(PyObject_GetAttr(function, names.closure));
  if (!closure) return false;
  for (Py_ssize_t i = 0; i < PyTuple_Size(closure.get()); ++i) {
    const Ref value(PyObject_GetAttr(PyTuple_GetItem(closure.get(), i), names.cell_contents));
    if (!value) PyErr_Clear();  // not assigned yet
    if (value && !is_quiet(value.get(), depth)) return false;
  }
  return true;
}

bool function_is_quiet(PyObject* function, int depth) {
  const Code* found = code_of(function);
  if (!found) return false;
  const Code code = *found;
  return (!code.closes || closure_is_quiet(function, depth)) &&
         attribute_is_quiet(function, names.defaults, depth) &&
         (!code.has_keywords || attribute_is_quiet(function, names.keyword_defaults, depth)) &&
         (!code.names_modules || each_global_module(function, code.code, is_quiet_module));
}

bool is_quiet(PyObject* value, int depth) {
  if (value == Py_None || PyLong_Check(value) || PyFloat_Check(value) || PyUnicode_Check(value) ||
      is_a(value, torch_api.tensor_type))
    return true;
  if (is_a(value, torch_api.nn_module_type)) return is_quiet_module(value);
  if (depth == 0) return false;
  if (PyTuple_Check(value) || PyList_Check(value) || PyDict_Check(value))
    return all_quiet(value, depth - 1);
  if (is_a(value, torch_api.function_type)) return function_is_quiet(value, depth - 1);
  if (is_a(value, torch_api.method_type))
    return attribute_is_quiet(value, names.self, depth - 1) &&
           attribute_is_quiet(value, names.function, depth - 1);
  if (is_a(value, torch_api.partial_type))
    return attribute_is_quiet(value, names.func, depth - 1) &&
           attribute_is_quiet(value, names.args, depth - 1) &&
           attribute_is_quiet(value, names.keywords, depth - 1);
  return false;
}

// is_quiet(function, arguments, keywords)
PyObject* py_is_quiet(PyObject*, PyObject* const* a, Py_ssize_t n) {
  if (n != 3 || !torch_api.ready || !PyTuple_Check(a[1]) ||
      (a[2] != Py_None && !PyDict_Check(a[2]))) {
    PyErr_SetString(PyExc_TypeError, "is_quiet(function, arguments, keywords or None)");
    return nullptr;
  }
  return PyBool_FromLong(has_no_buffers(a[0], a[1], a[2] == Py_None ? nullptr : a[2]));
}

PyObject* note_quiet(PyObject*, PyObject* module) {
  constexpr size_t kMany = 1024;  // of dead ones, at least, before they are looked for
  static size_t next_sweep = kMany;
  if (quiet_modules.size() >= next_sweep) {
    std::erase_if(quiet_modules,
                  [](const auto& entry) { return call(entry.second.get()).get() == Py_None; });
    next_sweep = 2 * quiet_modules.size() + kMany;
  }
  Ref weak(PyWeakref_NewRef(module, nullptr));
  if (!weak) return nullptr;
  quiet_modules[module] = std::move(weak);
  Py_RETURN_NONE;
}

PyMethodDef functions[] = {
    {"is_quiet", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(py_is_quiet)),
     METH_FASTCALL,
     "is_quiet(function, arguments, keywords or None) -> whether no module at hand has a buffer"},
    {"note_quiet", note_quiet, METH_O, "note_quiet(module): it has no buffer"},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

bool has_no_buffers(PyObject* function, PyObject* arguments, PyObject* keywords) {
  const bool quiet = is_quiet(function, kDepth) && all_quiet(arguments, kDepth) &&
                     (!keywords || all_quiet(keywords, kDepth));
  if (!quiet) PyErr_Clear();  // rcore.torch.state looks for itself
  return quiet;
}

bool make_module_functions(PyObject* module) {
  return PyModule_AddFunctions(module, functions) == 0;
}

}  // namespace rcpy
