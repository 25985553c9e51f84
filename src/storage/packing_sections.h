// src/storage/packing_sections.h: a packing problem with its time axis folded to maximal live sets.
//
// A section is a maximal set of buffers that are live at one time (a maximal clique of the interval
// graph). Two buffers conflict exactly where they share a section, so time itself is not needed any
// more. Idea: M. Moffitt, "MiniMalloc", ASPLOS 2023, doi 10.1145/3623278.3624752.
#pragma once

#include <cstdint>
#include <vector>

#include "src/storage/packing.h"

namespace rc {

// A half-open range of sections.
struct SectionSpan {
  int32_t begin = 0;
  int32_t end = 0;
};

// Buffers that need a place (not empty, live at some time), with spans in place of live intervals.
struct PackingItem {
  size_t buffer = 0;  // index in the problem
  int64_t size = 0;
  int64_t padded = 0;  // size rounded up to PackingSections::stride: what it takes below others
  int64_t alignment = 1;
  std::vector<SectionSpan> spans;  // ascending, disjoint, not touching
  int64_t lifetime = 0;            // sum of its live time, saturating
  int64_t sections = 0;            // number of sections it is live in

  int32_t first() const { return spans.front().begin; }
  int32_t last() const { return spans.back().end; }
  double area() const { return double(size) * double(lifetime); }
};

struct PackingSections {
  std::vector<PackingItem> items;
  std::vector<int64_t> totals;  // padded live bytes of each section
  int64_t stride = 1;           // divides every alignment, hence every offset
  int64_t unit = 1;             // divides every alignment and padded size

  int32_t count() const { return int32_t(totals.size()); }
};

// Needs a well-formed problem.
PackingSections fold_sections(const PackingProblem& problem);

inline bool items_conflict(const PackingItem& a, const PackingItem& b) {
  for (size_t i = 0, k = 0; i < a.spans.size() && k < b.spans.size();) {
    if (a.spans[i].end <= b.spans[k].begin) {
      ++i;
    } else if (b.spans[k].end <= a.spans[i].begin) {
      ++k;
    } else {
      return true;
    }
  }
  return false;
}

inline int64_t align_up(int64_t value, int64_t alignment) {
  const int64_t rest = value % alignment;
  return rest == 0 ? value : value + (alignment - rest);
}

}  // namespace rc
