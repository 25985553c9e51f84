// src/region/context.h: one per process and device: the lock, storage, policy, pools and
// statistics.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "kernels/parallel.h"
#include "src/policy/policy.h"
#include "src/region/region.h"
#include "src/storage/storage.h"

namespace rc {

class CallLog;
class Comm;
class Profile;

struct ContextCounts {
  uint64_t begun = 0, passed = 0, cancelled = 0, abandoned = 0, replays = 0, replay_ns = 0;
};

class Context {
 public:
  Context(std::unique_ptr<Device> device, rc_flags flags, uint64_t seed);
  ~Context();

  Status configure(Locked& lock, std::shared_ptr<const Policy> policy);
  Region* new_region();
  void recycle(Region* region);
  Region* find(uint64_t id);
  Step* new_step();  // open
  void recycle(Step* step);
  void apply_caps();  // the smallest cap of the open steps
  void end_module_if_unused(Module* module);
  uint64_t pooled_regions() const { return pool_.size(); }
  bool flag(rc_flags f) const { return (flags & f) != 0; }
  // Code that the host gave us is run after the lock is released, in order.
  // Announces n later calls of defer, so that these cannot fail: they happen on release paths.
  void expect_deferred(size_t n);
  void settle_deferred(size_t n) { expected_deferred -= n; }  // they were made, or will never be
  // `of`: the tables of that module are destroyed only after the call.
  void defer(void (*run)(void*, void*, void*), void* a, void* b = nullptr, void* c = nullptr,
             Module* of = nullptr);
  void log(rc_level level, const char* where, const std::string& text);  // lock not held

  std::mutex mutex;
  std::condition_variable replay_done;
  Storage storage;
  const rc_flags flags;
  const uint32_t fork_generation;
  std::shared_ptr<const Policy> policy;
  uint64_t epoch = 1;  // of the policy
  std::vector<uint64_t> rule_hits;
  uint64_t rng_seed = 0, rng_offset = 0;
  uint64_t next_serial = 1;  // of steps and modules
  ContextCounts counts;
  uint64_t regions_live = 0;
  uint32_t handles = 1;
  uint64_t objects = 0;               // what keeps the context alive behind the host's handle
  std::vector<Module*> modules;       // registered, by the host's count or by live regions
  std::vector<Module*> dead_modules;  // deleted when the call that ended them is over
  std::vector<Comm*> comms;
  std::vector<Step*> steps;  // open
  rc_sink sink = {};
  std::unique_ptr<Parallel> parallel;
  std::shared_ptr<CallLog> call_log;  // of the last logged step
  std::shared_ptr<Profile> profile;   // of that step, if it was profiled

  struct Wait {
    std::thread::id thread;
    Region* region;
  };
  std::vector<Wait> waits;  // threads that wait for another thread's replay

  struct Deferred {
    void (*run)(void*, void*, void*);
    void *a, *b, *c;
    Module* of;
  };
  std::vector<Deferred> deferred;
  size_t expected_deferred = 0;

 private:
  std::deque<Region> pool_;
  std::vector<Region*> free_regions_;
  std::vector<std::unique_ptr<Step>> all_steps_;
  std::vector<Step*> free_steps_;
};

// Process-wide count of forks that this process is the child of; a context remembers its own.
uint32_t fork_generation();

// Holds the context's lock; on the way out it runs deferred host code, tells the sink, and ends a
// context that nothing refers to any more.
class Locked {
 public:
  explicit Locked(Context* context) : context_(context), lock_(context->mutex) {}
  ~Locked() { finish(); }
  Locked(const Locked&) = delete;
  Locked& operator=(const Locked&) = delete;

  Context* context() { return context_; }
  std::unique_lock<std::mutex>* lock() { return &lock_; }
  // Host code runs between these.
  void unlock() { lock_.unlock(); }
  void relock() { lock_.lock(); }
  void finish();
  // The region that the failing call's error record names.
  void blame(uint64_t region_id) { blamed_ = region_id; }
  uint64_t blamed() const { return blamed_; }

  bool traces(rc_event event) const;
  // Told to the sink after the lock is released; at most one event per call, `begin_ns` 0 = now.
  void trace(rc_event event, const Region* region, uint64_t bytes, uint64_t begin_ns);
  // The same at once, with the lock released meanwhile: for calls in which several things happen.
  void trace_now(rc_event event, const Region* region, uint64_t bytes, uint64_t begin_ns);
  void trace_live_bytes();  // the traced call has freed more since

 private:
  // What is left for the end of the call: host code to run, memory to free, an event to tell.
  bool has_work() const;
  void do_work();
  void run_deferred();
  void tell();
  Context* context_;
  std::unique_lock<std::mutex> lock_;
  bool traced_ = false;
  uint64_t blamed_ = 0;
  rc_trace_event event_;
  Module* told_of_ = nullptr;  // the event has its names; pinned
};

uint64_t now_ns();

}  // namespace rc
