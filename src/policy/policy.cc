// src/policy/policy.cc: decide(), the look-up of one slot at one site.
#include "src/policy/policy.h"

#include <algorithm>
#include <cmath>

namespace rc {
namespace {

bool in_range(uint32_t value, uint32_t first, uint32_t n) {
  return value >= first && (n == 0 || value - first < n);
}

uint32_t saturated_sum(uint32_t a, uint32_t b) {
  return b > UINT32_MAX - a ? UINT32_MAX : a + b;
}

}  // namespace

bool Policy::discards_output(std::string_view kind) const {
  const int index = kinds_.find(kind);
  return index >= 0 && (index == kinds_.layer() || kinds_.at(index).discards_output);
}

bool Policy::at_site(const RuleSpec& rule, const Site& site) const {
  return in_range(site.layer, rule.first_layer, rule.n_layers) &&
         (!rule.chunk || *rule.chunk == site.chunk) &&
         (!rule.by_microbatch ||
          in_range(site.microbatch, rule.first_microbatch, rule.n_microbatches));
}

// The kind, slot and role of a rule; what an action can mean stands beside rc_policy_rule.
bool Policy::speaks_about(size_t index, int kind, const Slot& slot) const {
  const RuleSpec& rule = spec_.rules[index];
  const int spoken = keys_[index].kind;
  if (spoken >= 0 && !kinds_.speaks_for(spoken, kind)) return false;
  const bool named = !rule.slot.empty();
  if (named && rule.slot != slot.name) return false;
  if (rule.role != RC_ROLE_ANY) return rule.role == slot.role;
  if (rule.action == RC_ACTION_KEEP || slot.role == RC_ROLE_SAVED) return true;
  const bool layer = kind == kinds_.layer();
  if (rule.action == RC_ACTION_STORE) return slot.role == RC_ROLE_INPUT || named;
  if (slot.role == RC_ROLE_INPUT) return layer;
  return named || layer || kinds_.at(kind).discards_output;
}

Policy::LayerMode Policy::base_mode(const Site& site, const Stage& stage) const {
  LayerMode mode;
  mode.origin = stage.first;
  mode.end = stage.end();
  if (!window_.is_partial(site.chunk, site.microbatch)) {
    mode.recomputed = true;
    mode.rule = partial_line_;
    return mode;
  }
  if (spec_.granularity != RC_GRANULARITY_FULL) return mode;
  const bool mtp = layout_.known() && site.layer >= layout_.num_layers();
  mode.rule = full_line_;
  if (spec_.method == RC_METHOD_UNIFORM) {
    mode.recomputed = !mtp || site.layer - layout_.num_layers() < spec_.mtp_num_layers;
    mode.size = mtp ? 1 : spec_.recompute_num_layers;
  } else {
    mode.recomputed = !mtp && site.layer - stage.first < spec_.recompute_num_layers;
  }
  return mode;
}

// How the layer as a whole is treated: the last rule about whole layers, else the granularity.
Policy::LayerMode Policy::mode_of(const Site& site, const Stage& stage) const {
  if (has_layer_rules_) {
    for (size_t i = spec_.rules.size(); i-- > 0;) {
      const RuleSpec& rule = spec_.rules[i];
      if (!keys_[i].whole_layer || !at_site(rule, site)) continue;
      LayerMode mode;
      mode.rule = static_cast<int32_t>(i);
      mode.recomputed = rule.action == RC_ACTION_RECOMPUTE;
      mode.origin = std::max(stage.first, rule.first_layer);
      mode.size = std::max(1u, rule.group_layers);
      mode.end = stage.end();
      if (rule.n_layers != 0) {
        mode.end = std::min(mode.end, saturated_sum(rule.first_layer, rule.n_layers));
      }
      return mode;
    }
  }
  return base_mode(site, stage);
}

// The chunk of the generator that has the layer, less the neighbours that another rule took over.
Policy::Unit Policy::unit_of(const Site& site, const Stage& stage) const {
  const LayerMode mode = mode_of(site, stage);
  if (!mode.recomputed) return {site.layer, 1, mode.rule, false};
  uint32_t first = site.layer - (site.layer - mode.origin) % mode.size;
  uint32_t end = std::min(saturated_sum(first, mode.size), mode.end);
  if (has_layer_rules_) {
    const auto same = [&](uint32_t layer) {
      Site other = site;
      other.layer = layer;
      const LayerMode its = mode_of(other, stage);
      return its.recomputed && its.rule == mode.rule;
    };
    uint32_t low = site.layer, high = site.layer + 1;
    while (low > first && same(low - 1)) --low;
    while (high < end && same(high)) ++high;
    first = low;
    end = high;
  }
  return {first, end - first, mode.rule, true};
}

Decision Policy::decide(const Site& site, const Slot& slot) const {
  Decision decision;
  decision.first_layer = site.layer;
  const int kind = kinds_.find(site.kind);
  if (kind < 0 || site.layer == UINT32_MAX) return decision;
  const Stage stage = layout_.stage_of(site.layer);
  const Unit unit = unit_of(site, stage);
  decision.first_layer = unit.first;
  decision.n_layers = unit.n;
  if (slot.role < RC_ROLE_INPUT || slot.role > RC_ROLE_OUTPUT) return decision;
  const bool layer = kind == kinds_.layer();
  const bool input_of_unit = layer && unit.recomputed && slot.role == RC_ROLE_INPUT;
  if (input_of_unit && site.layer != unit.first) {
    decision.action = RC_ACTION_RECOMPUTE;
    decision.rule = unit.rule;
    return decision;
  }
  int32_t explicit_rule = -1;
  for (size_t i = spec_.rules.size(); i-- > 0 && explicit_rule < 0;) {
    if (at_site(spec_.rules[i], site) && speaks_about(i, kind, slot)) {
      explicit_rule = static_cast<int32_t>(i);
    }
  }
  if (explicit_rule >= 0) apply_rule(explicit_rule, &decision);
  const bool head = input_of_unit && decision.action != RC_ACTION_STORE &&
                    (explicit_rule < 0 || decision.action == RC_ACTION_RECOMPUTE);
  if (explicit_rule >= 0 && !head) return decision;
  if (head) {
    // The unit's own input: what replay starts from.
    decision.action = RC_ACTION_KEEP;
    decision.rule = unit.rule;
    if (spec_.has(RC_POLICY_DISTRIBUTE_SAVED)) {
      decision.action = RC_ACTION_STORE;
      decision.group = "tp";
    }
  } else if (layer && unit.recomputed) {
    decision.action = RC_ACTION_RECOMPUTE;
    decision.rule = unit.rule;
  } else {
    apply_base(kind, site, slot, &decision);
  }
  apply_offload(kind, slot, stage, site, unit.recomputed && !layer, &decision);
  return decision;
}

void Policy::apply_rule(int32_t index, Decision* decision) const {
  const RuleSpec& rule = spec_.rules[static_cast<size_t>(index)];
  decision->rule = index;
  decision->action = rule.action;
  if (rule.action != RC_ACTION_STORE) return;
  decision->tier = rule.tier;
  decision->codec = rule.codec;
  decision->group = rule.group;
}

// What recompute_modules say; a layer's units are decided before.
void Policy::apply_base(int kind, const Site& site, const Slot& slot, Decision* decision) const {
  const int32_t line = selective_[static_cast<size_t>(kind)];
  if (line < 0 || !window_.is_partial(site.chunk, site.microbatch)) return;
  if (slot.role == RC_ROLE_INPUT) {
    if (!spec_.has(RC_POLICY_DISTRIBUTE_SAVED)) return;
    decision->action = RC_ACTION_STORE;
    decision->group = "tp";
  } else if (slot.role == RC_ROLE_SAVED || kinds_.at(kind).discards_output) {
    decision->action = RC_ACTION_RECOMPUTE;
  } else {
    return;
  }
  decision->rule = line;
}

// Moves to the host what would stay on the device.
void Policy::apply_offload(int kind, const Slot& slot, const Stage& stage, const Site& site,
                           bool inside_unit, Decision* decision) const {
  if (inside_unit || decision->action == RC_ACTION_RECOMPUTE || slot.role == RC_ROLE_OUTPUT) return;
  int32_t line = -1;
  if (cpu_offload_line_ >= 0 && site.layer - stage.first < spec_.cpu_offloading_num_layers) {
    line = cpu_offload_line_;
  }
  const int32_t by_module = offloaded_[static_cast<size_t>(kind)];
  if (by_module >= 0 && slot.role == RC_ROLE_INPUT) {
    const double fraction = spec_.activation_offload_fraction;
    const double covered = fraction >= 1 ? stage.n : std::floor(fraction * stage.n);
    if (site.layer - stage.first < covered) line = by_module;
  }
  if (line < 0) return;
  decision->action = RC_ACTION_STORE;
  decision->tier = RC_TIER_HOST;
  if (decision->rule < 0) decision->rule = line;
}

}  // namespace rc
