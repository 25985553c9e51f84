// kernels/cpu/launch.cc: the cut of element-wise work into tasks, and each task's environment.
#include "kernels/cpu/launch.h"

#include <algorithm>
#include <atomic>
#include <new>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include "kernels/select.h"

namespace rc::cpu {
namespace {

class DefaultFloatingPoint {
 public:
#if defined(__x86_64__)
  DefaultFloatingPoint() : before_(_mm_getcsr()) { _mm_setcsr(0x1F80); }
  ~DefaultFloatingPoint() { _mm_setcsr(before_); }

 private:
  unsigned before_;
#elif defined(__aarch64__)
  DefaultFloatingPoint() {
    asm volatile("mrs %0, fpcr" : "=r"(before_));
    asm volatile("msr fpcr, %0" ::"r"(uint64_t{0}));
  }
  ~DefaultFloatingPoint() { asm volatile("msr fpcr, %0" ::"r"(before_)); }

 private:
  uint64_t before_;
#endif
};

// Enough work to hide a wake-up (about 5 us), few enough bytes to balance well.
constexpr int64_t kTaskElements = 64 * 1024;

}  // namespace

void run_tasks(Parallel& parallel, int64_t n_tasks, FunctionRef<void(int64_t)> task) {
  if (n_tasks <= 0) return;
  std::atomic<bool> out_of_memory{false};
  parallel.run(n_tasks, [&](int64_t i) {
    [[maybe_unused]] const DefaultFloatingPoint scope;
    try {
      task(i);
    } catch (const std::bad_alloc&) {  // scratch; must not cross the host's threads
      out_of_memory.store(true, std::memory_order_relaxed);
    }
  });
  if (out_of_memory.load()) throw std::bad_alloc();
}

void run_elementwise(void (*kernel)(const Slice&), const Tensor& a, const Tensor& b,
                     const Tensor& out, const void* context, Parallel& parallel) {
  const int64_t total = out.elements();
  if (total == 0) return;
  const bool flat = a.contiguous() && b.contiguous() && out.contiguous();
  const int64_t cols = flat ? total : out.cols();
  const int64_t rows = total / cols;
  const int64_t pieces = (cols + kTaskElements - 1) / kTaskElements;
  const int64_t rows_per_task = pieces > 1 ? 1 : std::max<int64_t>(1, kTaskElements / cols);
  const int64_t unit = dtype_bytes(out.dtype);
  const bool stream = select_store(total * unit, cols * unit).kind == StoreKind::streaming;
  const auto at = [&](const Tensor& t, int64_t row, int64_t col) {
    return static_cast<char*>(t.data) + ((flat ? 0 : t.row_offset(row)) + col) * unit;
  };
  run_tasks(parallel, (rows + rows_per_task - 1) / rows_per_task * pieces, [&](int64_t task) {
    const int64_t col = task % pieces * kTaskElements;
    const int64_t n = std::min(kTaskElements, cols - col);
    const int64_t first_row = task / pieces * rows_per_task;
    const int64_t last_row = std::min(rows, first_row + rows_per_task);
    for (int64_t r = first_row; r < last_row; ++r) {
      kernel({at(a, r, col), at(b, r, col), at(out, r, col), n, r * cols + col, context, stream});
    }
  });
}

Tensor packed_half(const Tensor& x, int half) {
  Tensor t = x;
  t.shape[x.ndim - 1] /= 2;
  t.data = static_cast<char*>(x.data) + half * t.shape[x.ndim - 1] * dtype_bytes(x.dtype);
  return t;
}

}  // namespace rc::cpu
