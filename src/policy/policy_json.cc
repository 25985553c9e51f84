// src/policy/policy_json.cc: create_policy_json: the JSON form read into a PolicySpec.
#include <algorithm>
#include <map>
#include <new>

#include "src/policy/json_fields.h"
#include "src/policy/json_text.h"
#include "src/policy/json_values.h"
#include "src/policy/nearest_name.h"
#include "src/policy/policy.h"

namespace rc {
namespace {

using nlohmann::json;

// A value, and the key under which the text has it.
struct Entry {
  std::string key;
  const json* value = nullptr;
  std::string pointer() const { return pointer_token(key); }
};

class SpecReader {
 public:
  Status read(const json& root, PolicySpec* spec);
  // A field of create_policy, "rules[3].kind", as a pointer into this text.
  std::string pointer_of(const std::string& field) const;

 private:
  // Null values count as absent.
  const Entry* find(const std::string& key) const {
    const auto found = entries_.find(key);
    return found == entries_.end() ? nullptr : &found->second;
  }
  Status collect(const json& root);
  Status read_plain(PolicySpec* spec) const;
  Status read_recompute(PolicySpec* spec) const;
  Status read_layout(PolicySpec* spec) const;
  Status read_moe_layers(PolicySpec* spec) const;
  Status read_architecture(PolicySpec* spec) const;
  Status read_numerics_and_graphs(PolicySpec* spec) const;
  Status read_tables(PolicySpec* spec) const;

  const json* root_ = nullptr;
  std::map<std::string, Entry> entries_;
};

Status SpecReader::collect(const json& root) {
  root_ = &root;
  if (!root.is_object()) return argument_error("", "the policy must be a JSON object");
  for (const auto& [key, value] : root.items()) {
    const std::string name = canonical_key(key);
    if (name.empty()) {
      return argument_error(pointer_token(key), format("unknown key %s%s", in_quotes(key).c_str(),
                                                       did_you_mean(key, known_keys()).c_str()));
    }
    if (value.is_null()) continue;
    const auto [entry, fresh] = entries_.try_emplace(name, Entry{key, &value});
    if (!fresh && *entry->second.value != value) {
      return argument_error(pointer_token(key), format("contradicts %s, another spelling of it",
                                                       in_quotes(entry->second.key).c_str()));
    }
  }
  const Entry* version = find("rcore_policy");
  if (version == nullptr) return argument_error("/rcore_policy", "missing, must be 1");
  if (!version->value->is_number_integer() || *version->value != 1) {
    return argument_error(
        "/rcore_policy", format("%s, this library reads version 1", show(*version->value).c_str()));
  }
  const Entry* old = find("checkpoint_activations");
  if (old != nullptr && *old->value != false) {
    return argument_error(old->pointer(),
                          "no longer exists: set recompute_activations, or recompute_granularity "
                          "and recompute_method [ARG601]");
  }
  return ok_status();
}

Status SpecReader::read_plain(PolicySpec* spec) const {
  for (const PlainField& field : plain_fields()) {
    const Entry* entry = find(field.key);
    if (entry == nullptr) continue;
    const std::string at = entry->pointer();
    if (const auto* flag = std::get_if<FlagBit>(&field.target)) {
      bool on = false;
      RC_TRY(read_bool(*entry->value, at, &on));
      if (on) spec->flags |= flag->bit;
    } else if (const auto* number = std::get_if<uint32_t PolicySpec::*>(&field.target)) {
      uint64_t value = 0;
      RC_TRY(read_count(*entry->value, at, field.least, UINT32_MAX, &value));
      spec->** number = static_cast<uint32_t>(value);
    } else if (const auto* big = std::get_if<uint64_t PolicySpec::*>(&field.target)) {
      RC_TRY(read_count(*entry->value, at, field.least, UINT64_MAX, &(spec->**big)));
    } else {
      RC_TRY(read_real(*entry->value, at, &(spec->*std::get<double PolicySpec::*>(field.target))));
    }
  }
  return ok_status();
}

Status SpecReader::read_recompute(PolicySpec* spec) const {
  if (const Entry* entry = find("recompute_granularity")) {
    RC_TRY(read_enum(*entry->value, entry->pointer(), 3, &spec->granularity, "TC1902"));
  }
  if (const Entry* entry = find("recompute_activations")) {
    bool on = false;
    RC_TRY(read_bool(*entry->value, entry->pointer(), &on));
    if (on && find("recompute_granularity") != nullptr &&
        spec->granularity != RC_GRANULARITY_SELECTIVE) {
      return argument_error(entry->pointer(),
                            format("true means selective, but recompute_granularity is %s",
                                   name_of(spec->granularity)));
    }
    if (on) spec->granularity = RC_GRANULARITY_SELECTIVE;
  }
  if (const Entry* entry = find("recompute_method")) {
    RC_TRY(read_enum(*entry->value, entry->pointer(), 3, &spec->method, "TC1909"));
  }
  if (const Entry* entry = find("recompute_num_layers"); entry != nullptr && *entry->value == 0) {
    return argument_error(entry->pointer(), "0, must be at least 1 [TC1919]");
  }
  if (const Entry* entry = find("recompute_modules")) {
    RC_TRY(read_names(*entry->value, entry->pointer(), &spec->recompute_modules.emplace()));
  }
  if (const Entry* entry = find("offload_modules")) {
    RC_TRY(read_names(*entry->value, entry->pointer(), &spec->offload_modules));
  }
  return ok_status();
}

Status SpecReader::read_layout(PolicySpec* spec) const {
  if (const Entry* entry = find("layers_per_virtual_stage")) {
    RC_TRY(check_array(*entry->value, entry->pointer()));
    for (size_t i = 0; i < entry->value->size(); ++i) {
      uint64_t layers = 0;
      RC_TRY(read_count((*entry->value)[i], entry->pointer() + format("/%zu", i), 0, kMaxLayers,
                        &layers));
      spec->layers_per_virtual_stage.push_back(static_cast<uint32_t>(layers));
    }
  }
  const Entry* per_stage = find("num_layers_per_virtual_pipeline_stage");
  if (per_stage == nullptr) return ok_status();
  uint64_t n = 0;
  RC_TRY(read_count(*per_stage->value, per_stage->pointer(), 1, kMaxLayers, &n));
  const uint64_t per_rank = spec->num_layers / spec->pp_size;
  if (spec->num_layers == 0 || spec->num_layers % spec->pp_size != 0 || per_rank % n != 0) {
    return argument_error(
        per_stage->pointer(),
        format("%llu does not divide the layers of a pipeline rank: "
               "num_layers %u over %u ranks",
               static_cast<unsigned long long>(n), spec->num_layers, spec->pp_size));
  }
  const auto vpp = static_cast<uint32_t>(per_rank / n);
  if (find("virtual_pipeline_model_parallel_size") != nullptr && spec->vpp_size != vpp) {
    return argument_error(per_stage->pointer(),
                          format("%llu gives %u virtual chunks, but "
                                 "virtual_pipeline_model_parallel_size is %u",
                                 static_cast<unsigned long long>(n), vpp, spec->vpp_size));
  }
  spec->vpp_size = vpp;
  return ok_status();
}

Status SpecReader::read_moe_layers(PolicySpec* spec) const {
  const Entry* layers = find("moe_layers");
  const Entry* freq = find("moe_layer_freq");
  if (layers != nullptr && freq != nullptr) {
    return argument_error(freq->pointer(), "set together with moe_layers, which says the same");
  }
  const Entry* entry = layers != nullptr ? layers : freq;
  if (entry == nullptr) return ok_status();
  const std::string at = entry->pointer();
  if (freq != nullptr && freq->value->is_number()) {
    uint64_t every = 0;
    RC_TRY(read_count(*freq->value, at, 1, kMaxLayers, &every));
    if (spec->num_layers == 0) return argument_error(at, "needs num_layers, which is not set");
    if (spec->num_layers > kMaxLayers) {
      return argument_error("/num_layers",
                            format("%u, the limit is %u", spec->num_layers, kMaxLayers));
    }
    for (uint32_t i = 0; i < spec->num_layers; ++i) spec->moe_layers.push_back(i % every == 0);
    return ok_status();
  }
  RC_TRY(check_array(*entry->value, at, kMaxLayers));
  for (size_t i = 0; i < entry->value->size(); ++i) {
    const json& value = (*entry->value)[i];
    uint64_t on = 0;
    if (value.is_boolean()) {
      on = value.get<bool>() ? 1 : 0;
    } else {
      RC_TRY(read_count(value, at + format("/%zu", i), 0, 1, &on));
    }
    spec->moe_layers.push_back(static_cast<uint8_t>(on));
  }
  return ok_status();
}

Status SpecReader::read_architecture(PolicySpec* spec) const {
  if (const Entry* entry = find("moe_token_dispatcher_type")) {
    std::string type;
    RC_TRY(
        read_choice(*entry->value, entry->pointer(), {"allgather", "alltoall", "flex"}, "", &type));
    if (type == "alltoall") spec->flags |= RC_POLICY_MOE_ALLTOALL_DISPATCHER;
  }
  if (const Entry* entry = find("moe_latent_size")) {
    uint64_t size = 0;
    RC_TRY(read_count(*entry->value, entry->pointer(), 1, UINT32_MAX, &size));
    spec->flags |= RC_POLICY_MOE_LATENT;
  }
  if (const Entry* entry = find("experimental_attention_variant")) {
    std::string variant;
    RC_TRY(read_choice(*entry->value, entry->pointer(), {"gdn", "gdn2", "gated_delta_net", "gdp"},
                       "", &variant));
    spec->flags |= variant == "gdp" ? RC_POLICY_GATED_DELTA_PRODUCT : RC_POLICY_GATED_DELTA_NET;
  }
  return ok_status();
}

Status SpecReader::read_numerics_and_graphs(PolicySpec* spec) const {
  const Entry* fp8 = find("fp8");
  const Entry* recipe = find("fp8_recipe");
  if (recipe != nullptr && fp8 == nullptr) {
    return argument_error(recipe->pointer(), "set without fp8, it has no effect");
  }
  // Megatron says the number format in fp8 and the scaling in fp8_recipe.
  const bool by_format = fp8 != nullptr && fp8->value->is_string() &&
                         (*fp8->value == "e4m3" || *fp8->value == "hybrid");
  if (by_format) {
    spec->fp8 = RC_FP8_DELAYED;
  } else if (fp8 != nullptr && *fp8->value != false) {
    RC_TRY(read_enum(*fp8->value, fp8->pointer(), 5, &spec->fp8, nullptr));
  }
  if (recipe != nullptr) {
    rc_fp8 scaling = RC_FP8_OFF;
    RC_TRY(read_enum(*recipe->value, recipe->pointer(), 5, &scaling, nullptr));
    if (!by_format && scaling != spec->fp8) {
      return argument_error(recipe->pointer(),
                            format("%s contradicts fp8 %s", name_of(scaling), name_of(spec->fp8)));
    }
    spec->fp8 = scaling;
  }
  if (const Entry* entry = find("cuda_graph_impl")) {
    RC_TRY(read_enum(*entry->value, entry->pointer(), 4, &spec->graph, nullptr));
  }
  const Entry* scope = find("cuda_graph_scope");
  if (scope == nullptr) return ok_status();
  std::vector<std::string> names;
  RC_TRY(read_names(*scope->value, scope->pointer(), &names));
  for (size_t i = 0; i < names.size(); ++i) {
    // The older spelling of cuda_graph_impl full_iteration.
    if (names[i] == "full_iteration" && names.size() == 1) {
      spec->graph = RC_GRAPH_FULL_ITERATION;
      continue;
    }
    std::vector<std::string_view> known;
    rc_flags bit = 0;
    for (const ScopeName& one : scope_names()) {
      known.push_back(one.name);
      if (names[i] == one.name) bit = one.bit;
    }
    if (bit == 0) {
      return argument_error(scope->pointer() + (scope->value->is_array() ? format("/%zu", i) : ""),
                            format("%s is no scope%s", in_quotes(names[i]).c_str(),
                                   did_you_mean(names[i], known).c_str()));
    }
    spec->graph_scopes |= bit;
  }
  return ok_status();
}

Status SpecReader::read_tables(PolicySpec* spec) const {
  if (const Entry* entry = find("kinds")) {
    RC_TRY(check_array(*entry->value, entry->pointer()));
    for (size_t i = 0; i < entry->value->size(); ++i) {
      RC_TRY(read_kind((*entry->value)[i], entry->pointer() + format("/%zu", i),
                       &spec->kinds.emplace_back()));
    }
  }
  if (const Entry* entry = find("rules")) {
    RC_TRY(check_array(*entry->value, entry->pointer()));
    for (size_t i = 0; i < entry->value->size(); ++i) {
      RC_TRY(read_rule((*entry->value)[i], entry->pointer() + format("/%zu", i),
                       &spec->rules.emplace_back()));
    }
  }
  return ok_status();
}

Status SpecReader::read(const json& root, PolicySpec* spec) {
  RC_TRY(collect(root));
  RC_TRY(read_plain(spec));
  RC_TRY(read_recompute(spec));
  RC_TRY(read_layout(spec));
  RC_TRY(read_moe_layers(spec));
  RC_TRY(read_architecture(spec));
  RC_TRY(read_numerics_and_graphs(spec));
  return read_tables(spec);
}

std::string SpecReader::pointer_of(const std::string& field) const {
  if (field.empty()) return field;
  const size_t end = field.find_first_of(".[");
  std::string base = field.substr(0, end);
  for (const PlainField& plain : plain_fields()) {
    if (base == plain.c_field) base = plain.key;
  }
  const Entry* entry = find(base);
  std::string pointer = entry == nullptr ? pointer_token(base) : entry->pointer();
  if (end == std::string::npos) return pointer;
  for (const char c : field.substr(end)) {
    if (c == '[' || c == '.') {
      pointer += '/';
    } else if (c != ']') {
      pointer += c;
    }
  }
  // A kind given as a bare string has no member "name"; a list of one may be a bare string too.
  while (!root_->contains(json::json_pointer(pointer)) && pointer.rfind('/') > 0) {
    const std::string parent = pointer.substr(0, pointer.rfind('/'));
    if (!root_->contains(json::json_pointer(parent)) ||
        root_->at(json::json_pointer(parent)).is_object()) {
      break;
    }
    pointer = parent;
  }
  return pointer;
}

}  // namespace

Status create_policy_json(std::string_view text, std::shared_ptr<const Policy>* out) {
  out->reset();
  try {
    json root;
    RC_TRY(parse_json(text, &root));
    PolicySpec spec;
    SpecReader reader;
    RC_TRY(reader.read(root, &spec));
    Status created = create_policy(spec, out);
    if (created.ok()) return created;
    return Status(created.code(), reader.pointer_of(created.field()), created.message());
  } catch (const std::bad_alloc&) {
    return Status(RC_E_MEMORY, "", "no memory for the policy");
  } catch (const json::exception& error) {
    return Status(RC_E_INTERNAL, "", error.what());
  }
}

}  // namespace rc
