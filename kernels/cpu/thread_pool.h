// kernels/cpu/thread_pool.h: persistent worker threads behind the Parallel interface.
#pragma once

#include <memory>

#include "kernels/parallel.h"

namespace rc {

// `width - 1` workers sleep between runs; the calling thread is the remaining one. run() allocates
// nothing. While one thread runs, a run from a second thread, or a nested run from inside a task,
// is executed inline by its caller. In a child made by fork the workers do not exist: every run is
// inline there, and destruction leaves the dead threads' records alone.
class ThreadPool final : public Parallel {
 public:
  // If the system refuses a thread, the pool has as many as it got; width() says how many.
  explicit ThreadPool(int width);
  ~ThreadPool() override;
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int width() const override;
  void run(int64_t n_tasks, FunctionRef<void(int64_t)> task) override;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace rc
