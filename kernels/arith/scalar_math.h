// kernels/arith/scalar_math.h: the formulas of formulas-inl.h for one float (CUDA threads, tests).
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "kernels/arith/hd.h"

namespace rc::scalar {

struct ScalarMath {
  using V = float;
  RC_HD static V set(float c) { return c; }
  RC_HD static V add(V a, V b) { return a + b; }
  RC_HD static V sub(V a, V b) { return a - b; }
  RC_HD static V mul(V a, V b) { return a * b; }
  RC_HD static V div(V a, V b) { return a / b; }
  RC_HD static V mul_add(V a, V b, V c) { return fmaf(a, b, c); }
  RC_HD static V neg_mul_add(V a, V b, V c) { return fmaf(-a, b, c); }
  RC_HD static V min(V a, V b) { return a < b ? a : b; }
  RC_HD static V max(V a, V b) { return a > b ? a : b; }
  RC_HD static V abs(V a) { return fabsf(a); }
  RC_HD static V exponent(V t) { return std::bit_cast<float>(std::bit_cast<uint32_t>(t) << 23); }
};

#include "kernels/arith/formulas-inl.h"

}  // namespace rc::scalar
