// src/plan/inventory.h: the saved tensors of a layer: bytes, who holds them, what regenerates them.
//
// Bytes and work are those of one microbatch on one rank. The entries reproduce, tensor by tensor,
//   Korthikanti et al., arXiv 2205.05198, equations 1 to 6 (GPT; section 4.1 has the parts), and
//   arXiv 2603.07685 (DeepSeek-V3 as Megatron-Core holds it).
// What published sums leave out (softmax statistics, the norms' reciprocal deviations, the
// router's choice) has an entry of its own, marked as a statistic.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "include/rcore/rcore.h"
#include "src/plan/layout.h"

namespace rc::plan {

// What a computation asks of one rank. Doubles: a 1M-token layer passes 2^53 only beyond exaflops.
struct Work {
  double gemm_flops = 0;       // multiply and add count as two
  double attention_flops = 0;  // in a fused kernel
  double hbm_bytes = 0;        // of memory-bound kernels, read and written
  double tp_bytes = 0;         // received over the tensor-parallel link
  double ep_bytes = 0;         // received over the expert-parallel link
  int kernels = 0;             // launches
  Work& operator+=(const Work& other);
};

struct SavedTensor {
  std::string name;  // unique in the layer
  // Where a policy meets it: the module that makes it and the slot there...
  std::string kind, slot;
  rc_role role = RC_ROLE_OUTPUT;
  // ...and the module whose input it is, for rules that offload inputs; may be empty.
  std::string consumer;
  // Enclosing modules that drop it when they are recomputed as a whole: mlp, moe, shared_experts,
  // core_attn. Every tensor but the layer's input lies in `layer`.
  std::string inside;
  uint64_t bytes = 0;
  uint64_t rows = 0;       // tokens it has here: where it may be cut
  bool statistic = false;  // not in published sums
  std::string owner;       // a statistic that is dropped and regenerated with another tensor
  bool can_recompute = true;
  bool row_local = false;   // any rows can be regenerated alone, bit by bit the same
  bool replicated = false;  // each rank of the tensor-parallel group has the same bytes
  bool linear_input = false;
  Work regenerate;  // from its direct inputs alone
};

// Runs when a module is replayed as a whole though its output is not needed: the last GEMM and
// what is behind it. rcore leaves it out, a checkpoint that runs to its end does not.
struct Tail {
  std::string inside;
  Work work;
};

struct LayerInventory {
  bool moe = false;
  std::vector<SavedTensor> tensors;
  std::vector<Tail> tails;
  uint64_t gradient_bytes = 0;  // largest pair of activation gradients live at once in backward

  // Without statistics, as papers count it.
  uint64_t published_bytes() const;
  uint64_t total_bytes() const;
  const SavedTensor* find(std::string_view name) const;
  // Everything a forward pass of the layer does.
  Work forward() const;
};

LayerInventory make_inventory(const Architecture& architecture, const Layout& layout, bool moe);

// Beside the layers (section 4.2 of arXiv 2205.05198), per microbatch: the embedding's dropout mask
// on the first stage; the final norm, the projection's input and the logits in 32 bits on the last.
uint64_t embedding_bytes(const Architecture& architecture, const Layout& layout);
uint64_t head_bytes(const Architecture& architecture, const Layout& layout);

}  // namespace rc::plan
