// src/plan/unit_stage.cc: see unit_stage.h.
#include "src/plan/unit_stage.h"

#include <algorithm>
#include <cstddef>

#include "src/plan/counts.h"

namespace rc {
namespace {

int64_t whole_bytes(const PlanItem& item) {
  const int32_t keep = choice_of(item, PlanOption::kKeep);
  const PlanChoice& any = item.choices[size_t(std::max(keep, 0))];
  return keep >= 0 ? any.kept_bytes : any.kept_bytes + any.transient_bytes;
}

bool runs_again(const PlanLayerClass& k, size_t item) {
  return !k.items[item].pinned && int32_t(item) != k.input_item;
}

// A layer of a unit: everything back at once, so that no moment has less.
PlanLayerClass layer_of_unit(const PlanLayerClass& k, const PlanChoice* input, int64_t others,
                             bool last) {
  PlanLayerClass made = k;
  for (size_t i = 0; i < made.items.size(); ++i) {
    PlanItem& item = made.items[i];
    item.rows = 1;
    item.cut_offload = item.cut_recompute = false;
    if (item.pinned) {
      item.choices = {item.choices[size_t(std::max(0, choice_of(item, PlanOption::kKeep)))]};
      continue;
    }
    PlanChoice again{PlanOption::kRecompute, 0, 0, whole_bytes(item), 0};
    if (int32_t(i) == k.input_item) {
      if (input != nullptr) again = *input;
      again.cost += rerun_cost(k, !last);
    }
    item.moment = kEveryMoment;
    item.choices = {again};
  }
  for (int64_t& bytes : made.moments) bytes += others;
  return made;
}

}  // namespace

bool may_be_in_unit(const PlanLayerClass& k) {
  return k.input_item >= 0 && choice_of(k.items[size_t(k.input_item)], PlanOption::kKeep) >= 0;
}

int64_t regenerated_bytes(const PlanLayerClass& k) {
  int64_t sum = 0;
  for (size_t i = 0; i < k.items.size(); ++i) {
    if (runs_again(k, i)) sum += whole_bytes(k.items[i]);
  }
  return sum;
}

int64_t rerun_cost(const PlanLayerClass& k, bool to_its_end) {
  int64_t sum = 0;
  for (size_t i = 0; i < k.items.size(); ++i) {
    if (!runs_again(k, i)) continue;
    const int32_t alone = choice_of(k.items[i], PlanOption::kRecompute);
    const int64_t cost =
        alone >= 0 ? k.items[i].choices[size_t(alone)].cost : k.items[i].layer_cost;
    sum += std::max<int64_t>(0, cost);
    to_its_end = to_its_end || cost < 0;
  }
  return to_its_end ? sum + k.tail_cost : sum;
}

UnitView expand_units(const PlanStage& stage, const StagePlan& plan) {
  UnitView view{stage, plan};
  view.plan.units.clear();
  for (const PlanUnit& unit : plan.units) {
    const size_t c = size_t(unit.chunk);
    int64_t others = 0;  // what the unit's layers before this one hold while it is in backward
    for (int32_t n = 0; n < unit.layers; ++n) {
      const size_t l = size_t(unit.first) + size_t(n);
      const PlanLayerClass& k = stage.classes[size_t(stage.chunks[c].layers[l])];
      const PlanItem& in = k.items[size_t(k.input_item)];
      const PlanChoice* input =
          n == 0 ? &in.choices[plan.choice[c][l][size_t(k.input_item)]] : nullptr;
      view.stage.chunks[c].layers[l] = int32_t(view.stage.classes.size());
      view.stage.classes.push_back(layer_of_unit(k, input, others, n + 1 == unit.layers));
      view.plan.choice[c][l].assign(k.items.size(), 0);
      others +=
          regenerated_bytes(k) + (input != nullptr ? input->transient_bytes : whole_bytes(in));
    }
  }
  return view;
}

}  // namespace rc
