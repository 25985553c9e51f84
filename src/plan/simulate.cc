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
      if (!plan_.chain.empty()) {
        run_chain();
      } else if (pass.backward) {
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
    for (size_t l = 0; l < layers(); ++l) forward_layer(l);
  }
  void backward() {
    for (size_t l = layers(); l-- > 0;) backward_layer(l);
  }

  // Forward takes the chain's steps up to the last layer's first backward, backward the rest.
  void run_chain() {
    const auto turn = std::find_if(plan_.chain.begin(), plan_.chain.end(),
                                   [](const ChainStep& s) { return s.op == ChainOp::kBackward; });
    const auto first = pass_.backward ? turn : plan_.chain.begin();
    const auto last = pass_.backward ? plan_.chain.end() : turn;
    if (!pass_.backward) runs_.assign(layers(), 0);
    for (auto step = first; step != last; ++step) chain_step(*step);
  }

  int64_t input_bytes(size_t l) const {
    const PlanLayerClass& k = layer_class(l);
    for (const PlanChoice& choice : k.items[size_t(k.input_item)].choices) {
      if (choice.option == PlanOption::kKeep) return choice.kept_bytes;
    }
    return 0;
  }

  void chain_step(const ChainStep& step) {
    const size_t l = size_t(step.layer);
    if (step.op == ChainOp::kBackward) {
      backward_layer(l);
      return;
    }
    // The first run of a layer in a pass is the step's own forward; every further one is replay.
    if (pass_.backward) event(PlanEventKind::kReplay, l, -1, 0, 0, layer_class(l).forward_cost);
    const int32_t input = layer_class(l).input_item;
    if (step.op == ChainOp::kForwardInput && runs_[l] == 0) {
      event(PlanEventKind::kAlloc, l, input, 0, input_bytes(l), 0);
      runs_[l] = 1;
    }
    if (step.op == ChainOp::kForwardAll) {
      // The checkpoint becomes the saved input.
      if (runs_[l] == 1) event(PlanEventKind::kFree, l, input, 0, input_bytes(l), 0);
      runs_[l] = 0;
      forward_layer(l);
    }
  }

  const PlanStage& stage_;
  const StagePlan& plan_;
  const bool record_;
  PipelinePass pass_;
  PlanRun run_;
  int64_t device_ = 0, host_ = 0;
  std::vector<int> runs_;
};

}  // namespace

PlanRun simulate_plan(const PlanStage& stage, const StagePlan& plan,
                      const std::vector<PipelinePass>& passes, bool record) {
  return Run(stage, plan, record).finish(passes);
}

}  // namespace rc
