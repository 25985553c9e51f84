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
constexpr int64_t kStopNs = 10000;

}  // namespace

// True if stopping saves something, or would be missed: what is left after the last save is the
// operator that saves, and it may end where the Python code behind it only returns. A dispatch mode
// would see it run.
bool stop_pays(Run* run) {
  const FrameBody& b = run->b.frame->b;
  if (!b.completed || b.environment || b.extras || b.tail_ns >= kStopNs) return true;
  const Ref modes = call(torch_api.dispatch_modes);
  if (!modes || PyLong_AsLong(modes.get()) != 0) return true;
  PyObject* here = object(PyEval_GetFrame());
  if (!here || !run->b.base) return true;
  if (here == run->b.base) return false;
  const Ref silent = call(torch_api.is_tail_silent, here, run->b.base);
  if (!silent) PyErr_Clear();
  return silent.get() != Py_True;
}

}  // namespace rcpy
