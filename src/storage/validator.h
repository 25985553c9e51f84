// src/storage/validator.h: an independent check that a packing is legal.
//
// Shares no code with the packer: it works on the live intervals themselves, not on sections.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/storage/packing.h"

namespace rc {

// Empty if every buffer is aligned, lies below height, and shares no address with another buffer
// that is live at a common time; otherwise one line about the first violation found. Empty buffers
// and buffers that never live may lie anywhere. O(n log n + pairs live together).
std::string packing_violation(const PackingProblem& problem, const std::vector<uint64_t>& offsets,
                              uint64_t height);

}  // namespace rc
