// kernels/cpu/attention.h: one tile of queries of one head, as passed to the vector code.
#pragma once

#include <cstdint>

#include "kernels/cpu/launch.h"

namespace rc::cpu {

// 96 queries by 128 keys at head size 128: q, k, v, scores and sums take 0.3 MiB of a second-level
// cache. The plain kernel holds whole rows of scores and therefore fewer queries.
inline constexpr int64_t kFusedQueries = 96, kPlainQueries = 48, kKeyTile = 128;

struct AttentionTile {
  const Tensor* q;
  const Tensor* k;
  const Tensor* v;
  const Tensor* o;      // data null: only the saved tensor is wanted
  const Tensor* saved;  // probs or lse; null: not wanted
  float scale;
  bool causal;
  const DropoutRule* dropout;  // null: none
  int64_t batch, head, row, rows;

  // First element of a query's, key's, value's or output's row in the tile's head.
  int64_t q_at(int64_t s) const { return at(*q, head, s); }
  int64_t o_at(int64_t s) const { return at(*o, head, s); }
  int64_t k_at(int64_t t) const { return at(*k, kv_head(), t); }
  int64_t v_at(int64_t t) const { return at(*v, kv_head(), t); }
  int64_t queries() const { return q->shape[2]; }
  int64_t keys() const { return k->shape[2]; }
  // How many keys query s sees.
  int64_t seen(int64_t s) const {
    if (!causal) return keys();
    const int64_t n = s + keys() - queries() + 1;
    return n < 0 ? 0 : n;
  }
  // Index of the probability of (s, key 0) in the order that arith/philox.h counts.
  int64_t element(int64_t s) const {
    return ((batch * q->shape[1] + head) * queries() + s) * keys();
  }

 private:
  int64_t at(const Tensor& t, int64_t h, int64_t i) const {
    return batch * t.stride[0] + h * t.stride[1] + i * t.stride[2];
  }
  int64_t kv_head() const { return head / (q->shape[1] / k->shape[1]); }
};

// Runs `kernel` on all tiles of `queries` rows.
void run_attention(void (*kernel)(const AttentionTile&), int64_t queries, const KernelDesc& desc,
                   const KernelArgs& args, PhiloxRecord philox, Parallel& parallel);

}  // namespace rc::cpu
