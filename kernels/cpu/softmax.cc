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

// y = e * factor, e in IO's pair order.
template <class IO>
HWY_INLINE void scale_pairs(const float* e, typename IO::T* y, int64_t n, float factor,
                            bool stream) {
  const VF f = hn::Set(DF(), factor);
  const int64_t N = lanes();
  int64_t i = 0;
  const bool aligned = stream && stream_head<IO>(y, n) == 0;
  for (; i + 2 * N <= n; i += 2 * N) {
    const VF a = hn::Mul(F32::load(e + i), f), b = hn::Mul(F32::load(e + i + N), f);
    if (aligned) {
      IO::stream2(a, b, y + i);
    } else {
      IO::store2(a, b, y + i);
    }
  }
  if (i < n) {
    store2_part<IO>(hn::Mul(F32::load(e + i), f), hn::Mul(F32::load(e + i + N), f), y + i, n - i);
  }
}

// One row of n elements of which the first `seen` take part; x_next is the row after it,
// or the row itself at the end of a task, where streaming stores are waited for.
template <class IO>
void softmax_row(const void* x_void, const void* x_next, void* y_void, int64_t n, int64_t seen,
                 float scale, bool stream) {
  using T = typename IO::T;
  const T* x = static_cast<const T*>(x_void);
  T* y = static_cast<T*>(y_void);
  float* e = cpu::scratch<0>(n + 2 * lanes());
  const float max = row_max<IO>(x, seen, scale);
  const float sum = exp_row<IO>(x, e, seen, scale, max, static_cast<const T*>(x_next));
  scale_pairs<IO>(e, y, seen, 1.0f / sum, stream);
  std::memset(y + seen, 0, static_cast<size_t>(n - seen) * sizeof(T));
  if (stream && x_next == x_void) hwy::FlushStream();
}

void softmax_f32(const void* x, const void* next, void* y, int64_t n, int64_t seen, float scale,
                 bool stream) {
  softmax_row<F32>(x, next, y, n, seen, scale, stream);
}
void softmax_bf16(const void* x, const void* next, void* y, int64_t n, int64_t seen, float scale,
                  bool stream) {
  softmax_row<BF16>(x, next, y, n, seen, scale, stream);
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
  const auto row_kernel = RC_PICK_KERNEL(softmax, x.dtype);
  const float scale = desc.scale != 0 ? desc.scale : 1.0f;
  const bool stream = select_store(rows * cols * unit, cols * unit).kind == StoreKind::streaming;
  const int64_t queries = x.ndim > 1 ? x.shape[x.ndim - 2] : 1;
  const int64_t block = std::max<int64_t>(1, 64 * 1024 / cols);
  run_tasks(parallel, (rows + block - 1) / block, [&](int64_t task) {
    const int64_t end = std::min(rows, (task + 1) * block);
    const auto x_row = [&](int64_t r) {
      return static_cast<const char*>(x.data) + x.row_offset(r) * unit;
    };
    for (int64_t r = task * block; r < end; ++r) {
      const int64_t seen =
          desc.causal ? std::clamp<int64_t>(r % queries + cols - queries + 1, 0, cols) : cols;
      row_kernel(x_row(r), x_row(r + 1 < end ? r + 1 : r),
                 static_cast<char*>(y.data) + y.row_offset(r) * unit, cols, seen, scale, stream);
    }
  });
}

}  // namespace rc::cpu
#endif
