// kernels/cpu/gemm-inl.h: packed float32 matrix tiles for the up-projection and both attentions.
//
// C[m,n] (+)= A[m,k] B[k,n] on packed tiles, after Goto and van de Geijn ("Anatomy of
// high-performance matrix multiplication", ACM TOMS 34, 2008). A is rows of float32 with a padded
// stride, B is panels of kNR() columns, [panel][k][kNR]. bfloat16 is widened to float32 while it is
// packed. Every element of C is summed over k in one order, whatever its place in a tile, so the
// bits of a row do not depend on the other rows.
#if defined(RC_KERNELS_CPU_GEMM_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef RC_KERNELS_CPU_GEMM_INL_H
#undef RC_KERNELS_CPU_GEMM_INL_H
#else
#define RC_KERNELS_CPU_GEMM_INL_H
#endif

#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace rc {
namespace HWY_NAMESPACE {

// Rows in registers: 2 * kMR sums + 2 of B + 1 of A, out of 32 vector registers or 16.
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_SSE4 || HWY_TARGET == HWY_SCALAR
inline constexpr int kMR = 6;
#else
inline constexpr int kMR = 12;
#endif
// Tile rows are padded to this, a multiple of every kMR.
inline constexpr int64_t kRowPad = 12;
// Floats behind each packed row of A: strides of 2^n bytes would put all rows into one cache set.
inline constexpr int64_t kStridePad = 16;

HWY_INLINE int64_t panel_cols() {
  return 2 * lanes();
}
HWY_INLINE int64_t pad_to(int64_t n, int64_t unit) {
  return (n + unit - 1) / unit * unit;
}

template <class IO>
HWY_INLINE void widen_row(const typename IO::T* in, int64_t n, float* out) {
  const int64_t N = lanes();
  int64_t i = 0;
  for (; i + N <= n; i += N) F32::store(IO::load(in + i), out + i);
  if (i < n) store_part<F32>(load_part<IO>(in + i, n - i), out + i, n - i);
}

// A: m rows of k elements -> dst rows with stride ld; rows up to the next kRowPad become zero.
template <class IO>
HWY_INLINE void pack_a(const typename IO::T* a, int64_t stride, int64_t m, int64_t k, float* dst,
                       int64_t ld) {
  for (int64_t i = 0; i < m; ++i, a += stride, dst += ld) widen_row<IO>(a, k, dst);
  for (int64_t i = m; i < pad_to(m, kRowPad); ++i, dst += ld) {
    std::memset(dst, 0, static_cast<size_t>(k) * sizeof(float));
  }
}

// B from k rows of n elements (row p is B's row p).
template <class IO>
HWY_INLINE void pack_b(const typename IO::T* b, int64_t stride, int64_t k, int64_t n, float* dst) {
  const int64_t N = lanes(), NR = panel_cols();
  for (int64_t j = 0; j < n; j += NR) {
    const int64_t first = n - j < N ? n - j : N;
    const int64_t second = n - j - first < N ? n - j - first : N;
    for (int64_t p = 0; p < k; ++p, dst += NR) {
      const typename IO::T* row = b + p * stride + j;
      F32::store(first == N ? IO::load(row) : load_part<IO>(row, first), dst);
      F32::store(second == N ? IO::load(row + N) : load_part<IO>(row + first, second), dst + N);
    }
  }
}

#if HWY_TARGET != HWY_SCALAR
using D4 = hn::FixedTag<float, 4>;
using D2 = hn::FixedTag<double, 2>;
HWY_INLINE hn::Vec<D4> load4(const float* p) {
  return hn::LoadU(D4(), p);
}
HWY_INLINE hn::Vec<D4> load4(const uint16_t* p) {
  const auto wide =
      hn::PromoteTo(hn::FixedTag<uint32_t, 4>(), hn::LoadU(hn::FixedTag<uint16_t, 4>(), p));
  return hn::BitCast(D4(), hn::ShiftLeft<16>(wide));
}
// dst[p][0..4) = b[0..4)[p] for p < 4.
template <class T>
HWY_INLINE void transpose4(const T* b, int64_t stride, float* dst, int64_t ld) {
  const auto r0 = load4(b), r1 = load4(b + stride);
  const auto r2 = load4(b + 2 * stride), r3 = load4(b + 3 * stride);
  const auto a0 = hn::BitCast(D2(), hn::InterleaveLower(D4(), r0, r1));
  const auto a1 = hn::BitCast(D2(), hn::InterleaveUpper(D4(), r0, r1));
  const auto b0 = hn::BitCast(D2(), hn::InterleaveLower(D4(), r2, r3));
  const auto b1 = hn::BitCast(D2(), hn::InterleaveUpper(D4(), r2, r3));
  hn::StoreU(hn::BitCast(D4(), hn::InterleaveLower(D2(), a0, b0)), D4(), dst);
  hn::StoreU(hn::BitCast(D4(), hn::InterleaveUpper(D2(), a0, b0)), D4(), dst + ld);
  hn::StoreU(hn::BitCast(D4(), hn::InterleaveLower(D2(), a1, b1)), D4(), dst + 2 * ld);
  hn::StoreU(hn::BitCast(D4(), hn::InterleaveUpper(D2(), a1, b1)), D4(), dst + 3 * ld);
}
#endif

// B from n rows of k elements (row j is B's column j): B^T is what lies in memory.
template <class IO>
HWY_INLINE void pack_b_transposed(const typename IO::T* b, int64_t stride, int64_t k, int64_t n,
                                  float* dst) {
  const int64_t NR = panel_cols();
  for (int64_t j = 0; j < n; j += NR, dst += k * NR) {
    for (int64_t c = 0; c < NR;) {
      const typename IO::T* col = b + (j + c) * stride;
      int64_t p = 0;
#if HWY_TARGET != HWY_SCALAR
      if (j + c + 4 <= n) {
        for (; p + 4 <= k; p += 4) transpose4(col + p, stride, dst + p * NR + c, NR);
        for (; p < k; ++p) {
          for (int64_t q = 0; q < 4; ++q) dst[p * NR + c + q] = widen_one(col[q * stride + p]);
        }
        c += 4;
        continue;
      }
#endif
      const bool inside = j + c < n;
      for (; p < k; ++p) dst[p * NR + c] = inside ? widen_one(col[p]) : 0.0f;
      ++c;
    }
  }
}

// kMR rows by one panel. `add`: onto what C holds.
HWY_INLINE void multiply_block(const float* a, int64_t lda, const float* b, int64_t k, float* c,
                               int64_t ldc, bool add) {
  const int64_t N = lanes(), NR = panel_cols();
  VF s0[kMR], s1[kMR];  // in registers only if the loops over rows are unrolled
  RC_UNROLL
  for (int i = 0; i < kMR; ++i) s0[i] = s1[i] = hn::Zero(DF());
  for (int64_t p = 0; p < k; ++p, b += NR) {
    const VF b0 = hn::LoadU(DF(), b), b1 = hn::LoadU(DF(), b + N);
    RC_UNROLL
    for (int i = 0; i < kMR; ++i) {
      const VF v = hn::Set(DF(), a[i * lda + p]);
      s0[i] = hn::MulAdd(v, b0, s0[i]);
      s1[i] = hn::MulAdd(v, b1, s1[i]);
    }
  }
  RC_UNROLL
  for (int i = 0; i < kMR; ++i, c += ldc) {
    F32::store(add ? hn::Add(F32::load(c), s0[i]) : s0[i], c);
    F32::store(add ? hn::Add(F32::load(c + N), s1[i]) : s1[i], c + N);
  }
}

// C[m,n] = or += A B; m is padded to kRowPad and n to panel_cols() in all three buffers.
HWY_INLINE void multiply_tile(const float* a, int64_t lda, const float* b, int64_t m, int64_t n,
                              int64_t k, float* c, int64_t ldc, bool add) {
  const int64_t NR = panel_cols();
  for (int64_t j = 0; j < n; j += NR, b += k * NR) {
    for (int64_t i = 0; i < m; i += kMR) {
      multiply_block(a + i * lda, lda, b, k, c + i * ldc + j, ldc, add);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace rc
HWY_AFTER_NAMESPACE();

#endif  // per-target guard
