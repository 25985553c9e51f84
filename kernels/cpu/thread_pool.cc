// kernels/cpu/thread_pool.cc: one open job at a time, tasks taken from an atomic counter.
#include "kernels/cpu/thread_pool.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace rc {

struct ThreadPool::State {
  std::mutex mutex;
  std::condition_variable work;  // a job was opened, or stop
  std::condition_variable idle;  // the last worker left the job
  // Guarded by mutex, except that workers inside the job read task and n_tasks, which stay put
  // until active is 0.
  const FunctionRef<void(int64_t)>* task = nullptr;  // null: no open job
  int64_t n_tasks = 0;
  uint64_t generation = 0;
  int active = 0;
  bool stop = false;

  alignas(64) std::atomic<int64_t> next{0};
  alignas(64) std::atomic<bool> busy{false};
  pid_t owner = getpid();
  std::vector<std::thread> workers;

  void drain(const FunctionRef<void(int64_t)>& f, int64_t n) {
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < n;) f(i);
  }

  void work_loop() {
    std::unique_lock lock(mutex);
    uint64_t seen = 0;
    for (;;) {
      work.wait(lock, [&] { return stop || (task && generation != seen); });
      if (stop) return;
      seen = generation;
      const FunctionRef<void(int64_t)>& f = *task;
      const int64_t n = n_tasks;
      ++active;
      lock.unlock();
      drain(f, n);
      lock.lock();
      if (--active == 0) idle.notify_one();
    }
  }
};

ThreadPool::ThreadPool(int width) : state_(std::make_unique<State>()) {
  const int extra = std::max(width, 1) - 1;
  state_->workers.reserve(extra);
  for (int i = 0; i < extra; ++i) {
    try {
      state_->workers.emplace_back([s = state_.get()] { s->work_loop(); });
    } catch (const std::system_error&) {
      break;  // a thread limit; fewer workers give the same results
    }
  }
}

ThreadPool::~ThreadPool() {
  if (getpid() != state_->owner) {
    // The mutex may be held by a thread that does not exist here, and joining would wait for ever.
    (void)state_.release();
    return;
  }
  {
    std::lock_guard lock(state_->mutex);
    state_->stop = true;
  }
  state_->work.notify_all();
  for (std::thread& t : state_->workers) t.join();
}

int ThreadPool::width() const {
  return static_cast<int>(state_->workers.size()) + 1;
}

void ThreadPool::run(int64_t n_tasks, FunctionRef<void(int64_t)> task) {
  State& s = *state_;
  const bool alone = n_tasks <= 1 || s.workers.empty() || getpid() != s.owner;
  if (alone || s.busy.exchange(true, std::memory_order_acquire)) {
    for (int64_t i = 0; i < n_tasks; ++i) task(i);
    return;
  }
  {
    std::lock_guard lock(s.mutex);
    s.task = &task;
    s.n_tasks = n_tasks;
    s.next.store(0, std::memory_order_relaxed);
    ++s.generation;
  }
  if (n_tasks == 2) {
    s.work.notify_one();
  } else {
    s.work.notify_all();
  }
  s.drain(task, n_tasks);
  {
    std::unique_lock lock(s.mutex);
    s.task = nullptr;  // a worker that wakes late finds no job
    s.idle.wait(lock, [&] { return s.active == 0; });
  }
  s.busy.store(false, std::memory_order_release);
}

}  // namespace rc
