// src/plan/brute_force.h: every plan of a small stage, for tests: the definition of optimal.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "src/plan/problem.h"

namespace rc {

struct BruteForce {
  bool feasible = false;
  int64_t cost = 0;
  int64_t least_peak = 0;  // of all plans within the link
  uint64_t plans = 0;
};

// Walks every assignment of choices, and with `cuts` every cut of one item between keep and offload
// and of one between keep and recompute.
class BruteForceSearch {
 public:
  BruteForceSearch(const PlanStage& stage, bool cut_offload, bool cut_recompute)
      : stage_(stage), cut_offload_(cut_offload), cut_recompute_(cut_recompute) {
    for (size_t c = 0; c < stage.chunks.size(); ++c) {
      for (size_t l = 0; l < stage.chunks[c].layers.size(); ++l) {
        const PlanLayerClass& k = stage.classes[size_t(stage.chunks[c].layers[l])];
        for (const PlanItem& item : k.items) slots_.push_back({c, l, &item});
        uses_.emplace_back();
      }
    }
  }

  BruteForce run() {
    taken_.resize(slots_.size());
    visit(0, false, false);
    return best_;
  }

 private:
  struct Slot {
    size_t chunk, layer;
    const PlanItem* item;
  };
  struct Taken {
    int64_t kept = 0, link = 0, transient = 0, cost = 0;
  };
  struct LayerUse {
    int64_t kept = 0, link = 0;
    std::vector<int64_t> extra;
  };

  bool movable(const Slot& slot, int64_t bytes) const {
    const size_t layers = stage_.chunks[slot.chunk].layers.size();
    if (slot.chunk + 1 == stage_.chunks.size() && slot.layer + stage_.tail_margin >= layers) {
      return false;
    }
    return bytes >= stage_.min_offload_bytes;
  }
  static Taken mix(const PlanChoice& a, int64_t rows, const PlanChoice& b, int64_t of) {
    const auto bytes = [&](int64_t x, int64_t y) { return x / of * rows + y / of * (of - rows); };
    const auto up = [&](int64_t cost, int64_t r) { return (cost * r + of - 1) / of; };
    return {bytes(a.kept_bytes, b.kept_bytes), bytes(a.link_bytes, b.link_bytes),
            bytes(a.transient_bytes, b.transient_bytes), up(a.cost, rows) + up(b.cost, of - rows)};
  }

  void visit(size_t s, bool cut_moved, bool cut_replayed) {
    if (s == slots_.size()) {
      evaluate();
      return;
    }
    const Slot& slot = slots_[s];
    for (const PlanChoice& c : slot.item->choices) {
      if (c.link_bytes > 0 && !movable(slot, c.link_bytes)) continue;
      taken_[s] = {c.kept_bytes, c.link_bytes, c.transient_bytes, c.cost};
      visit(s + 1, cut_moved, cut_replayed);
    }
    if (!cut_offload_ && !cut_recompute_) return;
    const PlanChoice* keep = slot.item->find(PlanOption::kKeep);
    const auto cut = [&](PlanOption with, bool moved, bool replayed) {
      const PlanChoice* other = slot.item->find(with);
      if (keep == nullptr || other == nullptr) return;
      for (int64_t rows = 1; rows < slot.item->rows; ++rows) {
        taken_[s] = mix(*keep, rows, *other, slot.item->rows);
        if (taken_[s].link > 0 && !movable(slot, taken_[s].link)) continue;
        visit(s + 1, moved, replayed);
      }
    };
    if (cut_offload_ && slot.item->cut_offload && !cut_moved)
      cut(PlanOption::kOffload, true, cut_replayed);
    if (cut_recompute_ && slot.item->cut_recompute && !cut_replayed)
      cut(PlanOption::kRecompute, cut_moved, true);
  }

  void evaluate() {
    ++best_.plans;
    size_t s = 0, u = 0;
    int64_t cost = 0, link = 0;
    for (size_t c = 0; c < stage_.chunks.size(); ++c) {
      for (const int32_t k : stage_.chunks[c].layers) {
        const PlanLayerClass& layer_class = stage_.classes[size_t(k)];
        LayerUse& use = uses_[u++];
        use.kept = use.link = 0;
        use.extra = layer_class.moments;
        for (const PlanItem& item : layer_class.items) {
          const Taken& t = taken_[s++];
          use.kept += t.kept;
          use.link += t.link;
          cost += t.cost;
          for (size_t m = 0; m < use.extra.size(); ++m) {
            if (item.moment < 0 || size_t(item.moment) == m) use.extra[m] += t.transient;
          }
        }
        link += use.link;
      }
    }
    if (link > stage_.link_bytes) return;
    const int64_t peak = fullest();
    if (peak < 0) return;
    if (best_.least_peak == 0 || peak < best_.least_peak) best_.least_peak = peak;
    if (peak > stage_.budget) return;
    if (!best_.feasible || cost < best_.cost) best_.cost = cost;
    best_.feasible = true;
  }

  // The largest sum over all moments of all states; -1 where the host has no room.
  int64_t fullest() const {
    int64_t peak = 0;
    for (const PlanState& state : stage_.states) {
      int64_t base = stage_.fixed_bytes, host = 0;
      size_t u = 0, first = 0;
      for (size_t c = 0; c < stage_.chunks.size(); ++c) {
        if (c == size_t(state.chunk)) first = u;
        for (size_t l = 0; l < stage_.chunks[c].layers.size(); ++l, ++u) {
          base += uses_[u].kept * (state.held[c] - (c == size_t(state.chunk)));
          host += uses_[u].link * state.held[c];
        }
      }
      if (stage_.host_bytes >= 0 && host > stage_.host_bytes) return -1;
      for (size_t l = 0; l < stage_.chunks[size_t(state.chunk)].layers.size(); ++l) {
        base += uses_[first + l].kept;
        for (const int64_t extra : uses_[first + l].extra) peak = std::max(peak, base + extra);
      }
    }
    return peak;
  }

  const PlanStage& stage_;
  const bool cut_offload_, cut_recompute_;
  std::vector<Slot> slots_;
  std::vector<Taken> taken_;
  std::vector<LayerUse> uses_;
  BruteForce best_;
};

inline BruteForce brute_force(const PlanStage& stage, bool cut_offload, bool cut_recompute) {
  return BruteForceSearch(stage, cut_offload, cut_recompute).run();
}

}  // namespace rc
