// src/_core/trace.cc: one entry in a list of Python's for each forward and replay of a region,
// while somebody watches.
#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "frame.h"

namespace rcpy {
namespace {

PyObject* events = nullptr;  // of all threads; guarded by the interpreter's lock

// The second number of /proc/self/statm, in bytes; 0 where there is none.
uint64_t resident_bytes() {
  static const int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  char text[128];
  const ssize_t n = file < 0 ? -1 : pread(file, text, sizeof text - 1, 0);
  if (n <= 0) return 0;
  text[n] = '\0';
  const char* second = std::strchr(text, ' ');
  return second ? std::strtoull(second, nullptr, 10) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE))
                : 0;
}

}  // namespace

bool is_traced() {
  return events != nullptr;
}

void trace_event(const Frame* frame, const char* what, int64_t begin_ns) {
  if (!events) return;
  const PendingError pending;
  const FrameBody& b = frame->b;
  const Ref event(Py_BuildValue("(sOOILLKK)", what, b.module->kind, b.module->name, b.module->layer,
                                static_cast<long long>(begin_ns), static_cast<long long>(now_ns()),
                                b.saved_bytes, resident_bytes()));
  if (!event || PyList_Append(events, event.get()) < 0) PyErr_Clear();
}

PyObject* set_trace(PyObject*, PyObject* list) {
  if (list != Py_None && !PyList_Check(list)) {
    PyErr_SetString(PyExc_TypeError, "set_trace() needs a list or None");
    return nullptr;
  }
  PyObject* previous = events ? events : Py_NewRef(Py_None);
  events = list == Py_None ? nullptr : Py_NewRef(list);
  return previous;
}

}  // namespace rcpy
