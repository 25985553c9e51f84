// abi_tests/growth/probes.h: one way to pass every public struct to a function that takes it.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "world.h"

namespace abi_tests {

enum class Direction { kIn, kOut };

struct Probe {
  const char* name;
  rc_type tag;
  std::uint32_t size;
  Direction direction;
  // Makes a good struct (for inputs) and calls the function with `raw`, whose elements are `stride`
  // bytes.
  std::function<std::vector<char>(World&)> good;
  std::function<rc_status(World&, void* raw, std::uint32_t stride)> call;
};

// Every struct of rcore.h that a caller passes, some of them through several functions.
std::vector<Probe> probes();

}  // namespace abi_tests
