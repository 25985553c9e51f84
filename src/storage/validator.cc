// src/storage/validator.cc: the independent check of a packing, one sweep over its live intervals.
#include "src/storage/validator.h"

#include <algorithm>

namespace rc {
namespace {

std::string named(size_t buffer) {
  return "buffers[" + std::to_string(buffer) + "]";
}

struct Moment {
  int64_t time;
  bool starts;
  size_t buffer, interval;
};

std::string address_range(const PackingProblem& problem, const std::vector<uint64_t>& offsets,
                          size_t b) {
  return named(b) + " at [" + std::to_string(offsets[b]) + ", " +
         std::to_string(offsets[b] + problem.buffers[b].size) + ")";
}

std::string placement_violation(const PackingProblem& problem, const std::vector<uint64_t>& offsets,
                                uint64_t height) {
  for (size_t b = 0; b < offsets.size(); ++b) {
    const PackingBuffer& buffer = problem.buffers[b];
    if (buffer.alignment == 0) return named(b) + ".alignment is 0";
    const bool lives = std::any_of(buffer.live.begin(), buffer.live.end(),
                                   [](const LiveInterval& i) { return i.begin < i.end; });
    if (buffer.size == 0 || !lives) continue;
    if (offsets[b] % buffer.alignment != 0) {
      return named(b) + " has offset " + std::to_string(offsets[b]) + ", not a multiple of " +
             std::to_string(buffer.alignment);
    }
    if (buffer.size > height || offsets[b] > height - buffer.size) {
      return named(b) + " of " + std::to_string(buffer.size) + " bytes at offset " +
             std::to_string(offsets[b]) + " ends above the height " + std::to_string(height);
    }
  }
  return "";
}

// Compares each interval that starts with all that are live then; every pair that meets is seen.
std::string overlap_violation(const PackingProblem& problem, const std::vector<uint64_t>& offsets) {
  std::vector<Moment> moments;
  for (size_t b = 0; b < problem.buffers.size(); ++b) {
    const PackingBuffer& buffer = problem.buffers[b];
    for (size_t i = 0; i < buffer.live.size(); ++i) {
      if (buffer.size == 0 || buffer.live[i].begin >= buffer.live[i].end) continue;
      moments.push_back({buffer.live[i].begin, true, b, i});
      moments.push_back({buffer.live[i].end, false, b, i});
    }
  }
  std::sort(moments.begin(), moments.end(), [](const Moment& x, const Moment& y) {
    return x.time != y.time ? x.time < y.time : x.starts < y.starts;
  });
  std::vector<std::pair<size_t, size_t>> live;  // buffer, interval
  for (const Moment& moment : moments) {
    const size_t b = moment.buffer;
    if (!moment.starts) {
      const auto at = std::find(live.begin(), live.end(), std::pair{b, moment.interval});
      *at = live.back();
      live.pop_back();
      continue;
    }
    for (const auto& [other, interval] : live) {
      if (other == b) continue;
      const uint64_t top = offsets[b] + problem.buffers[b].size;
      const uint64_t other_top = offsets[other] + problem.buffers[other].size;
      if (offsets[b] < other_top && offsets[other] < top) {
        return address_range(problem, offsets, other) + " and " +
               address_range(problem, offsets, b) + " are both live at time " +
               std::to_string(moment.time);
      }
    }
    live.push_back({b, moment.interval});
  }
  return "";
}

}  // namespace

std::string packing_violation(const PackingProblem& problem, const std::vector<uint64_t>& offsets,
                              uint64_t height) {
  if (offsets.size() != problem.buffers.size()) {
    return "there are " + std::to_string(offsets.size()) + " offsets for " +
           std::to_string(problem.buffers.size()) + " buffers";
  }
  const std::string violation = placement_violation(problem, offsets, height);
  return violation.empty() ? overlap_violation(problem, offsets) : violation;
}

}  // namespace rc
