// src/budget/way_policy.cc: ways written as rules of a policy, in runs of layers.
#include <algorithm>

#include "src/budget/ways.h"
#include "src/policy/policy.h"

namespace rc::budget {

PolicySpec base_of(const Policy* policy, const CallLog& log) {
  PolicySpec spec = policy ? policy->spec() : PolicySpec();
  spec.granularity = RC_GRANULARITY_NONE;
  spec.method = RC_METHOD_UNSET;
  spec.recompute_modules.reset();
  spec.recompute_num_layers = 0;
  spec.num_microbatches_with_partial_recompute = 0;
  spec.mhc_recompute_layer_num = 0;
  spec.cpu_offloading_num_layers = 0;
  spec.offload_modules.clear();
  spec.min_offloaded_tensor_size = 0;
  spec.activation_offload_fraction = 1;
  spec.offload_bytes_cap = 0;
  spec.rules.clear();
  constexpr rc_flags kAsks = RC_POLICY_DISTRIBUTE_SAVED | RC_POLICY_CPU_OFFLOADING |
                             RC_POLICY_FINE_GRAINED_OFFLOADING | RC_POLICY_MOE_LAYER_RECOMPUTE |
                             RC_POLICY_STRICT_MEGATRON;
  spec.flags &= ~kAsks;
  for (const CallLog::LoggedModule& m : log.modules())
    if (policy == nullptr || policy->spec().num_layers == 0)
      spec.num_layers = std::max(spec.num_layers, m.layer + 1);
  return spec;
}

PolicySpec policy_of(const Measured& measured, const Ways& ways,
                     const std::vector<PathStep>& steps) {
  PolicySpec spec = measured.base;
  const auto add = [&](const std::string& kind, const std::string& slot, uint32_t layer,
                       uint32_t layers, uint32_t unit) {
    for (RuleSpec& rule : spec.rules) {
      if (rule.kind != kind || rule.slot != slot || unit > 1 || rule.group_layers > 1 ||
          rule.first_layer + rule.n_layers != layer)
        continue;
      rule.n_layers += layers;
      return;
    }
    RuleSpec rule;
    rule.kind = kind;
    rule.slot = slot;
    rule.first_layer = layer;
    rule.n_layers = layers;
    rule.action = RC_ACTION_RECOMPUTE;
    if (unit > 1) rule.group_layers = unit;
    spec.rules.push_back(std::move(rule));
  };
  for (const PathStep& step : steps) {
    const Group& g = ways.groups[step.place];
    const Way& way = ways.way_of(step);
    if (way.whole_layer) add("layer", "", g.layer, way.layers, way.layers);
    for (const Again& again : way.again) add(again.kind, again.slot, g.layer, 1, 1);
  }
  return spec;
}

}  // namespace rc::budget
