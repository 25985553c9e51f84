// src/_core/meter.cc: see meter.h.
#include "meter.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "torch_api.h"

namespace rcpy {
namespace {

struct Block {
  uint64_t bytes = 0;
  uint64_t holders = 0;
};

// Guarded by the interpreter's lock.
struct Meter {
  bool on = false;
  uint32_t measurement = 0;
  uint64_t live = 0, peak = 0;
  std::unordered_map<uint64_t, Block> blocks;
  std::unordered_set<uint64_t> left_out;
};

Meter& meter() {
  static Meter* const the_meter = new Meter;  // holders may die after static objects
  return *the_meter;
}

// The measured model's forward, or a replay of a part of it, runs on this thread.
thread_local bool is_inside = false;

bool is_tensor(PyObject* value) {
  return PyObject_TypeCheck(value, reinterpret_cast<PyTypeObject*>(torch_api.tensor_type));
}

// False where the tensor has no storage of its own (sparse, wrapper subclasses).
bool storage_of(PyObject* tensor, uint64_t* block, uint64_t* bytes) {
  const Ref storage(PyObject_CallMethodObjArgs(tensor, names.untyped_storage, nullptr));
  if (!storage) return false;
  const Ref address(PyObject_GetAttr(storage.get(), names.cdata));
  const Ref size(PyObject_CallMethodObjArgs(storage.get(), names.nbytes, nullptr));
  if (!address || !size) return false;
  *block = PyLong_AsUnsignedLongLong(address.get());
  *bytes = PyLong_AsUnsignedLongLong(size.get());
  return !PyErr_Occurred();
}

PyObject* meter_start(PyObject*, PyObject* left_out) {
  const Ref items(PySequence_List(left_out));
  if (!items) return nullptr;
  Meter& m = meter();
  m.left_out.clear();
  for (Py_ssize_t i = 0; i < PyList_Size(items.get()); ++i)
    m.left_out.insert(PyLong_AsUnsignedLongLong(PyList_GetItem(items.get(), i)));
  if (PyErr_Occurred()) return nullptr;
  m.blocks.clear();
  m.live = m.peak = 0;
  ++m.measurement;
  m.on = true;
  Py_RETURN_NONE;
}

PyObject* meter_leave_out(PyObject*, PyObject* address) {
  meter().left_out.insert(PyLong_AsUnsignedLongLong(address));
  if (PyErr_Occurred()) return nullptr;
  Py_RETURN_NONE;
}

PyObject* meter_enter(PyObject*, PyObject* inside) {
  const bool before = is_inside;
  is_inside = inside == Py_True;
  return PyBool_FromLong(before);
}

PyObject* meter_read(PyObject*, PyObject*) {
  return Py_BuildValue("(KK)", meter().live, meter().peak);
}

PyObject* meter_stop(PyObject*, PyObject*) {
  Meter& m = meter();
  m.on = false;
  ++m.measurement;
  m.blocks.clear();
  m.left_out.clear();
  Py_RETURN_NONE;
}

PyMethodDef functions[] = {
    {"meter_start", meter_start, METH_O,
     "meter_start(addresses of storages to leave out): counts what is saved from now on"},
    {"meter_leave_out", meter_leave_out, METH_O, "meter_leave_out(address of a storage)"},
    {"meter_enter", meter_enter, METH_O,
     "meter_enter(bool) -> the former; whether this thread runs the measured model's forward"},
    {"meter_read", meter_read, METH_NOARGS, "meter_read() -> (live, peak) bytes"},
    {"meter_stop", meter_stop, METH_NOARGS, "meter_stop()"},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

bool meter_is_on() {
  return is_inside && meter().on;
}

uint32_t meter_measurement() {
  return meter_is_on() ? meter().measurement : 0;
}

MeterReplay::MeterReplay(uint32_t measurement) : before_(is_inside) {
  is_inside = measurement != 0 && measurement == meter().measurement;
}

MeterReplay::~MeterReplay() {
  is_inside = before_;
}

Metered meter_add(PyObject* tensor) {
  Meter& m = meter();
  if (!meter_is_on() || !is_tensor(tensor)) return {};
  const PendingError pending;
  uint64_t block = 0, bytes = 0;
  const bool counts = !belongs_to_parameter(tensor) && storage_of(tensor, &block, &bytes);
  PyErr_Clear();
  if (!counts || m.left_out.count(block) > 0) return {};
  Block& held = m.blocks[block];
  if (held.holders++ == 0) {
    held.bytes = bytes;
    m.live += bytes;
    m.peak = std::max(m.peak, m.live);
  }
  return {block, m.measurement};
}

void meter_remove(const Metered& holder) {
  Meter& m = meter();
  if (holder.block == 0 || holder.measurement != m.measurement) return;
  const auto at = m.blocks.find(holder.block);
  if (at == m.blocks.end() || --at->second.holders > 0) return;
  m.live -= at->second.bytes;
  m.blocks.erase(at);
}

void meter_add_all(PyObject* value, std::vector<Metered>* out) {
  if (!value || !meter_is_on()) return;
  if (is_tensor(value)) {
    out->push_back(meter_add(value));
  } else if (PyTuple_Check(value)) {
    for (Py_ssize_t i = 0; i < PyTuple_Size(value); ++i)
      meter_add_all(PyTuple_GetItem(value, i), out);
  } else if (PyList_Check(value)) {
    for (Py_ssize_t i = 0; i < PyList_Size(value); ++i)
      meter_add_all(PyList_GetItem(value, i), out);
  } else if (PyDict_Check(value)) {
    PyObject *key, *entry;
    for (Py_ssize_t at = 0; PyDict_Next(value, &at, &key, &entry);) meter_add_all(entry, out);
  }
}

void meter_remove_all(std::vector<Metered>* holders) {
  for (const Metered& holder : *holders) meter_remove(holder);
  holders->clear();
}

bool make_meter_functions(PyObject* module) {
  return PyModule_AddFunctions(module, functions) == 0;
}

}  // namespace rcpy
