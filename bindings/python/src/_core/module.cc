// src/_core/module.cc: the extension module `rcore._core`.
#include "frame.h"

namespace rcpy {
namespace {

PyObject* version(PyObject*, PyObject*) {
  const uint32_t v = rc_version();
  return Py_BuildValue("III", v / 1000000, v / 1000 % 1000, v % 1000);
}

PyMethodDef methods[] = {
    {"version", version, METH_NOARGS, "version() -> (major, minor, patch) of the loaded library"},
    {"setup_torch", setup_torch, METH_O,
     "setup_torch(callables) -> whether tensors are read by the exchange capsule"},
    {"run_region", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(run_region)),
     METH_FASTCALL,
     "run_region(module, flags, extras, function, arguments, keywords) -> what the function "
     "returns"},
    {"record", record, METH_O, "record(tensor) -> it, or in a replay what the forward had there"},
    {"is_replaying", is_replaying, METH_NOARGS, "is_replaying() -> bool"},
    {"set_trace", set_trace, METH_O,
     "set_trace(list or None) -> the former one; gets (what, kind, name, layer, begin_ns, end_ns, "
     "bytes, resident)"},
    {"collect", collect, METH_O,
     "collect(list or None) -> the former one; regions begun on this thread are appended"},
    {nullptr, nullptr, 0, nullptr}};

PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "rcore._core", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

}  // namespace
}  // namespace rcpy

PyMODINIT_FUNC PyInit__core(void) {
  PyObject* module = PyModule_Create(&rcpy::definition);
  if (module && rcpy::make_names() && rcpy::make_core_types(module) &&
      rcpy::make_frame_types(module) && rcpy::make_scope_types(module) &&
      rcpy::make_kept_type(module) && rcpy::make_meter_functions(module) &&
      rcpy::make_module_functions(module))
    return module;
  Py_XDECREF(module);
  return nullptr;
}
