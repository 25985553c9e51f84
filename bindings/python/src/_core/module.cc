// src/_core/module.cc: the extension module `rcore._core`.
#include "ref.h"

#include "rcore/rcore.h"

namespace rcpy {
namespace {

PyObject* version(PyObject*, PyObject*) {
  const uint32_t v = rc_version();
  return Py_BuildValue("III", v / 1000000, v / 1000 % 1000, v % 1000);
}

PyMethodDef methods[] = {
    {"version", version, METH_NOARGS, "version() -> (major, minor, patch) of the loaded library"},
    {nullptr, nullptr, 0, nullptr}};

PyModuleDef definition = {PyModuleDef_HEAD_INIT, "rcore._core", nullptr, -1, methods,
                          nullptr,               nullptr,       nullptr, nullptr};

}  // namespace
}  // namespace rcpy

PyMODINIT_FUNC PyInit__core(void) {
  return PyModule_Create(&rcpy::definition);
}
