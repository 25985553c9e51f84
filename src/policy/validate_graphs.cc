// src/policy/validate_graphs.cc: captured graphs, and the overlap of expert-parallel communication.
#include <algorithm>

#include "src/policy/validate.h"

namespace rc {
namespace {

struct Captured {
  bool per_layer, whole, attn, mlp, moe, router, preprocess;
};

// Megatron's reading: no scope at all means that the whole layer is captured.
Captured captured_by(const PolicySpec& spec) {
  Captured c;
  c.per_layer = spec.graph == RC_GRAPH_LOCAL || spec.graph == RC_GRAPH_TRANSFORMER_ENGINE;
  c.whole = spec.graph == RC_GRAPH_FULL_ITERATION || (c.per_layer && spec.graph_scopes == 0);
  c.attn = c.whole || (spec.graph_scopes & RC_GRAPH_SCOPE_ATTN) != 0;
  c.mlp = c.whole || (spec.graph_scopes & RC_GRAPH_SCOPE_MLP) != 0;
  c.moe = c.whole || (spec.graph_scopes & RC_GRAPH_SCOPE_MOE) != 0;
  c.router = (spec.graph_scopes & RC_GRAPH_SCOPE_MOE_ROUTER) != 0;
  c.preprocess = (spec.graph_scopes & RC_GRAPH_SCOPE_MOE_PREPROCESS) != 0;
  return c;
}

// A captured graph draws its random numbers anew in replay unless they come from a counter that the
// region remembers (rc_region_rng); Megatron refuses in any case.
Status check_random(const RuleCheck& check, const char* id, const char* field, double value,
                    const char* module) {
  const std::string message =
      format("%g while \"%s\" is captured in a graph and recomputed%s", value, module,
             check.spec.has(RC_POLICY_COUNTER_RNG)
                 ? ""
                 : "; allowed where random numbers come from rc_region_rng (counter_rng)");
  if (check.spec.has(RC_POLICY_COUNTER_RNG)) return check.relax(id, field, message);
  return check.refuse(id, field, message);
}

Status check_random_numbers(const RuleCheck& check, const Captured& c) {
  const PolicySpec& spec = check.spec;
  if (spec.attention_dropout != 0 && c.attn && check.recomputes("core_attn")) {
    RC_TRY(check_random(check, "TC2878", "attention_dropout", spec.attention_dropout, "core_attn"));
  }
  if (spec.hidden_dropout != 0) {
    if (c.mlp && check.recomputes("mlp")) {
      RC_TRY(check_random(check, "TC2886", "hidden_dropout", spec.hidden_dropout, "mlp"));
    }
    if (c.moe && check.recomputes("moe")) {
      RC_TRY(check_random(check, "TC2886", "hidden_dropout", spec.hidden_dropout, "moe"));
    }
  }
  if (spec.moe_input_jitter_eps != 0 && c.moe && check.recomputes("moe")) {
    RC_TRY(check_random(check, "TC2900", "moe_input_jitter_eps", spec.moe_input_jitter_eps, "moe"));
  }
  return ok_status();
}

Status check_offload_in_graphs(const RuleCheck& check, const Captured& c) {
  const PolicySpec& spec = check.spec;
  if (!check.fine_grained()) return ok_status();
  if (spec.graph == RC_GRAPH_LOCAL) {
    for (const std::string& module : spec.offload_modules) {
      if (module == "expert_fc1" || module == "moe_act" || module == "fused_group_mlp") continue;
      return check.refuse("TC2931a", check.offload_field(module),
                          format("\"%s\" cannot be offloaded with cuda_graph_impl local, only "
                                 "expert_fc1, moe_act and fused_group_mlp can",
                                 module.c_str()));
    }
    if (spec.graph_scopes == 0) {
      return check.refuse("TC2931b", "cuda_graph_scope",
                          "empty: a whole layer captured with cuda_graph_impl local cannot be "
                          "offloaded from");
    }
    if (c.moe) {
      return check.refuse("TC2931c", "cuda_graph_scope",
                          "has moe: with cuda_graph_impl local the modules in it cannot be "
                          "offloaded");
    }
  }
  if ((spec.graph_scopes & RC_GRAPH_SCOPE_MOE) != 0) {
    return check.refuse("TC2960", "cuda_graph_scope",
                        "has moe, which goes with no fine_grained_activation_offloading");
  }
  if (spec.graph == RC_GRAPH_FULL_ITERATION) {
    RC_TRY(check.relax("TC2967", "fine_grained_activation_offloading",
                       "set with cuda_graph_impl full_iteration and no limit of transfers in "
                       "flight"));
  }
  return ok_status();
}

// Where TE's router graphs end behind the norm, Megatron does not recompute it, with a warning.
Status check_norm_before_router(RuleCheck& check, const Captured& c) {
  const PolicySpec& spec = check.spec;
  if (spec.graph != RC_GRAPH_TRANSFORMER_ENGINE || !c.router || !check.recomputes("layernorm")) {
    return ok_status();
  }
  const bool reaches =
      c.preprocess &&
      (spec.has(RC_POLICY_MOE_ALLTOALL_DISPATCHER) || spec.has(RC_POLICY_MOE_LATENT)) &&
      !spec.has(RC_POLICY_MOE_SHARED_EXPERT_OVERLAP);
  if (reaches) return ok_status();
  const std::string field = check.module_field("layernorm");
  RC_TRY(check.relax("TL481", field,
                     "the norm before the MLP is not recomputed with these moe_router graphs"));
  check.note(field,
             "the norm before the MLP is recomputed although the graph ends behind the router; "
             "Megatron leaves it out here",
             "TL481");
  return ok_status();
}

void note_captured_modules(RuleCheck& check, const Captured& c) {
  if (!c.per_layer || !check.selective()) return;
  const struct {
    const char* module;
    bool captured;
  } normal[] = {{"core_attn", c.attn}, {"mlp", c.mlp}, {"moe", c.moe}, {"shared_experts", c.moe}};
  for (const auto& one : normal) {
    if (!one.captured || !check.recomputes(one.module)) continue;
    check.note(check.module_field(one.module),
               format("\"%s\" lies in a per-layer graph: it frees memory only where its replay is "
                      "captured too; Megatron's checkpoint is bypassed there",
                      one.module));
  }
}

Status check_scopes(const RuleCheck& check, const Captured& c) {
  const PolicySpec& spec = check.spec;
  const char* field = "cuda_graph_scope";
  if (!c.per_layer && spec.graph_scopes != 0) {
    return argument_error(field, format("set, but cuda_graph_impl is %s; scopes are for per-layer "
                                        "graphs",
                                        name_of(spec.graph)));
  }
  if (c.router && (spec.graph_scopes & RC_GRAPH_SCOPE_MOE) != 0) {
    return argument_error(field, "has both moe and moe_router");
  }
  if (c.preprocess && !c.router) {
    return argument_error(field, "has moe_preprocess without moe_router");
  }
  return ok_status();
}

}  // namespace

Status check_graphs(RuleCheck& check) {
  const PolicySpec& spec = check.spec;
  const Captured c = captured_by(spec);
  RC_TRY(check_scopes(check, c));
  if (spec.graph == RC_GRAPH_NONE) return ok_status();
  if (c.per_layer && spec.has(RC_POLICY_CPU_OFFLOADING)) {
    return check.refuse("TC2800", "cpu_offloading",
                        format("set with cuda_graph_impl %s: a per-layer graph cannot hold the "
                               "transfers",
                               name_of(spec.graph)));
  }
  if (c.per_layer && check.full()) {
    return check.refuse("TC2855", "cuda_graph_impl",
                        format("%s with recompute_granularity full, must be full_iteration or none",
                               name_of(spec.graph)));
  }
  if (spec.graph == RC_GRAPH_TRANSFORMER_ENGINE && c.router && check.recomputes("moe")) {
    return check.refuse("TC2862", check.module_field("moe"),
                        "\"moe\" cannot be recomputed while transformer_engine graphs capture its "
                        "router");
  }
  RC_TRY(check_random_numbers(check, c));
  RC_TRY(check_offload_in_graphs(check, c));
  RC_TRY(check_norm_before_router(check, c));
  note_captured_modules(check, c);
  return ok_status();
}

// The schedule cuts a layer into parts and interleaves two microbatches: what is recomputed must
// lie within one part.
Status check_overlap(RuleCheck& check) {
  const PolicySpec& spec = check.spec;
  if (!spec.has(RC_POLICY_OVERLAP_MOE_EXPERT_PARALLEL_COMM)) return ok_status();
  const char* with = "with overlap_moe_expert_parallel_comm";
  if (check.full()) {
    return check.refuse("TC3021a", "recompute_granularity", format("full cannot go %s", with));
  }
  if (spec.method != RC_METHOD_UNSET) {
    return check.refuse("TC3021b", "recompute_method",
                        format("%s cannot go %s", name_of(spec.method), with));
  }
  if (spec.recompute_num_layers != 0) {
    return check.refuse("TC3021c", "recompute_num_layers",
                        format("%u cannot go %s", spec.recompute_num_layers, with));
  }
  if (check.recomputes("moe")) {
    return check.refuse("TC3021d", check.module_field("moe"),
                        format("\"moe\" cannot be recomputed %s", with));
  }
  return ok_status();
}

}  // namespace rc
