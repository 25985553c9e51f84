// src/testing/fuzz_world.h: the host of fuzz_regions: a context, six modules, their callbacks and
// what they must balance.
#pragma once

#include <cstring>
#include <deque>
#include <string>
#include <vector>

#include "src/testing/check.h"
#include "src/testing/region_model.h"

namespace rc::testing {

// Bytes of the input, zeros after its end.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : at_(data), end_(data + size) {}
  bool empty() const { return at_ == end_; }
  uint32_t byte() { return empty() ? 0 : *at_++; }
  uint32_t below(uint32_t n) { return byte() % n; }

 private:
  const uint8_t *at_, *end_;
};

// What the next replay callback does besides its work.
enum class Behaviour {
  kGood,
  kFail,
  kLeaveOut,
  kReplayItself,
  kCancelItself,
  kReleaseItself,
  kDrawMore,
  kAllocUnwanted,
  kReplayOther,
  kEndStep,
  kOtherBytes,
  kCallOutOfState,
  kCount
};

struct World {
  explicit World(Input* input);
  void finish();  // releases everything and checks that nothing is left

  // Callbacks; module_data is the world, region_data the model's region.
  static rc_status replay(const rc_replay_args* args);
  static rc_status drop(const rc_slot_args* args);
  static rc_status refill(const rc_slot_args* args);

  void configure(uint32_t policy);
  ModelRegion* begin(int module, int step, ModelRegion* parent, uint32_t microbatch,
                     rc_flags flags);
  // Views every slot and compares; live_bytes within bounds where no callback runs.
  void check(const ModelRegion& r);
  void check_bytes();
  void check_null_region();  // every call accepts it
  // In a profiled step the replay of a region may be tried where nothing is missing.
  bool may_be_tried(const ModelRegion& r) const { return r.step >= 0 && profiled[r.step]; }
  void compare(const ModelRegion& r, const ModelSlot& s, const rc_tensor_spec& view);

  static constexpr uint64_t kMaxBytes = 300000;  // of a slot
  static constexpr int kModules = 6, kSlots = 5, kSteps = 2;
  static constexpr uint32_t kPolicies = 8;
  static const char* const kKinds[kModules];
  // Modules whose second saved slot is the host's own, in worlds with such slots.
  bool is_host_slot(int module, int slot) const {
    return with_host_slots && module % 3 == 2 && slot == 2;
  }

  rc_context* context = nullptr;
  rc_policy* const* policies = nullptr;
  uint32_t policy = 0;
  rc_module* modules[kModules] = {};
  rc_step* steps[kSteps] = {};
  bool evaluation[kSteps] = {}, profiled[kSteps] = {};
  std::deque<ModelRegion> regions;
  std::vector<rc_tensor*> exports;
  Behaviour behaviour = Behaviour::kGood;
  ModelRegion* other = nullptr;  // for kReplayOther
  bool loose = false;            // an allocator or a cap may make any call fail
  bool verify = false;
  bool interfered = false;           // a callback did something for which its replay may fail
  ModelRegion* to_cancel = nullptr;  // once its replay is over
  int depth = 0;                     // of callbacks
  uint64_t next_seed = 1;
  uint64_t fail_alloc = 0;  // the n-th next call of the host's allocator fails
  int64_t blocks = 0, tensors = 0, begun = 0, modules_gone = 0, tokens = 0;
  bool with_states = false, with_host_slots = false;

 private:
  rc_status produce(ModelRegion* r, rc_region* handle, uint32_t slot, uint64_t seed);
  rc_status redraw(const ModelRegion& like, const std::vector<ModelRegion::Draw>& draws,
                   const std::vector<uint32_t>& decided, rc_region* handle);
  rc_status replay_nested(ModelRegion* r, rc_region* handle);
  rc_status misbehave(ModelRegion* r, const rc_replay_args* args, Behaviour what);
  void register_modules();
};

inline rc_tensor_spec bytes_spec(const int64_t* shape, void* data) {
  rc_tensor_spec spec = rc_tensor_spec_init();
  spec.data = data;
  spec.dtype_code = 1;
  spec.dtype_bits = 8;
  spec.ndim = 1;
  spec.shape = shape;
  return spec;
}

// The content that a seed stands for: a window of one random table, so that filling and comparing
// are one call each.
const unsigned char* pattern(uint64_t seed);

inline void fill_pattern(void* data, uint64_t bytes, uint64_t seed) {
  if (bytes > 0) std::memcpy(data, pattern(seed), bytes);
}

inline bool has_pattern(const void* data, uint64_t bytes, uint64_t seed) {
  return bytes == 0 || std::memcmp(data, pattern(seed), bytes) == 0;
}

}  // namespace rc::testing
