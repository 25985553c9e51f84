// src/plan/inventory_mlp.cc: dense feed-forward layers and mixtures of experts, tensor by tensor.
#include "src/plan/inventory_builder.h"

namespace rc::plan {

void InventoryBuilder::add_activated(SavedTensor act, uint64_t rows, uint64_t into,
                                     uint64_t width) {
  act.bytes = linear_input_bytes(rows * width);
  act.linear_input = true;
  act.row_local = true;
  act.regenerate = stream(double(rows) * double(into + width));
  add(std::move(act));
}

void InventoryBuilder::add_mlp() {
  const uint64_t width = model_.ffn / layout_.tp, into = model_.gated ? 2 * width : width;
  SavedTensor fc1 = activation("fc1", "mlp", "mlp_act", rows_, into);
  fc1.slot = "fc1";
  fc1.role = RC_ROLE_SAVED;
  fc1.inside = "mlp";
  fc1.regenerate = gemm(double(rows_), model_.hidden, double(into));
  fc1.regenerate.tp_bytes = gather_bytes(model_.hidden);
  add(std::move(fc1));

  SavedTensor act = activation("act", "mlp_act", "", rows_, width);
  act.inside = "mlp";
  add_activated(std::move(act), rows_, into, width);

  Work tail = gemm(double(rows_), double(width), model_.hidden);
  tail.tp_bytes = reduce_bytes(model_.hidden);
  add_tail("mlp", tail);
  add_dropout_mask("mlp_residual_mask", "mlp_dropout");
}

// Balanced routing: each rank computes as many (token, expert) pairs as its own tokens ask for.
void InventoryBuilder::add_experts() {
  const Experts& e = model_.experts;
  const uint64_t etp = layout_.expert_tp(), pairs = split_rows_ * e.top_k, rows = pairs * etp;
  const uint64_t width = e.width / etp, into = model_.gated ? 2 * width : width;

  SavedTensor logits = activation("routing", "moe", "", split_rows_, 0);
  logits.slot = "routing";
  logits.role = RC_ROLE_DECISION;
  // Scores of every expert in 32 bits; the chosen experts and their weights.
  logits.bytes = split_rows_ * (uint64_t{e.count} * 4 + uint64_t{e.top_k} * 8);
  logits.statistic = true;
  logits.can_recompute = false;
  logits.regenerate = gemm(double(split_rows_), model_.hidden, e.count);
  add(std::move(logits));

  SavedTensor dispatched = activation("dispatched", "moe", "expert_fc1", rows, model_.hidden);
  dispatched.slot = "dispatched";
  dispatched.role = RC_ROLE_SAVED;
  dispatched.inside = "moe";
  dispatched.bytes = linear_input_bytes(rows * model_.hidden);
  dispatched.linear_input = true;
  dispatched.regenerate = stream(2.0 * double(rows) * model_.hidden);
  dispatched.regenerate.ep_bytes =
      double(pairs) * model_.hidden * element_ * (layout_.ep - 1) / layout_.ep;
  dispatched.regenerate.tp_bytes =
      double(rows) * model_.hidden * element_ * double(etp - 1) / double(etp);
  add(std::move(dispatched));

  SavedTensor fc1 = activation("expert_fc1", "expert_fc1", "moe_act", rows, into);
  fc1.inside = "moe";
  fc1.regenerate = gemm(double(rows), model_.hidden, double(into));
  add(std::move(fc1));

  SavedTensor act = activation("expert_act", "moe_act", "", rows, width);
  act.inside = "moe";
  add_activated(std::move(act), rows, into, width);

  Work tail = gemm(double(rows), double(width), model_.hidden);
  tail += stream(2.0 * double(pairs) * model_.hidden);
  tail.ep_bytes = double(pairs) * model_.hidden * element_ * (layout_.ep - 1) / layout_.ep;
  tail.tp_bytes = double(rows) * model_.hidden * element_ * double(etp - 1) / double(etp);
  if (e.weights_after_fc2) {
    SavedTensor out = activation("expert_out", "moe", "", pairs, model_.hidden);
    out.slot = "expert_out";
    out.role = RC_ROLE_SAVED;
    out.inside = "moe";
    out.regenerate = tail;
    add(std::move(out));
  } else {
    add_tail("moe", tail);
  }
  if (e.shared_width != 0) add_shared_experts();
}

void InventoryBuilder::add_shared_experts() {
  const uint64_t width = model_.experts.shared_width / layout_.tp;
  const uint64_t into = model_.gated ? 2 * width : width;
  auto saved = [&](const char* name, const char* slot, uint64_t columns) {
    SavedTensor t = activation(name, "shared_experts", "", rows_, columns);
    t.slot = slot;
    t.role = RC_ROLE_SAVED;
    t.inside = "shared_experts";
    return t;
  };
  SavedTensor fc1 = saved("shared_fc1", "fc1", into);
  fc1.regenerate = gemm(double(rows_), model_.hidden, double(into));
  fc1.regenerate.tp_bytes = gather_bytes(model_.hidden);
  add(std::move(fc1));
  add_activated(saved("shared_act", "act", width), rows_, into, width);
  Work tail = gemm(double(rows_), double(width), model_.hidden);
  tail.tp_bytes = reduce_bytes(model_.hidden);
  add_tail("shared_experts", tail);
}

}  // namespace rc::plan
