// src/storage/packing.h: the static packing problem, its solution, and bounds on it.
//
// A problem is a set of buffers. Each buffer gets one offset, valid in all its live intervals; two
// buffers that are live at a common time must not share an address. Between two intervals of one
// buffer (a discarded output that is refilled later) its addresses belong to whoever wants them.
// Plain data: nothing here knows a device, a tensor or the C ABI.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace rc {

// Half-open, in any integer unit of time. begin == end is allowed and means never.
struct LiveInterval {
  int64_t begin = 0;
  int64_t end = 0;
};

struct PackingBuffer {
  uint64_t size = 0;
  uint64_t alignment = 256;        // any positive number, not only powers of two
  std::vector<LiveInterval> live;  // any order; intervals that touch or overlap count as one
};

struct PackingProblem {
  std::vector<PackingBuffer> buffers;
};

// What the packer did, for reports and for tests that demand that a heuristic earns its place.
struct PackStatistics {
  uint64_t sections = 0;       // maximal sets of buffers that are live together
  uint64_t orders_tried = 0;   // greedy fits over one order of the buffers
  uint64_t searches = 0;       // runs of the exact search at one height
  uint64_t nodes = 0;          // placements tried by the exact search
  uint64_t greedy_height = 0;  // best height before the exact search
  double seconds = 0;
};

struct Packing {
  std::vector<uint64_t> offsets;  // one per buffer; 0 for a buffer that is empty or never live
  uint64_t height = 0;            // max of offset + size
  uint64_t lower_bound = 0;       // lower_bound(problem)
  uint64_t proven_bound = 0;      // no packing is lower than this; >= lower_bound
  bool proven_optimal = false;    // height == proven_bound
  PackStatistics statistics;
  std::string error;  // problem_defect(problem); where it is not empty, nothing else is set
};

// The bytes of all buffers, each rounded up by its alignment, may not exceed this: every sum in
// here then fits a signed 64-bit integer.
inline constexpr uint64_t kMaxPackingBytes = uint64_t{1} << 62;

// Empty if the problem is well formed; otherwise one line with buffer, field, value and limit.
std::string problem_defect(const PackingProblem& problem);

// Max over time of the live bytes, gaps excluded. Needs a well-formed problem.
uint64_t lower_bound(const PackingProblem& problem);

// The same with the padding that alignment makes unavoidable: where all alignments share a factor
// g, each of the buffers live at one time but the topmost one takes a multiple of g.
uint64_t aligned_lower_bound(const PackingProblem& problem);

}  // namespace rc
