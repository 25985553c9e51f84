// src/device/access_log.cc: byte ranges, split where accesses begin and end.
#include "src/device/access_log.h"

#include <iterator>

namespace rc {

// The segment that begins at `at`, cut out of the one around it if need be.
AccessLog::Segments::iterator AccessLog::split(size_t at) {
  auto after = segments_.lower_bound(at);
  if (after != segments_.end() && after->first == at) return after;
  auto around = std::prev(after);
  if (at >= around->second.end) return segments_.end();
  Segment tail = around->second;
  around->second.end = at;
  return segments_.emplace_hint(after, at, std::move(tail));
}

std::optional<AccessLog::Conflict> AccessLog::access(size_t begin, size_t end, bool write,
                                                     Stamp stamp, const StreamClock& clock) {
  std::optional<Conflict> found;
  const auto must_come_after = [&](Stamp earlier, bool earlier_was_write, size_t from, size_t to) {
    if (!found && !clock.knows(earlier)) found = Conflict{earlier_was_write, earlier, from, to};
  };
  split(end);
  for (auto at = split(begin); at != segments_.end() && at->first < end; ++at) {
    Segment& segment = at->second;
    if (segment.write.tick) must_come_after(segment.write, true, at->first, segment.end);
    if (write) {
      for (Stamp read : segment.reads) must_come_after(read, false, at->first, segment.end);
      segment.reads.clear();
      segment.write = stamp;
      segment.defined = true;
      continue;
    }
    auto mine = std::find_if(segment.reads.begin(), segment.reads.end(),
                             [&](Stamp read) { return read.actor == stamp.actor; });
    if (mine != segment.reads.end())
      *mine = stamp;
    else
      segment.reads.push_back(stamp);
  }
  return found;
}

void AccessLog::undefine(size_t begin, size_t end) {
  split(end);
  for (auto at = split(begin); at != segments_.end() && at->first < end; ++at)
    at->second.defined = false;
}

bool AccessLog::defined(size_t begin, size_t end) const {
  for (auto at = std::prev(segments_.upper_bound(begin)); at != segments_.end() && at->first < end;
       ++at) {
    if (!at->second.defined) return false;
  }
  return true;
}

}  // namespace rc
