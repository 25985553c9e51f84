// src/plan/check_chain.cc: walks through the steps of a chain plan; see check.h.
#include <algorithm>
#include <cstddef>
#include <vector>

#include "src/plan/check.h"

namespace rc {
namespace {

class ChainChecker {
 public:
  ChainChecker(const PlanStage& stage, const StagePlan& plan) : stage_(stage), plan_(plan) {}

  bool run(std::string* finding) {
    const bool good = well_formed() && walk() && figures();
    *finding = finding_;
    return good;
  }

 private:
  bool fail(const std::string& what) {
    finding_ = what;
    return false;
  }
  const PlanLayerClass& layer(size_t l) const {
    return stage_.classes[size_t(stage_.chunks[0].layers[l])];
  }

  bool well_formed() {
    if (stage_.chunks.size() != 1 || plan_.choice.size() != 1) return fail("not one chunk");
    layers_ = stage_.chunks[0].layers.size();
    if (plan_.choice[0].size() != layers_) return fail("another number of layers");
    if (!plan_.cuts.empty()) return fail("a chain cuts no tensors");
    for (size_t l = 0; l < layers_; ++l) {
      const PlanLayerClass& k = layer(l);
      if (k.input_item < 0) return fail("a layer without an input");
      if (plan_.choice[0][l].size() != k.items.size()) return fail("another number of items");
      int64_t saved = 0, cost = 0, widest = 0;
      for (size_t m = 0; m < k.moments.size(); ++m) {
        int64_t bytes = k.moments[m];
        for (size_t i = 0; i < k.items.size(); ++i) {
          if (plan_.choice[0][l][i] >= k.items[i].choices.size()) return fail("no such choice");
          const PlanChoice& c = k.items[i].choices[plan_.choice[0][l][i]];
          if (c.link_bytes != 0) return fail("a chain offloads nothing");
          if (int32_t(i) == k.input_item && c.option != PlanOption::kKeep) {
            return fail("an input that is not kept");
          }
          if (k.items[i].moment < 0 || size_t(k.items[i].moment) == m) bytes += c.transient_bytes;
          if (m == 0) saved += c.kept_bytes, cost += c.cost;
        }
        widest = std::max(widest, bytes);
      }
      const PlanItem& in = k.items[size_t(k.input_item)];
      input_.push_back(in.choices[plan_.choice[0][l][size_t(k.input_item)]].kept_bytes);
      saved_.push_back(saved);
      widest_.push_back(widest);
      way_cost_.push_back(cost);
    }
    return true;
  }

  // A layer can run where its input is: at the stage's input, a checkpoint, or fresh from the layer
  // before it.
  bool walk() {
    enum { kNothing, kInput, kSaved };
    std::vector<int> has(layers_, kNothing);
    size_t next_backward = layers_;
    int64_t fresh = 0, live = 0, forwards = 0;
    peaks_.assign(layers_, 0);
    for (const ChainStep& step : plan_.chain) {
      if (step.layer < 0 || size_t(step.layer) >= layers_) return fail("no such layer");
      const size_t l = size_t(step.layer);
      if (step.op == ChainOp::kBackward) {
        if (l + 1 != next_backward) return fail("backward out of order");
        if (has[l] != kSaved) return fail("backward of a layer that is not saved");
        if (turn_ < 0) turn_ = live;
        next_backward = l;
        peaks_[l] = live + widest_[l];
        most_ = std::max(most_, peaks_[l]);
        live -= saved_[l];
        has[l] = kNothing;
        fresh = -1;
        continue;
      }
      if (l >= next_backward) return fail("forward of a layer that is done");
      // The stage's own input comes from before it and must be held for a second run.
      const bool first_run = l == 0 && forwards == 0;
      if (!first_run && fresh != int64_t(l) && has[l] != kInput) return fail("an input is missing");
      forwards += 1;
      cost_ += layer(l).forward_cost;
      if (has[l] == kSaved) return fail("forward of a layer that is saved");
      if (step.op == ChainOp::kForwardInput && has[l] == kNothing) {
        live += input_[l];
        has[l] = kInput;
      }
      if (step.op == ChainOp::kForwardAll) {
        if (has[l] == kInput) live -= input_[l];
        live += saved_[l];
        has[l] = kSaved;
        cost_ += way_cost_[l];
      }
      most_ = std::max(most_, live);
      fresh = int64_t(l) + 1;
    }
    for (size_t l = 0; l < layers_; ++l) cost_ -= layer(l).forward_cost;
    if (next_backward != 0) return fail("not every layer went backward");
    return live == 0 ? true : fail("something is left at the end");
  }

  bool figures() {
    int64_t held = 1;
    for (const PlanState& state : stage_.states) held = std::max<int64_t>(held, state.held[0]);
    const int64_t others = stage_.fixed_bytes + (held - 1) * turn_;
    const PlanCertificate& claim = plan_.certificate;
    for (int64_t& peak : peaks_) peak += others;
    if (claim.objective != cost_) return fail("the cost differs");
    if (claim.peak != others + most_) return fail("the peak differs");
    if (claim.layer_peak.size() != 1 || claim.layer_peak[0] != peaks_) {
      return fail("the peaks of the layers differ");
    }
    if (claim.kept != std::vector<int64_t>{turn_}) return fail("the held bytes differ");
    if (claim.link != 0 || claim.host != 0) return fail("a chain offloads nothing");
    if (claim.lower_bound > cost_) return fail("the bound lies above the cost");
    return claim.peak <= stage_.budget ? true : fail("the peak is above the budget");
  }

  const PlanStage& stage_;
  const StagePlan& plan_;
  size_t layers_ = 0;
  std::vector<int64_t> input_, saved_, widest_, way_cost_, peaks_;
  int64_t cost_ = 0, most_ = 0, turn_ = -1;
  std::string finding_;
};

}  // namespace

bool check_chain(const PlanStage& stage, const StagePlan& plan, std::string* finding) {
  return ChainChecker(stage, plan).run(finding);
}

}  // namespace rc
