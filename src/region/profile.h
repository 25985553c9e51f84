// src/region/profile.h: what a profiled step measured: how long its replays take.
//
// Regions that made the same calls in forward (kind, name, slots, bytes, nested regions included)
// are alike; the median over them stands for each, so that a disturbance of one does not tip a
// plan.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <unordered_map>
#include <vector>

#include "src/region/call_log.h"

namespace rc {

class Profile {
 public:
  // So many instances of a module are tried: others in flight are alike.
  static constexpr uint32_t kTriesPerModule = 2;

  explicit Profile(uint64_t begin_ns) : begin_ns_(begin_ns) {}

  // True if another region of this module should be tried; counts it.
  bool take_try(uint64_t module_serial);
  void add_trial(uint32_t region, const std::vector<uint32_t>& slots, uint64_t ns);
  void add_trial_time(uint64_t ns) { trial_ns_ += ns; }  // the runs before the timed ones included
  void add_forward(uint32_t region, uint64_t ns) { forward_[region] = ns; }
  void add_replay(uint64_t ns) { replay_ns_ += ns; }
  // The step is over.
  void settle(const CallLog& log, uint64_t end_ns);

  bool settled() const { return settled_; }
  // Of a replay of `slots` of a logged region. What was not tried: the least that was tried and has
  // these slots, or the sum of what has them together, or the region's forward.
  uint64_t replay_ns(uint32_t region, std::span<const uint32_t> slots) const;
  uint64_t forward_ns(uint32_t region) const;
  // The step without trials and replays.
  uint64_t step_ns() const { return step_ns_; }
  uint64_t trial_ns() const { return trial_ns_; }
  uint64_t trials() const { return trials_.size(); }

 private:
  struct Trial {
    uint32_t region;
    std::vector<uint32_t> slots;
    uint64_t ns;
  };
  using Slots = std::vector<uint32_t>;

  const uint64_t begin_ns_;
  uint64_t step_ns_ = 0, trial_ns_ = 0, replay_ns_ = 0;
  bool settled_ = false;
  std::unordered_map<uint64_t, uint32_t> tries_;
  std::vector<Trial> trials_;
  std::unordered_map<uint32_t, uint64_t> forward_;
  std::vector<uint64_t> likeness_;                              // [region]
  std::unordered_map<uint64_t, std::map<Slots, uint64_t>> ns_;  // [likeness][slots]
  std::unordered_map<uint64_t, uint64_t> forward_ns_;           // [likeness]
};

// Equal for regions whose forwards made the same calls.
std::vector<uint64_t> likeness_of(const CallLog& log);

}  // namespace rc
