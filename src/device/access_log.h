// src/device/access_log.h: who last wrote and who has read each byte range of a block, and which
// pairs race (test only).
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <vector>

#include "src/device/stream_clock.h"

namespace rc {

class AccessLog {
 public:
  explicit AccessLog(size_t bytes) { segments_[0] = Segment{bytes, {}, {}, false}; }

  struct Conflict {
    bool earlier_was_write;
    Stamp earlier;
    size_t begin, end;  // where in the block
  };
  // Records an access at `clock` (which already counts it as `stamp`) and returns the first earlier
  // one that it must come after and does not: a read after a write, or a write after a read or a
  // write.
  std::optional<Conflict> access(size_t begin, size_t end, bool write, Stamp stamp,
                                 const StreamClock& clock);
  // The content is lost: what is read before the next write has no meaning.
  void undefine(size_t begin, size_t end);
  bool defined(size_t begin, size_t end) const;

 private:
  struct Segment {
    size_t end;
    Stamp write;               // tick 0: none
    std::vector<Stamp> reads;  // since that write, the latest of each actor
    bool defined;
  };
  using Segments = std::map<size_t, Segment>;  // by begin; together they cover the block
  Segments::iterator split(size_t at);

  Segments segments_;
};

}  // namespace rc
