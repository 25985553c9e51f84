// kernels/cpu/softmax.cc: softmax over the last dimension, with an optional causal limit.
//
// Three passes over a row that stays in the first caches: maximum, exponentials and their sum into
// float32 scratch, division. The maximum is subtracted first, so that no exponential overflows.
#include <algorithm>

#include "kernels/cpu/launch.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/simd.h"
#include "kernels/select.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/softmax.cc"
#include "hwy/foreach_target.h"
//
#include "kernels/cpu/softmax-inl.h"

HWY_BEFORE_NAMESPACE();
namespace rc {
namespace HWY_NAMESPACE {

// One row of n elements of which the first `seen` take part.
template <class IO>
void softmax_row(const void* x_void, void* y_void, int64_t n, int64_t seen, float scale, bool stream) {
  using T = typename IO::T;
  const T* x = static_cast<const T*>(x_void);
  T* y = static_cast<T*>(y_void);
  float* e = cpu::scratch<0>(n);
  const float max = row_max<IO>(x, seen, scale);
  const float sum = exp_row<IO>(x, e, seen, scale, max);
  std::fill(e + seen, e + n, 0.0f);
  scale_to<IO>(e, y, n, seen > 0 ? 1.0f / sum : 0.0f, stream);
  if (stream) hwy::FlushStream();
}

void softmax_f32(const void* x, void* y, int64_t n, int64_t seen, float scale, bool stream) {
  softmax_row<F32>(x, y, n, seen, scale, stream);
}
void softmax_bf16(const void* x, void* y, int64_t n, int64_t seen, float scale, bool stream) {
  softmax_row<BF16>(x, y, n, seen, scale, stream);
}

}  // namespace HWY_NAMESPACE
}  // namespace rc
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rc::cpu {

void softmax(const KernelDesc& desc, const KernelArgs& args, Parallel& parallel) {
  const Tensor &x = args.inputs[0], &y = args.outputs[0];
  const int64_t rows = x.rows(), cols = x.cols(), unit = dtype_bytes(x.dtype);
  if (!y.data || rows == 0 || cols == 0) return;
  const auto row_kernel = x.dtype == DType::f32 ? RC_PICK_SIMD(softmax_f32) : RC_PICK_SIMD(softmax_bf16);
  const float scale = desc.scale != 0 ? desc.scale : 1.0f;
  const bool stream = select_store(rows * cols * unit, cols * unit).kind == StoreKind::streaming;
  const int64_t queries = x.ndim > 1 ? x.shape[x.ndim - 2] : 1;
  const int64_t block = std::max<int64_t>(1, 64 * 1024 / cols);
  run_tasks(parallel, (rows + block - 1) / block, [&](int64_t task) {
    for (int64_t r = task * block; r < std::min(rows, (task + 1) * block); ++r) {
      const int64_t seen =
          desc.causal ? std::clamp<int64_t>(r % queries + cols - queries + 1, 0, cols) : cols;
      row_kernel(static_cast<const char*>(x.data) + x.row_offset(r) * unit,
                 static_cast<char*>(y.data) + y.row_offset(r) * unit, cols, seen, scale, stream);
    }
  });
}

}  // namespace rc::cpu
#endif
