// kernels/kernels.h: what a built-in kernel is, what it takes, and how forward and replay run it.
//
// Layouts (R = product of all dimensions but the last, C = the last; leading dimensions may be
// any). x, y, q, k, v, o and the tensors beside them have one dtype, float32 or bfloat16;
// statistics (mean, rstd, lse) are float32. Arithmetic is float32 throughout. gamma, beta and bias
// are contiguous and either of x's dtype or float32. The last dimension has stride 1; all outer
// dimensions may be strided, except in mean, rstd and lse, which are contiguous.
//
// clang-format off
//   kind             inputs                            params              outputs      saved
//   layernorm        x[R,C]                            gamma[C], beta[C] * y[R,C]       mean[R], rstd[R] *
//   rmsnorm          x[R,C]                            gamma[C] *          y[R,C]       rstd[R] *
//   gelu             x[R,C]                            -                   y[R,C]       -
//   swiglu, geglu    gate[R,C], up[R,C]; or x[R,2C]    -                   y[R,C]       -
//   squared_relu     x[R,C]                            -                   y[R,C]       -
//   dropout          x[R,C]                            -                   y[R,C]       -
//   softmax          x[R,C]                            -                   y[R,C]       -
//   core_attention   q[B,H,S,D] k[B,G,T,D] v[B,G,T,E]  -                   o[B,H,S,E]   probs[B,H,S,T] *
//   fused_attention  q[B,H,S,D] k[B,G,T,D] v[B,G,T,E]  -                   o[B,H,S,E]   lse[B,H,S] *
//   up_projection    x[R,K]                            w[N,K], bias[N] *   y[R,N]       -
// clang-format on
//   (* may be left off at the end of its list. G divides H: query head h reads k/v head h / (H/G).)
//
// An output or saved tensor whose data is null is not wanted: it is not written, and the work that
// only it needs is skipped. An output may alias an input only where both are the same memory with
// the same strides and the kind is element-wise (gelu, squared_relu, dropout, swiglu, geglu with
// separate inputs) or row-wise (norms, softmax).
//
// Softmax and attention, causal: query s of S sees keys t <= s + T - S, so that the last query sees
// all (bottom-right alignment). A query that sees no key gives zeros, and lse -inf. probs are the
// probabilities before dropout; dropout multiplies them by the Philox mask of arith/philox.h with
// element index ((b H + h) S + s) T + t.
//
// Promise: results are bit-identical for any Parallel, any number of threads, any calling thread
// and any floating-point mode of that thread, and from run to run, on one machine and one build; so
// replay equals forward. They may differ between machines with other vector units.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/arith/philox.h"
#include "kernels/parallel.h"
#include "kernels/tensor.h"
#include "src/status.h"

namespace rc {

// The numbers of rc_kernel in rcore.h.
enum class KernelKind : int32_t {
  layernorm = 1,
  rmsnorm = 2,
  gelu = 3,
  swiglu = 4,
  geglu = 5,
  squared_relu = 6,
  dropout = 7,
  softmax = 8,
  core_attention = 9,
  fused_attention = 10,
  up_projection = 11,
};

const char* kernel_name(KernelKind kind);

struct KernelDesc {
  KernelKind kind = KernelKind::layernorm;
  float epsilon = 0;                 // norms; 0 = 1e-5
  float scale = 0;                   // 0 = 1 for softmax, 1 / sqrt(D) for attention
  float dropout = 0;                 // dropout and attention; in [0, 1), to the nearest 2^-16
  bool causal = false;               // softmax and attention
  bool tanh_gelu = false;            // gelu and geglu
  bool zero_centered_gamma = false;  // norms: gamma is stored as gamma - 1
  bool blas = false;                 // up_projection: see select.h
};

struct KernelArgs {
  std::span<const Tensor> inputs;
  std::span<const Tensor> params;
  std::span<const Tensor> outputs;
  std::span<const Tensor> saved;
};

// Everything that can be wrong with a launch, found without touching memory. Errors: RC_E_ARGUMENT
// with the tensor ("inputs[1]"), its value and the limit; RC_E_UNSUPPORTED without a CPU BLAS.
Status check_kernel(const KernelDesc& desc, const KernelArgs& args);

// Checks and runs on host memory. Thread-safe; scratch is kept per thread (cpu/scratch.h), so a
// repeated launch allocates nothing. `philox` matters only where desc.dropout > 0.
Status run_kernel(const KernelDesc& desc, const KernelArgs& args, PhiloxRecord philox,
                  Parallel& parallel);

// Counters that one launch consumes: the next use of the same seed takes offset + this.
uint64_t philox_counters_used(const KernelDesc& desc, const KernelArgs& args);

}  // namespace rc
