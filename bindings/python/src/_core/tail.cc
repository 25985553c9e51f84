// src/_core/tail.cc: whether a replay that has made all it must is stopped, or left to return by
// itself.
#include "frame.h"

namespace rcpy {
namespace {

PyObject* object(void* o) {
  return static_cast<PyObject*>(o);
}

// An exception through torch and a few Python frames costs about this; so long may the last
// operator take instead.
constexpr int64_t kStopNs = 20000;

// What is left to run in one Python frame, by where it stands. Filled by rcore.torch.tail, which
// knows instructions; both are small numbers for a program's regions.
struct Place {
  PyObject* code = nullptr;  // held
  long at = 0;
  bool silent = false;
};
constexpr size_t kPlaces = 64;
Place places[kPlaces];

// 1, 0, or -1 with an error set.
int only_returns(PyObject* frame) {
  const Ref code(object(PyFrame_GetCode(reinterpret_cast<PyFrameObject*>(frame))));
  const Ref lasti(PyObject_GetAttr(frame, names.f_lasti));
  if (!lasti) return -1;
  const long at = PyLong_AsLong(lasti.get());
  const size_t hash = reinterpret_cast<uintptr_t>(code.get()) / 16 + static_cast<size_t>(at);
  Place& place = places[hash % kPlaces];
  if (place.code == code.get() && place.at == at) return place.silent;
  const Ref answer = call(torch_api.only_returns, code.get(), lasti.get());
  if (!answer) return -1;
  Py_XDECREF(place.code);
  place = {Py_NewRef(code.get()), at, answer.get() == Py_True};
  return place.silent;
}

// True if every frame from `frame` up to, not including, `base` does nothing more but return.
bool tail_is_silent(PyObject* here, PyObject* base) {
  Ref frame = Ref::borrow(here);
  while (frame.get() != base) {
    if (only_returns(frame.get()) != 1) break;
    frame = Ref(PyObject_GetAttr(frame.get(), names.f_back));
    if (!frame || frame.get() == Py_None) break;
  }
  PyErr_Clear();
  return frame.get() == base;
}

}  // namespace

thread_local bool region_begins = false;

// True if stopping saves something, or would be missed: what is left after the last save is the
// operator that saves, and it may end where the Python code behind it only returns. A dispatch mode
// would see it run.
//
// On a device the operator has only been put into a queue: its time is not known here, and a matrix
// product saves its input before it begins.
bool stop_pays(Run* run, size_t last) {
  const FrameBody& b = run->b.frame->b;
  const TensorHeader& header = b.headers[last];
  if (header.ndim < 0 ? !has_no_device() : header.device.device_type != kDLCPU) return true;
  if (!b.completed || b.environment || b.extras || region_begins || b.tail_ns >= kStopNs)
    return true;
  const Ref modes = call(torch_api.dispatch_modes);
  if (!modes || PyLong_AsLong(modes.get()) != 0) return true;
  PyObject* here = object(PyEval_GetFrame());
  return !here || !run->b.base || !tail_is_silent(here, run->b.base);
}

}  // namespace rcpy
