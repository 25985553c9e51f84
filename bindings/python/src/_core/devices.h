// src/_core/devices.h: the generators of devices that a region may draw from.
#pragma once

#include <vector>

#include "ref.h"

namespace rcpy {

// What one generator was at, at the begin of a region or before its replay.
struct DeviceState {
  size_t device;
  PyObject* state;  // owned
};

// True, without asking anything, where this process has no device with a generator of its own.
bool has_no_device();
// True where the process uses its devices already: their generators exist. -1 with an error set.
int devices_are_used();
// Appends the states of the current device and of those that hold tensors among the arguments
// (`keywords` may be NULL). False with an error set.
bool keep_devices(PyObject* arguments, PyObject* keywords, std::vector<DeviceState>* states);
// Sets the generators for a replay; `before` is what to put back, also on failure.
bool swap_devices(const std::vector<DeviceState>& states, std::vector<DeviceState>* before);
void restore_devices(std::vector<DeviceState>* before);
void release_devices(std::vector<DeviceState>* states);

}  // namespace rcpy
