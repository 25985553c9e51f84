// src/policy/policy_spec.h: PolicySpec, what a policy is made from, owning every string and list.
//
// It mirrors rc_policy_desc field by field; the C descriptor and the JSON form are read into it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "include/rcore/rcore.h"
#include "src/status.h"

namespace rc {

struct KindSpec {
  std::string name;
  bool discards_output = false;
  bool operator==(const KindSpec&) const = default;
};

struct RuleSpec {
  std::string kind;  // empty: every kind
  std::string slot;  // empty: every slot of `role`
  rc_role role = RC_ROLE_ANY;
  uint32_t first_layer = 0;
  uint32_t n_layers = 0;  // 0: to the last
  std::optional<uint32_t> chunk;
  bool by_microbatch = false;
  uint32_t first_microbatch = 0;
  uint32_t n_microbatches = 0;  // 0: to the last
  rc_action action = RC_ACTION_KEEP;
  rc_tier tier = RC_TIER_DEVICE;
  rc_codec codec = RC_CODEC_NONE;
  uint32_t group_layers = 0;
  std::string group;  // empty: not split
  bool operator==(const RuleSpec&) const = default;
};

struct PolicySpec {
  rc_granularity granularity = RC_GRANULARITY_NONE;
  rc_method method = RC_METHOD_UNSET;
  std::optional<std::vector<std::string>> recompute_modules;  // nullopt: core_attn
  uint32_t recompute_num_layers = 0;
  uint32_t num_layers = 0;
  uint32_t num_layers_in_first_pipeline_stage = 0;
  uint32_t num_layers_in_last_pipeline_stage = 0;
  std::vector<uint32_t> layers_per_virtual_stage;
  uint32_t pp_size = 1, pp_rank = 0, vpp_size = 1;
  uint32_t tp_size = 1, tp_rank = 0;
  uint32_t cp_size = 1, ep_size = 1;
  uint32_t num_microbatches = 0;
  uint32_t num_microbatches_with_partial_recompute = 0;
  uint32_t mtp_num_layers = 0;
  uint32_t mhc_recompute_layer_num = 0;
  uint32_t cpu_offloading_num_layers = 0;
  std::vector<std::string> offload_modules;
  uint64_t min_offloaded_tensor_size = 0;
  double activation_offload_fraction = 1;
  uint64_t offload_bytes_cap = 0;
  std::vector<uint8_t> moe_layers;
  rc_fp8 fp8 = RC_FP8_OFF;
  rc_graph graph = RC_GRAPH_NONE;
  rc_flags graph_scopes = 0;
  double attention_dropout = 0;
  double hidden_dropout = 0;
  double moe_input_jitter_eps = 0;
  std::vector<KindSpec> kinds;
  std::vector<RuleSpec> rules;
  rc_flags flags = 0;

  bool has(rc_flags flag) const { return (flags & flag) != 0; }
  bool operator==(const PolicySpec&) const = default;
};

// Limits that keep a hostile description cheap to refuse.
inline constexpr uint32_t kMaxLayers = 1u << 20;
inline constexpr uint32_t kMaxListEntries = 1u << 16;
inline constexpr size_t kMaxNameBytes = 47;

// The descriptor must have the library's full size (the ABI layer has normalised it); the elements
// of `kinds` and `rules` may be the caller's shorter ones, a stride apart.
Status read_policy_desc(const rc_policy_desc& desc, PolicySpec* out);

}  // namespace rc
