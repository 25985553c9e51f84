// src/policy/kind_table.cc: the built-in kinds and the look-up by name.
#include "src/policy/kind_table.h"

#include <algorithm>
#include <array>

#include "src/policy/nearest_name.h"

namespace rc {
namespace {

struct BuiltIn {
  const char* name;
  bool discards_output;
  const char* family;
};
// A family stands before its members.
constexpr BuiltIn kBuiltIn[] = {
    {"core_attn", false, nullptr},    {"mlp", false, nullptr},
    {"moe", false, nullptr},          {"shared_experts", false, nullptr},
    {"layer", false, nullptr},        {"layernorm", true, nullptr},
    {"moe_act", true, nullptr},       {"mla_up_proj", true, nullptr},
    {"gdn_norm_out", true, nullptr},  {"gdp_in_proj", true, nullptr},
    {"gdp_qkv", true, nullptr},       {"mhc", true, nullptr},
    {"attn_norm", true, "layernorm"}, {"mlp_norm", true, "layernorm"},
    {"qkv_linear", false, nullptr},   {"attn_proj", false, nullptr},
    {"expert_fc1", false, nullptr},   {"fused_group_mlp", false, nullptr},
};

constexpr std::array<std::string_view, 11> kRecomputeModules = {
    "core_attn",   "mlp",          "moe",         "shared_experts", "layernorm", "moe_act",
    "mla_up_proj", "gdn_norm_out", "gdp_in_proj", "gdp_qkv",        "mhc"};
constexpr std::array<std::string_view, 9> kOffloadModules = {
    "attn_norm",  "qkv_linear", "core_attn",       "attn_proj", "mlp_norm",
    "expert_fc1", "moe_act",    "fused_group_mlp", "gdp_qkv"};

bool well_formed(std::string_view name) {
  return !name.empty() && name.size() <= kMaxNameBytes &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
         });
}

}  // namespace

KindTable::KindTable() {
  for (const BuiltIn& kind : kBuiltIn) {
    index_.emplace(kind.name, static_cast<int>(kinds_.size()));
    kinds_.push_back(
        {kind.name, kind.discards_output, true, kind.family == nullptr ? -1 : find(kind.family)});
  }
  layer_ = find("layer");
}

Status KindTable::add(const KindSpec& kind, const std::string& field) {
  if (!well_formed(kind.name)) {
    return argument_error(field, format("%s, a kind's name is [a-z0-9_]+ of at most %zu bytes",
                                        in_quotes(kind.name).c_str(), kMaxNameBytes));
  }
  const int known = find(kind.name);
  if (known >= 0) {
    return argument_error(field, format("%s is already %s", in_quotes(kind.name).c_str(),
                                        at(known).built_in ? "built in" : "declared"));
  }
  index_.emplace(kind.name, static_cast<int>(kinds_.size()));
  kinds_.push_back({kind.name, kind.discards_output, false, -1});
  return ok_status();
}

int KindTable::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? -1 : found->second;
}

Status KindTable::resolve(std::string_view name, const std::string& field, int* index) const {
  *index = find(name);
  if (*index >= 0) return ok_status();
  std::vector<std::string_view> known;
  for (const Kind& kind : kinds_) known.push_back(kind.name);
  return argument_error(field, format("%s is neither a built-in kind nor declared in kinds%s",
                                      in_quotes(name).c_str(), did_you_mean(name, known).c_str()));
}

bool is_megatron_recompute_module(std::string_view name) {
  return std::find(kRecomputeModules.begin(), kRecomputeModules.end(), name) !=
         kRecomputeModules.end();
}

bool is_megatron_offload_module(std::string_view name) {
  return std::find(kOffloadModules.begin(), kOffloadModules.end(), name) != kOffloadModules.end();
}

}  // namespace rc
