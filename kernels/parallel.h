// kernels/parallel.h: how a kernel asks its caller to run independent tasks.
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

namespace rc {

// A non-owning reference to a callable, valid while that callable lives; never allocates.
template <class Signature>
class FunctionRef;

template <class R, class... Args>
class FunctionRef<R(Args...)> {
 public:
  template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, FunctionRef>)
  FunctionRef(F&& f)  // implicit, so that a lambda can be passed where a FunctionRef is taken
      : object_(const_cast<void*>(static_cast<const void*>(&f))),
        call_([](void* object, Args... args) -> R {
          return (*static_cast<std::remove_reference_t<F>*>(object))(std::forward<Args>(args)...);
        }) {}
  R operator()(Args... args) const { return call_(object_, std::forward<Args>(args)...); }

 private:
  void* object_;
  R (*call_)(void*, Args...);
};

// Runs task(0) ... task(n_tasks - 1), each exactly once, in any order and on any threads, and
// returns when all have returned. Kernels cut their work by shape alone, so that no result depends
// on width(). Tasks do not throw. Implementations may be called from several threads at once.
class Parallel {
 public:
  virtual ~Parallel() = default;
  // The most tasks that can run at the same time; only a hint, at least 1.
  virtual int width() const = 0;
  virtual void run(int64_t n_tasks, FunctionRef<void(int64_t)> task) = 0;
};

class SerialParallel final : public Parallel {
 public:
  int width() const override { return 1; }
  void run(int64_t n_tasks, FunctionRef<void(int64_t)> task) override {
    for (int64_t i = 0; i < n_tasks; ++i) task(i);
  }
};

}  // namespace rc
