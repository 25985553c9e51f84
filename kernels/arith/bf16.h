// kernels/arith/bf16.h: bfloat16 <-> float32 of one number; round to nearest even, NaN stays NaN.
#pragma once

#include <bit>
#include <cstdint>

#include "kernels/arith/hd.h"

namespace rc {

RC_HD float bf16_to_f32(uint16_t h) {
  return std::bit_cast<float>(static_cast<uint32_t>(h) << 16);
}

RC_HD uint16_t f32_to_bf16(float f) {
  const uint32_t bits = std::bit_cast<uint32_t>(f);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

}  // namespace rc
