// src/region/fence.cc: Fence.
#include "src/region/fence.h"

#include <chrono>

#include "src/region/context.h"

namespace rc {

Fence::Fence() : fork_generation_(fork_generation()) {}

bool Fence::forked() const {
  return fork_generation_ != fork_generation();
}

bool Fence::finish(rc_status result) {
  std::vector<Callback> callbacks;
  {
    std::lock_guard lock(mutex_);
    if (done_) return false;
    done_ = true;
    result_ = result;
    callbacks.swap(callbacks_);
    signalled_.notify_all();
  }
  for (const Callback& c : callbacks) c.done(c.user_data, result);
  return true;
}

Status Fence::signal(rc_status result) {
  if (result > 0)
    return argument_error("result", format("%d is no result: RC_OK or a failure is", result));
  if (!finish(result)) return Status(RC_E_STATE, "fence", "the fence was signalled before");
  return ok_status();
}

rc_status Fence::test() {
  std::lock_guard lock(mutex_);
  return done_ ? result_ : RC_PENDING;
}

rc_status Fence::wait(uint64_t timeout_ns) {
  std::unique_lock lock(mutex_);
  const auto ready = [&] { return done_; };
  if (timeout_ns >= uint64_t{INT64_MAX})
    signalled_.wait(lock, ready);
  else
    signalled_.wait_for(lock, std::chrono::nanoseconds(timeout_ns), ready);
  return done_ ? result_ : RC_PENDING;
}

void Fence::on_done(void (*done)(void*, rc_status), void* user_data) {
  rc_status result;
  {
    std::lock_guard lock(mutex_);
    if (!done_) {
      callbacks_.push_back({done, user_data});
      return;
    }
    result = result_;
  }
  done(user_data, result);
}

void Fence::retain() {
  std::lock_guard lock(mutex_);
  ++count_;
}

void Fence::release() {
  {
    std::lock_guard lock(mutex_);
    if (--count_ > 0) return;
  }
  (void)finish(RC_E_STATE);
  delete this;
}

}  // namespace rc
