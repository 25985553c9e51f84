// src/budget/layer_path.h: the cheapest way through a chain of layers, exact: each layer is treated
// in one of several measured ways, alone or in a unit with the layers behind it.
//
// Where src/plan decides tensor by tensor, here whole treatments of a layer are weighed, so that
// what is not additive (a module recomputed with what is nested in it, a layer recomputed as a
// whole, a unit of several layers that keeps one input) can be told apart and mixed. Bytes may be
// counted from any base, the same for all ways to treat a place; then kept bytes can be negative.
//
// With S the sum of kept bytes and P that of the layers up to and with a way's own, the bytes while
// it is in backward, `held` microbatches being in flight, are (held - 1) S + P + transient.
#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

namespace rc::budget {

struct PathWay {
  uint32_t layers = 1;    // from this place on
  int64_t kept = 0;       // per microbatch, from forward until backward
  int64_t transient = 0;  // beside what is kept, while these layers are in backward
  int64_t cost = 0;       // at least 0
};

struct LayerPath {
  std::vector<std::vector<PathWay>> ways;  // [place]: those that begin there
  int64_t held = 1;
};

struct PathStep {
  uint32_t place = 0, way = 0;
};

struct PathPlan {
  bool found = false;
  bool optimal = false;  // no path of less cost fits; else a limit was met
  int64_t cost = 0, lower_bound = 0, peak = 0;
  std::vector<PathStep> steps;  // in forward order
  uint64_t nodes = 0;           // relaxations that were solved
};

struct PathLimits {
  std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max();
  size_t states = 20'000;  // partial paths kept at a place; beyond, the plan may not be optimal
  uint64_t nodes = 2'000;
};

// found is false where none fits, optimal then says that none does.
PathPlan solve_path(const LayerPath& path, int64_t budget, const PathLimits& limits = {});
// The path of least peak, and of least cost among those.
PathPlan least_path(const LayerPath& path, const PathLimits& limits = {});
// Of a path's steps.
int64_t path_peak(const LayerPath& path, const std::vector<PathStep>& steps);

}  // namespace rc::budget
