// src/_core/core.h: the library's contexts, policies and modules as Python objects.
#pragma once

#include <atomic>

#include "rcore/rcore.h"
#include "ref.h"

namespace rcpy {

struct Frame;

struct Context {
  PyObject_HEAD rc_context* handle;
  // The latest layer that ran, while it lives: the next one of its recompute unit links to its
  // output.
  Frame* latest_layer;
};

// What the regions of one module have cost and given, in the host's own memory; the core counts its
// own.
struct Counters {
  uint64_t regions, nested, replays, saved_tensors, freed_bytes, regenerated_bytes, replay_ns;
};

struct Module {
  PyObject_HEAD Context* context;
  rc_module* handle;
  PyObject *kind, *name;
  uint32_t layer;
  // What the policy says of this site: its slots are recomputed, in units of layers from
  // first_layer on.
  bool recomputes, discards;
  uint32_t first_layer, unit_layers;
  Counters counters;
};

extern PyTypeObject *context_type, *policy_type, *module_type;
bool make_core_types(PyObject* module);

// Raises rcore.Error for the last failure of this thread; NULL for `return raise_status(...)`.
PyObject* raise_status(rc_status status);

// The slot that stands for what the host saves by itself, and how the region of a frame begins and
// is replayed.
constexpr uint32_t kSavedSlot = 0;
bool region_open(Module* module, void* frame, rc_region** out);
bool region_seal(rc_region* region);

// Replays a frame's function; set by frame.cc, called by the core.
rc_status frame_replay(const rc_replay_args* args);

}  // namespace rcpy
