// src/policy/validate_offload.cc: layer-level and module-level offloading, the paged stash.
#include "src/policy/nearest_name.h"
#include "src/policy/validate.h"

namespace rc {
namespace {

constexpr const char* kInsideMoe[] = {"moe_act", "expert_fc1", "fused_group_mlp"};

Status check_cpu_offloading(RuleCheck& check) {
  const PolicySpec& spec = check.spec;
  const uint32_t n = spec.cpu_offloading_num_layers;
  const char* field = "cpu_offloading_num_layers";
  if (!spec.has(RC_POLICY_CPU_OFFLOADING)) {
    if (n == 0) return ok_status();
    return argument_error(field, format("%u without cpu_offloading has no effect", n));
  }
  if (n == 0) return argument_error(field, "0, cpu_offloading needs at least 1");
  if (n > check.layout.largest()) {
    return check.refuse("TC1884", field,
                        format("%u, must be at most %u, the layers of the largest virtual stage", n,
                               check.layout.largest()));
  }
  if (check.layout.known() && n >= spec.num_layers) {
    RC_TRY(check.relax("TC1884", field,
                       format("%u, must be below num_layers %u", n, spec.num_layers)));
  }
  if (spec.pp_size > 1) {
    RC_TRY(check.relax("TC1891", "cpu_offloading", format("set with pp_size %u", spec.pp_size)));
  }
  if (spec.granularity != RC_GRANULARITY_NONE) {
    RC_TRY(check.relax("TC1896", "cpu_offloading",
                       format("set with recompute_granularity %s", name_of(spec.granularity))));
  }
  return ok_status();
}

Status check_tuning(RuleCheck& check) {
  const PolicySpec& spec = check.spec;
  const double fraction = spec.activation_offload_fraction;
  if (!(fraction >= 0 && fraction <= 1)) {
    return check.refuse("TC2176b", "activation_offload_fraction",
                        format("%g, must be in [0, 1]", fraction));
  }
  if (fraction < 1 && !check.fine_grained()) {
    return argument_error(
        "activation_offload_fraction",
        format("%g without fine_grained_activation_offloading has no effect", fraction));
  }
  if (fraction < 1 && !check.layout.known()) {
    return argument_error("activation_offload_fraction",
                          format("%g needs num_layers, which is not set", fraction));
  }
  return ok_status();
}

Status check_offload_names(RuleCheck& check) {
  const auto& modules = check.spec.offload_modules;
  std::vector<bool> seen(check.kinds.all().size(), false);
  for (size_t i = 0; i < modules.size(); ++i) {
    const std::string field = format("offload_modules[%zu]", i);
    int kind = -1;
    Status found = check.kinds.resolve(modules[i], field, &kind);
    if (!found.ok()) return check.refuse("TC2143", field, found.message());
    if (seen[static_cast<size_t>(kind)]) {
      return argument_error(field, format("%s is listed twice", in_quotes(modules[i]).c_str()));
    }
    seen[static_cast<size_t>(kind)] = true;
    if (!is_megatron_offload_module(modules[i])) {
      RC_TRY(check.relax(
          "TC2143", field,
          format("%s is not among the modules of Megatron-Core", in_quotes(modules[i]).c_str())));
    }
  }
  return ok_status();
}

Status check_combinations(RuleCheck& check) {
  if (check.offloads("attn_proj") && !check.offloads("core_attn")) {
    return check.refuse("TC2148", check.offload_field("attn_proj"),
                        "\"attn_proj\" without \"core_attn\" frees nothing: its input is the "
                        "output of core_attn, which core_attn keeps for its own backward");
  }
  if (check.offloads("gdp_qkv") && check.recomputes("gdp_in_proj")) {
    return check.refuse("TC2154", check.offload_field("gdp_qkv"),
                        "\"gdp_qkv\" cannot be offloaded while \"gdp_in_proj\" is recomputed: its "
                        "input is the output that gdp_in_proj discards");
  }
  for (const char* module : kInsideMoe) {
    if (!check.offloads(module)) continue;
    if (check.recomputes("moe")) {
      return check.refuse("TC2165", check.offload_field(module),
                          format("\"%s\" cannot be offloaded while the whole \"moe\" around it is "
                                 "recomputed",
                                 module));
    }
    if (check.spec.has(RC_POLICY_PAGED_STASH)) {
      return check.refuse(
          "TC2210c", check.offload_field(module),
          format("\"%s\" cannot be offloaded with moe_paged_stash, which holds it", module));
    }
  }
  if (!check.offloads("fused_group_mlp")) return ok_status();
  const std::string field = check.offload_field("fused_group_mlp");
  if (!check.spec.has(RC_POLICY_TE_OP_FUSER)) {
    return check.refuse("TC2186a", field,
                        "\"fused_group_mlp\" needs use_transformer_engine_op_fuser");
  }
  for (const char* part : {"expert_fc1", "moe_act"}) {
    if (!check.offloads(part)) continue;
    return check.refuse("TC2186b", field,
                        format("\"fused_group_mlp\" already covers \"%s\"", part));
  }
  return ok_status();
}

void note_overlap_with_recompute(RuleCheck& check) {
  const PolicySpec& spec = check.spec;
  if (check.full() && (check.fine_grained() || spec.has(RC_POLICY_CPU_OFFLOADING))) {
    check.note(check.fine_grained() ? "offload_modules" : "cpu_offloading",
               "inside layers that are recomputed as a whole nothing is offloaded; of these only "
               "the kept inputs can be");
  }
  if (check.recomputes("core_attn") && check.offloads("core_attn")) {
    check.note(check.offload_field("core_attn"),
               "\"core_attn\" is both: its inputs are offloaded, its intermediates recomputed; "
               "Megatron offloads nothing here");
  }
}

}  // namespace

Status check_offload(RuleCheck& check) {
  const PolicySpec& spec = check.spec;
  RC_TRY(check_cpu_offloading(check));
  RC_TRY(check_tuning(check));
  if (spec.has(RC_POLICY_PAGED_STASH) && spec.has(RC_POLICY_CPU_OFFLOADING)) {
    return check.refuse("TC2210a", "moe_paged_stash", "set together with cpu_offloading");
  }
  if (!check.fine_grained()) {
    if (!spec.offload_modules.empty()) {
      return argument_error("offload_modules",
                            format("%zu listed without fine_grained_activation_offloading have no "
                                   "effect",
                                   spec.offload_modules.size()));
    }
    note_overlap_with_recompute(check);
    return ok_status();
  }
  if (spec.has(RC_POLICY_CPU_OFFLOADING)) {
    return check.refuse("TC2128", "fine_grained_activation_offloading",
                        "set together with cpu_offloading");
  }
  if (spec.offload_modules.empty()) {
    return check.refuse("TC2131", "offload_modules",
                        "empty, fine_grained_activation_offloading needs at least one");
  }
  RC_TRY(check_offload_names(check));
  RC_TRY(check_combinations(check));
  note_overlap_with_recompute(check);
  return ok_status();
}

}  // namespace rc
