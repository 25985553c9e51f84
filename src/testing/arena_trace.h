// src/testing/arena_trace.h: live intervals of every buffer of a stage under a plan and a schedule.
//
// One tick per tensor and pass, in the order in which the layer's items stand. A tensor that is
// dropped or offloaded keeps one offset with two live intervals: from its forward to its last
// forward reader, and from its return to its backward; what lies between is free for others. The
// arena packer's measure is height over the most bytes that are live at one tick.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "src/plan/problem.h"
#include "src/plan/schedule.h"
#include "src/storage/packing.h"

namespace rc {

struct ArenaTraceOptions {
  bool whole_layers = false;  // what is recomputed in a layer comes back at the layer's start
  bool gradients = true;      // one per tensor, from its reader's backward to its own
};

class ArenaTrace {
 public:
  ArenaTrace(const PlanStage& stage, const std::vector<PipelinePass>& passes,
             const ArenaTraceOptions& options)
      : stage_(stage), passes_(passes), options_(options) {}

  // choice: [chunk][layer][item], as in a StagePlan.
  PackingProblem build(const std::vector<std::vector<std::vector<uint8_t>>>& choice) {
    problem_ = {};
    buffer_.assign(stage_.chunks.size(), {});
    now_ = 1;
    for (const PipelinePass& pass : passes_) {
      const std::vector<int32_t>& layers = stage_.chunks[size_t(pass.chunk)].layers;
      for (size_t k = 0; k < layers.size(); ++k) {
        const size_t l = pass.backward ? layers.size() - 1 - k : k;
        const std::vector<uint8_t>& chosen = choice[size_t(pass.chunk)][l];
        if (pass.backward) {
          backward(pass, l, chosen);
        } else {
          forward(pass, l, chosen);
        }
      }
    }
    return std::move(problem_);
  }

 private:
  static constexpr int64_t kReaders = 2;  // ticks until the forward reader is done
  static constexpr int64_t kCopy = 3;     // ticks that a copy out or in takes
  static constexpr size_t kMostItems = 64;

  const PlanLayerClass& layer_class(const PipelinePass& pass, size_t l) const {
    return stage_.classes[size_t(stage_.chunks[size_t(pass.chunk)].layers[l])];
  }
  static uint64_t bytes_of(const PlanItem& item) {
    uint64_t most = 0;
    for (const PlanChoice& c : item.choices) {
      most = std::max(most, uint64_t(c.kept_bytes + c.transient_bytes));
    }
    return most;
  }
  size_t& buffer(const PipelinePass& pass, size_t l, size_t i) {
    std::vector<size_t>& own = buffer_[size_t(pass.chunk)];
    const size_t layers = stage_.chunks[size_t(pass.chunk)].layers.size();
    const size_t at = (size_t(pass.microbatch) * layers + l) * kMostItems + i;
    if (own.size() <= at) own.resize(at + 1);
    return own[at];
  }
  size_t add(uint64_t size, int64_t begin, int64_t end) {
    problem_.buffers.push_back({size, 256, {{begin, end}}});
    return problem_.buffers.size() - 1;
  }

  void forward(const PipelinePass& pass, size_t l, const std::vector<uint8_t>& chosen) {
    const PlanLayerClass& k = layer_class(pass, l);
    for (size_t i = 0; i < k.items.size(); ++i, ++now_) {
      const PlanChoice& c = k.items[i].choices[chosen[i]];
      const int64_t stay = c.option == PlanOption::kOffload ? kCopy : kReaders;
      buffer(pass, l, i) = add(bytes_of(k.items[i]), now_, now_ + stay);
    }
  }

  void backward(const PipelinePass& pass, size_t l, const std::vector<uint8_t>& chosen) {
    const PlanLayerClass& k = layer_class(pass, l);
    const int64_t start = now_;
    const int64_t items = int64_t(k.items.size());
    if (options_.whole_layers) now_ += items;
    for (int64_t i = items - 1; i >= 0; --i, ++now_) {
      const PlanItem& item = k.items[size_t(i)];
      const PlanChoice& c = item.choices[chosen[size_t(i)]];
      if (options_.gradients) add(bytes_of(item), now_ - 1, now_ + 1);
      std::vector<LiveInterval>& live = problem_.buffers[buffer(pass, l, size_t(i))].live;
      if (c.option == PlanOption::kKeep) {
        live.back().end = now_ + 1;
      } else if (c.option == PlanOption::kRecompute && options_.whole_layers) {
        live.push_back({start + i, now_ + 1});
      } else {
        live.push_back({now_ - (c.option == PlanOption::kOffload ? kCopy : kReaders), now_ + 1});
      }
    }
  }

  const PlanStage& stage_;
  const std::vector<PipelinePass>& passes_;
  const ArenaTraceOptions options_;
  PackingProblem problem_;
  std::vector<std::vector<size_t>> buffer_;
  int64_t now_ = 1;
};

// Named ways to treat a stage's layers, as a user would set them.
struct ArenaPolicy {
  std::string name;
  std::vector<std::vector<std::vector<uint8_t>>> choice;
  bool whole_layers = false;
};

// chosen(item, layer, layers) of every item; the keep choice where the item lacks the option.
template <typename Chosen>
std::vector<std::vector<std::vector<uint8_t>>> choose(const PlanStage& stage, Chosen chosen) {
  std::vector<std::vector<std::vector<uint8_t>>> all;
  for (const PlanChunk& chunk : stage.chunks) {
    all.emplace_back();
    for (size_t l = 0; l < chunk.layers.size(); ++l) {
      all.back().emplace_back();
      const std::vector<PlanItem>& items = stage.classes[size_t(chunk.layers[l])].items;
      for (size_t i = 0; i < items.size(); ++i) {
        const PlanOption wanted = chosen(items[i], i, l, chunk.layers.size());
        size_t at = 0;
        for (size_t c = 0; c < items[i].choices.size(); ++c) {
          if (items[i].choices[c].option == wanted) at = c;
        }
        all.back().back().push_back(uint8_t(at));
      }
    }
  }
  return all;
}

}  // namespace rc
