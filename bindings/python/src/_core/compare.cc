// src/_core/compare.cc: whether a replay made what its forward did, and what is said where it did
// not.
#include "frame.h"

namespace rcpy {
namespace {

PyObject* object(void* o) {
  return static_cast<PyObject*>(o);
}

bool note_mismatch(Run* run, size_t index, PyObject* saved, PyObject* recomputed) {
  if (!run->b.mismatches && !(run->b.mismatches = PyList_New(0))) return false;
  const Ref entry(Py_BuildValue("(nOO)", static_cast<Py_ssize_t>(index), saved, recomputed));
  return entry && PyList_Append(run->b.mismatches, entry.get()) == 0;
}

const char kTip[] =
    "\n\nTip: pass `debug=True` to checkpoint(...), or use `with "
    "set_checkpoint_debug_enabled(True):`, to see the "
    "operators of both runs; pass `determinism_check=\"verify\"` to compare values.\n";

PyObject* raise_mismatches(Run* run, const FrameBody& b) {
  Ref text(PyUnicode_FromString(""));
  for (Py_ssize_t i = 0; i < PyList_Size(run->b.mismatches) && text; ++i) {
    PyObject* entry = PyList_GetItem(run->b.mismatches, i);
    const Ref line(PyUnicode_FromFormat(
        "tensor at position %S:\nsaved metadata: %S\nrecomputed metadata: %S\n",
        PyTuple_GetItem(entry, 0), PyTuple_GetItem(entry, 1), PyTuple_GetItem(entry, 2)));
    if (line) text = Ref(PyUnicode_Concat(text.get(), line.get()));
  }
  if (!text) return nullptr;
  return PyErr_Format(torch_api.checkpoint_error,
                      "torch.utils.checkpoint: Recomputed values for the following tensors have "
                      "different metadata than "
                      "during the forward pass.\n%U(module '%U', kind '%U', layer %u)%s",
                      text.get(), b.module->name, b.module->kind, b.module->layer, kTip);
}

// Not an error: a program that clamps its weights in every forward is right, and one that torch's
// checkpoint runs is to run. False where a filter makes it one. Digests, where there are some, have
// told by now whether the values differ.
bool tell_changed(const RunBody& r, const FrameBody& b) {
  if (!r.parameter_changed || b.flags & kMeasure) return true;
  return PyErr_WarnFormat(
             PyExc_RuntimeWarning, 1,
             "rcore.torch: a parameter of module '%U' (kind '%U', layer %u) was changed in place, "
             "or replaced, between the forward and its replay: gradients are those of the changed "
             "one. Without recomputation autograd makes this an error. set_verify() tells whether "
             "the values differ.",
             b.module->name, b.module->kind, b.module->layer) == 0;
}

}  // namespace

// Compares a value with what the forward knew of it, a parameter's version included.
bool check_value(Run* run, size_t index, PyObject* tensor, int64_t version) {
  FrameBody& b = run->b.frame->b;
  if (b.flags & kCheckHeaders) {
    if (version != b.headers[index].version && !run->b.renumbered && belongs_to_parameter(tensor))
      run->b.parameter_changed = true;
    static thread_local std::vector<int64_t> shape;
    shape.clear();
    TensorHeader header;
    if (!read_header(tensor, &shape, &header)) return false;
    const TensorHeader& saved = b.headers[index];
    const int64_t* saved_shape = b.shapes.data() + saved.shape_at;
    const int same = same_header(saved, saved_shape, header, shape.data());
    Py_XDECREF(header.other);
    if (same < 0) return false;
    if (!same) {
      const Ref was = describe_header(saved, saved_shape), is = describe_tensor(tensor);
      return was && is && note_mismatch(run, index, was.get(), is.get());
    }
  }
  if (b.flags & kMeasure) {
    const Ref measure(PyObject_CallMethodObjArgs(b.extras, names.measure, tensor, nullptr));
    if (!measure || index >= static_cast<size_t>(PyList_Size(b.measures)))
      return static_cast<bool>(measure);
    PyObject* saved = PyList_GetItem(b.measures, static_cast<Py_ssize_t>(index));
    const int same = PyObject_RichCompareBool(saved, measure.get(), Py_EQ);
    if (same < 0) return false;
    if (!same) return note_mismatch(run, index, saved, measure.get());
  }
  return true;
}

// Did the replay make what the forward did? As torch asks it, and in its words.
bool check_run(Frame* frame, Run* run) {
  const FrameBody& b = frame->b;
  const RunBody& r = run->b;
  if (r.tolerant) return tell_changed(r, b);
  if (r.too_many) {
    PyErr_Format(torch_api.checkpoint_error,
                 "torch.utils.checkpoint: trying to save more tensors during recomputation than "
                 "during the original "
                 "forward pass.%s",
                 kTip);
    return false;
  }
  if (r.count < r.values.size()) {
    PyErr_Format(torch_api.checkpoint_error,
                 "torch.utils.checkpoint: A different number of tensors was saved during the "
                 "original forward and "
                 "recomputation.\nNumber of tensors saved during forward: %zu\nNumber of tensors "
                 "saved during "
                 "recomputation: %zu.%s",
                 r.values.size(), r.count, kTip);
    return false;
  }
  if (r.mismatches) return raise_mismatches(run, b) != nullptr;
  return tell_changed(r, b);
}

// Lets extras turn a CheckpointError into one that says more.
void explain(const FrameBody& b, PyObject* mismatches) {
  if (!b.extras || !PyErr_ExceptionMatches(torch_api.checkpoint_error)) return;
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  PyErr_NormalizeException(&type, &value, &traceback);
  const Ref better(PyObject_CallMethodObjArgs(b.extras, names.explain, value, object(b.module),
                                              mismatches ? mismatches : Py_None, nullptr));
  if (better && better.get() != Py_None) {
    PyErr_SetObject(object(Py_TYPE(better.get())), better.get());
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    return;
  }
  if (!better) PyErr_Clear();
  PyErr_Restore(type, value, traceback);
}

}  // namespace rcpy
