// src/storage/packing.cc: checks of a packing problem and the lower bounds on its height.
#include "src/storage/packing.h"

#include <algorithm>
#include <numeric>
#include <set>

namespace rc {
namespace {

struct Event {
  int64_t time;
  bool starts;
  size_t buffer;
};

// Sorted starts and ends of the merged intervals; ends come first at equal times (half-open).
std::vector<Event> live_events(const PackingProblem& problem) {
  std::vector<Event> events;
  std::vector<LiveInterval> live;
  for (size_t b = 0; b < problem.buffers.size(); ++b) {
    if (problem.buffers[b].size == 0) continue;
    live = problem.buffers[b].live;
    std::sort(live.begin(), live.end(),
              [](const LiveInterval& x, const LiveInterval& y) { return x.begin < y.begin; });
    bool open = false;
    int64_t end = 0;
    for (const LiveInterval& interval : live) {
      if (interval.begin >= interval.end) continue;
      if (!open || interval.begin > end) {
        if (open) events.push_back({end, false, b});
        events.push_back({interval.begin, true, b});
        end = interval.end;
        open = true;
      }
      end = std::max(end, interval.end);
    }
    if (open) events.push_back({end, false, b});
  }
  std::sort(events.begin(), events.end(), [](const Event& x, const Event& y) {
    return x.time != y.time ? x.time < y.time : x.starts < y.starts;
  });
  return events;
}

uint64_t round_up(uint64_t value, uint64_t step) {
  return (value + step - 1) / step * step;
}

}  // namespace

std::string problem_defect(const PackingProblem& problem) {
  uint64_t total = 0;
  for (size_t b = 0; b < problem.buffers.size(); ++b) {
    const PackingBuffer& buffer = problem.buffers[b];
    const std::string name = "buffers[" + std::to_string(b) + "]";
    if (buffer.alignment == 0 || buffer.alignment > kMaxPackingBytes) {
      return name + ".alignment is " + std::to_string(buffer.alignment) +
             ", must be between 1 and " + std::to_string(kMaxPackingBytes);
    }
    // One pad below each buffer; an empty buffer takes neither bytes nor a pad.
    const uint64_t pad = buffer.size == 0 ? 0 : buffer.alignment - 1;
    if (buffer.size > kMaxPackingBytes - pad || buffer.size + pad > kMaxPackingBytes - total) {
      return name + ".size is " + std::to_string(buffer.size) +
             ": the sum of all sizes and alignments exceeds " + std::to_string(kMaxPackingBytes);
    }
    total += buffer.size + pad;
    for (size_t i = 0; i < buffer.live.size(); ++i) {
      if (buffer.live[i].begin <= buffer.live[i].end) continue;
      return name + ".live[" + std::to_string(i) + "] begins at " +
             std::to_string(buffer.live[i].begin) + ", after its end " +
             std::to_string(buffer.live[i].end);
    }
  }
  return "";
}

uint64_t lower_bound(const PackingProblem& problem) {
  uint64_t now = 0, peak = 0;
  for (const Event& event : live_events(problem)) {
    const uint64_t size = problem.buffers[event.buffer].size;
    now = event.starts ? now + size : now - size;
    peak = std::max(peak, now);
  }
  return peak;
}

uint64_t aligned_lower_bound(const PackingProblem& problem) {
  uint64_t unit = 0;
  for (const PackingBuffer& buffer : problem.buffers) {
    if (buffer.size > 0) unit = std::gcd(unit, buffer.alignment);
  }
  if (unit <= 1) return lower_bound(problem);
  uint64_t now = 0, peak = 0;
  std::multiset<uint64_t> pads;
  for (const Event& event : live_events(problem)) {
    const uint64_t size = problem.buffers[event.buffer].size;
    const uint64_t padded = round_up(size, unit);
    if (event.starts) {
      now += padded;
      pads.insert(padded - size);
      peak = std::max(peak, now - *pads.rbegin());
    } else {
      now -= padded;
      pads.erase(pads.find(padded - size));
    }
  }
  return peak;
}

}  // namespace rc
