// src/plan/stage_rules.cc: see stage_rules.h.
#include "src/plan/stage_rules.h"

#include <cstddef>

namespace rc {
namespace {

// Sums over layers, microbatches and rows then stay far below the range of int64_t.
constexpr int64_t kMostBytes = int64_t(1) << 50;
constexpr int64_t kMostCost = int64_t(1) << 50;  // about 19 minutes
constexpr size_t kMostLayers = 4096;
constexpr int64_t kMostHeld = 4096;

Status check_range(const char* field, int64_t value, int64_t least, int64_t most) {
  if (value >= least && value <= most) return ok_status();
  return argument_error(field, format("%lld is not between %lld and %lld", (long long)value,
                                      (long long)least, (long long)most));
}

Status check_choice(const PlanChoice& choice) {
  RC_TRY(check_range("option", int64_t(choice.option), 0, kPlanOptions - 1));
  RC_TRY(check_range("kept_bytes", choice.kept_bytes, 0, kMostBytes));
  RC_TRY(check_range("link_bytes", choice.link_bytes, 0, kMostBytes));
  RC_TRY(check_range("transient_bytes", choice.transient_bytes, 0, kMostBytes));
  RC_TRY(check_range("cost", choice.cost, 0, kMostCost));
  if (choice.option != PlanOption::kOffload && choice.link_bytes != 0) {
    return argument_error(
        "link_bytes", format("%lld, but only offload uses the link", (long long)choice.link_bytes));
  }
  if (choice.option == PlanOption::kOffload && choice.link_bytes == 0) {
    return argument_error("link_bytes", "0, but offload moves something");
  }
  return ok_status();
}

Status check_item(const PlanItem& item, size_t moments) {
  if (item.choices.empty()) return argument_error("choices", "empty; at least one is needed");
  uint32_t seen = 0;
  for (size_t i = 0; i < item.choices.size(); ++i) {
    const PlanChoice& choice = item.choices[i];
    const std::string name = format("choices[%zu]", i);
    RC_TRY(check_choice(choice).inside(name));
    const uint32_t bit = 1u << uint32_t(choice.option);
    if (seen & bit) return argument_error(name + ".option", "given twice");
    seen |= bit;
  }
  RC_TRY(check_range("moment", item.moment, kEveryMoment, int64_t(moments) - 1));
  RC_TRY(check_range("rows", item.rows, 1, kMostBytes));
  RC_TRY(check_range("layer_cost", item.layer_cost, -1, kMostCost));
  if (!item.cut_offload && !item.cut_recompute) return ok_status();
  for (size_t i = 0; i < item.choices.size(); ++i) {
    const PlanChoice& choice = item.choices[i];
    if (choice.kept_bytes % item.rows || choice.link_bytes % item.rows ||
        choice.transient_bytes % item.rows) {
      return argument_error("rows", format("%lld rows do not divide the bytes of choices[%zu]",
                                           (long long)item.rows, i));
    }
  }
  return ok_status();
}

Status check_class(const PlanLayerClass& layer_class) {
  if (layer_class.moments.empty()) return argument_error("moments", "empty; one is needed");
  for (size_t m = 0; m < layer_class.moments.size(); ++m) {
    RC_TRY(
        check_range("", layer_class.moments[m], 0, kMostBytes).inside(format("moments[%zu]", m)));
  }
  for (size_t i = 0; i < layer_class.items.size(); ++i) {
    RC_TRY(check_item(layer_class.items[i], layer_class.moments.size())
               .inside(format("items[%zu]", i)));
  }
  RC_TRY(check_range("forward_cost", layer_class.forward_cost, 0, kMostCost));
  RC_TRY(check_range("backward_cost", layer_class.backward_cost, 0, kMostCost));
  RC_TRY(check_range("state_bytes", layer_class.state_bytes, 0, kMostBytes));
  RC_TRY(check_range("tail_cost", layer_class.tail_cost, 0, kMostCost));
  return check_range("input_item", layer_class.input_item, -1,
                     int64_t(layer_class.items.size()) - 1);
}

Status check_layers(const PlanStage& stage) {
  size_t layers = 0;
  if (stage.chunks.empty()) return argument_error("chunks", "empty; one is needed");
  for (size_t c = 0; c < stage.chunks.size(); ++c) {
    const std::vector<int32_t>& own = stage.chunks[c].layers;
    layers += own.size();
    if (own.empty()) return argument_error(format("chunks[%zu].layers", c), "empty");
    for (size_t l = 0; l < own.size(); ++l) {
      RC_TRY(check_range("", own[l], 0, int64_t(stage.classes.size()) - 1)
                 .inside(format("chunks[%zu].layers[%zu]", c, l)));
    }
  }
  if (layers > kMostLayers) {
    return argument_error("chunks", format("%zu layers; the limit is %zu", layers, kMostLayers));
  }
  return ok_status();
}

}  // namespace

Status check_stage(const PlanStage& stage) {
  for (size_t k = 0; k < stage.classes.size(); ++k) {
    RC_TRY(check_class(stage.classes[k]).inside(format("classes[%zu]", k)));
  }
  RC_TRY(check_layers(stage));
  if (stage.states.empty()) return argument_error("states", "empty; one is needed");
  for (size_t s = 0; s < stage.states.size(); ++s) {
    const PlanState& state = stage.states[s];
    const std::string name = format("states[%zu]", s);
    if (state.held.size() != stage.chunks.size()) {
      return argument_error(name + ".held", format("%zu entries for %zu chunks", state.held.size(),
                                                   stage.chunks.size()));
    }
    RC_TRY(check_range("chunk", state.chunk, 0, int64_t(stage.chunks.size()) - 1).inside(name));
    for (size_t c = 0; c < state.held.size(); ++c) {
      const int64_t least = size_t(state.chunk) == c ? 1 : 0;
      RC_TRY(
          check_range("", state.held[c], least, kMostHeld).inside(name + format(".held[%zu]", c)));
    }
  }
  RC_TRY(check_range("budget", stage.budget, 0, kMostBytes));
  RC_TRY(check_range("fixed_bytes", stage.fixed_bytes, 0, kMostBytes));
  RC_TRY(check_range("link_bytes", stage.link_bytes, 0, kMostBytes));
  RC_TRY(check_range("host_bytes", stage.host_bytes, -1, kMostBytes));
  RC_TRY(check_range("min_offload_bytes", stage.min_offload_bytes, 0, kMostBytes));
  return check_range("tail_margin", stage.tail_margin, 0, int64_t(kMostLayers));
}

}  // namespace rc
