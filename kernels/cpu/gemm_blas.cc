// kernels/cpu/gemm_blas.cc: cblas_sgemm held to one thread.
#include "kernels/cpu/gemm.h"

#if defined(RC_WITH_BLAS)
#include <cblas.h>

#include <mutex>

// Present in OpenBLAS only; absent symbols of another BLAS read as null.
extern "C" {
[[gnu::weak]] int openblas_get_num_threads(void);
[[gnu::weak]] void openblas_set_num_threads(int);
}

namespace rc::cpu {
namespace {
std::mutex blas_mutex;
}

bool have_blas() {
  return true;
}

void blas_sgemm(int64_t m, int64_t n, int64_t k, const float* x, int64_t ldx, const float* w,
                int64_t ldw, float* y, int64_t ldy, bool add) {
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<int>(m), static_cast<int>(n),
              static_cast<int>(k), 1.0f, x, static_cast<int>(ldx), w, static_cast<int>(ldw),
              add ? 1.0f : 0.0f, y, static_cast<int>(ldy));
}

BlasOneThread::BlasOneThread() {
  blas_mutex.lock();
  if (openblas_get_num_threads && openblas_set_num_threads) {
    before_ = openblas_get_num_threads();
    if (before_ != 1) openblas_set_num_threads(1);
  }
}

BlasOneThread::~BlasOneThread() {
  if (before_ > 1) openblas_set_num_threads(before_);
  blas_mutex.unlock();
}

}  // namespace rc::cpu

#else

namespace rc::cpu {

bool have_blas() {
  return false;
}
void blas_sgemm(int64_t, int64_t, int64_t, const float*, int64_t, const float*, int64_t, float*,
                int64_t, bool) {}
BlasOneThread::BlasOneThread() = default;
BlasOneThread::~BlasOneThread() = default;

}  // namespace rc::cpu
#endif
