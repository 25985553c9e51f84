// src/_core/frame.cc: lifetimes of frames, holders, runs and tokens, and the Region that Python
// sees.
#include "frame.h"

#include <time.h>

namespace rcpy {

PyTypeObject *frame_type, *holder_type, *run_type, *token_type;

int64_t now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

namespace {

Pool<Frame> frames;
Pool<Run> runs;

template <class T>
PyObject* object(T* t) {
  return reinterpret_cast<PyObject*>(t);
}

template <class T>
void free_object(T* self) {
  PyTypeObject* type = Py_TYPE(object(self));
  PyObject_Free(self);
  Py_DECREF(type);
}

void run_clear(Run* run) {
  for (size_t i = 0; i < run->b.values.size(); ++i) Py_XDECREF(run_take(run, i));
  run_drop_outputs(run);
}

void token_free(PyObject* self) {
  Token* token = reinterpret_cast<Token*>(self);
  Run* run = token->run;
  std::vector<Token*>& tokens = run->b.tokens;
  if (token->index < tokens.size() && tokens[token->index] == token) tokens[token->index] = nullptr;
  Py_XDECREF(token->value);
  free_object(token);
  Py_DECREF(object(run));
}

void holder_free(PyObject* self) {
  Holder* holder = reinterpret_cast<Holder*>(self);
  Frame* frame = holder->frame;
  frame->b.holders[holder->index] = nullptr;
  for (Run *run = frame->b.runs, *next; run; run = next) {
    Py_INCREF(object(run));
    if (holder->index < run->b.values.size()) Py_XDECREF(run_take(run, holder->index));
    next = run->b.next;
    Py_DECREF(object(run));
  }
  free_object(holder);
  Py_DECREF(object(frame));
}

void run_free(PyObject* self) {
  Run* run = reinterpret_cast<Run*>(self);
  for (PyObject* value : run->b.values) Py_XDECREF(value);
  meter_remove_all(&run->b.metered);
  run_drop_outputs(run);
  Py_XDECREF(run->b.group);
  Py_XDECREF(run->b.mismatches);
  Py_XDECREF(run->b.found);
  runs.end(run);
}

void frame_free(PyObject* self) {
  PendingError pending;
  Frame* frame = reinterpret_cast<Frame*>(self);
  FrameBody& b = frame->b;
  if (b.module && b.module->context->latest_layer == frame)
    b.module->context->latest_layer = nullptr;
  while (b.runs) run_unlink(frame, b.runs);
  rc_region_release(b.region, nullptr);
  for (Input& input : b.inputs) Py_XDECREF(input.object);
  meter_remove_all(&b.metered);
  for (TensorHeader& header : b.headers) Py_XDECREF(header.other);
  for (const Returned& output : b.outputs) Py_XDECREF(output.weak);
  for (PyObject* record : b.records) Py_XDECREF(record);
  Py_XDECREF(b.function);
  Py_XDECREF(b.names);
  release_devices(&b.devices);
  Py_XDECREF(b.environment);
  Py_XDECREF(b.extras);
  Py_XDECREF(b.measures);
  Py_XDECREF(b.rng);
  Py_XDECREF(object(b.module));
  frames.end(frame);
}

// ---- the Region that Python sees

PyObject* region_replay(PyObject* self, PyObject*) {
  Frame* frame = reinterpret_cast<Frame*>(self);
  if (!frame->b.completed) return raise_too_early("replay()");
  for (Run* run = frame->b.runs; run; run = run->b.next)
    if (run->b.task == kSharedTask) Py_RETURN_NONE;
  if (frame->b.holders.empty()) Py_RETURN_NONE;
  if (!call(torch_api.before_shared_replay, frame->b.function)) return nullptr;
  Run* run = start_run(frame, kSharedTask, nullptr, false);
  if (!run) return nullptr;
  Py_DECREF(object(run));
  Py_RETURN_NONE;
}

PyObject* region_release(PyObject* self, PyObject*) {
  Frame* frame = reinterpret_cast<Frame*>(self);
  for (Run* run = frame->b.runs; run; run = run->b.next)
    if (run->b.task == kSharedTask) {
      run_unlink(frame, run);
      break;
    }
  Py_RETURN_NONE;
}

// The value is shared with the region's own backward, if that is the one that runs.
PyObject* region_output(PyObject* self, PyObject* index) {
  const long at = PyLong_AsLong(index);
  if (at < 0) return PyErr_Occurred() ? nullptr : PyErr_Format(PyExc_IndexError, "output %ld", at);
  Ref value = replayed_output(reinterpret_cast<Frame*>(self), static_cast<size_t>(at));
  return value ? PyObject_CallMethod(value.get(), "detach", nullptr) : nullptr;
}

PyObject* region_ready(PyObject* self, void*) {
  for (Run* run = reinterpret_cast<Frame*>(self)->b.runs; run; run = run->b.next)
    if (run->b.task == kSharedTask && run->b.done) Py_RETURN_TRUE;
  Py_RETURN_FALSE;
}

PyObject* region_info(PyObject* self, PyObject*) {
  const FrameBody& b = reinterpret_cast<Frame*>(self)->b;
  rc_region_info info = rc_region_info_init();
  const rc_status status = rc_region_query(b.region, &info);
  if (status < 0) return raise_status(status);
  size_t alive = 0;
  for (const Holder* holder : b.holders) alive += holder != nullptr;
  return Py_BuildValue(
      "{sK sO sO sI si sK sn sn sK sI}", "id", info.id, "kind", b.module->kind, "name",
      b.module->name, "layer", b.module->layer, "state", static_cast<int>(info.state), "replays",
      info.replays, "saved_tensors", static_cast<Py_ssize_t>(b.holders.size()), "alive",
      static_cast<Py_ssize_t>(alive), "saved_bytes", b.saved_bytes, "records", b.n_records);
}

PyObject* region_module(PyObject* self, void*) {
  return Py_NewRef(object(reinterpret_cast<Frame*>(self)->b.module));
}

PyObject* region_function(PyObject* self, void*) {
  return Py_NewRef(reinterpret_cast<Frame*>(self)->b.function);
}

PyMethodDef region_methods[] = {
    {"replay", region_replay, METH_NOARGS,
     "replay(): makes the saved tensors available now; every backward shares them until release() "
     "or its graph is freed"},
    {"output", region_output, METH_O,
     "output(i) -> the i-th output of a replay, for the backward that runs"},
    {"release", region_release, METH_NOARGS,
     "release(): drops what replay() made; a later backward replays again"},
    {"info", region_info, METH_NOARGS, "info() -> dict of the region's state"},
    {nullptr, nullptr, 0, nullptr}};
PyGetSetDef region_properties[] = {
    {"ready", region_ready, nullptr, "True between replay() and release()", nullptr},
    {"module", region_module, nullptr, "the registered module", nullptr},
    {"function", region_function, nullptr, "what a replay calls", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};
PyType_Slot frame_slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(frame_free)},
    {Py_tp_methods, region_methods},
    {Py_tp_getset, region_properties},
    {Py_tp_doc, const_cast<char*>("One run of a function whose saved tensors are made again.")},
    {0, nullptr}};
PyType_Slot holder_slots[] = {{Py_tp_dealloc, reinterpret_cast<void*>(holder_free)}, {0, nullptr}};
PyType_Slot run_slots[] = {{Py_tp_dealloc, reinterpret_cast<void*>(run_free)}, {0, nullptr}};
PyType_Slot token_slots[] = {{Py_tp_dealloc, reinterpret_cast<void*>(token_free)}, {0, nullptr}};
constexpr unsigned kTypeFlags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION;
PyType_Spec frame_spec = {"rcore._core.Region", sizeof(Frame), 0, kTypeFlags, frame_slots};
PyType_Spec holder_spec = {"rcore._core.Holder", sizeof(Holder), 0, kTypeFlags, holder_slots};
PyType_Spec run_spec = {"rcore._core.Run", sizeof(Run), 0, kTypeFlags, run_slots};
PyType_Spec token_spec = {"rcore._core.Token", sizeof(Token), 0, kTypeFlags, token_slots};

}  // namespace

bool make_frame_types(PyObject* module) {
  const auto type = [](PyType_Spec* spec) {
    return reinterpret_cast<PyTypeObject*>(PyType_FromSpec(spec));
  };
  frame_type = type(&frame_spec);
  holder_type = type(&holder_spec);
  run_type = type(&run_spec);
  token_type = type(&token_spec);
  return frame_type && holder_type && run_type && token_type &&
         PyModule_AddObjectRef(module, "Region", object(frame_type)) == 0;
}

Frame* new_frame() {
  return frames.make(frame_type);
}

Holder* new_holder(Frame* frame, size_t index) {
  Holder* holder = PyObject_New(Holder, holder_type);
  if (!holder) return nullptr;
  Py_INCREF(object(frame));
  holder->frame = frame;
  holder->index = index;
  return holder;
}

Run* new_run(Frame* frame) {
  Run* run = runs.make(run_type);
  if (!run) return nullptr;
  run->b.frame = frame;
  run->b.values.resize(frame->b.holders.size());
  run->b.versions.resize(frame->b.holders.size());
  run->b.tokens.resize(frame->b.holders.size());
  run->b.next = frame->b.runs;
  frame->b.runs = run;
  return run;
}

Token* new_token(Run* run, size_t index, int64_t version, PyObject* value) {
  Token* token = PyObject_New(Token, token_type);
  if (!token) {
    Py_XDECREF(value);
    return nullptr;
  }
  Py_INCREF(object(run));
  token->run = run;
  token->index = index;
  token->value = value;
  token->version = version;
  if (!value) run->b.tokens[index] = token;
  return token;
}

// The replay's own graph may still ask for the value: its token then keeps an alias without a
// graph.
PyObject* run_take(Run* run, size_t index) {
  PyObject* value = std::exchange(run->b.values[index], nullptr);
  if (!value) return nullptr;
  --run->b.live;
  if (index < run->b.metered.size()) meter_remove(std::exchange(run->b.metered[index], {}));
  Token* token = run->b.tokens[index];
  if (token && !token->value) {
    PendingError pending;
    Py_INCREF(object(token));
    token->value = without_graph(value);
    PyErr_Clear();
    Py_DECREF(object(token));
  }
  return value;
}

void run_drop_outputs(Run* run) {
  meter_remove_all(&run->b.metered_outputs);
  Py_CLEAR(run->b.outputs);
}

void run_unlink(Frame* frame, Run* run) {
  for (Run** at = &frame->b.runs; *at; at = &(*at)->b.next) {
    if (*at != run) continue;
    *at = run->b.next;
    run->b.next = nullptr;
    run->b.frame = nullptr;
    run_clear(run);
    Py_DECREF(object(run));
    return;
  }
}

void drop_finished_runs(Frame* frame) {
  for (Run *run = frame->b.runs, *next; run; run = next) {
    next = run->b.next;
    if (run->b.done && run->b.live == 0 && !run->b.group) {
      const Ref keep = Ref::borrow(object(next));  // what is let go may run anything
      run_unlink(frame, run);
      if (next && !next->b.frame) return;  // unlinked meanwhile
    }
  }
}

}  // namespace rcpy
