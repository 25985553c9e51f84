// src/plan/inventory_builder.h: InventoryBuilder, one layer's tensors written down in forward
// order.
#pragma once

#include "src/plan/inventory.h"

namespace rc::plan {

class InventoryBuilder {
 public:
  InventoryBuilder(const Architecture& architecture, const Layout& layout, bool moe);
  LayerInventory build();

 private:
  SavedTensor& add(SavedTensor tensor);
  // A tensor of `rows` tokens and `width` elements each, in the model's precision.
  SavedTensor activation(const char* name, const char* kind, const char* consumer, uint64_t rows,
                         uint64_t width) const;
  void add_statistic(const char* name, const char* owner, uint64_t rows, uint64_t bytes_per_row);
  void add_tail(const char* inside, const Work& work) { layer_.tails.push_back({inside, work}); }
  // As a GEMM saves its input: quantised where the layout says FP8.
  uint64_t linear_input_bytes(uint64_t elements) const;
  Work gemm(double rows, double in, double out) const;
  Work stream(double elements) const;
  // The collective before a column-parallel and behind a row-parallel GEMM.
  double gather_bytes(double width) const;
  double reduce_bytes(double width) const;

  void add_norm(const char* name, const char* kind, const char* consumer);
  void add_dropout_mask(const char* name, const char* kind);
  void add_grouped_projections();
  void add_latent_projections();
  void add_core_attention();
  void add_fused_attention();
  void add_scores();
  void add_attention_output();
  // The activation function's output of `width` columns, from `into` of the first linear.
  void add_activated(SavedTensor act, uint64_t rows, uint64_t into, uint64_t width);
  void add_mlp();
  void add_experts();
  void add_shared_experts();

  const Architecture& model_;
  const Layout& layout_;
  const double element_;
  const uint64_t rows_;        // tokens before the split over the sequence
  const uint64_t split_rows_;  // and after it
  LayerInventory layer_;
};

}  // namespace rc::plan
