// kernels/cpu/launch.h: the launch functions of the CPU kernels; arguments are already checked.
#pragma once

#include "kernels/kernels.h"

namespace rc::cpu {

// Parallel::run with every task in the default floating-point environment (round to nearest,
// denormals kept): a host thread that flushes denormals must not change a kernel's bits. Throws
// std::bad_alloc on the calling thread if a task did.
void run_tasks(Parallel& parallel, int64_t n_tasks, FunctionRef<void(int64_t)> task);

// A slice of elements of one row: a and b are inputs (b = a for one input), first is the index of
// the slice's first element in the row-major order of the logical shape.
struct Slice {
  const void* a;
  const void* b;
  void* out;
  int64_t n;
  int64_t first;
  const void* context;
  bool stream;
};
// Cuts equal-shaped a, b and out into slices, by shape alone, and runs `kernel` on each.
void run_elementwise(void (*kernel)(const Slice&), const Tensor& a, const Tensor& b,
                     const Tensor& out, const void* context, Parallel& parallel);

// gate and up halves of a packed [R, 2C] tensor.
Tensor packed_half(const Tensor& x, int half);

void layernorm(const KernelDesc&, const KernelArgs&, Parallel&);
void rmsnorm(const KernelDesc&, const KernelArgs&, Parallel&);
void gelu(const KernelDesc&, const KernelArgs&, Parallel&);
void glu(const KernelDesc&, const KernelArgs&, Parallel&);  // swiglu and geglu
void squared_relu(const KernelDesc&, const KernelArgs&, Parallel&);
void dropout(const KernelDesc&, const KernelArgs&, PhiloxRecord, Parallel&);
void softmax(const KernelDesc&, const KernelArgs&, Parallel&);
void core_attention(const KernelDesc&, const KernelArgs&, PhiloxRecord, Parallel&);
void fused_attention(const KernelDesc&, const KernelArgs&, PhiloxRecord, Parallel&);
void up_projection(const KernelDesc&, const KernelArgs&, Parallel&);

}  // namespace rc::cpu
