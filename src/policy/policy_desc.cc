// src/policy/policy_desc.cc: reads rc_policy_desc into a PolicySpec.
#include <algorithm>
#include <cstddef>
#include <cstring>

#include "src/policy/policy_spec.h"

namespace rc {
namespace {

// Copies one element of a caller's array into a full-size struct: a shorter element is zero-filled,
// a longer one is accepted if all the bytes unknown here are zero.
template <typename T>
Status read_element(const void* base, uint32_t stride, uint32_t index, rc_type type,
                    const std::string& field, T* out) {
  const auto* bytes = static_cast<const unsigned char*>(base) + size_t{stride} * index;
  rc_head head;
  std::memcpy(&head, bytes, sizeof head);
  uint32_t tag = 0;  // anything may stand there, also what is no rc_type
  std::memcpy(&tag, bytes + offsetof(rc_head, struct_type), sizeof tag);
  if (tag != static_cast<uint32_t>(type)) {
    return argument_error(field + ".head.struct_type",
                          format("struct_type is %u, must be %u; start from the init function", tag,
                                 static_cast<uint32_t>(type)));
  }
  if (head.struct_size < sizeof(rc_head) || head.struct_size > stride) {
    return argument_error(field + ".head.struct_size",
                          format("struct_size is %u, must be %zu to the stride %u",
                                 head.struct_size, sizeof(rc_head), stride));
  }
  for (size_t i = sizeof(T); i < head.struct_size; ++i) {
    if (bytes[i] != 0) {
      return Status(RC_E_VERSION, field,
                    format("the caller's struct has %u bytes, this library knows %zu, and byte %zu "
                           "is not zero",
                           head.struct_size, sizeof(T), i));
    }
  }
  *out = T{};
  std::memcpy(out, bytes, std::min<size_t>(sizeof(T), head.struct_size));
  if (out->head.next != nullptr) {
    return Status(RC_E_VERSION, field + ".head.next", "no extension struct exists; must be NULL");
  }
  return ok_status();
}

Status check_list(const void* list, uint32_t n, const char* field) {
  if (n > kMaxListEntries) {
    return argument_error(field, format("%u entries, the limit is %u", n, kMaxListEntries));
  }
  if (n > 0 && list == nullptr) {
    return argument_error(field, format("NULL with a count of %u", n));
  }
  return ok_status();
}

Status read_name(const char* text, const std::string& field, std::string* out) {
  if (text == nullptr) return argument_error(field, "NULL, must be a name");
  // One byte more than the limit, so that validation can refuse what is too long.
  out->assign(text, strnlen(text, kMaxNameBytes + 1));
  if (out->empty()) return argument_error(field, "an empty name; NULL means \"not set\"");
  return ok_status();
}

Status read_optional_name(const char* text, const std::string& field, std::string* out) {
  if (text == nullptr) return ok_status();
  return read_name(text, field, out);
}

Status read_names(const char* const* names, uint32_t n, const char* field,
                  std::vector<std::string>* out) {
  RC_TRY(check_list(names, n, field));
  out->resize(n);
  for (uint32_t i = 0; i < n; ++i) {
    RC_TRY(read_name(names[i], format("%s[%u]", field, i), &(*out)[i]));
  }
  return ok_status();
}

Status read_kinds(const rc_policy_desc& desc, std::vector<KindSpec>* out) {
  RC_TRY(check_list(desc.kinds, desc.n_kinds, "kinds"));
  if (desc.n_kinds > 0 && desc.kind_stride < sizeof(rc_head)) {
    return argument_error("kind_stride", format("%u, must be sizeof(rc_kind_desc), here %zu",
                                                desc.kind_stride, sizeof(rc_kind_desc)));
  }
  for (uint32_t i = 0; i < desc.n_kinds; ++i) {
    const std::string field = format("kinds[%u]", i);
    rc_kind_desc kind;
    RC_TRY(read_element(desc.kinds, desc.kind_stride, i, RC_TYPE_KIND_DESC, field, &kind));
    KindSpec spec;
    RC_TRY(read_name(kind.name, field + ".name", &spec.name));
    if ((kind.flags & ~RC_KIND_DISCARDS_OUTPUT) != 0) {
      return argument_error(field + ".flags", format("0x%llx has unknown bits",
                                                     static_cast<unsigned long long>(kind.flags)));
    }
    spec.discards_output = (kind.flags & RC_KIND_DISCARDS_OUTPUT) != 0;
    out->push_back(std::move(spec));
  }
  return ok_status();
}

Status read_rule(const rc_policy_rule& rule, const std::string& field, RuleSpec* out) {
  RC_TRY(read_optional_name(rule.kind, field + ".kind", &out->kind));
  RC_TRY(read_optional_name(rule.slot, field + ".slot", &out->slot));
  RC_TRY(read_optional_name(rule.group, field + ".group", &out->group));
  if ((rule.flags & ~(RC_RULE_CHUNK | RC_RULE_MICROBATCH)) != 0) {
    return argument_error(field + ".flags", format("0x%llx has unknown bits",
                                                   static_cast<unsigned long long>(rule.flags)));
  }
  const bool by_chunk = (rule.flags & RC_RULE_CHUNK) != 0;
  if (!by_chunk && rule.chunk != 0) {
    return argument_error(field + ".chunk", format("%u without RC_RULE_CHUNK", rule.chunk));
  }
  if (by_chunk) out->chunk = rule.chunk;
  out->by_microbatch = (rule.flags & RC_RULE_MICROBATCH) != 0;
  if (!out->by_microbatch && (rule.first_microbatch != 0 || rule.n_microbatches != 0)) {
    return argument_error(field + ".first_microbatch",
                          format("[%u, + %u) without RC_RULE_MICROBATCH", rule.first_microbatch,
                                 rule.n_microbatches));
  }
  out->role = rule.role;
  out->first_layer = rule.first_layer;
  out->n_layers = rule.n_layers;
  out->first_microbatch = rule.first_microbatch;
  out->n_microbatches = rule.n_microbatches;
  out->action = rule.action;
  out->tier = rule.tier;
  out->codec = rule.codec;
  out->group_layers = rule.group_layers;
  return ok_status();
}

Status read_rules(const rc_policy_desc& desc, std::vector<RuleSpec>* out) {
  RC_TRY(check_list(desc.rules, desc.n_rules, "rules"));
  if (desc.n_rules > 0 && desc.rule_stride < sizeof(rc_head)) {
    return argument_error("rule_stride", format("%u, must be sizeof(rc_policy_rule), here %zu",
                                                desc.rule_stride, sizeof(rc_policy_rule)));
  }
  out->resize(desc.n_rules);
  for (uint32_t i = 0; i < desc.n_rules; ++i) {
    const std::string field = format("rules[%u]", i);
    rc_policy_rule rule;
    RC_TRY(read_element(desc.rules, desc.rule_stride, i, RC_TYPE_POLICY_RULE, field, &rule));
    RC_TRY(read_rule(rule, field, &(*out)[i]));
  }
  return ok_status();
}

Status read_layout(const rc_policy_desc& desc, PolicySpec* out) {
  if (desc.num_layers > kMaxLayers) {
    return argument_error("num_layers", format("%u, the limit is %u", desc.num_layers, kMaxLayers));
  }
  if (desc.moe_layers != nullptr) {
    if (desc.num_layers == 0) {
      return argument_error("moe_layers", "num_layers is not set, so its length is unknown");
    }
    out->moe_layers.assign(desc.moe_layers, desc.moe_layers + desc.num_layers);
  }
  RC_TRY(
      check_list(desc.layers_per_virtual_stage, desc.n_virtual_stages, "layers_per_virtual_stage"));
  if (desc.n_virtual_stages > 0) {
    out->layers_per_virtual_stage.assign(desc.layers_per_virtual_stage,
                                         desc.layers_per_virtual_stage + desc.n_virtual_stages);
  }
  return ok_status();
}

}  // namespace

Status read_policy_desc(const rc_policy_desc& desc, PolicySpec* out) {
  *out = PolicySpec();
  if (desc.recompute_modules != nullptr) {
    RC_TRY(read_names(desc.recompute_modules, desc.n_recompute_modules, "recompute_modules",
                      &out->recompute_modules.emplace()));
  } else if (desc.n_recompute_modules > 0) {
    return argument_error("recompute_modules",
                          format("NULL with a count of %u", desc.n_recompute_modules));
  }
  RC_TRY(read_names(desc.offload_modules, desc.n_offload_modules, "offload_modules",
                    &out->offload_modules));
  RC_TRY(read_kinds(desc, &out->kinds));
  RC_TRY(read_rules(desc, &out->rules));
  RC_TRY(read_layout(desc, out));
  const auto size = [](uint32_t value) { return value == 0 ? 1 : value; };
  out->granularity = desc.granularity;
  out->method = desc.method;
  out->recompute_num_layers = desc.recompute_num_layers;
  out->num_layers = desc.num_layers;
  out->num_layers_in_first_pipeline_stage = desc.num_layers_in_first_pipeline_stage;
  out->num_layers_in_last_pipeline_stage = desc.num_layers_in_last_pipeline_stage;
  out->pp_size = size(desc.pp_size);
  out->pp_rank = desc.pp_rank;
  out->vpp_size = size(desc.vpp_size);
  out->tp_size = size(desc.tp_size);
  out->tp_rank = desc.tp_rank;
  out->cp_size = size(desc.cp_size);
  out->ep_size = size(desc.ep_size);
  out->num_microbatches = desc.num_microbatches;
  out->num_microbatches_with_partial_recompute = desc.num_microbatches_with_partial_recompute;
  out->mtp_num_layers = desc.mtp_num_layers;
  out->mhc_recompute_layer_num = desc.mhc_recompute_layer_num;
  out->cpu_offloading_num_layers = desc.cpu_offloading_num_layers;
  out->min_offloaded_tensor_size = desc.min_offloaded_tensor_size;
  out->activation_offload_fraction =
      desc.activation_offload_fraction == 0 ? 1 : desc.activation_offload_fraction;
  out->offload_bytes_cap = desc.offload_bytes_cap;
  out->fp8 = desc.fp8;
  out->graph = desc.graph;
  out->graph_scopes = desc.graph_scopes;
  out->attention_dropout = desc.attention_dropout;
  out->hidden_dropout = desc.hidden_dropout;
  out->moe_input_jitter_eps = desc.moe_input_jitter_eps;
  out->flags = desc.flags;
  return ok_status();
}

}  // namespace rc
