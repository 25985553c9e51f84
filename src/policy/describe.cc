// src/policy/describe.cc: a policy's inputs as JSON, the inverse of create_policy_json.
#include <nlohmann/json.hpp>

#include "src/policy/json_fields.h"
#include "src/policy/policy.h"

namespace rc {
namespace {

using Json = nlohmann::ordered_json;

Json describe_rule(const RuleSpec& rule) {
  Json json = Json::object();
  if (!rule.kind.empty()) json["kind"] = rule.kind;
  if (!rule.slot.empty()) json["slot"] = rule.slot;
  if (rule.role != RC_ROLE_ANY) json["role"] = name_of(rule.role);
  if (rule.first_layer != 0) json["first_layer"] = rule.first_layer;
  if (rule.n_layers != 0) json["n_layers"] = rule.n_layers;
  if (rule.chunk) json["chunk"] = *rule.chunk;
  if (rule.by_microbatch) json["first_microbatch"] = rule.first_microbatch;
  if (rule.n_microbatches != 0) json["n_microbatches"] = rule.n_microbatches;
  json["action"] = name_of(rule.action);
  if (rule.tier != RC_TIER_DEVICE) json["tier"] = name_of(rule.tier);
  if (rule.codec != RC_CODEC_NONE) json["codec"] = name_of(rule.codec);
  if (rule.group_layers != 0) json["group_layers"] = rule.group_layers;
  if (!rule.group.empty()) json["group"] = rule.group;
  return json;
}

void describe_plain(const PolicySpec& spec, const PlainField& field, Json* json) {
  static const PolicySpec defaults;
  if (const auto* flag = std::get_if<FlagBit>(&field.target)) {
    if (spec.has(flag->bit)) (*json)[field.key] = true;
  } else if (const auto* number = std::get_if<uint32_t PolicySpec::*>(&field.target)) {
    if (spec.**number != defaults.**number) (*json)[field.key] = spec.**number;
  } else if (const auto* big = std::get_if<uint64_t PolicySpec::*>(&field.target)) {
    if (spec.**big != defaults.**big) (*json)[field.key] = spec.**big;
  } else {
    const auto real = std::get<double PolicySpec::*>(field.target);
    if (spec.*real != defaults.*real) (*json)[field.key] = spec.*real;
  }
}

Json describe_scopes(rc_flags scopes) {
  Json names = Json::array();
  for (const ScopeName& scope : scope_names()) {
    if ((scopes & scope.bit) != 0) names.push_back(scope.name);
  }
  return names;
}

}  // namespace

std::string describe(const Policy& policy) {
  const PolicySpec& spec = policy.spec();
  Json json;
  json["rcore_policy"] = 1;
  if (spec.granularity != RC_GRANULARITY_NONE) {
    json["recompute_granularity"] = name_of(spec.granularity);
  }
  if (spec.method != RC_METHOD_UNSET) json["recompute_method"] = name_of(spec.method);
  if (spec.recompute_modules) json["recompute_modules"] = *spec.recompute_modules;
  for (const PlainField& field : plain_fields()) describe_plain(spec, field, &json);
  if (!spec.layers_per_virtual_stage.empty()) {
    json["layers_per_virtual_stage"] = spec.layers_per_virtual_stage;
  }
  if (!spec.moe_layers.empty()) json["moe_layers"] = spec.moe_layers;
  if (!spec.offload_modules.empty()) json["offload_modules"] = spec.offload_modules;
  if (spec.fp8 != RC_FP8_OFF) json["fp8"] = name_of(spec.fp8);
  if (spec.graph != RC_GRAPH_NONE) json["cuda_graph_impl"] = name_of(spec.graph);
  if (spec.graph_scopes != 0) json["cuda_graph_scope"] = describe_scopes(spec.graph_scopes);
  for (const KindSpec& kind : spec.kinds) {
    json["kinds"].push_back({{"name", kind.name}, {"discards_output", kind.discards_output}});
  }
  for (const RuleSpec& rule : spec.rules) json["rules"].push_back(describe_rule(rule));
  return json.dump(2);
}

}  // namespace rc
