// src/plan/architecture.cc: checks of a transformer's shape, and its parameter counts.
#include "src/plan/architecture.h"

#include <algorithm>

namespace rc::plan {
namespace {

// Products of sizes stay far inside 64 bits below this.
constexpr uint32_t kMaxSize = 1u << 24;

Status in_range(const char* field, uint32_t value, uint32_t least, uint32_t most = kMaxSize) {
  if (value >= least && value <= most) return ok_status();
  return argument_error(field, format("%u, must be between %u and %u", value, least, most));
}

Status check_attention(const Attention& a) {
  RC_TRY(in_range("num_attention_heads", a.heads, 1, 1u << 16));
  RC_TRY(in_range("head_dim", a.head_dim, 1, 1u << 16));
  RC_TRY(in_range("value_dim", a.value_dim, 1, 1u << 16));
  if (a.kind == AttentionKind::kLatent) {
    RC_TRY(in_range("kv_lora_rank", a.kv_rank, 1));
    RC_TRY(in_range("q_lora_rank", a.q_rank, 0));
    return in_range("qk_rope_head_dim", a.rope_dim, 0, a.head_dim);
  }
  if (a.kv_heads == 0 || a.kv_heads > a.heads || a.heads % a.kv_heads != 0) {
    return argument_error("num_query_groups",
                          format("%u, must divide the %u attention heads", a.kv_heads, a.heads));
  }
  return ok_status();
}

Status check_experts(const Architecture& m) {
  const Experts& e = m.experts;
  if (!m.moe_layers.empty() && m.moe_layers.size() != m.num_layers) {
    return argument_error(
        "moe_layers", format("%zu entries, num_layers is %u", m.moe_layers.size(), m.num_layers));
  }
  if (!m.any_moe()) return ok_status();
  RC_TRY(in_range("num_experts", e.count, 1, 1u << 16));
  RC_TRY(in_range("moe_router_topk", e.top_k, 1, e.count));
  RC_TRY(in_range("moe_ffn_hidden_size", e.width, 1));
  return in_range("moe_shared_expert_intermediate_size", e.shared_width, 0);
}

}  // namespace

bool Architecture::any_moe() const {
  return std::find_if(moe_layers.begin(), moe_layers.end(), [](uint8_t m) { return m != 0; }) !=
         moe_layers.end();
}

bool Architecture::any_dense() const {
  return moe_layers.empty() ||
         std::find(moe_layers.begin(), moe_layers.end(), 0) != moe_layers.end();
}

Status check(const Architecture& m) {
  RC_TRY(in_range("hidden_size", m.hidden, 1));
  RC_TRY(in_range("num_layers", m.num_layers, 1, kMaxModelLayers));
  RC_TRY(in_range("vocab_size", m.vocab, 0));
  RC_TRY(in_range("element_bytes", m.element_bytes, 1, 8));
  RC_TRY(check_attention(m.attention));
  RC_TRY(check_experts(m));
  if (m.any_dense()) RC_TRY(in_range("ffn_hidden_size", m.ffn, 1));
  const struct {
    const char* field;
    double value;
  } probabilities[] = {{"attention_dropout", m.attention_dropout},
                       {"hidden_dropout", m.hidden_dropout}};
  for (const auto& p : probabilities) {
    if (!(p.value >= 0 && p.value < 1))
      return argument_error(p.field, format("%g, must be at least 0 and below 1", p.value));
  }
  return ok_status();
}

uint64_t expert_parameters(const Architecture& m) {
  const uint64_t matrices = m.gated ? 3 : 2;
  return matrices * m.hidden * m.experts.width * m.experts.count;
}

uint64_t layer_parameters(const Architecture& m, bool moe) {
  const Attention& a = m.attention;
  const uint64_t h = m.hidden, heads = a.heads, matrices = m.gated ? 3 : 2;
  uint64_t n = 2 * h + heads * a.value_dim * h;
  if (a.kind == AttentionKind::kLatent) {
    const uint64_t q = heads * a.head_dim, nope = a.head_dim - a.rope_dim;
    n += a.q_rank ? h * a.q_rank + uint64_t{a.q_rank} * q : h * q;
    n += h * (a.kv_rank + a.rope_dim) + uint64_t{a.kv_rank} * heads * (nope + a.value_dim);
  } else {
    n += h * (heads * a.head_dim + uint64_t{a.kv_heads} * (a.head_dim + a.value_dim));
  }
  if (!moe) return n + matrices * h * m.ffn;
  return n + expert_parameters(m) + matrices * h * m.experts.shared_width + h * m.experts.count;
}

uint64_t embedding_parameters(const Architecture& m) {
  return uint64_t{m.hidden} * m.vocab;
}

}  // namespace rc::plan
