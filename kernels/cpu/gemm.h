// kernels/cpu/gemm.h: the up-projection's GEMM by a BLAS, where the build has one.
#pragma once

#include <cstdint>

namespace rc::cpu {

bool have_blas();

// y[m,n] = (or, with add, +=) x[m,k] w[n,k]^T in float32, row-major, leading dimensions in
// elements, by cblas_sgemm on the calling thread alone. OpenBLAS offers no per-thread thread count
// (its openblas_set_num_threads_local, from 0.3.27 on, sets the process's), so BlasOneThread below
// must be alive around all calls.
void blas_sgemm(int64_t m, int64_t n, int64_t k, const float* x, int64_t ldx, const float* w,
                int64_t ldw, float* y, int64_t ldy, bool add);

// Sets the BLAS's thread count to one and puts the previous count back, under a lock of this
// library. The count is the process's: while this lives, the host's own BLAS calls run on one
// thread too. That is why this path is used only where the descriptor asks for it.
class BlasOneThread {
 public:
  BlasOneThread();
  ~BlasOneThread();
  BlasOneThread(const BlasOneThread&) = delete;
  BlasOneThread& operator=(const BlasOneThread&) = delete;

 private:
  [[maybe_unused]] int before_ = 0;  // where there is a BLAS
};

}  // namespace rc::cpu
