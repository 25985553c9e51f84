// src/plan/chain.cc: see chain.h.
#include "src/plan/chain.h"

#include <algorithm>
#include <cstddef>
#include <map>
#include <numeric>
#include <vector>

#include "src/plan/counts.h"
#include "src/plan/knapsack.h"

namespace rc {
namespace {

int64_t input_bytes(const PlanStage& stage, int32_t layer_class) {
  const PlanLayerClass& k = stage.classes[size_t(layer_class)];
  const PlanItem& input = k.items[size_t(k.input_item)];
  return input.choices[size_t(choice_of(input, PlanOption::kKeep))].kept_bytes;
}

// One way to save a layer: what stays, what backward needs beyond it in each moment, what it costs.
struct Way {
  std::vector<uint8_t> choice;
  int64_t saved = 0, cost = 0;
  std::vector<int64_t> moments;
  int64_t peak() const { return saved + *std::max_element(moments.begin(), moments.end()); }
};

bool no_worse(const Way& a, const Way& b) {
  if (a.saved > b.saved || a.cost > b.cost) return false;
  for (size_t m = 0; m < a.moments.size(); ++m) {
    if (a.saved + a.moments[m] > b.saved + b.moments[m]) return false;
  }
  return true;
}

// All ways of a class that no other one beats; the input stays as it is.
std::vector<Way> ways_of(const PlanLayerClass& layer_class) {
  std::vector<Way> ways = {{{}, 0, 0, layer_class.moments}};
  for (size_t i = 0; i < layer_class.items.size(); ++i) {
    const PlanItem& item = layer_class.items[i];
    std::vector<Way> next;
    for (const Way& way : ways) {
      for (size_t c = 0; c < item.choices.size(); ++c) {
        const PlanChoice& choice = item.choices[c];
        if (choice.option == PlanOption::kOffload) continue;
        if (int32_t(i) == layer_class.input_item && choice.option != PlanOption::kKeep) continue;
        Way more = way;
        more.choice.push_back(uint8_t(c));
        more.saved += choice.kept_bytes;
        more.cost += choice.cost;
        for (size_t m = 0; m < more.moments.size(); ++m) {
          if (item.moment == kEveryMoment || size_t(item.moment) == m) {
            more.moments[m] += choice.transient_bytes;
          }
        }
        next.push_back(std::move(more));
      }
    }
    std::sort(next.begin(), next.end(), [](const Way& a, const Way& b) {
      return a.saved != b.saved ? a.saved < b.saved : a.cost < b.cost;
    });
    ways.clear();
    for (Way& way : next) {
      const auto beats = [&](const Way& other) { return no_worse(other, way); };
      if (std::none_of(ways.begin(), ways.end(), beats)) ways.push_back(std::move(way));
    }
  }
  return ways;
}

class ChainTable {
 public:
  // Sizes in units, rounded up (what is found fits) or down (what is found bounds).
  ChainTable(const PlanStage& stage, const std::vector<std::vector<Way>>& ways, int64_t unit,
             bool up, size_t memory)
      : layers_(stage.chunks[0].layers), unit_(unit), up_(up), memory_(memory) {
    for (size_t k = 0; k < stage.classes.size(); ++k) {
      const PlanLayerClass& layer_class = stage.classes[k];
      forward_.push_back(layer_class.forward_cost);
      inputs_.push_back(units(input_bytes(stage, int32_t(k))));
      sized_.emplace_back();
      for (const Way& way : ways[k]) {
        sized_.back().push_back({units(way.saved), units(way.peak()), way.cost});
      }
    }
    sums_.push_back(0);
    for (const int32_t k : layers_) sums_.push_back(sums_.back() + forward_[size_t(k)]);
    for (size_t length = 1; length <= layers_.size(); ++length) {
      for (size_t i = 0; i + length <= layers_.size(); ++i) fill(i, i + length - 1);
    }
  }

  int64_t cost(size_t i, size_t j, int64_t memory) const {
    if (memory < 0) return kNoCost;
    return costs_[at(i, j)][size_t(std::min<int64_t>(memory, int64_t(memory_)))];
  }

  // Writes the steps of a segment at that memory, and the way of each of its layers.
  void unroll(size_t i, size_t j, int64_t memory, std::vector<ChainStep>& steps,
              std::vector<size_t>& way) const {
    const int64_t want = cost(i, j, memory);
    const size_t k = size_t(layers_[i]);
    for (size_t w = 0; w < sized_[k].size(); ++w) {
      if (all_cost(i, j, memory, sized_[k][w]) != want) continue;
      way[i] = w;
      steps.push_back({ChainOp::kForwardAll, int32_t(i)});
      if (i < j) unroll(i + 1, j, memory - sized_[k][w].saved, steps, way);
      steps.push_back({ChainOp::kBackward, int32_t(i)});
      return;
    }
    for (size_t cut = i + 1; cut <= j; ++cut) {
      if (cut_cost(i, j, memory, cut) != want) continue;
      steps.push_back({ChainOp::kForwardInput, int32_t(i)});
      for (size_t l = i + 1; l < cut; ++l) steps.push_back({ChainOp::kForwardNone, int32_t(l)});
      unroll(cut, j, memory - inputs_[k], steps, way);
      unroll(i, cut - 1, memory, steps, way);
      return;
    }
  }

 private:
  struct Sized {
    int64_t saved, peak, cost;
  };
  int64_t units(int64_t bytes) const { return (bytes + (up_ ? unit_ - 1 : 0)) / unit_; }
  size_t at(size_t i, size_t j) const { return index_[i * layers_.size() + j]; }

  int64_t all_cost(size_t i, size_t j, int64_t memory, const Sized& way) const {
    if (way.peak > memory) return kNoCost;
    const int64_t rest = i < j ? cost(i + 1, j, memory - way.saved) : 0;
    return rest >= kNoCost ? kNoCost : forward_[size_t(layers_[i])] + way.cost + rest;
  }
  int64_t cut_cost(size_t i, size_t j, int64_t memory, size_t cut) const {
    const int64_t right = cost(cut, j, memory - inputs_[size_t(layers_[i])]);
    const int64_t left = cost(i, cut - 1, memory);
    if (right >= kNoCost || left >= kNoCost) return kNoCost;
    return sums_[cut] - sums_[i] + right + left;
  }

  // Sums with an infeasible part stay above kNoCost, a quarter of the range.
  void add_way(size_t i, size_t j, int64_t cost, const Sized& way,
               std::vector<int64_t>& best) const {
    const size_t from = size_t(std::max(way.peak, way.saved));
    if (i == j) {
      for (size_t m = from; m <= memory_; ++m) best[m] = std::min(best[m], cost);
      return;
    }
    const std::vector<int64_t>& rest = costs_[at(i + 1, j)];
    const size_t saved = size_t(way.saved);
    for (size_t m = from; m <= memory_; ++m) {
      best[m] = std::min(best[m], cost + rest[m - saved]);
    }
  }

  // Segments of equal layers share one table.
  void fill(size_t i, size_t j) {
    if (index_.empty()) index_.assign(layers_.size() * layers_.size(), 0);
    const std::vector<int32_t> key(layers_.begin() + int64_t(i), layers_.begin() + int64_t(j) + 1);
    const auto [known, added] = known_.emplace(key, costs_.size());
    index_[i * layers_.size() + j] = known->second;
    if (!added) return;
    std::vector<int64_t> best(memory_ + 1, kNoCost);
    const size_t k = size_t(layers_[i]);
    for (const Sized& way : sized_[k]) add_way(i, j, forward_[k] + way.cost, way, best);
    for (size_t cut = i + 1; cut <= j; ++cut) {
      const std::vector<int64_t>&right = costs_[at(cut, j)], &left = costs_[at(i, cut - 1)];
      const size_t input = size_t(inputs_[k]);
      const int64_t forward = sums_[cut] - sums_[i];
      for (size_t m = input; m <= memory_; ++m) {
        best[m] = std::min(best[m], forward + right[m - input] + left[m]);
      }
    }
    for (int64_t& cost : best) cost = std::min(cost, kNoCost);
    costs_.push_back(std::move(best));
  }

  const std::vector<int32_t> layers_;
  const int64_t unit_;
  const bool up_;
  const size_t memory_;
  std::vector<int64_t> forward_, inputs_, sums_;
  std::vector<std::vector<Sized>> sized_;
  std::map<std::vector<int32_t>, size_t> known_;
  std::vector<size_t> index_;
  std::vector<std::vector<int64_t>> costs_;
};

class ChainSolver {
 public:
  explicit ChainSolver(const PlanStage& stage) : stage_(stage) {
    for (const PlanLayerClass& layer_class : stage.classes) ways_.push_back(ways_of(layer_class));
    for (const PlanState& state : stage.states) held_ = std::max(held_, state.held[0]);
    layers_ = stage.chunks[0].layers.size();
    for (const int32_t k : stage.chunks[0].layers) {
      forward_ += stage.classes[size_t(k)].forward_cost;
    }
  }

  bool run(StagePlan* plan, int64_t* minimum) {
    const int64_t room = stage_.budget - stage_.fixed_bytes;
    if (room <= 0) return *minimum = least_budget(), false;
    choose_unit(room);
    const ChainTable table(stage_, ways_, unit_, true, size_t(room / unit_));
    // Less memory for one microbatch holds less of the others; the cheapest that fits wins.
    int64_t last = kNoCost;
    for (int64_t memory = room / unit_; memory >= 0; --memory) {
      const int64_t cost = table.cost(0, layers_ - 1, memory);
      if (cost >= kNoCost) break;
      if (cost == last && held_ == 1) continue;
      last = cost;
      if (adopt(table, memory, plan)) {
        set_bound(room, plan);
        return true;
      }
    }
    *minimum = least_budget();
    return false;
  }

 private:
  static constexpr int64_t kMostUnits = 4096;

  void choose_unit(int64_t room) {
    unit_ = 0;
    for (size_t k = 0; k < ways_.size(); ++k) {
      for (const Way& way : ways_[k]) unit_ = std::gcd(std::gcd(unit_, way.saved), way.peak());
      unit_ = std::gcd(unit_, input_bytes(stage_, int32_t(k)));
    }
    unit_ = std::max({unit_, int64_t(1), (room + kMostUnits - 1) / kMostUnits});
  }

  bool adopt(const ChainTable& table, int64_t memory, StagePlan* plan) {
    std::vector<size_t> way(layers_, 0);
    *plan = {};
    table.unroll(0, layers_ - 1, memory, plan->chain, way);
    plan->choice.emplace_back();
    for (size_t l = 0; l < layers_; ++l) {
      plan->choice[0].push_back(ways_[size_t(stage_.chunks[0].layers[l])][way[l]].choice);
    }
    measure(way, plan);
    return plan->certificate.peak <= stage_.budget;
  }

  // Walks through the steps: a checkpoint lives until the layer is saved, what is saved until its
  // backward. The other microbatches hold what this one holds between forward and backward.
  void measure(const std::vector<size_t>& way, StagePlan* plan) const {
    PlanCertificate& c = plan->certificate;
    std::vector<char> checkpoint(layers_, 0);
    std::vector<int64_t> in_backward(layers_, 0);
    int64_t live = 0, most = 0, turn = -1;
    c.objective = -forward_;
    for (const ChainStep& step : plan->chain) {
      const size_t l = size_t(step.layer);
      const int32_t k = stage_.chunks[0].layers[l];
      const Way& mine = ways_[size_t(k)][way[l]];
      if (step.op == ChainOp::kBackward) {
        if (turn < 0) turn = live;
        in_backward[l] = live - mine.saved + mine.peak();
        most = std::max(most, in_backward[l]);
        live -= mine.saved;
        continue;
      }
      c.objective += stage_.classes[size_t(k)].forward_cost;
      if (step.op == ChainOp::kForwardNone) continue;
      if (step.op == ChainOp::kForwardInput && !checkpoint[l]) live += input_bytes(stage_, k);
      if (step.op == ChainOp::kForwardAll) {
        if (checkpoint[l]) live -= input_bytes(stage_, k);
        live += mine.saved;
        c.objective += mine.cost;
      }
      checkpoint[l] = step.op == ChainOp::kForwardInput;
      most = std::max(most, live);
    }
    const int64_t others = stage_.fixed_bytes + (held_ - 1) * turn;
    c.kept = {turn};
    c.peak = others + most;
    c.layer_peak.assign(1, {});
    for (const int64_t bytes : in_backward) c.layer_peak[0].push_back(others + bytes);
  }

  void set_bound(int64_t room, StagePlan* plan) {
    const ChainTable table(stage_, ways_, unit_, false, size_t((room + unit_ - 1) / unit_));
    plan->certificate.lower_bound =
        table.cost(0, layers_ - 1, (room + unit_ - 1) / unit_) - forward_;
  }

  // The least memory of a segment; the recurrence without costs.
  int64_t least_memory() const {
    const std::vector<int32_t>& layers = stage_.chunks[0].layers;
    std::vector<std::vector<int64_t>> least(layers_, std::vector<int64_t>(layers_, 0));
    for (size_t length = 1; length <= layers_; ++length) {
      for (size_t i = 0; i + length <= layers_; ++i) {
        const size_t j = i + length - 1;
        int64_t best = kNoCost;
        for (const Way& way : ways_[size_t(layers[i])]) {
          const int64_t rest = i < j ? way.saved + least[i + 1][j] : 0;
          best = std::min(best, std::max(way.peak(), rest));
        }
        const int64_t input = input_bytes(stage_, layers[i]);
        for (size_t cut = i + 1; cut <= j; ++cut) {
          best = std::min(best, std::max(input + least[cut][j], least[i][cut - 1]));
        }
        least[i][j] = best;
      }
    }
    return least[0][layers_ - 1];
  }

  // One microbatch: exact. Several: what the plan of the least memory takes.
  int64_t least_budget() {
    const int64_t memory = least_memory();
    if (held_ == 1) return stage_.fixed_bytes + memory;
    choose_unit(memory);
    const size_t room = size_t((memory + unit_ - 1) / unit_ + int64_t(layers_) + 2);
    const ChainTable table(stage_, ways_, unit_, true, room);
    StagePlan plan;
    for (size_t m = 0; m <= room; ++m) {
      if (table.cost(0, layers_ - 1, int64_t(m)) >= kNoCost) continue;
      adopt(table, int64_t(m), &plan);
      return plan.certificate.peak;
    }
    return -1;
  }

  const PlanStage& stage_;
  std::vector<std::vector<Way>> ways_;
  int32_t held_ = 1;
  size_t layers_ = 0;
  int64_t unit_ = 1, forward_ = 0;
};

}  // namespace

bool is_chain(const PlanStage& stage) {
  if (!stage.allow_chain || stage.chunks.size() != 1) return false;
  for (const PlanLayerClass& layer_class : stage.classes) {
    if (layer_class.input_item < 0) return false;
    const PlanItem& input = layer_class.items[size_t(layer_class.input_item)];
    if (choice_of(input, PlanOption::kKeep) < 0) return false;
    for (const PlanItem& item : layer_class.items) {
      // An item that can only be offloaded has no place here.
      const auto stays = [](const PlanChoice& c) { return c.option != PlanOption::kOffload; };
      if (std::none_of(item.choices.begin(), item.choices.end(), stays)) return false;
    }
  }
  return true;
}

bool solve_chain(const PlanStage& stage, StagePlan* plan, int64_t* minimum) {
  return ChainSolver(stage).run(plan, minimum);
}

}  // namespace rc
