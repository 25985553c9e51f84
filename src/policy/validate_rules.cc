// src/policy/validate_rules.cc: the explicit rules, one by one.
#include <algorithm>

#include "src/policy/nearest_name.h"
#include "src/policy/validate.h"

namespace rc {
namespace {

bool is_slot_name(const std::string& name) {
  return name.size() <= kMaxNameBytes && std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '_' || c == '.';
         });
}

// As a slot's name, and '-' and ':' besides.
bool is_group_name(std::string name) {
  std::replace_if(name.begin(), name.end(), [](char c) { return c == '-' || c == ':'; }, '_');
  return is_slot_name(name);
}

Status check_enumerators(const RuleSpec& rule, const std::string& at) {
  const struct {
    const char* field;
    int value, n;
  } all[] = {{".role", rule.role, 6},
             {".action", rule.action, 3},
             {".tier", rule.tier, 3},
             {".codec", rule.codec, 3}};
  for (const auto& one : all) {
    if (one.value >= 0 && one.value < one.n) continue;
    return argument_error(at + one.field,
                          format("%d, must be between 0 and %d", one.value, one.n - 1));
  }
  return ok_status();
}

Status check_names(const RuleCheck& check, const RuleSpec& rule, const std::string& at) {
  int kind = -1;
  if (!rule.kind.empty()) RC_TRY(check.kinds.resolve(rule.kind, at + ".kind", &kind));
  if (!is_slot_name(rule.slot)) {
    return argument_error(at + ".slot",
                          format("%s, a slot's name is [A-Za-z0-9_.]+ of at most %zu bytes",
                                 in_quotes(rule.slot).c_str(), kMaxNameBytes));
  }
  if (!is_group_name(rule.group)) {
    return argument_error(at + ".group",
                          format("%s, a group's name is [A-Za-z0-9_.:-]+ of at most %zu bytes",
                                 in_quotes(rule.group).c_str(), kMaxNameBytes));
  }
  return ok_status();
}

Status check_ranges(const RuleCheck& check, const RuleSpec& rule, const std::string& at) {
  const PolicySpec& spec = check.spec;
  if (check.layout.known()) {
    const uint64_t limit = uint64_t{spec.num_layers} + spec.mtp_num_layers;
    if (rule.first_layer >= limit) {
      return argument_error(at + ".first_layer",
                            format("%u, must be below the %llu layers of the model",
                                   rule.first_layer, static_cast<unsigned long long>(limit)));
    }
    if (uint64_t{rule.first_layer} + rule.n_layers > limit) {
      return argument_error(
          at + ".n_layers",
          format("%u from layer %u on pass the %llu layers of the model", rule.n_layers,
                 rule.first_layer, static_cast<unsigned long long>(limit)));
    }
  } else if (rule.first_layer > kMaxLayers || rule.n_layers > kMaxLayers) {
    return argument_error(at + ".first_layer", format("[%u, + %u), the limit is %u",
                                                      rule.first_layer, rule.n_layers, kMaxLayers));
  }
  if (rule.chunk && *rule.chunk >= spec.vpp_size) {
    return argument_error(at + ".chunk",
                          format("%u, must be below vpp_size %u", *rule.chunk, spec.vpp_size));
  }
  if (rule.by_microbatch && spec.num_microbatches != 0 &&
      (rule.first_microbatch >= spec.num_microbatches ||
       rule.n_microbatches > spec.num_microbatches - rule.first_microbatch)) {
    return argument_error(at + ".first_microbatch",
                          format("[%u, + %u) passes num_microbatches %u", rule.first_microbatch,
                                 rule.n_microbatches, spec.num_microbatches));
  }
  if (!rule.by_microbatch && (rule.first_microbatch != 0 || rule.n_microbatches != 0)) {
    return argument_error(at + ".first_microbatch", "set, but microbatches are no condition");
  }
  return ok_status();
}

Status check_store(const RuleSpec& rule, const std::string& at) {
  if (rule.action == RC_ACTION_STORE) {
    if (rule.tier != RC_TIER_DEVICE || rule.codec != RC_CODEC_NONE || !rule.group.empty()) {
      return ok_status();
    }
    return argument_error(at + ".action",
                          "store on the device without a group or a codec leaves the slot as it "
                          "is; say keep");
  }
  const struct {
    const char* field;
    bool set;
  } only_store[] = {{".tier", rule.tier != RC_TIER_DEVICE},
                    {".codec", rule.codec != RC_CODEC_NONE},
                    {".group", !rule.group.empty()}};
  for (const auto& one : only_store) {
    if (!one.set) continue;
    return argument_error(at + one.field, format("set, but the action is %s; it goes with store",
                                                 name_of(rule.action)));
  }
  return ok_status();
}

Status check_roles(const RuleCheck& check, const RuleSpec& rule, const std::string& at) {
  const bool always_kept = rule.role == RC_ROLE_PARAMETER || rule.role == RC_ROLE_DECISION;
  if (always_kept && rule.action != RC_ACTION_KEEP) {
    return argument_error(at + ".role", format("%s slots are always kept; the action is %s",
                                               name_of(rule.role), name_of(rule.action)));
  }
  if (rule.role == RC_ROLE_INPUT && rule.action == RC_ACTION_RECOMPUTE) {
    return argument_error(at + ".role",
                          "no module recomputes its own input; for chunks of layers set kind layer "
                          "and group_layers");
  }
  if (rule.group_layers == 0) return ok_status();
  const bool layers = rule.kind == "layer" && rule.action == RC_ACTION_RECOMPUTE &&
                      rule.role == RC_ROLE_ANY && rule.slot.empty();
  if (!layers) {
    return argument_error(at + ".group_layers",
                          format("%u, only kind layer, recomputed as a whole, has units of layers",
                                 rule.group_layers));
  }
  if (rule.group_layers == 1) return ok_status();
  if (!check.layout.known()) {
    return argument_error(at + ".group_layers",
                          format("%u needs num_layers, which is not set", rule.group_layers));
  }
  if (rule.group_layers > check.layout.largest()) {
    return argument_error(at + ".group_layers",
                          format("%u, must be at most %u, the layers of the largest virtual stage",
                                 rule.group_layers, check.layout.largest()));
  }
  return ok_status();
}

}  // namespace

Status check_explicit_rules(RuleCheck& check) {
  for (size_t i = 0; i < check.spec.rules.size(); ++i) {
    const RuleSpec& rule = check.spec.rules[i];
    const std::string at = format("rules[%zu]", i);
    RC_TRY(check_enumerators(rule, at));
    RC_TRY(check_names(check, rule, at));
    RC_TRY(check_ranges(check, rule, at));
    RC_TRY(check_store(rule, at));
    RC_TRY(check_roles(check, rule, at));
  }
  return ok_status();
}

}  // namespace rc
