// kernels/cpu/norm.cc: the cut of a norm into blocks of rows.
#include "kernels/cpu/norm.h"

#include <algorithm>

#include "kernels/select.h"

namespace rc::cpu {

void run_norm(void (*rows)(const NormRows&), const KernelDesc& desc, const KernelArgs& args,
              Parallel& parallel) {
  const Tensor &x = args.inputs[0], &y = args.outputs[0];
  const bool layernorm = desc.kind == KernelKind::layernorm;
  NormRows all{};
  all.x = &x;
  all.y = &y;
  all.epsilon = desc.epsilon > 0 ? desc.epsilon : 1e-5f;
  all.gamma_plus = desc.zero_centered_gamma ? 1.0f : 0.0f;
  if (args.params.size() > 0) {
    all.gamma = args.params[0].data;
    all.gamma_f32 = args.params[0].dtype == DType::f32;
  }
  if (args.params.size() > 1) {
    all.beta = args.params[1].data;
    all.beta_f32 = args.params[1].dtype == DType::f32;
  }
  const size_t rstd_at = layernorm ? 1 : 0;
  if (layernorm && args.saved.size() > 0) all.mean = static_cast<float*>(args.saved[0].data);
  if (args.saved.size() > rstd_at) all.rstd = static_cast<float*>(args.saved[rstd_at].data);
  if (!y.data && !all.mean && !all.rstd) return;

  const int64_t n_rows = x.rows(), cols = x.cols();
  const int64_t row_bytes = cols * dtype_bytes(x.dtype);
  all.stream = y.data && select_store(n_rows * row_bytes, row_bytes).kind == StoreKind::streaming;
  // 16 rows at least where there are so many, since a task may widen gamma and beta first.
  const int64_t block = std::max<int64_t>(16, 64 * 1024 / std::max<int64_t>(1, cols));
  run_tasks(parallel, (n_rows + block - 1) / block, [&](int64_t task) {
    NormRows part = all;
    part.begin = task * block;
    part.end = std::min(n_rows, part.begin + block);
    rows(part);
  });
}

}  // namespace rc::cpu
