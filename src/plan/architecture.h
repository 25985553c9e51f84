// src/plan/architecture.h: Architecture, the shape of a transformer as far as its activations
// depend on it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "src/status.h"

namespace rc::plan {

// Keeps schedules and tables small; the deepest published model has 128 layers.
inline constexpr uint32_t kMaxModelLayers = 4096;

// kGrouped: multi-head, grouped-query and multi-query attention (kv_heads says which).
// kLatent: multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1).
enum class AttentionKind { kGrouped, kLatent };
enum class NormKind { kLayerNorm, kRmsNorm };

struct Attention {
  AttentionKind kind = AttentionKind::kGrouped;
  uint32_t heads = 0;
  uint32_t kv_heads = 0;  // grouped: heads, unless fewer
  uint32_t head_dim = 0;  // grouped; latent: nope_dim + rope_dim of queries and keys
  uint32_t value_dim = 0;
  // Latent only. q_rank 0: queries come straight from the hidden state.
  uint32_t q_rank = 0, kv_rank = 0, rope_dim = 0;
  bool fused = true;   // keeps no scores, but one log-sum-exp per head and token
  bool causal = true;  // a fused kernel skips the upper triangle
  bool rotary = true;
};

struct Experts {
  uint32_t count = 0;  // 0: no mixture-of-experts layer
  uint32_t top_k = 0;
  uint32_t width = 0;
  uint32_t shared_width = 0;
  // Router weights multiply the second GEMM's output, which is then saved too.
  bool weights_after_fc2 = false;
};

struct Architecture {
  std::string name;
  uint32_t hidden = 0;
  uint32_t num_layers = 0;
  uint32_t vocab = 0;
  NormKind norm = NormKind::kRmsNorm;
  Attention attention;
  uint32_t ffn = 0;  // of dense layers
  bool gated = true;
  Experts experts;
  std::vector<uint8_t> moe_layers;  // one per layer, or empty: all dense
  double attention_dropout = 0, hidden_dropout = 0;
  bool tied_embeddings = false;
  uint32_t element_bytes = 2;

  bool is_moe(uint32_t layer) const { return layer < moe_layers.size() && moe_layers[layer] != 0; }
  bool any_moe() const;
  bool any_dense() const;
};

// Sizes that are set, and fit each other. The field names are those of PLAN_JSON.md.
Status check(const Architecture& architecture);

// Parameters of one layer and of the embedding, undivided.
uint64_t layer_parameters(const Architecture& architecture, bool moe);
uint64_t expert_parameters(const Architecture& architecture);  // the routed part of a layer's
uint64_t embedding_parameters(const Architecture& architecture);

// Published models by name; false where there is none.
bool find_preset(std::string_view name, Architecture* out);
std::vector<std::string_view> preset_names();

}  // namespace rc::plan
