// src/plan/inventory_attention.cc: norms, projections and attention, tensor by tensor.
#include <algorithm>

#include "src/plan/inventory_builder.h"

namespace rc::plan {

void InventoryBuilder::add_norm(const char* name, const char* kind, const char* consumer) {
  const uint64_t elements = split_rows_ * model_.hidden;
  SavedTensor t = activation(name, kind, consumer, split_rows_, model_.hidden);
  t.bytes = linear_input_bytes(elements);
  t.linear_input = true;
  t.row_local = true;
  t.replicated = !layout_.sp && layout_.tp > 1;
  t.regenerate = stream(2.0 * double(elements));
  const std::string statistic = std::string(name) + "_stats";
  const bool mean_too = model_.norm == NormKind::kLayerNorm;
  add(std::move(t));
  add_statistic(statistic.c_str(), name, split_rows_, mean_too ? 8 : 4);
}

void InventoryBuilder::add_dropout_mask(const char* name, const char* kind) {
  if (model_.hidden_dropout <= 0) return;
  SavedTensor t = activation(name, kind, "", split_rows_, model_.hidden);
  t.slot = "dropout_mask";
  t.role = RC_ROLE_SAVED;
  t.bytes = split_rows_ * model_.hidden;  // one byte each
  t.row_local = true;
  t.replicated = !layout_.sp && layout_.tp > 1;
  t.regenerate = {.hbm_bytes = double(t.bytes), .kernels = 1};
  add(std::move(t));
}

// Queries, keys and values, behind the rotary embedding where there is one.
void InventoryBuilder::add_grouped_projections() {
  const Attention& a = model_.attention;
  const uint64_t kv_heads = std::max(1u, a.kv_heads / layout_.tp), heads = a.heads / layout_.tp;
  const uint64_t q = heads * a.head_dim, k = kv_heads * a.head_dim, v = kv_heads * a.value_dim;
  SavedTensor t = activation("qkv", "qkv_linear", "core_attn", rows_, q + k + v);
  t.regenerate = gemm(double(rows_), model_.hidden, double(q + k + v));
  t.regenerate.tp_bytes = gather_bytes(model_.hidden);
  if (a.rotary) t.regenerate += stream(2.0 * double(rows_) * double(q + k));
  add(std::move(t));
}

// DeepSeek-V2, arXiv 2405.04434, equations 37 to 47. The down projections are not split over the
// tensor-parallel group; both the latents and what their norms make of them are saved.
void InventoryBuilder::add_latent_projections() {
  const Attention& a = model_.attention;
  const uint64_t heads = a.heads / layout_.tp, latents = a.q_rank + a.kv_rank + a.rope_dim;
  SavedTensor down = activation("latents", "mla_down_proj", "", split_rows_, latents);
  down.replicated = !layout_.sp && layout_.tp > 1;
  down.regenerate = gemm(double(split_rows_), model_.hidden, double(latents));
  add(std::move(down));

  SavedTensor normed = activation("latents_norm", "mla_norm", "mla_up_proj", split_rows_, latents);
  normed.bytes = linear_input_bytes(split_rows_ * latents);
  normed.linear_input = true;
  normed.row_local = true;
  normed.replicated = !layout_.sp && layout_.tp > 1;
  normed.regenerate = stream(2.0 * double(split_rows_ * latents));
  add(std::move(normed));
  add_statistic("latents_norm_stats", "latents_norm", split_rows_, a.q_rank ? 8 : 4);

  const uint64_t qk = heads * a.head_dim, v = heads * a.value_dim, nope = a.head_dim - a.rope_dim;
  SavedTensor up = activation("qkv", "mla_up_proj", "core_attn", rows_, 2 * qk + v);
  const double q_in = a.q_rank ? a.q_rank : model_.hidden;
  up.regenerate = gemm(double(rows_), q_in, double(qk));
  up.regenerate += gemm(double(rows_), a.kv_rank, double(heads * nope + v));
  up.regenerate += stream(double(rows_) * 2.0 * double(qk));
  up.regenerate.tp_bytes = gather_bytes(double(latents));
  add(std::move(up));
}

void InventoryBuilder::add_core_attention() {
  if (!model_.attention.fused) add_scores();
  add_fused_attention();
}

// Unfused: softmax output, dropout mask and dropped-out scores, 5as^2b in all (section 4.1).
void InventoryBuilder::add_scores() {
  const Attention& a = model_.attention;
  const uint64_t heads = a.heads / layout_.tp, elements = heads * rows_ * layout_.seq;
  const double flops = 2.0 * double(elements) * a.head_dim;
  auto scores = [&](const char* name, uint64_t bytes, Work work) {
    SavedTensor t = activation(name, "core_attn", "", rows_, 0);
    t.slot = name;
    t.role = RC_ROLE_SAVED;
    t.inside = "core_attn";
    t.bytes = bytes;
    t.regenerate = work;
    add(std::move(t));
  };
  Work softmax = stream(2.0 * double(elements));
  softmax += Work{.gemm_flops = flops, .kernels = 1};
  scores("probs", elements * model_.element_bytes, softmax);
  if (model_.attention_dropout <= 0) return;
  scores("attn_dropout_mask", elements, {.hbm_bytes = double(elements), .kernels = 1});
  Work dropped = stream(2.0 * double(elements));
  dropped.hbm_bytes += double(elements);
  scores("dropped_probs", elements * model_.element_bytes, dropped);
}

// The attention's output, which the projection behind it saves as its input.
void InventoryBuilder::add_fused_attention() {
  const Attention& a = model_.attention;
  const uint64_t heads = a.heads / layout_.tp, width = heads * a.value_dim;
  SavedTensor t = activation("attn_out", "core_attn", "attn_proj", rows_, width);
  t.linear_input = true;
  // A quantised projection keeps its own copy; a fused kernel's backward reads the original too.
  if (layout_.fp8 != RC_FP8_OFF) {
    const uint64_t copy = linear_input_bytes(rows_ * width);
    t.bytes = a.fused ? t.bytes + copy : copy;
  }
  const double scores = double(heads) * double(rows_) * layout_.seq;
  if (a.fused) {
    const double half = a.causal ? 0.5 : 1.0;
    t.regenerate = {.attention_flops = 2.0 * scores * (a.head_dim + a.value_dim) * half,
                    .kernels = 1};
  } else {
    t.regenerate = {.gemm_flops = 2.0 * scores * a.value_dim, .kernels = 1};
  }
  add(std::move(t));
  if (a.fused) add_statistic("lse", "attn_out", rows_, heads * 4);
}

// The projection, and the residual stream behind it.
void InventoryBuilder::add_attention_output() {
  const uint64_t width = model_.attention.heads / layout_.tp * uint64_t{model_.attention.value_dim};
  add_dropout_mask("attn_residual_mask", "attn_dropout");
  SavedTensor t = activation("x_mid", "attn_proj", "mlp_norm", split_rows_, model_.hidden);
  t.replicated = !layout_.sp && layout_.tp > 1;
  t.regenerate = gemm(double(rows_), double(width), model_.hidden);
  t.regenerate += stream(2.0 * double(split_rows_) * model_.hidden);
  t.regenerate.tp_bytes = reduce_bytes(model_.hidden);
  add(std::move(t));
}

}  // namespace rc::plan
