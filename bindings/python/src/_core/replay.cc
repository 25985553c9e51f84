// src/_core/replay.cc: the backward of a region: its function runs again, for the values that its
// graph asks for.
#include <time.h>

#include <cstring>

#include "frame.h"

namespace rcpy {
namespace {

PyObject* object(void* o) {
  return static_cast<PyObject*>(o);
}

// What the replay's graph keeps of a value that nobody outside of it awaits.
PyObject* unawaited(Run* run, size_t index, PyObject* tensor) {
  const int64_t version = version_of(tensor);
  PyObject* alias = without_graph(tensor);
  return alias ? object(new_token(run, index, version, alias)) : nullptr;
}

PyObject* stop(Run* run, PyObject* kept) {
  Py_DECREF(kept);
  run->b.stopped = true;
  PyErr_SetNone(torch_api.stop_error);
  return nullptr;
}

// A replay for one value alone, which it ends with. Not stopping would run a region behind it,
// whose gradients inside may ask for the same again.
PyObject* repack_wanted(Run* run, PyObject* tensor) {
  RunBody& r = run->b;
  const size_t index = r.count++;
  PyObject* kept = unawaited(run, index, tensor);
  if (!kept || index != r.wanted) return kept;
  r.found = Py_NewRef(tensor);
  r.tolerant = true;
  return stop(run, kept);
}

PyObject* repack(PyObject* self, PyObject* tensor) {
  Run* run = reinterpret_cast<Run*>(self);
  RunBody& r = run->b;
  if (r.wanted != kAll) return repack_wanted(run, tensor);
  const size_t index = r.count++;
  if (!r.frame) return unawaited(run, index, tensor);
  FrameBody& b = r.frame->b;
  if (index >= r.values.size()) {
    if (!b.completed)
      r.tolerant =
          true;  // a backward inside the region: the forward had not saved all when it asked
    else if (!(b.flags & kEarlyStop))
      r.too_many = true;
    return unawaited(run, index, tensor);
  }
  PyObject* kept = nullptr;
  if (b.holders[index]) {
    const int64_t version = version_of(tensor);
    if (!check_value(run, index, tensor, version)) return nullptr;
    if (!b.holders[index] || !r.frame)  // a check runs Python code
      return unawaited(run, index, tensor);
    PyObject* value = b.flags & kDetach ? PyObject_CallMethodObjArgs(tensor, names.detach, nullptr)
                                        : Py_NewRef(tensor);
    if (!value) return nullptr;
    r.values[index] = value;
    r.versions[index] = version;
    if (meter_is_on()) {
      r.metered.resize(r.values.size());
      r.metered[index] = meter_add(tensor);
    }
    ++r.live;
    kept = object(new_token(run, index, r.versions[index], nullptr));
  } else {
    kept = unawaited(run, index, tensor);
  }
  if (!kept) return nullptr;
  if (r.count == r.values.size() && (b.flags & kEarlyStop) && !r.keep_outputs &&
      stop_pays(run, index))
    return stop(run, kept);
  return kept;
}

// What the replay saved must not have been changed in place since: autograd without regions says
// the same where its own saved tensor was.
bool unchanged(const Run* run, size_t index) {
  return is_unchanged(run->b.values[index], run->b.versions[index], "saved tensor", index);
}

// A value that a running replay has saved, from one that ends with it: as it was before anything
// changed it in place.
PyObject* made_again(Run* run, size_t index) {
  const Ref owner(object(start_run(run->b.frame, kNoTask, nullptr, false, index)));
  if (!owner) return nullptr;
  Run* again = reinterpret_cast<Run*>(owner.get());
  PyObject* value = std::exchange(again->b.found, nullptr);
  if (again->b.frame) run_unlink(again->b.frame, again);
  return value;
}

// For a backward through the graph that the replay itself has built. Inside of the function, a
// value that a region there has changed, its own input, is made again, as its forward does it.
PyObject* reunpack(PyObject*, PyObject* kept) {
  const Ref owner = Ref::borrow(kept);
  const Token* token = reinterpret_cast<Token*>(kept);
  Run* run = token->run;
  Ref value = Ref::borrow(token->value ? token->value : run->b.values[token->index]);
  if (value && version_of(value.get()) != token->version && run->b.frame && !run->b.done)
    value = Ref(made_again(run, token->index));
  if (value)
    return is_unchanged(value.get(), token->version, "saved tensor", token->index) ? value.release()
                                                                                   : nullptr;
  if (!PyErr_Occurred())
    PyErr_SetString(torch_api.checkpoint_error,
                    "rcore.torch: a tensor saved during a replay is gone");
  return nullptr;
}

PyMethodDef repack_method = {"repack", repack, METH_O, nullptr};
PyMethodDef reunpack_method = {"reunpack", reunpack, METH_O, nullptr};

// Takes an output out of a run that kept it.
Ref output_of(Run* run, size_t output) {
  PyObject* outputs = run->b.outputs;
  return PyTuple_Check(outputs)
             ? Ref::borrow(PyTuple_GetItem(outputs, static_cast<Py_ssize_t>(output)))
             : Ref::borrow(outputs);
}

// The run of one backward pass that has the frame's outputs. `owner` holds it; where the pass has
// replayed the frame without them already, it is one of its own.
Run* run_with_outputs(Frame* frame, long task, PyObject* group, Ref* owner) {
  bool taken = false;
  for (Run* run = frame->b.runs; task != kNoTask && run; run = run->b.next) {
    if (run->b.task != task || run->b.group != group) continue;
    if (run->b.outputs) {
      *owner = Ref::borrow(object(run));
      return run;
    }
    taken = true;
  }
  Run* run = start_run(frame, taken ? kNoTask : task, taken ? nullptr : group, true);
  *owner = Ref(object(run));
  return run;
}

// The output of the layer before, made again for the same backward pass; one layer asks for it,
// once.
Ref linked_output(Frame* before, uint32_t output, long task, PyObject* group) {
  Ref owner;
  Run* run = run_with_outputs(before, task, group, &owner);
  if (!run) return Ref();
  Ref value = output_of(run, output);
  run_drop_outputs(run);
  if (run->b.task == kNoTask) run_unlink(before, run);
  return value;
}

bool gather_inputs(Frame* frame, Run* run, PyObject* arguments, PyObject** keywords) {
  FrameBody& b = frame->b;
  const size_t n = static_cast<size_t>(PyTuple_Size(arguments));
  for (size_t i = 0; i < b.inputs.size(); ++i) {
    const Input& input = b.inputs[i];
    Ref value;
    if (input.kind == Input::kSaved) {
      value = Ref(PyObject_CallMethodObjArgs(input.object, names.unpack, nullptr));
      if (value && version_of(value.get()) != input.version && belongs_to_parameter(value.get()))
        run->b.renumbered = true;
    } else if (input.kind == Input::kSame) {
      const Py_ssize_t at = static_cast<Py_ssize_t>(input.output);
      value = Ref::borrow(
          input.output < n
              ? PyTuple_GetItem(arguments, at)
              : PyDict_GetItem(*keywords,
                               PyTuple_GetItem(b.names, at - static_cast<Py_ssize_t>(n))));
    } else if (input.kind == Input::kLinked) {
      value = linked_output(reinterpret_cast<Frame*>(input.object), input.output, run->b.task,
                            run->b.group);
    } else {
      value = Ref::borrow(input.object);
      if (input.kind == Input::kVersioned && !is_unchanged(input.object, input.version, "input", i))
        return false;
    }
    if (!value) return false;
    if (i < n) {
      PyTuple_SetItem(arguments, static_cast<Py_ssize_t>(i), value.release());
      continue;
    }
    if (!*keywords && !(*keywords = PyDict_New())) return false;
    if (PyDict_SetItem(*keywords, PyTuple_GetItem(b.names, static_cast<Py_ssize_t>(i - n)),
                       value.get()) < 0)
      return false;
  }
  return true;
}

bool same_state(PyObject* a, PyObject* b) {
  const void *x, *y;
  uint64_t n, m;
  return cpu_bytes(a, &x, &n) && cpu_bytes(b, &y, &m) && n == m && std::memcmp(x, y, n) == 0;
}

// Sets the CPU's generator for the replay; `before` is what to put back. A forward that left the
// generator as it was may still have drawn, as inside of fork_rng: its state at the begin is always
// kept.
bool swap_rng(const FrameBody& b, Ref* before) {
  if (!b.rng) return true;
  *before = call(torch_api.get_state);
  if (!*before) return false;
  return same_state(b.rng, before->get()) || call(torch_api.set_state, b.rng);
}

Ref call_again(FrameBody& b, PyObject* arguments, PyObject* keywords) {
  int rare = b.environment || b.extras;
  if (!rare) rare = call_bool(torch_api.is_any_autocast);
  if (!rare && (b.flags & kByPolicy)) rare = call_bool(torch_api.profiler_enabled);
  if (rare < 0) return Ref();
  if (!rare) return Ref(PyObject_Call(b.function, arguments, keywords));
  return call(torch_api.replay_in_environment, b.environment ? b.environment : Py_None,
              b.extras ? b.extras : Py_None, object(b.module), b.function, arguments,
              keywords ? keywords : Py_None);
}

bool run_again(Frame* frame, Run* run, PyObject* arguments, PyObject* keywords) {
  const MeterReplay metered(frame->b.measurement);
  const Ref hook(PyCFunction_New(&repack_method, object(run)));
  static PyObject* unhook = PyCFunction_New(&reunpack_method, nullptr);
  const int grad = call_bool(torch_api.is_grad_enabled);
  if (!hook || !unhook || grad < 0 || !call(torch_api.push_hooks, hook.get(), unhook)) return false;
  bool ok = grad == 1 || call(torch_api.set_grad_enabled, Py_True);
  Ref result;
  if (ok) {
    const Activate here(frame, run);
    run->b.base = object(PyEval_GetFrame());
    result = call_again(frame->b, arguments, keywords);
    run->b.base = nullptr;
    ok = static_cast<bool>(result);
    // TorchScript makes an error of its own of the one that stops.
    if (!ok && run->b.stopped &&
        (PyErr_ExceptionMatches(torch_api.stop_error) || PyErr_ExceptionMatches(PyExc_Exception))) {
      PyErr_Clear();
      ok = true;
    }
  }
  if (run->b.keep_outputs) {
    run->b.outputs = result.release();
    meter_add_all(run->b.outputs, &run->b.metered_outputs);
  }
  const PendingError pending;
  if (!call(torch_api.pop_hooks)) PyErr_Clear();
  if (grad == 0 && !call(torch_api.set_grad_enabled, Py_False)) PyErr_Clear();
  return ok;
}

bool replay_function(Frame* frame, Run* run) {
  FrameBody& b = frame->b;
  const size_t k = b.names ? static_cast<size_t>(PyTuple_Size(b.names)) : 0;
  const Ref arguments(PyTuple_New(static_cast<Py_ssize_t>(b.inputs.size() - k)));
  PyObject* keywords = nullptr;
  if (!arguments) return false;
  bool ok = gather_inputs(frame, run, arguments.get(), &keywords);
  const Ref keep(keywords);
  Ref before;
  std::vector<DeviceState> devices_before;
  ok = ok && swap_rng(b, &before);
  ok = ok && (b.devices.empty() || swap_devices(b.devices, &devices_before));
  ok = ok && run_again(frame, run, arguments.get(), keywords);
  restore_devices(&devices_before);
  if (before) {
    const PendingError pending;
    if (!call(torch_api.set_state, before.get())) PyErr_Clear();
  }
  return ok;
}

// Replays through the core: the frame's own region the first time, one made for it each time after.
bool replay_region(Frame* frame, Run* run) {
  FrameBody& b = frame->b;
  rc_region* region = b.region;
  rc_region* another = nullptr;
  if (!b.completed || b.replayed) {
    if (!region_open(b.module, frame, &another)) return false;
    region = another;
    if (!region_seal(region)) {
      rc_region_release(another, nullptr);
      return false;
    }
  } else {
    b.replayed = true;
  }
  b.current = run;
  const int64_t begin = now_ns();
  const rc_status status = rc_backward_replay(&region, 1, nullptr);
  b.module->counters.replay_ns += static_cast<uint64_t>(now_ns() - begin);
  {
    const PendingError pending;
    rc_region_release(another, nullptr);
  }
  if (status >= 0 && run->b.done) {
    if (is_traced()) trace_event(frame, "replay", begin);
    return true;
  }
  if (!another) b.replayed = false;
  if (!PyErr_Occurred()) {
    if (status < 0)
      raise_status(status);
    else
      PyErr_SetString(torch_api.checkpoint_error, "rcore.torch: the core found nothing to replay");
  }
  return false;
}

bool wait_for(Run* run) {
  if (run->b.done) return true;
  if (run->b.owner == PyThread_get_thread_ident()) return true;
  while (!run->b.done && run->b.frame) {  // another thread of the engine replays it
    Py_BEGIN_ALLOW_THREADS const timespec nap = {0, 20000};
    nanosleep(&nap, nullptr);
    Py_END_ALLOW_THREADS
  }
  return true;
}

PyObject* raise_taken(bool group) {
  return PyErr_Format(
      torch_api.checkpoint_error,
      "torch.utils.checkpoint: Unpack is being triggered for a tensor that was already unpacked "
      "once. "
      "%sIf you are calling ctx.saved_tensors in backward, make sure to do so only once. Otherwise "
      "please open an issue with details on your use case.",
      group
          ? "Performing two backward calls that overlap (i.e. require the same saved activation in "
            "order to compute gradients) is not allowed while under the "
            "torch.utils.checkpoint.GraphExecGroup context. "
          : "");
}

}  // namespace

PyObject* raise_too_early(const char* what) {
  return PyErr_Format(torch_api.error,
                      "rcore.torch: %s while the region's forward is still running", what);
}

rc_status frame_replay(const rc_replay_args* args) {
  Frame* frame = static_cast<Frame*>(args->region_data);
  Run* run = frame->b.current;
  if (!replay_function(frame, run) || !check_run(frame, run)) return RC_E_HOST;
  run->b.done = true;
  return RC_OK;
}

Run* start_run(Frame* frame, long task, PyObject* group, bool keep_outputs, size_t wanted) {
  drop_finished_runs(frame);
  const Ref keep_frame = Ref::borrow(object(frame));
  const Ref owner = Ref::borrow(object(new_run(frame)));
  if (!owner) return nullptr;
  Run* run = reinterpret_cast<Run*>(owner.get());
  run->b.task = task;
  run->b.group = Py_XNewRef(group);
  run->b.keep_outputs = keep_outputs;
  run->b.wanted = wanted;
  run->b.shared = task == kSharedTask;
  run->b.owner = PyThread_get_thread_ident();
  if (!replay_region(frame, run)) {
    explain(frame->b, run->b.mismatches);
    const PendingError pending;
    run_unlink(frame, run);
    return nullptr;
  }
  Counters& counters = frame->b.module->counters;
  ++counters.replays;
  counters.regenerated_bytes += frame->b.saved_bytes;
  return reinterpret_cast<Run*>(Py_NewRef(owner.get()));
}

// Which backward pass asks: by the id of its graph task, or by the group it belongs to.
static bool find_task(long* task, Ref* group) {
  const Ref id = call(torch_api.graph_task_id);
  *group = call(torch_api.graph_exec_group);
  if (!id || !*group) return false;
  *task = PyLong_AsLong(id.get());
  if (group->get() == Py_None)
    group->clear();
  else
    *task = kGroupTask;
  return true;
}

Ref replayed_output(Frame* frame, size_t output) {
  long task;
  Ref group, owner;
  if (!find_task(&task, &group)) return Ref();
  Run* run = run_with_outputs(frame, task, group.get(), &owner);
  if (!run) return Ref();
  Ref value = output_of(run, output);
  if (run->b.task == kNoTask && run->b.frame) run_unlink(frame, run);
  return value;
}

PyObject* unpack(PyObject*, PyObject* kept) {
  Holder* holder = reinterpret_cast<Holder*>(kept);
  Frame* frame = holder->frame;
  long task;
  Ref exec_group;
  if (!find_task(&task, &exec_group)) return nullptr;
  PyObject* group = exec_group.get();

  Ref owner;
  for (Run* run = frame->b.runs; run; run = run->b.next) {
    const bool ready = run->b.shared && run->b.done && holder->index < run->b.values.size() &&
                       run->b.values[holder->index];
    if (ready)
      return unchanged(run, holder->index) ? Py_NewRef(run->b.values[holder->index]) : nullptr;
    if (task != kNoTask && !run->b.shared && run->b.task == task && run->b.group == group)
      owner = Ref::borrow(object(run));
  }
  const Ref keep_frame = Ref::borrow(object(frame)), keep_holder = Ref::borrow(kept);
  if (owner)
    wait_for(reinterpret_cast<Run*>(owner.get()));
  else
    owner = Ref(object(start_run(frame, task, group, false)));
  if (!owner) return nullptr;
  Run* run = reinterpret_cast<Run*>(owner.get());
  const bool there = holder->index < run->b.values.size() && run->b.values[holder->index];
  if (there && !unchanged(run, holder->index)) return nullptr;
  PyObject* value = there ? run_take(run, holder->index) : nullptr;
  if (task == kNoTask && run->b.frame) run_unlink(frame, run);
  return value ? value : raise_taken(group != nullptr);
}

}  // namespace rcpy
