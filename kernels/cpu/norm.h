// kernels/cpu/norm.h: the rows of one norm task, as passed to the vector code.
#pragma once

#include <cstdint>

#include "kernels/cpu/launch.h"

namespace rc::cpu {

struct NormRows {
  const Tensor* x;
  const Tensor* y;    // data null: only the statistics are wanted
  const void* gamma;  // null: 1
  const void* beta;   // null: 0
  bool gamma_f32, beta_f32;
  float gamma_plus;  // 1 where gamma is stored as gamma - 1
  float epsilon;
  float* mean;  // null: not wanted
  float* rstd;  // null: not wanted
  bool stream;
  int64_t begin, end;  // rows
};

// Fills the fields and runs `rows` over fixed blocks of rows. rmsnorm has no beta and no mean.
void run_norm(void (*rows)(const NormRows&), const KernelDesc& desc, const KernelArgs& args,
              Parallel& parallel);

}  // namespace rc::cpu
