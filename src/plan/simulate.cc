// src/plan/simulate.cc: see simulate.h.
#include "src/plan/simulate.h"

#include <algorithm>
#include <cstddef>

namespace rc {
namespace {

class Run {
 public:
  Run(const PlanStage& stage, const StagePlan& plan, bool record)
      : stage_(stage), plan_(plan), record_(record), device_(stage.fixed_bytes) {
    run_.peak = device_;
  }

  PlanRun finish(const std::vector<PipelinePass>& passes) {
    for (const PipelinePass& pass : passes) {
      pass_ = pass;
      if (pass.backward) {
        backward();
      } else {
        forward();
      }
    }
    run_.left = device_ - stage_.fixed_bytes;
    return std::move(run_);
  }

 private:
  struct Part {
    const PlanChoice* choice;
    int64_t rows, of;
    int64_t bytes(int64_t whole) const { return whole / of * rows; }
  };

  const PlanLayerClass& layer_class(size_t l) const {
    return stage_.classes[size_t(stage_.chunks[size_t(pass_.chunk)].layers[l])];
  }
  size_t layers() const { return stage_.chunks[size_t(pass_.chunk)].layers.size(); }

  void event(PlanEventKind kind, size_t l, int32_t item, int32_t buffer, int64_t bytes,
             int64_t cost) {
    if (kind == PlanEventKind::kAlloc) device_ += bytes;
    if (kind == PlanEventKind::kFree) device_ -= bytes;
    if (kind == PlanEventKind::kCopyOut) host_ += bytes, run_.link += bytes;
    if (kind == PlanEventKind::kCopyIn) host_ -= bytes;
    run_.cost += cost;
    run_.peak = std::max(run_.peak, device_);
    run_.host_peak = std::max(run_.host_peak, host_);
    if (!record_) return;
    run_.events.push_back(
        {kind, pass_.microbatch, pass_.chunk, int32_t(l), item, buffer, bytes, cost});
  }

  std::vector<Part> parts(size_t l, size_t i) const {
    const PlanItem& item = layer_class(l).items[i];
    const size_t c = size_t(pass_.chunk);
    for (const PlanCut& cut : plan_.cuts) {
      if (size_t(cut.chunk) != c || size_t(cut.layer) != l || size_t(cut.item) != i) continue;
      std::vector<Part> cut_parts;
      for (const PlanChoice& choice : item.choices) {
        int64_t rows = 0;
        if (choice.option == PlanOption::kKeep) rows = cut.kept_rows;
        if (choice.option == PlanOption::kOffload) rows = cut.offloaded_rows;
        if (choice.option == PlanOption::kRecompute) rows = cut.recomputed_rows;
        if (rows > 0) cut_parts.push_back({&choice, rows, item.rows});
      }
      return cut_parts;
    }
    return {{&item.choices[plan_.choice[c][l][i]], 1, 1}};
  }

  template <typename Visit>
  void each_part(size_t l, Visit visit) {
    for (size_t i = 0; i < layer_class(l).items.size(); ++i) {
      int32_t buffer = 0;
      for (const Part& part : parts(l, i)) visit(int32_t(i), buffer++ * 2, part);
    }
  }

  void forward_layer(size_t l) {
    event(PlanEventKind::kForward, l, -1, 0, 0, 0);
    each_part(l, [&](int32_t i, int32_t buffer, const Part& part) {
      const int64_t kept = part.bytes(part.choice->kept_bytes);
      const int64_t moved = part.bytes(part.choice->link_bytes);
      if (kept > 0) event(PlanEventKind::kAlloc, l, i, buffer, kept, 0);
      if (moved > 0) event(PlanEventKind::kCopyOut, l, i, buffer, moved, 0);
    });
  }

  void backward_layer(size_t l) {
    const PlanLayerClass& k = layer_class(l);
    event(PlanEventKind::kBackward, l, -1, 0, 0, 0);
    bring_back(l, kEveryMoment);
    for (size_t m = 0; m < k.moments.size(); ++m) {
      if (k.moments[m] > 0) event(PlanEventKind::kAlloc, l, -1, int32_t(m), k.moments[m], 0);
      bring_back(l, int32_t(m));
      release(l, int32_t(m));
      if (k.moments[m] > 0) event(PlanEventKind::kFree, l, -1, int32_t(m), k.moments[m], 0);
    }
    release(l, kEveryMoment);
    each_part(l, [&](int32_t i, int32_t buffer, const Part& part) {
      const int64_t kept = part.bytes(part.choice->kept_bytes);
      if (kept > 0) event(PlanEventKind::kFree, l, i, buffer, kept, 0);
    });
  }

  void bring_back(size_t l, int32_t moment) {
    each_part(l, [&](int32_t i, int32_t buffer, const Part& part) {
      if (layer_class(l).items[size_t(i)].moment != moment) return;
      const int64_t transient = part.bytes(part.choice->transient_bytes);
      const int64_t moved = part.bytes(part.choice->link_bytes);
      if (transient > 0) event(PlanEventKind::kAlloc, l, i, buffer + 1, transient, 0);
      if (moved > 0) event(PlanEventKind::kCopyIn, l, i, buffer, moved, 0);
      const int64_t cost =
          int64_t((__int128(part.choice->cost) * part.rows + part.of - 1) / part.of);
      if (cost > 0) event(PlanEventKind::kReplay, l, i, buffer, 0, cost);
    });
  }

  void release(size_t l, int32_t moment) {
    each_part(l, [&](int32_t i, int32_t buffer, const Part& part) {
      if (layer_class(l).items[size_t(i)].moment != moment) return;
      const int64_t transient = part.bytes(part.choice->transient_bytes);
      if (transient > 0) event(PlanEventKind::kFree, l, i, buffer + 1, transient, 0);
    });
  }

  void forward() {
    for (size_t l = 0; l < layers(); ++l) {
      const PlanUnit* unit = unit_of(l);
      unit != nullptr ? forward_in_unit(*unit, l) : forward_layer(l);
    }
  }
  void backward() {
    for (size_t l = layers(); l-- > 0;) {
      const PlanUnit* unit = unit_of(l);
      unit != nullptr ? backward_in_unit(*unit, l) : backward_layer(l);
    }
  }

  const PlanUnit* unit_of(size_t l) const {
    for (const PlanUnit& unit : plan_.units) {
      const auto first = size_t(unit.first);
      if (unit.chunk == pass_.chunk && l >= first && l < first + size_t(unit.layers)) return &unit;
    }
    return nullptr;
  }

  // What stays of a unit's layer: the input of the first as its choice says, and what is pinned.
  const PlanChoice* stays(const PlanUnit& unit, size_t l, size_t i) const {
    const PlanLayerClass& k = layer_class(l);
    if (k.items[i].pinned) return k.items[i].find(PlanOption::kKeep);
    if (l != size_t(unit.first) || int32_t(i) != k.input_item) return nullptr;
    return &k.items[i].choices[plan_.choice[size_t(pass_.chunk)][l][i]];
  }

  void forward_in_unit(const PlanUnit& unit, size_t l) {
    event(PlanEventKind::kForward, l, -1, 0, 0, 0);
    for (size_t i = 0; i < layer_class(l).items.size(); ++i) {
      const PlanChoice* c = stays(unit, l, i);
      if (c != nullptr && c->kept_bytes > 0)
        event(PlanEventKind::kAlloc, l, int32_t(i), 0, c->kept_bytes, 0);
      if (c != nullptr && c->link_bytes > 0)
        event(PlanEventKind::kCopyOut, l, int32_t(i), 0, c->link_bytes, 0);
    }
  }

  // The input of the first layer, then every layer in turn: what it saves appears as it runs.
  void run_unit_again(const PlanUnit& unit) {
    for (int32_t n = 0; n < unit.layers; ++n) {
      const size_t l = size_t(unit.first) + size_t(n);
      const PlanLayerClass& k = layer_class(l);
      bool to_its_end = n + 1 < unit.layers;
      for (size_t i = 0; i < k.items.size(); ++i) {
        const PlanChoice* c = stays(unit, l, i);
        if (c != nullptr) {
          if (c->transient_bytes > 0)
            event(PlanEventKind::kAlloc, l, int32_t(i), 1, c->transient_bytes, 0);
          if (c->link_bytes > 0) event(PlanEventKind::kCopyIn, l, int32_t(i), 0, c->link_bytes, 0);
          if (c->cost > 0 && !k.items[i].pinned)
            event(PlanEventKind::kReplay, l, int32_t(i), 0, 0, c->cost);
          continue;
        }
        const int64_t bytes = k.items[i].bytes();
        if (bytes > 0) event(PlanEventKind::kAlloc, l, int32_t(i), 1, bytes, 0);
        if (int32_t(i) == k.input_item) continue;
        const PlanChoice* alone = k.items[i].find(PlanOption::kRecompute);
        if (alone != nullptr || k.items[i].layer_cost >= 0) {
          event(PlanEventKind::kReplay, l, int32_t(i), 0, 0,
                alone != nullptr ? alone->cost : k.items[i].layer_cost);
        } else {
          to_its_end = true;
        }
      }
      if (to_its_end) event(PlanEventKind::kReplay, l, -1, 0, 0, k.tail_cost);
    }
  }

  void backward_in_unit(const PlanUnit& unit, size_t l) {
    if (l + 1 == size_t(unit.first) + size_t(unit.layers)) run_unit_again(unit);
    const PlanLayerClass& k = layer_class(l);
    event(PlanEventKind::kBackward, l, -1, 0, 0, 0);
    for (size_t m = 0; m < k.moments.size(); ++m) {
      if (k.moments[m] == 0) continue;
      event(PlanEventKind::kAlloc, l, -1, int32_t(m), k.moments[m], 0);
      event(PlanEventKind::kFree, l, -1, int32_t(m), k.moments[m], 0);
    }
    for (size_t i = 0; i < k.items.size(); ++i) {
      const PlanChoice* c = stays(unit, l, i);
      const int64_t back = c != nullptr ? c->transient_bytes : k.items[i].bytes();
      if (back > 0) event(PlanEventKind::kFree, l, int32_t(i), 1, back, 0);
      if (c != nullptr && c->kept_bytes > 0)
        event(PlanEventKind::kFree, l, int32_t(i), 0, c->kept_bytes, 0);
    }
  }

  const PlanStage& stage_;
  const StagePlan& plan_;
  const bool record_;
  PipelinePass pass_;
  PlanRun run_;
  int64_t device_ = 0, host_ = 0;
};

}  // namespace

PlanRun simulate_plan(const PlanStage& stage, const StagePlan& plan,
                      const std::vector<PipelinePass>& passes, bool record) {
  return Run(stage, plan, record).finish(passes);
}

}  // namespace rc
