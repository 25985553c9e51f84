// src/plan/plan_policy.cc: a plan written as a policy's rules, in runs of layers.
#include <algorithm>
#include <map>
#include <tuple>

#include "src/plan/plan.h"

namespace rc::plan {
namespace {

// What a rule can speak about, in the order of forward.
struct Place {
  std::string kind, slot;
  rc_role role;
  auto operator<=>(const Place&) const = default;
};

// The unit of several layers that has the layer.
const PlanUnit* unit_of(const RankPlan& rank, size_t chunk, size_t layer) {
  for (const PlanUnit& unit : rank.plan.units) {
    const size_t first = size_t(unit.first);
    if (size_t(unit.chunk) == chunk && layer >= first && layer < first + size_t(unit.layers))
      return &unit;
  }
  return nullptr;
}

// Neighbouring units of one size are one rule.
void write_units(const RankPlan& rank, std::vector<RuleSpec>* rules) {
  for (const PlanUnit& unit : rank.plan.units) {
    const uint32_t first = rank.layers[size_t(unit.chunk)][size_t(unit.first)];
    const uint32_t layers = uint32_t(unit.layers);
    if (unit.first > 0 && !rules->empty() && rules->back().group_layers == layers &&
        rules->back().first_layer + rules->back().n_layers == first) {
      rules->back().n_layers += layers;
      continue;
    }
    RuleSpec rule;
    rule.kind = "layer";
    rule.action = RC_ACTION_RECOMPUTE;
    rule.first_layer = first;
    rule.n_layers = rule.group_layers = layers;
    rules->push_back(std::move(rule));
  }
}

PlanOption option_of(const RankPlan& rank, size_t chunk, size_t layer, size_t item) {
  const PlanItem& i =
      rank.stage.classes[size_t(rank.stage.chunks[chunk].layers[layer])].items[item];
  const PlanOption whole = i.choices[rank.plan.choice[chunk][layer][item]].option;
  for (const PlanCut& cut : rank.plan.cuts) {
    if (cut.chunk != int32_t(chunk) || cut.layer != int32_t(layer) || cut.item != int32_t(item))
      continue;
    return cut.offloaded_rows > 0 ? PlanOption::kOffload : PlanOption::kRecompute;
  }
  return whole;
}

RuleSpec rule_of(const Place& place, PlanOption option) {
  RuleSpec rule;
  rule.kind = place.kind;
  rule.slot = place.slot;
  rule.role = place.role;
  rule.action = option == PlanOption::kRecompute ? RC_ACTION_RECOMPUTE : RC_ACTION_STORE;
  if (option == PlanOption::kOffload) rule.tier = RC_TIER_HOST;
  if (option == PlanOption::kShard) rule.group = "tp";
  if (option == PlanOption::kCompress) rule.codec = RC_CODEC_FP8_E4M3;
  return rule;
}

// One option per layer of the model for each place.
class Table {
 public:
  explicit Table(size_t layers) : layers_(layers) {}

  void set(const Place& place, uint32_t layer, PlanOption option) {
    const auto [found, fresh] = index_.try_emplace(place, rows_.size());
    if (fresh) rows_.push_back({place, std::vector<PlanOption>(layers_, PlanOption::kKeep)});
    rows_[found->second].second[layer] = option;
  }

  void write(std::vector<RuleSpec>* rules) const {
    for (const auto& [place, options] : rows_) {
      for (size_t first = 0; first < layers_;) {
        size_t end = first + 1;
        while (end < layers_ && options[end] == options[first]) ++end;
        if (options[first] != PlanOption::kKeep) {
          RuleSpec rule = rule_of(place, options[first]);
          rule.first_layer = static_cast<uint32_t>(first);
          rule.n_layers = end == layers_ && first == 0 ? 0 : static_cast<uint32_t>(end - first);
          rules->push_back(std::move(rule));
        }
        first = end;
      }
    }
  }

 private:
  size_t layers_;
  std::map<Place, size_t> index_;
  std::vector<std::pair<Place, std::vector<PlanOption>>> rows_;
};

}  // namespace

PolicySpec policy_frame(const PlanRequest& r) {
  const Layout& l = r.layout;
  PolicySpec spec;
  spec.num_layers = r.model.num_layers;
  spec.num_layers_in_first_pipeline_stage = l.first_stage_layers;
  spec.num_layers_in_last_pipeline_stage = l.last_stage_layers;
  spec.layers_per_virtual_stage = l.layers_per_virtual_stage;
  spec.pp_size = l.pp;
  spec.vpp_size = l.vpp;
  spec.tp_size = l.tp;
  spec.cp_size = l.cp;
  spec.ep_size = l.ep;
  spec.fp8 = l.fp8;
  spec.moe_layers = r.model.moe_layers;
  spec.attention_dropout = r.model.attention_dropout;
  spec.hidden_dropout = r.model.hidden_dropout;
  spec.kinds = r.kinds;
  if (l.sp) spec.flags |= RC_POLICY_SEQUENCE_PARALLEL;
  if (!r.model.moe_layers.empty()) spec.flags |= RC_POLICY_MOE_GROUPED_GEMM;
  if (r.model.attention.kind == AttentionKind::kLatent)
    spec.flags |= RC_POLICY_MULTI_LATENT_ATTENTION;
  if (r.model.attention.fused && !r.measured) spec.flags |= RC_POLICY_FUSED_ATTENTION;
  if (r.fused_norm) spec.flags |= RC_POLICY_FUSED_NORM;
  return spec;
}

PolicySpec policy_of(const Plan& plan) {
  const PlanRequest& r = plan.request;
  Table table(r.model.num_layers);
  PolicySpec spec = policy_frame(r);
  for (const RankPlan& rank : plan.ranks) {
    write_units(rank, &spec.rules);
    for (size_t c = 0; c < rank.layers.size(); ++c) {
      for (size_t l = 0; l < rank.layers[c].size(); ++l) {
        const uint32_t layer = rank.layers[c][l];
        const ClassSpec& of = r.classes[size_t(r.layer_class[layer])];
        const PlanUnit* unit = unit_of(rank, c, l);
        const int32_t input = rank.stage.classes[size_t(r.layer_class[layer])].input_item;
        for (size_t i = 0; i < of.tensors.size(); ++i) {
          // Of a unit only its first input has a say; the rest comes back with the layers.
          if (unit != nullptr && (l != size_t(unit->first) || int32_t(i) != input)) continue;
          const PlanOption option = option_of(rank, c, l, i);
          const TensorSpec& t = of.tensors[i];
          table.set({t.tensor.kind, t.tensor.slot, t.tensor.role}, layer, option);
          for (const SavedTensor& s : t.statistics)
            table.set({s.kind, s.slot, s.role}, layer, option);
        }
      }
    }
  }
  table.write(&spec.rules);
  return spec;
}

}  // namespace rc::plan
