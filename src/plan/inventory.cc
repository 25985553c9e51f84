// src/plan/inventory.cc: a layer from its parts, and sums over it.
#include "src/plan/inventory.h"

#include <algorithm>

#include "src/plan/inventory_builder.h"

namespace rc::plan {

Work& Work::operator+=(const Work& other) {
  gemm_flops += other.gemm_flops;
  attention_flops += other.attention_flops;
  hbm_bytes += other.hbm_bytes;
  tp_bytes += other.tp_bytes;
  ep_bytes += other.ep_bytes;
  kernels += other.kernels;
  return *this;
}

uint64_t LayerInventory::published_bytes() const {
  uint64_t sum = 0;
  for (const SavedTensor& t : tensors) sum += t.statistic ? 0 : t.bytes;
  return sum;
}

uint64_t LayerInventory::total_bytes() const {
  uint64_t sum = 0;
  for (const SavedTensor& t : tensors) sum += t.bytes;
  return sum;
}

const SavedTensor* LayerInventory::find(std::string_view name) const {
  for (const SavedTensor& t : tensors) {
    if (t.name == name) return &t;
  }
  return nullptr;
}

Work LayerInventory::forward() const {
  Work sum;
  for (const SavedTensor& t : tensors) sum += t.regenerate;
  for (const Tail& t : tails) sum += t.work;
  return sum;
}

LayerInventory make_inventory(const Architecture& architecture, const Layout& layout, bool moe) {
  return InventoryBuilder(architecture, layout, moe).build();
}

uint64_t embedding_bytes(const Architecture& m, const Layout& l) {
  return m.hidden_dropout > 0 ? l.split_tokens() * m.hidden : 0;
}

uint64_t head_bytes(const Architecture& m, const Layout& l) {
  const uint64_t hidden = l.split_tokens() * m.hidden * m.element_bytes;
  return 2 * hidden + l.tokens() * m.vocab / l.tp * 4;
}

// ---- the builder's tools

InventoryBuilder::InventoryBuilder(const Architecture& architecture, const Layout& layout, bool moe)
    : model_(architecture),
      layout_(layout),
      element_(architecture.element_bytes),
      rows_(layout.tokens()),
      split_rows_(layout.split_tokens()) {
  layer_.moe = moe;
}

SavedTensor& InventoryBuilder::add(SavedTensor tensor) {
  return layer_.tensors.emplace_back(std::move(tensor));
}

SavedTensor InventoryBuilder::activation(const char* name, const char* kind, const char* consumer,
                                         uint64_t rows, uint64_t width) const {
  SavedTensor t;
  t.name = name;
  t.kind = kind;
  t.slot = "out";
  t.consumer = consumer;
  t.rows = rows;
  t.bytes = rows * width * model_.element_bytes;
  return t;
}

void InventoryBuilder::add_statistic(const char* name, const char* owner, uint64_t rows,
                                     uint64_t bytes_per_row) {
  const SavedTensor* its = layer_.find(owner);
  SavedTensor t;
  t.name = t.slot = name;
  t.kind = its ? its->kind : "moe";
  t.inside = its ? its->inside : "moe";
  t.role = RC_ROLE_SAVED;
  t.rows = rows;
  t.bytes = rows * bytes_per_row;
  t.statistic = true;
  t.owner = owner;
  t.can_recompute = its != nullptr;
  add(std::move(t));
}

uint64_t InventoryBuilder::linear_input_bytes(uint64_t elements) const {
  switch (layout_.fp8) {
    case RC_FP8_OFF:
    case RC_FP8_FORCE32:
      return elements * model_.element_bytes;
    case RC_FP8_DELAYED:
    case RC_FP8_TENSORWISE:
      return elements;
    case RC_FP8_BLOCKWISE:  // one 32-bit scale for 128 elements
      return elements + elements / 128 * 4;
    case RC_FP8_MXFP8:  // one 8-bit scale for 32 elements
      return elements + elements / 32;
  }
  return elements * model_.element_bytes;
}

Work InventoryBuilder::gemm(double rows, double in, double out) const {
  return {.gemm_flops = 2 * rows * in * out, .kernels = 1};
}

Work InventoryBuilder::stream(double elements) const {
  return {.hbm_bytes = elements * element_, .kernels = 1};
}

double InventoryBuilder::gather_bytes(double width) const {
  if (!layout_.sp) return 0;
  return double(rows_) * width * element_ * (layout_.tp - 1) / layout_.tp;
}

double InventoryBuilder::reduce_bytes(double width) const {
  // An all-reduce is a reduce-scatter and an all-gather.
  return double(rows_) * width * element_ * (layout_.tp - 1) / layout_.tp * (layout_.sp ? 1 : 2);
}

LayerInventory InventoryBuilder::build() {
  SavedTensor x = activation("x_in", "layer", "attn_norm", split_rows_, model_.hidden);
  x.slot = "in";
  x.role = RC_ROLE_INPUT;
  x.can_recompute = false;
  x.replicated = !layout_.sp && layout_.tp > 1;
  add(std::move(x));
  add_norm("ln1", "attn_norm", "qkv_linear");
  if (model_.attention.kind == AttentionKind::kLatent)
    add_latent_projections();
  else
    add_grouped_projections();
  add_core_attention();
  add_attention_output();
  add_norm("ln2", "mlp_norm", layer_.moe ? "moe" : "mlp");
  if (layer_.moe)
    add_experts();
  else
    add_mlp();

  // The residual addition behind the layer's last GEMM.
  add_tail("layer", stream(2.0 * double(split_rows_) * model_.hidden));
  uint64_t widest = 0, second = 0;
  for (const SavedTensor& t : layer_.tensors) {
    if (t.statistic) continue;
    second = std::max(second, std::min(widest, t.bytes));
    widest = std::max(widest, t.bytes);
  }
  layer_.gradient_bytes = widest + second;
  return std::move(layer_);
}

}  // namespace rc::plan
