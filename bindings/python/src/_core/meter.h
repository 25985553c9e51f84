// src/_core/meter.h: the bytes that graphs hold for backward, counted once for each storage, while
// somebody measures.
#pragma once

#include <cstdint>
#include <vector>

#include "ref.h"

namespace rcpy {

// One holder of one storage. Holders that outlive a measurement count for nothing.
struct Metered {
  uint64_t block = 0;
  uint32_t measurement = 0;
};

// Whether what this thread saves now belongs to the model that is measured.
bool meter_is_on();
// The measurement that a region begins in; 0 is none. Its replays count in that one alone.
uint32_t meter_measurement();
class MeterReplay {
 public:
  explicit MeterReplay(uint32_t measurement);
  ~MeterReplay();
  MeterReplay(const MeterReplay&) = delete;
  MeterReplay& operator=(const MeterReplay&) = delete;

 private:
  bool before_;
};
// Counts a holder of the tensor's storage; nothing for parameters, and what the measurement leaves
// out. Never fails.
Metered meter_add(PyObject* tensor);
void meter_remove(const Metered& holder);
// The same for every tensor in tuples, lists and dicts.
void meter_add_all(PyObject* value, std::vector<Metered>* out);
void meter_remove_all(std::vector<Metered>* holders);

bool make_meter_functions(PyObject* module);

// kept.cc: the tensor if it is a leaf, else an alias that shares its version: what a node keeps of
// its own output must not have the node.
PyObject* without_graph(PyObject* tensor);
// A saved tensor as a hook keeps it: without the graph, and with the version it had.
PyObject* keep(PyObject* tensor);
// The same, taken by the hooks around the innermost ones, which are those that call it.
PyObject* hand_on(PyObject* tensor);
// The tensor again, or anything else as it is.
PyObject* unpack_kept(PyObject* packed);
bool make_kept_type(PyObject* module);

}  // namespace rcpy
