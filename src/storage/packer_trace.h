// src/storage/packer_trace.h: live intervals of a transformer stage in 1F1B order, for tests.
#pragma once

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "src/storage/packing.h"

namespace rc {

struct TransformerTrace {
  int layers = 8;
  int microbatches = 4;
  int in_flight = 2;  // forwards ahead of the first backward
  int tokens = 1024;
  int hidden = 1024;       // bytes per token and slot are multiples of 2 * hidden
  int full_recompute = 0;  // of every layers, the first so many keep only their input
  bool discard = true;     // norm and activation outputs are discarded and refilled
  double jitter = 0.1;     // random relative change of the sizes of each layer
  uint64_t seed = 1;
};

// Builds the problem by walking through the schedule one operation at a time.
class TransformerTraceBuilder {
 public:
  explicit TransformerTraceBuilder(const TransformerTrace& trace)
      : trace_(trace), random_(trace.seed) {
    std::uniform_real_distribution<double> factor(1 - trace.jitter, 1 + trace.jitter);
    for (int l = 0; l < trace.layers; ++l) factors_.push_back(factor(random_));
    tensors_.resize(size_t(trace.microbatches) * size_t(trace.layers) * kSlots);
  }

  PackingProblem build() {
    const int ahead = std::min(trace_.in_flight, trace_.microbatches);
    for (int m = 0; m < ahead; ++m) forward(m);
    for (int m = 0; m < trace_.microbatches; ++m) {
      backward(m);
      if (m + ahead < trace_.microbatches) forward(m + ahead);
    }
    return std::move(problem_);
  }

 private:
  // The outputs of a layer's operations in order; each is read by the next one and saved for
  // backward as its fate says. Sizes are in units of 2 * hidden bytes per token, times a fraction.
  enum Fate { kKept, kDiscarded, kScratch };
  struct Slot {
    double hiddens;
    Fate fate;
  };
  static constexpr int kSlots = 12;
  static constexpr Slot kLayer[kSlots] = {
      {1.0, kKept},       // layer input
      {1.0, kDiscarded},  // norm
      {1.5, kKept},       // query, key, value
      {0.5, kScratch},    // rotary scratch
      {1.0, kKept},       // attention output
      {0.0078, kKept},    // log-sum-exp
      {1.0, kKept},       // residual
      {0.0011, kKept},    // reciprocal deviation
      {1.0, kDiscarded},  // norm
      {7.0, kKept},       // gate and up
      {3.5, kDiscarded},  // activation
      {1.0, kScratch},    // down projection
  };

  bool replays(int layer) const { return layer < trace_.full_recompute; }
  Fate fate(int layer, int slot) const {
    if (replays(layer)) return slot == 0 ? kKept : kScratch;
    if (kLayer[slot].fate == kDiscarded && !trace_.discard) return kKept;
    return kLayer[slot].fate;
  }
  uint64_t bytes(int layer, int slot) const {
    return uint64_t(double(trace_.tokens) * trace_.hidden * 2 * kLayer[slot].hiddens *
                    factors_[size_t(layer)]);
  }
  size_t add(uint64_t size, int64_t begin, int64_t end) {
    problem_.buffers.push_back({size, 256, {{begin, end}}});
    return problem_.buffers.size() - 1;
  }
  size_t& tensor(int m, int l, int s) {
    return tensors_[(size_t(m) * size_t(trace_.layers) + size_t(l)) * kSlots + size_t(s)];
  }

  void forward(int m) {
    for (int l = 0; l < trace_.layers; ++l) {
      for (int s = 0; s < kSlots; ++s, ++now_) tensor(m, l, s) = add(bytes(l, s), now_, now_ + 2);
    }
  }

  // The gradient of each slot lives from the backward of its reader to its own; what replay and
  // refill bring back lives from the start of the layer's backward (replay) or the backward of the
  // reader (refill) to its own backward.
  void backward(int m) {
    for (int l = trace_.layers - 1; l >= 0; --l) {
      if (replays(l)) {
        const int64_t start = now_;
        now_ += kSlots;
        for (int s = 1; s < kSlots; ++s) add(bytes(l, s), start + s, now_ + (kSlots - s));
      }
      for (int s = kSlots - 1; s >= 0; --s, ++now_) {
        add(bytes(l, s), now_ - 1, now_ + 1);
        PackingBuffer& saved = problem_.buffers[tensor(m, l, s)];
        if (fate(l, s) == kKept) saved.live.back().end = now_ + 1;
        if (fate(l, s) == kDiscarded) saved.live.push_back({now_ - 2, now_ + 1});
      }
    }
  }

  const TransformerTrace trace_;
  std::mt19937_64 random_;
  std::vector<double> factors_;
  std::vector<size_t> tensors_;
  PackingProblem problem_;
  int64_t now_ = 1;
};

inline PackingProblem transformer_trace(const TransformerTrace& trace) {
  return TransformerTraceBuilder(trace).build();
}

}  // namespace rc
