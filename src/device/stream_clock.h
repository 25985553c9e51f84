// src/device/stream_clock.h: vector clocks over streams and the host (Mattern 1989; Lamport 1978):
// what comes before what.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace rc {

// One operation: the `tick`-th of its actor. Actor 0 is the host, the others are streams.
struct Stamp {
  size_t actor = 0;
  uint64_t tick = 0;
};

class StreamClock {
 public:
  uint64_t at(size_t actor) const { return actor < ticks_.size() ? ticks_[actor] : 0; }
  // Everything that `stamp` names is complete where this clock stands.
  bool knows(Stamp stamp) const { return at(stamp.actor) >= stamp.tick; }
  Stamp advance(size_t actor) {
    if (actor >= ticks_.size()) ticks_.resize(actor + 1);
    return {actor, ++ticks_[actor]};
  }
  void join(const StreamClock& other) {
    if (other.ticks_.size() > ticks_.size()) ticks_.resize(other.ticks_.size());
    for (size_t i = 0; i < other.ticks_.size(); ++i)
      ticks_[i] = std::max(ticks_[i], other.ticks_[i]);
  }

 private:
  std::vector<uint64_t> ticks_;
};

}  // namespace rc
