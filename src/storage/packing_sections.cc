// src/storage/packing_sections.cc: the sweep that folds time to maximal live sets.
#include "src/storage/packing_sections.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace rc {
namespace {

struct Event {
  int64_t time;
  bool starts;  // ends sort first at equal times: the intervals are half-open
  int32_t item;
};

int64_t saturating_length(const LiveInterval& interval) {
  const uint64_t length = uint64_t(interval.end) - uint64_t(interval.begin);
  return int64_t(std::min<uint64_t>(length, uint64_t(std::numeric_limits<int64_t>::max() / 2)));
}

std::vector<LiveInterval> merged(std::vector<LiveInterval> live) {
  std::erase_if(live, [](const LiveInterval& i) { return i.begin >= i.end; });
  std::sort(live.begin(), live.end(),
            [](const LiveInterval& x, const LiveInterval& y) { return x.begin < y.begin; });
  std::vector<LiveInterval> result;
  for (const LiveInterval& interval : live) {
    if (!result.empty() && interval.begin <= result.back().end) {
      result.back().end = std::max(result.back().end, interval.end);
    } else {
      result.push_back(interval);
    }
  }
  return result;
}

void add_span(PackingItem& item, SectionSpan span) {
  if (!item.spans.empty() && item.spans.back().end == span.begin) {
    item.spans.back().end = span.end;
  } else {
    item.spans.push_back(span);
  }
}

// A section is closed by the first end after a start: the set is maximal right before that end.
void sweep(std::vector<Event>& events, PackingSections& sections) {
  std::sort(events.begin(), events.end(), [](const Event& x, const Event& y) {
    if (x.time != y.time) return x.time < y.time;
    return x.starts != y.starts ? x.starts < y.starts : x.item < y.item;
  });
  std::vector<int32_t> opened(sections.items.size());
  int64_t live = 0;
  bool grew = false;
  for (const Event& event : events) {
    PackingItem& item = sections.items[event.item];
    if (event.starts) {
      opened[event.item] = sections.count();
      live += item.padded;
      grew = true;
      continue;
    }
    if (grew) sections.totals.push_back(live);
    grew = false;
    add_span(item, {opened[event.item], sections.count()});
    live -= item.padded;
  }
}

}  // namespace

PackingSections fold_sections(const PackingProblem& problem) {
  PackingSections sections;
  std::vector<Event> events;
  int64_t stride = 0;
  for (size_t b = 0; b < problem.buffers.size(); ++b) {
    const PackingBuffer& buffer = problem.buffers[b];
    if (buffer.size == 0) continue;
    const std::vector<LiveInterval> live = merged(buffer.live);
    if (live.empty()) continue;
    PackingItem item;
    item.buffer = b;
    item.size = int64_t(buffer.size);
    item.alignment = int64_t(buffer.alignment);
    stride = std::gcd(stride, item.alignment);
    for (const LiveInterval& interval : live) {
      const auto index = int32_t(sections.items.size());
      events.push_back({interval.begin, true, index});
      events.push_back({interval.end, false, index});
      item.lifetime = std::min(item.lifetime + saturating_length(interval),
                               std::numeric_limits<int64_t>::max() / 2);
    }
    sections.items.push_back(std::move(item));
  }
  sections.stride = std::max<int64_t>(stride, 1);
  sections.unit = stride;
  for (PackingItem& item : sections.items) {
    item.padded = align_up(item.size, sections.stride);
    sections.unit = std::gcd(sections.unit, item.padded);
  }
  for (const PackingItem& item : sections.items) {
    sections.unit = std::gcd(sections.unit, item.alignment);
  }
  sections.unit = std::max<int64_t>(sections.unit, 1);
  sweep(events, sections);
  for (PackingItem& item : sections.items) {
    for (const SectionSpan& span : item.spans) item.sections += span.end - span.begin;
  }
  return sections;
}

}  // namespace rc
