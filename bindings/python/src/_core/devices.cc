// src/_core/devices.cc: see devices.h. A process has one kind of accelerator, with a generator for
// each device; rcore.torch hands over how to read and set them.
#include "devices.h"

#include "torch_api.h"

namespace rcpy {
namespace {

struct Generator {
  PyObject *get_state, *set_state;
};

// By the device's index; made when the process first uses its devices.
std::vector<Generator> generators;
PyObject* module_of_generators = nullptr;

bool load_generators() {
  if (module_of_generators == torch_api.device_module) return true;
  const Ref list = call(torch_api.device_generators);
  if (!list) return false;
  for (const Generator& g : generators) {
    Py_DECREF(g.get_state);
    Py_DECREF(g.set_state);
  }
  generators.clear();
  for (Py_ssize_t i = 0; i < PyList_Size(list.get()); ++i) {
    PyObject* pair = PyList_GetItem(list.get(), i);
    if (!pair || !PyTuple_Check(pair) || PyTuple_Size(pair) != 2) {
      PyErr_SetString(PyExc_TypeError, "device_generators() -> [(get_state, set_state), ...]");
      return false;
    }
    generators.push_back(
        {Py_NewRef(PyTuple_GetItem(pair, 0)), Py_NewRef(PyTuple_GetItem(pair, 1))});
  }
  module_of_generators = torch_api.device_module;
  return true;
}

bool keep(size_t device, std::vector<DeviceState>* states) {
  if (device >= generators.size()) return true;  // one that draws nothing
  for (const DeviceState& known : *states)
    if (known.device == device) return true;
  PyObject* state = call(generators[device].get_state).release();
  if (!state) return false;
  states->push_back({device, state});
  return true;
}

bool set(const DeviceState& state) {
  return static_cast<bool>(call(generators[state.device].set_state, state.state));
}

}  // namespace

bool has_no_device() {
  return torch_api.device_module == Py_None;
}

int devices_are_used() {
  const Ref used(PyObject_GetAttr(torch_api.device_module, names.initialized));
  if (used) return PyObject_IsTrue(used.get());
  PyErr_Clear();  // a module that does not say is ready from the start
  return 1;
}

bool keep_devices(PyObject* arguments, PyObject* keywords, std::vector<DeviceState>* states) {
  if (!load_generators()) return false;
  if (generators.size() == 1) return keep(0, states);
  const Ref used = call(torch_api.devices_of, arguments, keywords ? keywords : Py_None);
  if (!used) return false;
  for (Py_ssize_t i = 0; i < PyList_Size(used.get()); ++i) {
    const Py_ssize_t device = PyLong_AsSsize_t(PyList_GetItem(used.get(), i));
    if (PyErr_Occurred() || !keep(static_cast<size_t>(device), states)) return false;
  }
  return true;
}

bool swap_devices(const std::vector<DeviceState>& states, std::vector<DeviceState>* before) {
  for (const DeviceState& state : states)
    if (!keep(state.device, before) || !set(state)) return false;
  return true;
}

void restore_devices(std::vector<DeviceState>* before) {
  if (before->empty()) return;
  const PendingError pending;
  for (const DeviceState& state : *before)
    if (!set(state)) PyErr_Clear();
  release_devices(before);
}

void release_devices(std::vector<DeviceState>* states) {
  for (DeviceState& state : *states) Py_DECREF(state.state);
  states->clear();
}

}  // namespace rcpy
