// src/testing/fuzz_driver.h: reads operations from bytes and does them to the library and to the
// model of regions.
#pragma once

#include <algorithm>

#include "src/testing/fuzz_world.h"

namespace rc::testing {

inline constexpr int kMaxOperations = 160;
inline constexpr size_t kMaxRegions = 24;
inline constexpr uint64_t kSizes[16] = {4,    64, 256, 1000, 0, 8,   300,   4096,
                                        5000, 16, 12,  1,    2, 600, 20000, World::kMaxBytes};

class Driver {
 public:
  Driver(World* world, Input* input) : w_(*world), in_(*input) {}
  void run() {
    for (int i = 0; i < kMaxOperations && !in_.empty(); ++i) {
      touched_ = nullptr;
      step();
      if (touched_) w_.check(*touched_);
      w_.check_bytes();
      if (i % 16 == 15) check_all();
    }
    check_all();
  }

 private:
  void check_all() {
    for (const ModelRegion& r : w_.regions) w_.check(r);
  }
  ModelRegion* pick() {
    const size_t n = w_.regions.size();
    if (n == 0) return nullptr;
    const size_t first =
        n - 1 - std::min<size_t>(in_.below(kMaxRegions), n - 1);  // small bytes: the newest
    for (size_t i = 0; i < n; ++i) {
      ModelRegion& r = w_.regions[(first + n - i) % n];
      if (r.usable()) return touched_ = &r;
    }
    return nullptr;
  }
  uint32_t slot() { return in_.below(World::kSlots); }

  void step();
  void begin();
  void save_tensor();
  void save_view();
  void save_link(bool by_address);
  void alloc();
  void output();
  void decide();
  void rng();
  void end();
  void discard();
  void replay();
  void done();
  void cancel(), release(), restore(), export_tensor(), step_begin(), step_end(), look_up(), ask();
  // A save or alloc into `slot` of `r`: what it must say where the slot cannot take content.
  bool writable(ModelRegion* r, uint32_t slot, rc_status status);
  void store(ModelRegion* r, uint32_t slot, ModelSlot::Content content, uint64_t bytes,
             uint64_t seed);

  World& w_;
  Input& in_;
  ModelRegion* touched_ = nullptr;
};

}  // namespace rc::testing
