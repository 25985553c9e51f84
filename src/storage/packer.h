// src/storage/packer.h: offsets for buffers with known live intervals, at the least height.
#pragma once

#include <cstdint>
#include <limits>

#include "src/storage/packer_search.h"
#include "src/storage/packing.h"

namespace rc {

struct PackOptions {
  // Stops the improvement and the exact search; the first greedy fit always completes.
  double time_limit = 10;  // seconds
  // Placements that the exact search may try in all (fewer where each of them
  // touches much: problems of thousands of buffers), 0 for no exact search. With a time limit that
  // is not reached, equal problems and options give equal packings on every machine.
  uint64_t node_limit = 2'000'000;
  uint64_t seed = 0;
  // A height that is good enough: the packer stops there. 0 asks for the least height.
  uint64_t enough = 0;
  // The same in relation to the bound: stops at (1 + tolerance) * bound.
  double tolerance = 0;
  // Greedy fits that may be spent on improving the order; fewer for large problems.
  uint64_t improvement_rounds = 200;
  SearchSwitches switches;
};

// Fast first: greedy fits over several orders, then an improvement of the best order, then an exact
// search, each only while the height is above the best known bound (or options.enough). Throws only
// for want of memory; an ill-formed problem returns with Packing::error set. Thread-safe: no state.
Packing pack(const PackingProblem& problem, const PackOptions& options = {});

}  // namespace rc
