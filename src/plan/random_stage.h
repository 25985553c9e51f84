// src/plan/random_stage.h: random stages for tests and benchmarks; equal seeds, equal stages.
#pragma once

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>

#include "src/plan/problem.h"
#include "src/plan/schedule.h"

namespace rc {

struct RandomStage {
  int classes = 2, layers = 4, items = 3;
  int chunks = 1, stages = 2, stage = 0, microbatches = 8;
  int64_t unit = 256;  // all bytes are multiples; 1 makes them coarse in no unit
  int64_t most_units = 60;
  int moments = 1;
  bool recompute = true, offload = true, shard = false, compress = false;
  int64_t price = 0;  // of all offloads, per unit of bytes; above 0 in place of free_offload
  bool free_offload = true, cut_offload = true, cut_recompute = false;
  bool odd_transients = false;  // transients that are not bytes - kept
  int64_t rows = 4;             // of items that may be cut
  double budget = 0.5;          // between the least and the most that plans take, roughly
  double link = 0.2;            // of what keep-all saves
};

class RandomStageMaker {
 public:
  RandomStageMaker(const RandomStage& shape, uint64_t seed) : shape_(shape), random_(seed) {}

  PlanStage make() {
    for (int k = 0; k < shape_.classes; ++k) stage_.classes.push_back(layer_class(k));
    int left = shape_.layers;
    for (int c = 0; c < shape_.chunks; ++c) {
      const int own = c + 1 == shape_.chunks ? left : shape_.layers / shape_.chunks;
      left -= own;
      PlanChunk chunk;
      for (int l = 0; l < own; ++l) chunk.layers.push_back(int32_t(below(shape_.classes)));
      if (below(2) == 0) std::sort(chunk.layers.begin(), chunk.layers.end());
      stage_.chunks.push_back(chunk);
    }
    stage_.states = peak_states(
        pipeline_passes(shape_.stages, shape_.stage, shape_.chunks, shape_.microbatches),
        shape_.chunks);
    stage_.tail_margin = int32_t(below(2));
    set_capacities();
    return stage_;
  }

 private:
  int64_t below(int64_t n) { return int64_t(random_() % uint64_t(n)); }
  int64_t bytes() { return (1 + below(shape_.most_units)) * shape_.unit; }

  PlanLayerClass layer_class(int k) {
    PlanLayerClass made;
    made.name = "class" + std::to_string(k);
    made.moments.clear();
    for (int m = 0; m < shape_.moments; ++m) made.moments.push_back(bytes());
    for (int i = 0; i < shape_.items; ++i) made.items.push_back(item(i));
    return made;
  }

  PlanItem item(int i) {
    PlanItem made;
    made.name = "item" + std::to_string(i);
    const int64_t whole = bytes() * shape_.rows;
    const auto transient = [&](int64_t kept) {
      return shape_.odd_transients && below(2) == 0 ? bytes() / shape_.rows * shape_.rows
                                                    : whole - kept;
    };
    made.choices.push_back({PlanOption::kKeep, whole, 0, 0, 0});
    if (shape_.recompute && below(8) != 0) {
      made.choices.push_back({PlanOption::kRecompute, 0, 0, transient(0),
                              1 + whole / shape_.unit * (1 + below(50)) + below(1000)});
    }
    if (shape_.offload && below(3) != 0) {
      int64_t cost = shape_.free_offload ? 0 : below(400);
      if (shape_.price > 0) cost = whole / shape_.unit * shape_.price;
      made.choices.push_back({PlanOption::kOffload, 0, whole, transient(0), cost});
    }
    if (shape_.shard && below(2) == 0) {
      const int64_t kept = whole / 4 / shape_.rows * shape_.rows;
      made.choices.push_back({PlanOption::kShard, kept, 0, transient(kept), 1 + below(800)});
    }
    if (shape_.compress && below(2) == 0) {
      const int64_t kept = whole / 2 / shape_.rows * shape_.rows;
      made.choices.push_back({PlanOption::kCompress, kept, 0, transient(kept), 1 + below(500)});
    }
    if (shape_.moments > 1 && below(3) != 0) made.moment = int32_t(below(shape_.moments));
    made.rows = shape_.rows;
    made.cut_offload = shape_.cut_offload;
    made.cut_recompute = shape_.cut_recompute && below(2) == 0;
    if (!made.cut_offload && !made.cut_recompute) made.rows = 1;
    return made;
  }

  void set_capacities() {
    int64_t all = 0, held = 0, moment = 0;
    for (const PlanState& state : stage_.states) {
      int64_t sum = 0;
      for (size_t c = 0; c < stage_.chunks.size(); ++c) {
        for (const int32_t k : stage_.chunks[c].layers) {
          for (const PlanItem& item : stage_.classes[size_t(k)].items) {
            sum += state.held[c] * item.choices[0].kept_bytes;
            if (&state == &stage_.states[0]) all += item.choices[0].kept_bytes;
          }
        }
      }
      held = std::max(held, sum);
    }
    for (const PlanLayerClass& k : stage_.classes) moment = std::max(moment, k.moments[0]);
    stage_.fixed_bytes = below(2) * shape_.unit * 3;
    stage_.budget = stage_.fixed_bytes + moment + int64_t(double(held) * shape_.budget);
    stage_.link_bytes = int64_t(double(all) * shape_.link);
  }

  const RandomStage shape_;
  std::mt19937_64 random_;
  PlanStage stage_;
};

inline PlanStage random_stage(const RandomStage& shape, uint64_t seed) {
  return RandomStageMaker(shape, seed).make();
}

}  // namespace rc
