// src/testing/shared_world.h: regions that threads share, what their slots contain, and why one may
// be missing.
//
// A slot's bytes depend on its region and slot alone, so whatever is read half written, stale or
// after its time is seen.
#pragma once

#include <rcore/rcore.h>

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "src/testing/bytes.h"
#include "src/testing/check.h"

namespace rc::testing {

constexpr int kThreads = 4;
constexpr size_t kShared = 12;
enum Slot : uint32_t { kX, kS, kY, kChoice, kSlots };
constexpr rc_status kRefused = static_cast<rc_status>(RC_E_HOST - 5);

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  uint32_t below(uint32_t n) { return static_cast<uint32_t>(engine_() % n); }
  bool one_in(uint32_t n) { return below(n) == 0; }

 private:
  std::mt19937_64 engine_;
};

struct World;

// One region: what its slots contain, and what may have happened to it. What a thread is about to
// do to it is noted before: then a slot that is not there has its reason.
struct Work {
  World* world = nullptr;
  uint64_t number = 0, id = 0;
  uint32_t module = 0;
  std::shared_ptr<const Work> source;  // of x
  uint32_t source_slot = 0;
  std::vector<unsigned char> content[kSlots];
  bool host_output = false;
  std::vector<unsigned char> host;
  std::vector<uint64_t> draws;  // of the region, then of what is nested in it
  std::atomic<bool> cancelled{false}, done[kSlots] = {};
  std::atomic<uint32_t> tries{0};
  std::atomic<int> inside{0};

  const Work* origin(uint32_t* slot) const {
    const Work* at = this;
    while (*slot == kX && at->source) {
      *slot = at->source_slot;
      at = at->source.get();
    }
    return at;
  }
  const std::vector<unsigned char>& bytes_of(uint32_t slot) const {
    const Work* at = origin(&slot);
    return at->content[slot];
  }
  // The host has said that nobody reads it any more.
  bool given_up(uint32_t slot) const {
    const Work* at = this;
    for (; !at->done[slot]; at = at->source.get()) {
      if (slot != kX || !at->source) return false;
      slot = at->source_slot;
    }
    return true;
  }
  // A replay may be refused: of it, or of a region that it takes its input from.
  bool may_be_refused() const {
    for (const Work* at = this; at; at = at->source.get()) {
      if (at->cancelled) return true;
      for (const std::atomic<bool>& d : at->done)
        if (d) return true;
    }
    return false;
  }
};

using WorkRef = std::shared_ptr<Work>;  // a region's user_data is one, of its own

// One count of a region.
struct Handle {
  WorkRef work;
  rc_region* region = nullptr;
  ~Handle() { rc_region_release(region, nullptr); }
};
using Shared = std::shared_ptr<Handle>;

struct Export {
  WorkRef work;
  uint32_t slot;
  rc_tensor* tensor;
};

struct World {
  explicit World(uint64_t number);
  ~World();
  void run(int operations);
  void thread(int index, int operations);

  static rc_status replay(const rc_replay_args* args);
  static rc_status drop(const rc_slot_args* args);
  static rc_status refill(const rc_slot_args* args);
  rc_status produce(Work* work, const rc_replay_args* args, Random* random);
  rc_status replay_nested(Work* work, rc_region* region, Random* random);

  void create(Random* random, int index);
  void forward(Handle* handle, Random* random);
  void save_input(Handle* handle, Random* random);
  void forward_nested(Handle* handle, Random* random);
  void operate(Random* random, int index);
  void replay_some(Random* random);
  void end_step(int index);
  void restore(const Shared& handle, uint32_t slot, bool must);
  void export_one(const Shared& handle, uint32_t slot, Random* random);
  void ask(const Shared& handle, Random* random);
  void signal_fences();
  void let_go();
  Shared pick(Random* random) {
    std::lock_guard lock(mutex);
    return shared[random->below(kShared)];
  }

  const uint64_t seed;
  rc_context* context = nullptr;
  rc_policy* policies[2] = {};
  std::array<rc_module*, 4> modules = {};
  bool refuses = false;        // the allocator, now and then
  bool nests_replays = false;  // in replays; what would hang is refused
  std::atomic<uint64_t> numbers{1}, requests{0};
  std::atomic<int> tensors{0}, regions{0}, tokens{0}, blocks{0}, events{0}, running{0};
  std::mutex mutex;  // of what follows; never held in a call of the library
  std::array<Shared, kShared> shared;
  std::vector<rc_fence*> fences;
  size_t signalled = 0;  // of the fences
  std::vector<Export> exports;
  std::vector<rc_tensor*> leftovers;  // of replays that failed
  std::array<rc_step*, kThreads> steps = {};
  std::array<std::vector<WorkRef>, kThreads> in_step;
};

}  // namespace rc::testing
