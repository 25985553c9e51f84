// kernels/cpu/attention.cc: the cut of attention into tiles of queries.
#include "kernels/cpu/attention.h"

#include <algorithm>
#include <cmath>

namespace rc::cpu {

void run_attention(void (*kernel)(const AttentionTile&), int64_t queries, const KernelDesc& desc,
                   const KernelArgs& args, PhiloxRecord philox, Parallel& parallel) {
  const Tensor &q = args.inputs[0], &o = args.outputs[0];
  const bool save = !args.saved.empty() && args.saved[0].data;
  if (!o.data && !save) return;
  const DropoutRule rule = dropout_rule(philox, desc.dropout);
  AttentionTile all{};
  all.q = &q;
  all.k = &args.inputs[1];
  all.v = &args.inputs[2];
  all.o = &o;
  all.saved = save ? &args.saved[0] : nullptr;
  const int64_t D = std::max<int64_t>(1, q.shape[3]);
  all.scale = desc.scale != 0 ? desc.scale : 1.0f / std::sqrt(static_cast<float>(D));
  all.causal = desc.causal;
  all.dropout = desc.dropout > 0 ? &rule : nullptr;
  const int64_t B = q.shape[0], H = q.shape[1], S = q.shape[2];
  const int64_t tiles = (S + queries - 1) / queries;
  run_tasks(parallel, B * H * tiles, [&](int64_t task) {
    AttentionTile t = all;
    // Causal tiles grow with their row: the long ones first, so that none is left over at the end.
    t.row = (tiles - 1 - task / (B * H)) * queries;
    t.rows = std::min(queries, S - t.row);
    t.head = task % H;
    t.batch = task / H % B;
    kernel(t);
  });
}

}  // namespace rc::cpu
