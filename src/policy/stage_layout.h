// src/policy/stage_layout.h: StageLayout, which layers each (rank, virtual chunk) has.
#pragma once

#include <cstdint>
#include <vector>

#include "src/policy/policy_spec.h"

namespace rc {

struct Stage {
  uint32_t first = 0;  // global layer
  uint32_t n = 0;
  uint32_t rank = 0;
  uint32_t chunk = 0;
  uint32_t end() const { return first + n; }
};

// The virtual stages in the order a microbatch passes them: chunk 0 of rank 0, chunk 0 of rank 1,
// ..., chunk 1 of rank 0, ... Every rank has as many layers in each of its chunks; ranks are even
// but for an explicit first and last one, unless layers_per_virtual_stage says otherwise.
class StageLayout {
 public:
  static Status make(const PolicySpec& spec, StageLayout* out);
  // False where num_layers is not set: then all layers are in one stage without an end.
  bool known() const { return num_layers_ != 0; }
  uint32_t num_layers() const { return num_layers_; }
  const std::vector<Stage>& stages() const { return stages_; }
  // A layer past the last one (multi-token prediction) is a stage of its own.
  Stage stage_of(uint32_t layer) const;
  uint32_t largest() const { return largest_; }
  // Of those that have a layer.
  uint32_t smallest() const { return smallest_; }

 private:
  Status spread(const PolicySpec& spec);
  Status take_list(const PolicySpec& spec);
  std::vector<Stage> stages_;
  uint32_t num_layers_ = 0;
  uint32_t largest_ = 0;
  uint32_t smallest_ = 0;
};

}  // namespace rc
