// kernels/cpu/up_projection.cc: y = x w^T + bias, float32 sums for both dtypes.
//
// Measured on one AVX-512 core, 768 x 1024 x 1024: 1.02 times the rate of cblas_sgemm (OpenBLAS
// 0.3.21, one thread), alternated in one process by kernels_bench.
#include <algorithm>

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/launch.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/simd.h"
#include "kernels/select.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/up_projection.cc"
#include "hwy/foreach_target.h"
//
#include "kernels/cpu/gemm-inl.h"

#ifndef RC_KERNELS_CPU_UP_PROJECTION_TILE
#define RC_KERNELS_CPU_UP_PROJECTION_TILE
namespace rc::cpu {
// A task's tile of y and the depth of one step along k. A (204 KiB), B (256 KiB) and C (192 KiB)
// share a second-level cache of 1 MiB. The cut follows the shape alone.
inline constexpr int64_t kTileRows = 192, kTileCols = 256, kTileDepth = 256;

struct ProjectionTile {
  const Tensor* x;
  const Tensor* w;
  const Tensor* y;
  const void* bias;  // null: none
  bool bias_f32;
  bool blas;
  int64_t row, rows, col, cols;
};
}  // namespace rc::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace rc {
namespace HWY_NAMESPACE {

// Rows of x or w from `row` on; they may have any stride, also rows that no single stride connects.
template <class IO>
HWY_INLINE void pack_x(const Tensor& x, int64_t row, int64_t rows, int64_t depth, int64_t k,
                       float* dst, int64_t ld) {
  using T = typename IO::T;
  for (int64_t r = 0; r < rows; ++r) {
    // One row at a time: pack_a would pad each with zero rows, hence the plain widening copy.
    widen_row<IO>(static_cast<const T*>(x.data) + x.row_offset(row + r) + depth, k, dst + r * ld);
  }
  for (int64_t r = rows; r < pad_to(rows, kRowPad); ++r) {
    std::memset(dst + r * ld, 0, static_cast<size_t>(k) * sizeof(float));
  }
}

// y rows from the float32 tile.
template <class IO>
HWY_INLINE void store_tile(const cpu::ProjectionTile& t, const float* c, int64_t ldc) {
  using T = typename IO::T;
  const int64_t N = lanes();
  float* bias = cpu::scratch<3>(cpu::kTileCols);
  if (t.bias && t.bias_f32) {
    widen_row<F32>(static_cast<const float*>(t.bias) + t.col, t.cols, bias);
  } else if (t.bias) {
    widen_row<BF16>(static_cast<const uint16_t*>(t.bias) + t.col, t.cols, bias);
  } else {
    // x + (-0) is x for every x, so rows without a bias keep their bits.
    std::fill(bias, bias + t.cols, -0.0f);
  }
  for (int64_t r = 0; r < t.rows; ++r) {
    T* y = static_cast<T*>(t.y->data) + t.y->row_offset(t.row + r) + t.col;
    const float* from = c + r * ldc;
    int64_t j = 0;
    for (; j + N <= t.cols; j += N)
      IO::store(hn::Add(F32::load(from + j), F32::load(bias + j)), y + j);
    const int64_t k = t.cols - j;
    if (k > 0) {
      store_part<IO>(hn::Add(load_part<F32>(from + j, k), load_part<F32>(bias + j, k)), y + j, k);
    }
  }
}

template <class IO>
void projection_tile(const cpu::ProjectionTile& t) {
  using T = typename IO::T;
  const int64_t K = t.x->cols(), lda = cpu::kTileDepth + kStridePad;
  float* a = cpu::scratch<0>(cpu::kTileRows * lda);
  float* b = cpu::scratch<1>(cpu::kTileCols * cpu::kTileDepth);
  float* c = cpu::scratch<2>(cpu::kTileRows * cpu::kTileCols);
  const int64_t w_stride = t.w->stride[0];
  if (K == 0) std::fill(c, c + cpu::kTileRows * cpu::kTileCols, 0.0f);
  for (int64_t p = 0; p < K; p += cpu::kTileDepth) {
    const int64_t k = std::min(cpu::kTileDepth, K - p);
    const T* w = static_cast<const T*>(t.w->data) + t.col * w_stride + p;
    pack_x<IO>(*t.x, t.row, t.rows, p, k, a, lda);
    if (t.blas) {
      // The same panels through the BLAS: its sums over a panel, ours across panels.
      float* wide = b;
      for (int64_t j = 0; j < t.cols; ++j)
        widen_row<IO>(w + j * w_stride, k, wide + j * cpu::kTileDepth);
      cpu::blas_sgemm(t.rows, t.cols, k, a, lda, wide, cpu::kTileDepth, c, cpu::kTileCols, p > 0);
    } else {
      pack_b_transposed<IO>(w, w_stride, k, t.cols, b);
      multiply_tile(a, lda, b, t.rows, t.cols, k, c, cpu::kTileCols, p > 0);
    }
  }
  store_tile<IO>(t, c, cpu::kTileCols);
}

void projection_f32(const cpu::ProjectionTile& t) {
  projection_tile<F32>(t);
}
void projection_bf16(const cpu::ProjectionTile& t) {
  projection_tile<BF16>(t);
}

}  // namespace HWY_NAMESPACE
}  // namespace rc
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <optional>

namespace rc::cpu {

void up_projection(const KernelDesc& desc, const KernelArgs& args, Parallel& parallel) {
  const Tensor &x = args.inputs[0], &w = args.params[0], &y = args.outputs[0];
  if (!y.data) return;
  const int64_t M = x.rows(), N = w.shape[0];
  const bool blas = select_gemm(desc.blas, have_blas()).kind == GemmKind::blas;
  const auto tile_kernel = RC_PICK_KERNEL(projection, x.dtype);
  ProjectionTile all{&x, &w, &y, nullptr, false, blas, 0, 0, 0, 0};
  if (args.params.size() > 1) {
    all.bias = args.params[1].data;
    all.bias_f32 = args.params[1].dtype == DType::f32;
  }
  const int64_t down = (M + kTileRows - 1) / kTileRows, across = (N + kTileCols - 1) / kTileCols;
  std::optional<BlasOneThread> one_thread;
  if (blas) one_thread.emplace();
  run_tasks(parallel, down * across, [&](int64_t task) {
    ProjectionTile t = all;
    t.row = task % down * kTileRows;
    t.rows = std::min(kTileRows, M - t.row);
    t.col = task / down * kTileCols;
    t.cols = std::min(kTileCols, N - t.col);
    tile_kernel(t);
  });
}

}  // namespace rc::cpu
#endif
