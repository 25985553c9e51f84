// src/_core/core.cc: contexts, policies and modules of the library as Python objects.
#include "core.h"

#include <cstddef>
#include <string>

namespace rcpy {

PyTypeObject *context_type, *policy_type, *module_type;

namespace {

struct Policy {
  PyObject_HEAD rc_policy* handle;
};

template <class T>
T* make(PyTypeObject* type) {
  return PyObject_New(T, type);
}

void free_object(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  PyObject_Free(self);
  Py_DECREF(type);
}

// Calls a function of the form (buffer, capacity, needed) until the text fits.
template <class Write>
PyObject* text_of(Write write) {
  uint64_t needed = 0;
  rc_status status = write(nullptr, 0, &needed);
  std::string text;
  while (status >= 0 && needed > text.size()) {  // it may grow in between
    text.resize(needed);
    status = write(text.data(), text.size(), &needed);
  }
  if (status < 0) return raise_status(status);
  return PyUnicode_FromString(text.c_str());
}

// ---- policy

PyObject* policy_new(PyObject*, PyObject* json) {
  Py_ssize_t length;
  const char* text = PyUnicode_AsUTF8AndSize(json, &length);
  if (!text) return nullptr;
  rc_policy* handle = nullptr;
  const rc_status status = rc_policy_create_json(text, static_cast<uint64_t>(length), &handle);
  if (status < 0) return raise_status(status);
  Policy* self = make<Policy>(policy_type);
  if (!self) {
    rc_policy_release(handle);
    return nullptr;
  }
  self->handle = handle;
  return reinterpret_cast<PyObject*>(self);
}

void policy_free(PyObject* self) {
  rc_policy_release(reinterpret_cast<Policy*>(self)->handle);
  free_object(self);
}

PyObject* policy_describe(PyObject* self, PyObject*) {
  rc_policy* handle = reinterpret_cast<Policy*>(self)->handle;
  return text_of([&](char* b, uint64_t n, uint64_t* needed) {
    return rc_policy_describe(handle, b, n, needed);
  });
}

PyObject* policy_notes(PyObject* self, PyObject*) {
  const Ref list(PyList_New(0));
  if (!list) return nullptr;
  rc_note note = rc_note_init();
  for (uint32_t i = 0;; ++i) {
    const rc_status status = rc_policy_note(reinterpret_cast<Policy*>(self)->handle, i, &note);
    if (status < 0) return raise_status(status);
    if (status == RC_PASS) return Py_NewRef(list.get());
    const Ref pair(Py_BuildValue("(ss)", note.field, note.message));
    if (!pair || PyList_Append(list.get(), pair.get()) < 0) return nullptr;
  }
}

bool decide(const rc_policy* policy, const char* kind, uint32_t layer, rc_role role,
            rc_decision* out) {
  rc_site site = rc_site_init();
  site.kind = kind;
  site.layer = layer;
  site.slot_role = role;
  *out = rc_decision_init();
  const rc_status status = rc_policy_decide(policy, &site, out);
  if (status >= 0) return true;
  raise_status(status);
  return false;
}

PyObject* policy_decide(PyObject* self, PyObject* arguments) {
  const char* kind;
  unsigned layer;
  int role;
  if (!PyArg_ParseTuple(arguments, "sIi", &kind, &layer, &role)) return nullptr;
  rc_decision d;
  if (!decide(reinterpret_cast<Policy*>(self)->handle, kind, layer, static_cast<rc_role>(role), &d))
    return nullptr;
  return Py_BuildValue("{si si si si sI sI}", "action", static_cast<int>(d.action), "tier",
                       static_cast<int>(d.tier), "codec", static_cast<int>(d.codec), "rule",
                       static_cast<int>(d.rule), "first_layer", d.first_layer, "n_layers",
                       d.n_layers);
}

PyMethodDef policy_methods[] = {
    {"describe", policy_describe, METH_NOARGS, "describe() -> the policy's JSON form"},
    {"notes", policy_notes, METH_NOARGS,
     "notes() -> list of (field, message): what a setting does not do"},
    {"decide", policy_decide, METH_VARARGS,
     "decide(kind, layer, role) -> dict of the decision at that site"},
    {nullptr, nullptr, 0, nullptr}};
PyType_Slot policy_slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(policy_free)},
    {Py_tp_methods, policy_methods},
    {Py_tp_doc, const_cast<char*>("An immutable table (site, slot) -> decision.")},
    {0, nullptr}};
PyType_Spec policy_spec = {"rcore._core.Policy", sizeof(Policy), 0,
                           Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, policy_slots};

// ---- context

PyObject* context_new(PyObject*, PyObject*) {
  rc_context_desc desc = rc_context_desc_init();
  desc.flags = RC_CONTEXT_NO_ARENA;
  rc_context* handle = nullptr;
  const rc_status status = rc_context_create(&desc, &handle);
  if (status < 0) return raise_status(status);
  Context* self = make<Context>(context_type);
  if (!self) {
    rc_context_release(handle);
    return nullptr;
  }
  self->handle = handle;
  self->latest_layer = nullptr;
  return reinterpret_cast<PyObject*>(self);
}

void context_free(PyObject* self) {
  rc_context_release(reinterpret_cast<Context*>(self)->handle);
  free_object(self);
}

PyObject* context_configure(PyObject* self, PyObject* policy) {
  if (!Py_IS_TYPE(policy, policy_type)) {
    PyErr_SetString(PyExc_TypeError, "configure() needs a Policy");
    return nullptr;
  }
  const rc_status status = rc_context_configure(reinterpret_cast<Context*>(self)->handle,
                                                reinterpret_cast<Policy*>(policy)->handle);
  if (status < 0) return raise_status(status);
  Py_RETURN_NONE;
}

PyObject* context_stats(PyObject* self, PyObject*) {
  rc_stats s = rc_stats_init();
  const rc_status status = rc_stats_get(reinterpret_cast<Context*>(self)->handle, &s);
  if (status < 0) return raise_status(status);
  const Ref out(PyDict_New());
  if (!out) return nullptr;
  const struct {
    const char* key;
    uint64_t value;
  } entries[] = {{"regions_live", s.regions_live},
                 {"regions_begun", s.regions_begun},
                 {"regions_passed", s.regions_passed},
                 {"regions_cancelled", s.regions_cancelled},
                 {"regions_abandoned", s.regions_abandoned},
                 {"replays", s.replays},
                 {"replay_ns", s.replay_ns},
                 {"live_bytes", s.live_bytes},
                 {"peak_bytes", s.peak_bytes},
                 {"dropped_bytes", s.dropped_bytes},
                 {"regenerated_bytes", s.regenerated_bytes},
                 {"objects", s.objects}};
  for (const auto& e : entries) {
    const Ref value(PyLong_FromUnsignedLongLong(e.value));
    if (!value || PyDict_SetItemString(out.get(), e.key, value.get()) < 0) return nullptr;
  }
  return Py_NewRef(out.get());
}

PyObject* context_report(PyObject* self, PyObject*) {
  rc_context* handle = reinterpret_cast<Context*>(self)->handle;
  return text_of(
      [&](char* b, uint64_t n, uint64_t* needed) { return rc_report(handle, b, n, needed); });
}

PyMethodDef context_methods[] = {
    {"configure", context_configure, METH_O, "configure(policy): for regions begun from now on"},
    {"stats", context_stats, METH_NOARGS, "stats() -> dict of the core's counters"},
    {"report", context_report, METH_NOARGS,
     "report() -> JSON of the core: per kind and layer, dead rules"},
    {nullptr, nullptr, 0, nullptr}};
PyType_Slot context_slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(context_free)},
    {Py_tp_methods, context_methods},
    {Py_tp_doc, const_cast<char*>("Storage and statistics of the regions of one policy.")},
    {0, nullptr}};
PyType_Spec context_spec = {"rcore._core.Context", sizeof(Context), 0,
                            Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, context_slots};

// ---- module

PyObject* module_new(PyObject*, PyObject* arguments) {
  PyObject *context, *policy;
  const char *kind, *name;
  unsigned layer;
  if (!PyArg_ParseTuple(arguments, "O!O!ssI", context_type, &context, policy_type, &policy, &kind,
                        &name, &layer))
    return nullptr;
  rc_decision saved, output;
  const rc_policy* table = reinterpret_cast<Policy*>(policy)->handle;
  if (!decide(table, kind, layer, RC_ROLE_SAVED, &saved) ||
      !decide(table, kind, layer, RC_ROLE_OUTPUT, &output))
    return nullptr;
  rc_slot_desc slot = rc_slot_desc_init();
  slot.name = "saved";
  slot.role = RC_ROLE_SAVED;
  slot.flags = RC_SLOT_HOST;
  rc_module_ops ops = rc_module_ops_init();
  ops.replay = frame_replay;
  rc_module_desc desc = rc_module_desc_init();
  desc.kind = kind;
  desc.name = name;
  desc.layer = layer;
  desc.slots = &slot;
  desc.n_slots = 1;
  desc.slot_stride = sizeof slot;
  desc.ops = &ops;
  rc_module* handle = nullptr;
  const rc_status status =
      rc_module_register(reinterpret_cast<Context*>(context)->handle, &desc, &handle);
  if (status < 0) return raise_status(status);
  Module* self = make<Module>(module_type);
  if (!self) {
    rc_module_release(handle);
    return nullptr;
  }
  self->context = reinterpret_cast<Context*>(Py_NewRef(context));
  self->handle = handle;
  self->kind = PyUnicode_FromString(kind);
  self->name = PyUnicode_FromString(name);
  self->layer = layer;
  self->recomputes = saved.action == RC_ACTION_RECOMPUTE;
  self->discards = output.action == RC_ACTION_RECOMPUTE;
  self->first_layer = saved.first_layer;
  self->unit_layers = saved.n_layers;
  self->counters = {};
  return reinterpret_cast<PyObject*>(self);
}

void module_free(PyObject* object) {
  Module* self = reinterpret_cast<Module*>(object);
  rc_module_release(self->handle);
  Py_XDECREF(self->kind);
  Py_XDECREF(self->name);
  Py_DECREF(reinterpret_cast<PyObject*>(self->context));
  free_object(object);
}

PyObject* module_counters(PyObject* object, PyObject*) {
  const Counters& c = reinterpret_cast<Module*>(object)->counters;
  return Py_BuildValue("{sK sK sK sK sK sK sK}", "regions", c.regions, "nested", c.nested,
                       "replays", c.replays, "saved_tensors", c.saved_tensors, "freed_bytes",
                       c.freed_bytes, "regenerated_bytes", c.regenerated_bytes, "replay_ns",
                       c.replay_ns);
}

PyObject* module_reset(PyObject* object, PyObject*) {
  reinterpret_cast<Module*>(object)->counters = {};
  Py_RETURN_NONE;
}

PyObject* module_recomputes(PyObject* object, void*) {
  return PyBool_FromLong(reinterpret_cast<Module*>(object)->recomputes);
}
PyObject* module_discards(PyObject* object, void*) {
  return PyBool_FromLong(reinterpret_cast<Module*>(object)->discards);
}
PyObject* module_unit_layers(PyObject* object, void*) {
  return PyLong_FromUnsignedLong(reinterpret_cast<Module*>(object)->unit_layers);
}
PyObject* module_kind(PyObject* object, void*) {
  return Py_NewRef(reinterpret_cast<Module*>(object)->kind);
}
PyObject* module_name(PyObject* object, void*) {
  return Py_NewRef(reinterpret_cast<Module*>(object)->name);
}
PyObject* module_layer(PyObject* object, void*) {
  return PyLong_FromUnsignedLong(reinterpret_cast<Module*>(object)->layer);
}

PyMethodDef module_methods[] = {
    {"counters", module_counters, METH_NOARGS,
     "counters() -> dict: regions, replays and bytes in the host's memory"},
    {"reset", module_reset, METH_NOARGS, "reset(): sets the counters to zero"},
    {nullptr, nullptr, 0, nullptr}};
PyGetSetDef module_properties[] = {
    {"discards", module_discards, nullptr, nullptr, nullptr},
    {"recomputes", module_recomputes, nullptr, nullptr, nullptr},
    {"unit_layers", module_unit_layers, nullptr, "of how many layers its recompute unit is"},
    {"kind", module_kind, nullptr, nullptr, nullptr},
    {"name", module_name, nullptr, nullptr, nullptr},
    {"layer", module_layer, nullptr, nullptr, nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};
PyType_Slot module_slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(module_free)},
    {Py_tp_methods, module_methods},
    {Py_tp_getset, module_properties},
    {Py_tp_doc,
     const_cast<char*>("A registered submodule: kind, layer, and what the policy says of it.")},
    {0, nullptr}};
PyType_Spec module_spec = {"rcore._core.Module", sizeof(Module), 0,
                           Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, module_slots};

PyMethodDef functions[] = {{"make_policy", policy_new, METH_O, "make_policy(json) -> Policy"},
                           {"make_context", context_new, METH_NOARGS, "make_context() -> Context"},
                           {"make_module", module_new, METH_VARARGS,
                            "make_module(context, policy, kind, name, layer) -> Module"},
                           {nullptr, nullptr, 0, nullptr}};

}  // namespace

PyObject* raise_status(rc_status status) {
  rc_error_info info = rc_error_info_init();
  if (rc_error_last(&info) != RC_OK || info.code != status) info = rc_error_info_init();
  const Ref errors(PyImport_ImportModule("rcore.errors"));
  if (!errors) return nullptr;
  const Ref type(PyObject_GetAttrString(errors.get(), "Error"));
  if (!type) return nullptr;
  const Ref message(
      info.field[0]
          ? PyUnicode_FromFormat("%s: %s: %s", rc_status_name(status), info.field, info.message)
          : PyUnicode_FromFormat("%s: %s", rc_status_name(status), info.message));
  if (!message) return nullptr;
  const Ref error(
      PyObject_CallFunction(type.get(), "Oss", message.get(), rc_status_name(status), info.field));
  if (error) PyErr_SetObject(type.get(), error.get());
  return nullptr;
}

bool region_open(Module* module, void* frame, rc_region** out) {
  rc_region_desc desc = rc_region_desc_init();
  desc.module = module->handle;
  desc.user_data = frame;
  rc_status status = rc_region_begin(module->context->handle, &desc, out);
  if (status >= 0) return true;
  raise_status(status);
  return false;
}

bool region_seal(rc_region* region) {
  const rc_status status = rc_region_end(region, nullptr);
  if (status >= 0) return true;
  raise_status(status);
  return false;
}

bool make_core_types(PyObject* module) {
  const auto type = [](PyType_Spec* spec) {
    return reinterpret_cast<PyTypeObject*>(PyType_FromSpec(spec));
  };
  context_type = type(&context_spec);
  policy_type = type(&policy_spec);
  module_type = type(&module_spec);
  if (!context_type || !policy_type || !module_type) return false;
  return PyModule_AddObjectRef(module, "Context", reinterpret_cast<PyObject*>(context_type)) == 0 &&
         PyModule_AddObjectRef(module, "Policy", reinterpret_cast<PyObject*>(policy_type)) == 0 &&
         PyModule_AddObjectRef(module, "Module", reinterpret_cast<PyObject*>(module_type)) == 0 &&
         PyModule_AddFunctions(module, functions) == 0;
}

}  // namespace rcpy
