// src/policy/json_fields.cc: the tables of keys and spellings.
#include "src/policy/json_fields.h"

#include <algorithm>

namespace rc {
namespace {

struct Spelling {
  std::string_view other, key;
};
constexpr Spelling kSpellings[] = {
    {"activations_checkpoint_granularity", "recompute_granularity"},
    {"activations_checkpoint_method", "recompute_method"},
    {"activations_checkpoint_num_layers", "recompute_num_layers"},
    {"activations_checkpoint_recompute_modules", "recompute_modules"},
    {"num_micro_batches_with_partial_activation_checkpoints",
     "num_microbatches_with_partial_activation_checkpoints"},
    {"num_microbatches_with_partial_recompute",
     "num_microbatches_with_partial_activation_checkpoints"},
    {"distribute_checkpointed_activations", "distribute_saved_activations"},
    {"pp_size", "pipeline_model_parallel_size"},
    {"pp_rank", "pipeline_model_parallel_rank"},
    {"vpp_size", "virtual_pipeline_model_parallel_size"},
    {"tp_size", "tensor_model_parallel_size"},
    {"tp_rank", "tensor_model_parallel_rank"},
    {"cp_size", "context_parallel_size"},
    {"ep_size", "expert_model_parallel_size"},
    {"decoder_first_pipeline_num_layers", "num_layers_in_first_pipeline_stage"},
    {"decoder_last_pipeline_num_layers", "num_layers_in_last_pipeline_stage"},
    {"enable_hyper_connections", "enable_mhc_connections"},
    {"overlap_moe_expert_parallel_communication", "overlap_moe_expert_parallel_comm"},
    {"cuda_graph_modules", "cuda_graph_scope"},
    {"moe_input_jitter", "moe_input_jitter_eps"},
};

}  // namespace

const std::vector<PlainField>& plain_fields() {
  using S = PolicySpec;
  static const auto* const fields = new std::vector<PlainField>{
      {"recompute_num_layers", "recompute_num_layers", &S::recompute_num_layers},
      {"num_layers", "num_layers", &S::num_layers, 1},
      {"num_layers_in_first_pipeline_stage", "num_layers_in_first_pipeline_stage",
       &S::num_layers_in_first_pipeline_stage, 1},
      {"num_layers_in_last_pipeline_stage", "num_layers_in_last_pipeline_stage",
       &S::num_layers_in_last_pipeline_stage, 1},
      {"pipeline_model_parallel_size", "pp_size", &S::pp_size, 1},
      {"pipeline_model_parallel_rank", "pp_rank", &S::pp_rank},
      {"virtual_pipeline_model_parallel_size", "vpp_size", &S::vpp_size, 1},
      {"tensor_model_parallel_size", "tp_size", &S::tp_size, 1},
      {"tensor_model_parallel_rank", "tp_rank", &S::tp_rank},
      {"context_parallel_size", "cp_size", &S::cp_size, 1},
      {"expert_model_parallel_size", "ep_size", &S::ep_size, 1},
      {"num_microbatches", "num_microbatches", &S::num_microbatches, 1},
      {"num_microbatches_with_partial_activation_checkpoints",
       "num_microbatches_with_partial_recompute", &S::num_microbatches_with_partial_recompute, 1},
      {"mtp_num_layers", "mtp_num_layers", &S::mtp_num_layers},
      {"mhc_recompute_layer_num", "mhc_recompute_layer_num", &S::mhc_recompute_layer_num, 1},
      {"cpu_offloading_num_layers", "cpu_offloading_num_layers", &S::cpu_offloading_num_layers},
      {"min_offloaded_tensor_size", "min_offloaded_tensor_size", &S::min_offloaded_tensor_size},
      {"activation_offload_fraction", "activation_offload_fraction",
       &S::activation_offload_fraction},
      {"offload_bytes_cap", "offload_bytes_cap", &S::offload_bytes_cap, 1},
      {"attention_dropout", "attention_dropout", &S::attention_dropout},
      {"hidden_dropout", "hidden_dropout", &S::hidden_dropout},
      {"moe_input_jitter_eps", "moe_input_jitter_eps", &S::moe_input_jitter_eps},
#define RC_FLAG_FIELD(key, flag) \
  {                              \
    key, key, FlagBit {          \
      flag                       \
    }                            \
  }
      RC_FLAG_FIELD("distribute_saved_activations", RC_POLICY_DISTRIBUTE_SAVED),
      RC_FLAG_FIELD("sequence_parallel", RC_POLICY_SEQUENCE_PARALLEL),
      RC_FLAG_FIELD("moe_grouped_gemm", RC_POLICY_MOE_GROUPED_GEMM),
      RC_FLAG_FIELD("multi_latent_attention", RC_POLICY_MULTI_LATENT_ATTENTION),
      RC_FLAG_FIELD("moe_shared_expert_overlap", RC_POLICY_MOE_SHARED_EXPERT_OVERLAP),
      RC_FLAG_FIELD("overlap_moe_expert_parallel_comm", RC_POLICY_OVERLAP_MOE_EXPERT_PARALLEL_COMM),
      RC_FLAG_FIELD("fused_attention", RC_POLICY_FUSED_ATTENTION),
      RC_FLAG_FIELD("fused_norm", RC_POLICY_FUSED_NORM),
      RC_FLAG_FIELD("cpu_offloading", RC_POLICY_CPU_OFFLOADING),
      RC_FLAG_FIELD("fine_grained_activation_offloading", RC_POLICY_FINE_GRAINED_OFFLOADING),
      RC_FLAG_FIELD("gated_delta_net", RC_POLICY_GATED_DELTA_NET),
      RC_FLAG_FIELD("gated_delta_product", RC_POLICY_GATED_DELTA_PRODUCT),
      RC_FLAG_FIELD("enable_mhc_connections", RC_POLICY_HYPER_CONNECTIONS),
      RC_FLAG_FIELD("feature_extraction", RC_POLICY_FEATURE_EXTRACTION),
      RC_FLAG_FIELD("use_transformer_engine_op_fuser", RC_POLICY_TE_OP_FUSER),
      RC_FLAG_FIELD("moe_paged_stash", RC_POLICY_PAGED_STASH),
      RC_FLAG_FIELD("moe_layer_recompute", RC_POLICY_MOE_LAYER_RECOMPUTE),
      RC_FLAG_FIELD("counter_rng", RC_POLICY_COUNTER_RNG),
      RC_FLAG_FIELD("moe_alltoall_dispatcher", RC_POLICY_MOE_ALLTOALL_DISPATCHER),
      RC_FLAG_FIELD("moe_latent", RC_POLICY_MOE_LATENT),
      RC_FLAG_FIELD("strict_megatron", RC_POLICY_STRICT_MEGATRON),
#undef RC_FLAG_FIELD
  };
  return *fields;
}

const std::vector<std::string_view>& special_keys() {
  static const auto* const keys = new std::vector<std::string_view>{
      "rcore_policy",
      "recompute_granularity",
      "recompute_method",
      "recompute_modules",
      "recompute_activations",
      "checkpoint_activations",
      "num_layers_per_virtual_pipeline_stage",
      "layers_per_virtual_stage",
      "moe_layers",
      "moe_layer_freq",
      "moe_token_dispatcher_type",
      "moe_latent_size",
      "experimental_attention_variant",
      "offload_modules",
      "fp8",
      "fp8_recipe",
      "cuda_graph_impl",
      "cuda_graph_scope",
      "kinds",
      "rules",
  };
  return *keys;
}

std::string canonical_key(std::string_view key) {
  if (key.substr(0, 2) == "--") key.remove_prefix(2);
  std::string name(key);
  std::replace(name.begin(), name.end(), '-', '_');
  for (const Spelling& spelling : kSpellings) {
    if (name == spelling.other) return std::string(spelling.key);
  }
  for (const PlainField& field : plain_fields()) {
    if (name == field.key) return name;
  }
  const auto& special = special_keys();
  return std::find(special.begin(), special.end(), name) != special.end() ? name : std::string();
}

std::vector<std::string_view> known_keys() {
  std::vector<std::string_view> keys(special_keys());
  for (const PlainField& field : plain_fields()) keys.push_back(field.key);
  for (const Spelling& spelling : kSpellings) keys.push_back(spelling.other);
  return keys;
}

const std::vector<ScopeName>& scope_names() {
  static const auto* const names = new std::vector<ScopeName>{
      {"attn", RC_GRAPH_SCOPE_ATTN},
      {"mlp", RC_GRAPH_SCOPE_MLP},
      {"moe", RC_GRAPH_SCOPE_MOE},
      {"moe_router", RC_GRAPH_SCOPE_MOE_ROUTER},
      {"moe_preprocess", RC_GRAPH_SCOPE_MOE_PREPROCESS},
  };
  return *names;
}

}  // namespace rc
