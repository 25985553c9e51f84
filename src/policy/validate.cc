// src/policy/validate.cc: create_policy: completes the inputs and runs every check over them.
#include "src/policy/validate.h"

#include <algorithm>
#include <cmath>
#include <new>

#include "src/policy/nearest_name.h"

namespace rc {

Status RuleCheck::refuse(const char* id, std::string field, std::string message) const {
  return argument_error(std::move(field), message + " [" + id + "]");
}

Status RuleCheck::relax(const char* id, std::string field, std::string message) const {
  if (!spec.has(RC_POLICY_STRICT_MEGATRON)) return ok_status();
  return refuse(id, std::move(field), "strict_megatron: " + message);
}

void RuleCheck::note(std::string field, std::string message, const char* id) {
  if (id != nullptr) message += std::string(" [") + id + "]";
  notes_.push_back({std::move(field), std::move(message)});
}

bool RuleCheck::recomputes(std::string_view module) const {
  return selective() && std::find(spec.recompute_modules->begin(), spec.recompute_modules->end(),
                                  module) != spec.recompute_modules->end();
}

bool RuleCheck::offloads(std::string_view module) const {
  return fine_grained() && std::find(spec.offload_modules.begin(), spec.offload_modules.end(),
                                     module) != spec.offload_modules.end();
}

std::string RuleCheck::module_field(std::string_view module) const {
  const auto& list = *spec.recompute_modules;
  return format("recompute_modules[%zu]",
                static_cast<size_t>(std::find(list.begin(), list.end(), module) - list.begin()));
}

std::string RuleCheck::offload_field(std::string_view module) const {
  const auto& list = spec.offload_modules;
  return format("offload_modules[%zu]",
                static_cast<size_t>(std::find(list.begin(), list.end(), module) - list.begin()));
}

namespace {

constexpr rc_flags kAllFlags = 0x1fffff;
constexpr rc_flags kAllScopes = 0x1f;

template <typename T>
Status check_enum(T value, int n, const char* field, const char* limit, const char* id = "") {
  const int number = static_cast<int>(value);
  if (number >= 0 && number < n) return ok_status();
  return argument_error(field, format("%d, must be %s%s", number, limit, id));
}

Status check_rank(uint32_t rank, uint32_t size, const char* field, const char* size_field) {
  if (size == 0) return argument_error(size_field, "0, must be at least 1");
  if (rank < size) return ok_status();
  return argument_error(field, format("%u, must be below %s %u", rank, size_field, size));
}

Status check_probability(double value, const char* field) {
  if (value >= 0 && value <= 1) return ok_status();
  return argument_error(field, format("%g, must be in [0, 1]", value));
}

Status check_count(size_t n, const char* field) {
  if (n <= kMaxListEntries) return ok_status();
  return argument_error(field, format("%zu entries, the limit is %u", n, kMaxListEntries));
}

Status check_lists(const PolicySpec& spec) {
  RC_TRY(check_count(spec.recompute_modules ? spec.recompute_modules->size() : 0,
                     "recompute_modules"));
  RC_TRY(check_count(spec.offload_modules.size(), "offload_modules"));
  RC_TRY(check_count(spec.kinds.size(), "kinds"));
  RC_TRY(check_count(spec.rules.size(), "rules"));
  RC_TRY(check_count(spec.layers_per_virtual_stage.size(), "layers_per_virtual_stage"));
  if (!spec.moe_layers.empty() && spec.moe_layers.size() != spec.num_layers) {
    return argument_error("moe_layers", format("%zu entries, must be num_layers %u",
                                               spec.moe_layers.size(), spec.num_layers));
  }
  for (size_t i = 0; i < spec.moe_layers.size(); ++i) {
    if (spec.moe_layers[i] > 1) {
      return argument_error(format("moe_layers[%zu]", i),
                            format("%u, must be 0 or 1", spec.moe_layers[i]));
    }
  }
  return ok_status();
}

// Megatron's defaults, and its deprecated alias, written out.
void complete(PolicySpec* spec) {
  const bool alias = spec->has(RC_POLICY_MOE_LAYER_RECOMPUTE);
  if (alias && spec->granularity == RC_GRANULARITY_NONE) {
    spec->granularity = RC_GRANULARITY_SELECTIVE;
  }
  if (spec->granularity != RC_GRANULARITY_SELECTIVE) return;
  if (!spec->recompute_modules) spec->recompute_modules.emplace(1, "core_attn");
  auto& modules = *spec->recompute_modules;
  if (alias && std::find(modules.begin(), modules.end(), "moe") == modules.end()) {
    modules.push_back("moe");
  }
}

Status run_checks(RuleCheck& check) {
  RC_TRY(check_overlap(check));
  RC_TRY(check_recompute(check));
  RC_TRY(check_modules(check));
  RC_TRY(check_hyper_connections(check));
  RC_TRY(check_offload(check));
  RC_TRY(check_graphs(check));
  return check_explicit_rules(check);
}

}  // namespace

Status check_shape(const PolicySpec& spec) {
  RC_TRY(check_enum(spec.granularity, 3, "recompute_granularity",
                    "RC_GRANULARITY_NONE, _SELECTIVE or _FULL", " [TC1902]"));
  RC_TRY(check_enum(spec.method, 3, "recompute_method", "RC_METHOD_UNSET, _UNIFORM or _BLOCK",
                    " [TC1909]"));
  RC_TRY(check_enum(spec.fp8, 5, "fp8", "a value of rc_fp8"));
  RC_TRY(check_enum(spec.graph, 4, "cuda_graph_impl", "a value of rc_graph"));
  if ((spec.flags & ~kAllFlags) != 0) {
    return argument_error("flags", format("0x%llx has bits beyond 0x%llx",
                                          static_cast<unsigned long long>(spec.flags),
                                          static_cast<unsigned long long>(kAllFlags)));
  }
  if ((spec.graph_scopes & ~kAllScopes) != 0) {
    return argument_error(
        "cuda_graph_scope",
        format("0x%llx has bits beyond 0x%llx", static_cast<unsigned long long>(spec.graph_scopes),
               static_cast<unsigned long long>(kAllScopes)));
  }
  RC_TRY(check_rank(spec.pp_rank, spec.pp_size, "pp_rank", "pp_size"));
  RC_TRY(check_rank(spec.tp_rank, spec.tp_size, "tp_rank", "tp_size"));
  RC_TRY(check_rank(0, spec.vpp_size, "vpp_size", "vpp_size"));
  RC_TRY(check_rank(0, spec.cp_size, "cp_size", "cp_size"));
  RC_TRY(check_rank(0, spec.ep_size, "ep_size", "ep_size"));
  if (spec.num_layers > kMaxLayers) {
    return argument_error("num_layers", format("%u, the limit is %u", spec.num_layers, kMaxLayers));
  }
  RC_TRY(check_probability(spec.attention_dropout, "attention_dropout"));
  RC_TRY(check_probability(spec.hidden_dropout, "hidden_dropout"));
  if (!(spec.moe_input_jitter_eps >= 0) || !std::isfinite(spec.moe_input_jitter_eps)) {
    return argument_error("moe_input_jitter_eps",
                          format("%g, must be finite and at least 0", spec.moe_input_jitter_eps));
  }
  return check_lists(spec);
}

Status create_policy(const PolicySpec& given, std::shared_ptr<const Policy>* out) {
  out->reset();
  try {
    PolicySpec spec = given;
    complete(&spec);
    RC_TRY(check_shape(spec));
    KindTable kinds;
    for (size_t i = 0; i < spec.kinds.size(); ++i) {
      RC_TRY(kinds.add(spec.kinds[i], format("kinds[%zu].name", i)));
    }
    StageLayout layout;
    RC_TRY(StageLayout::make(spec, &layout));
    RuleCheck check(spec, kinds, layout);
    RC_TRY(run_checks(check));
    std::vector<Note> notes = check.take_notes();
    *out = std::make_shared<const Policy>(std::move(spec), std::move(kinds), std::move(layout),
                                          std::move(notes));
    return ok_status();
  } catch (const std::bad_alloc&) {
    return Status(RC_E_MEMORY, "", "no memory for the policy's table");
  }
}

}  // namespace rc
