// src/plan/unit_segments.h: what can become of the next layers of a chunk: one layer in one of its
// ways, or a unit of several.
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "src/plan/problem.h"

namespace rc {

struct UnitSegment {
  int32_t layers = 1;
  std::vector<uint8_t> choice;  // of the first layer's items
  int64_t kept = 0, link = 0, cost = 0;
  int64_t top = 0;        // the most, kept bytes of its own layers so far included, in any backward
  int64_t last_wide = 0;  // beyond all its kept bytes in the last layer's backward
};

class UnitSegments {
 public:
  // Units above `room` bytes are left out. `free`: nothing costs anything.
  UnitSegments(const PlanStage& stage, int64_t room, bool free);
  const std::vector<UnitSegment>& at(size_t chunk, size_t layer) const {
    return segments_[places_[chunk][layer]];
  }

 private:
  std::vector<UnitSegment> ways(const PlanLayerClass& layer_class, bool may_move) const;
  void add_units(size_t chunk, size_t layer, std::vector<UnitSegment>* out) const;

  const PlanStage& stage_;
  const int64_t room_;
  const bool free_;
  std::vector<std::vector<UnitSegment>> segments_;
  std::vector<std::vector<size_t>> places_;
};

}  // namespace rc
