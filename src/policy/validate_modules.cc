// src/policy/validate_modules.cc: recompute_modules against the kinds and the architecture.
#include <algorithm>

#include "src/policy/nearest_name.h"
#include "src/policy/validate.h"

namespace rc {
namespace {

Status check_names(RuleCheck& check) {
  if (!check.spec.recompute_modules) return ok_status();
  const auto& modules = *check.spec.recompute_modules;
  std::vector<bool> seen(check.kinds.all().size(), false);
  for (size_t i = 0; i < modules.size(); ++i) {
    const std::string field = format("recompute_modules[%zu]", i);
    int kind = -1;
    Status found = check.kinds.resolve(modules[i], field, &kind);
    if (!found.ok()) return check.refuse("TC1958", field, found.message());
    if (seen[static_cast<size_t>(kind)]) {
      return argument_error(field, format("%s is listed twice", in_quotes(modules[i]).c_str()));
    }
    seen[static_cast<size_t>(kind)] = true;
    if (kind == check.kinds.layer()) {
      return argument_error(field,
                            "\"layer\" is no module; recompute_granularity full is for layers");
    }
    if (!is_megatron_recompute_module(modules[i])) {
      RC_TRY(check.relax(
          "TC1958", field,
          format("%s is not among the modules of Megatron-Core", in_quotes(modules[i]).c_str())));
    }
  }
  if (!check.selective() && !modules.empty()) {
    check.note("recompute_modules",
               format("%zu listed, without effect: recompute_granularity is %s", modules.size(),
                      name_of(check.spec.granularity)));
  }
  if (check.selective() && modules.empty()) {
    check.note("recompute_modules", "selective with an empty list recomputes nothing");
  }
  return ok_status();
}

struct Needs {
  const char* module;
  rc_flags flag;
  const char* setting;
  const char* id;  // NULL: Megatron does not check
};
constexpr Needs kNeeds[] = {
    {"moe_act", 0x04, "moe_grouped_gemm", "TC1964"},
    {"mla_up_proj", 0x08, "multi_latent_attention", "TC1969"},
    {"gdn_norm_out", 0x400, "gated_delta_net", "TC1975"},
    {"gdp_in_proj", 0x40000, "gated_delta_product", nullptr},
    {"gdp_qkv", 0x40000, "gated_delta_product", nullptr},
    {"mhc", 0x800, "enable_mhc_connections", "TC2028"},
};
static_assert(RC_POLICY_MOE_GROUPED_GEMM == 0x04 && RC_POLICY_MULTI_LATENT_ATTENTION == 0x08 &&
              RC_POLICY_GATED_DELTA_NET == 0x400 && RC_POLICY_GATED_DELTA_PRODUCT == 0x40000 &&
              RC_POLICY_HYPER_CONNECTIONS == 0x800);

Status check_architecture(RuleCheck& check) {
  for (const Needs& needs : kNeeds) {
    if (!check.recomputes(needs.module) || check.spec.has(needs.flag)) continue;
    std::string message = format("\"%s\" needs %s, which is not set", needs.module, needs.setting);
    std::string field = check.module_field(needs.module);
    return needs.id == nullptr ? argument_error(std::move(field), std::move(message))
                               : check.refuse(needs.id, std::move(field), std::move(message));
  }
  if (check.recomputes("shared_experts") && check.spec.has(RC_POLICY_MOE_SHARED_EXPERT_OVERLAP)) {
    return check.refuse("TC1991", check.module_field("shared_experts"),
                        "\"shared_experts\" cannot be recomputed with moe_shared_expert_overlap");
  }
  for (const char* module : {"moe_act", "layernorm"}) {
    if (!check.recomputes(module) || check.spec.fp8 != RC_FP8_DELAYED) continue;
    return check.refuse("TC2002", check.module_field(module),
                        format("\"%s\" cannot be recomputed with fp8 delayed scaling: the linear "
                               "behind it keeps a quantised copy, not the discarded output",
                               module));
  }
  return ok_status();
}

// Where Megatron recomputes nothing and says nothing.
Status note_what_has_no_effect(RuleCheck& check) {
  const PolicySpec& spec = check.spec;
  const size_t n_moe =
      static_cast<size_t>(std::count(spec.moe_layers.begin(), spec.moe_layers.end(), uint8_t{1}));
  if (check.recomputes("core_attn") && spec.has(RC_POLICY_FUSED_ATTENTION)) {
    check.note(check.module_field("core_attn"),
               "\"core_attn\": fused attention keeps no scores, so its recomputation frees next to "
               "nothing",
               "TC1983");
  }
  if (check.recomputes("layernorm") && spec.has(RC_POLICY_FUSED_NORM)) {
    check.note(check.module_field("layernorm"),
               "\"layernorm\" has no effect where the norm is fused into the next linear");
  }
  if (check.recomputes("mlp") && n_moe > 0) {
    check.note(check.module_field("mlp"),
               format("\"mlp\" speaks of dense layers: it has no effect in %zu of %zu layers",
                      n_moe, spec.moe_layers.size()));
  }
  for (const char* module : {"moe", "shared_experts"}) {
    if (!check.recomputes(module) || n_moe > 0) continue;
    if (!spec.moe_layers.empty()) {
      return argument_error(check.module_field(module),
                            format("\"%s\" can match nothing: moe_layers has no 1", module));
    }
    check.note(check.module_field(module),
               format("\"%s\": moe_layers is not set; it frees nothing in a dense model", module));
  }
  return ok_status();
}

Status check_alias(RuleCheck& check) {
  if (!check.spec.has(RC_POLICY_MOE_LAYER_RECOMPUTE)) return ok_status();
  if (check.full()) {
    return check.refuse("TC2014b", "moe_layer_recompute",
                        "set with recompute_granularity full, which covers it");
  }
  check.note("moe_layer_recompute",
             "deprecated: set recompute_granularity selective with \"moe\" in recompute_modules",
             "TC2014a");
  return ok_status();
}

}  // namespace

Status check_modules(RuleCheck& check) {
  RC_TRY(check_names(check));
  RC_TRY(check_alias(check));
  RC_TRY(check_architecture(check));
  return note_what_has_no_effect(check);
}

Status check_hyper_connections(RuleCheck& check) {
  const PolicySpec& spec = check.spec;
  const bool feature = spec.has(RC_POLICY_HYPER_CONNECTIONS);
  const char* setting = "enable_mhc_connections";
  if (check.recomputes("mhc")) {
    const std::string field = check.module_field("mhc");
    if (check.recomputes("mlp")) {
      return check.refuse("TC2031", field,
                          "\"mhc\" and \"mlp\" cannot be recomputed together: what mhc regenerates "
                          "reaches into mlp");
    }
    if (check.fine_grained()) {
      RC_TRY(check.relax("TC2045", field,
                         "\"mhc\" recomputed with fine_grained_activation_offloading"));
    }
    if (spec.has(RC_POLICY_FEATURE_EXTRACTION)) {
      return check.refuse("TB643", field, "\"mhc\" cannot be recomputed with feature_extraction");
    }
  } else {
    if (spec.mhc_recompute_layer_num != 0) {
      return argument_error("mhc_recompute_layer_num",
                            format("%u without \"mhc\" in recompute_modules has no effect",
                                   spec.mhc_recompute_layer_num));
    }
    if (feature) {
      check.note(setting, "\"mhc\" is not in recompute_modules: the widened streams are kept",
                 "TC2053");
    }
  }
  if (!feature) return ok_status();
  if (spec.mtp_num_layers != 0) {
    RC_TRY(
        check.relax("TC2063", setting, format("set with mtp_num_layers %u", spec.mtp_num_layers)));
  }
  if (check.full()) {
    RC_TRY(check.relax("TC2069", setting, "set with recompute_granularity full"));
  }
  if (spec.pp_size > 1) {
    RC_TRY(check.relax("TC2092", setting, format("set with pp_size %u", spec.pp_size)));
  }
  return ok_status();
}

}  // namespace rc
