// src/plan/presets.cc: published models by name.
#include <algorithm>

#include "src/plan/architecture.h"

namespace rc::plan {
namespace {

// GPT as Korthikanti et al. count it (arXiv 2205.05198, section 4): ffn 4h, multi-head attention
// that keeps its scores, dropout everywhere.
Architecture gpt(const char* name, uint32_t heads, uint32_t hidden, uint32_t layers) {
  Architecture m;
  m.name = name;
  m.hidden = hidden;
  m.num_layers = layers;
  m.vocab = 51200;
  m.norm = NormKind::kLayerNorm;
  m.attention = {.heads = heads,
                 .kv_heads = heads,
                 .head_dim = hidden / heads,
                 .value_dim = hidden / heads,
                 .fused = false,
                 .rotary = false};
  m.ffn = 4 * hidden;
  m.gated = false;
  m.attention_dropout = m.hidden_dropout = 0.1;
  m.tied_embeddings = true;
  return m;
}

Architecture fused(Architecture m, const char* name) {
  m.name = name;
  m.attention.fused = true;
  return m;
}

Architecture llama(const char* name, uint32_t hidden, uint32_t layers, uint32_t heads,
                   uint32_t kv_heads, uint32_t ffn, uint32_t vocab = 128256) {
  Architecture m;
  m.name = name;
  m.hidden = hidden;
  m.num_layers = layers;
  m.vocab = vocab;
  m.attention = {.heads = heads,
                 .kv_heads = kv_heads,
                 .head_dim = hidden / heads,
                 .value_dim = hidden / heads};
  m.ffn = ffn;
  return m;
}

Architecture mixtral(const char* name, uint32_t hidden, uint32_t layers, uint32_t heads,
                     uint32_t width) {
  Architecture m = llama(name, hidden, layers, heads, 8, width, 32000);
  m.experts = {.count = 8, .top_k = 2, .width = width};
  m.moe_layers.assign(layers, 1);
  return m;
}

// The first `dense` layers have no experts.
Architecture deepseek(const char* name, uint32_t hidden, uint32_t layers, uint32_t dense,
                      uint32_t heads, uint32_t q_rank, uint32_t ffn, Experts experts,
                      uint32_t vocab) {
  Architecture m;
  m.name = name;
  m.hidden = hidden;
  m.num_layers = layers;
  m.vocab = vocab;
  m.attention = {.kind = AttentionKind::kLatent,
                 .heads = heads,
                 .kv_heads = heads,
                 .head_dim = 192,
                 .value_dim = 128,
                 .q_rank = q_rank,
                 .kv_rank = 512,
                 .rope_dim = 64};
  m.ffn = ffn;
  m.experts = experts;
  m.moe_layers.assign(layers, 1);
  std::fill_n(m.moe_layers.begin(), dense, uint8_t{0});
  return m;
}

const std::vector<Architecture>& presets() {
  static const auto* const all = new std::vector<Architecture>{
      // Table 3 of arXiv 2205.05198.
      gpt("gpt-22b", 64, 6144, 48), gpt("gpt-175b", 96, 12288, 96),
      gpt("gpt-530b", 128, 20480, 105), gpt("gpt-1t", 160, 25600, 128),
      fused(gpt("", 96, 12288, 96), "gpt-175b-fused"),
      // arXiv 2407.21783, table 3.
      llama("llama3-8b", 4096, 32, 32, 8, 14336), llama("llama3-70b", 8192, 80, 64, 8, 28672),
      llama("llama3-405b", 16384, 126, 128, 8, 53248),
      // arXiv 2401.04088, table 1; the 8x22B by its published configuration.
      mixtral("mixtral-8x7b", 4096, 32, 32, 14336), mixtral("mixtral-8x22b", 6144, 56, 48, 16384),
      // arXiv 2412.19437, section 4.2.
      deepseek("deepseek-v3", 7168, 61, 3, 128, 1536, 18432,
               {.count = 256, .top_k = 8, .width = 2048, .shared_width = 2048}, 129280),
      // By its published configuration.
      deepseek("moonlight-16b", 2048, 27, 1, 16, 0, 11264,
               {.count = 64, .top_k = 6, .width = 1408, .shared_width = 2816}, 163840)};
  return *all;
}

}  // namespace

bool find_preset(std::string_view name, Architecture* out) {
  for (const Architecture& m : presets()) {
    if (m.name != name) continue;
    *out = m;
    return true;
  }
  return false;
}

std::vector<std::string_view> preset_names() {
  std::vector<std::string_view> names;
  for (const Architecture& m : presets()) names.push_back(m.name);
  return names;
}

}  // namespace rc::plan
