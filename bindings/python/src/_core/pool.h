// src/_core/pool.h: memory of objects that died, kept with the buffers of their vectors for the
// next ones: a region then allocates nothing that the region before it did not.
#pragma once

#include <cstddef>
#include <new>

#include "ref.h"

namespace rcpy {

// T is a Python object with a member `b` that has reset() and fits_pool(). Guarded by the
// interpreter's lock.
template <class T>
class Pool {
 public:
  T* make(PyTypeObject* type) {
    if (n_ > 0) {
      T* self = kept_[--n_];
      PyObject_Init(reinterpret_cast<PyObject*>(self), type);
      return self;
    }
    T* self = PyObject_New(T, type);
    if (self) new (&self->b) decltype(self->b)();
    return self;
  }
  // At the end of a dealloc function, when all references of `self` are given up.
  void end(T* self) {
    using Body = decltype(self->b);
    PyTypeObject* type = Py_TYPE(reinterpret_cast<PyObject*>(self));
    if (n_ < kMost && self->b.fits_pool()) {
      self->b.reset();
      kept_[n_++] = self;
    } else {
      self->b.~Body();
      PyObject_Free(self);
    }
    Py_DECREF(reinterpret_cast<PyObject*>(type));
  }

 private:
  static constexpr size_t kMost = 32;
  T* kept_[kMost];
  size_t n_ = 0;
};

}  // namespace rcpy
