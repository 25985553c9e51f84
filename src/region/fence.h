// src/region/fence.h: completion of work that no stream orders, signalled by the host.
#pragma once

#include <condition_variable>
#include <mutex>
#include <vector>

#include "src/status.h"

namespace rc {

// Has its own lock: a fence is signalled from threads that know nothing of regions.
class Fence {
 public:
  Fence();
  Status signal(rc_status result);
  rc_status test();
  rc_status wait(uint64_t timeout_ns);  // RC_PENDING on time-out
  void on_done(void (*done)(void*, rc_status), void* user_data);
  void retain();
  bool forked() const;  // made in the parent of this process: its lock may be held for ever
  void release();       // the last one signals RC_E_STATE if nobody did, and deletes

 private:
  struct Callback {
    void (*done)(void*, rc_status);
    void* user_data;
  };
  bool finish(rc_status result);

  const uint32_t fork_generation_;
  std::mutex mutex_;
  std::condition_variable signalled_;
  bool done_ = false;
  rc_status result_ = RC_OK;
  uint32_t count_ = 1;
  std::vector<Callback> callbacks_;
};

}  // namespace rc
