// src/plan/split.h: which tensors go over the link, to the byte.
//
// Once it is known which tensors are not recomputed, what is left is a bounded subset sum: their
// sum lies in memory and link together, and whole tensors (at most one of them in part) have to be
// found whose bytes are no less than memory lacks and no more than the link has.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace rc {

struct SplitGroup {
  int64_t bytes = 0;  // of one member, above 0
  int32_t count = 0;
  int64_t rows = 1;  // between which one member may be cut
};

enum class SplitOutcome : uint8_t { kFound, kNone, kUnknown };

struct Split {
  std::vector<int32_t> moved;  // [group] whole members
  int64_t bytes = 0;           // in all
  int32_t cut_group = -1;
  int64_t cut_rows = 0;  // of one member more
  bool least = true;     // no whole members have fewer bytes
};

// The first groups have bytes enough of their own (their memory is full before that of all is).
struct SplitFirst {
  size_t groups = 0;
  int64_t low = 0;
};

// Bytes from `low` to `high`: the fewest that whole members have; where they have none, some of
// one member's rows beside them. Fewer bytes than min_part of a member do not go. kUnknown: too
// many sums to keep them all, and those near an even share had none.
SplitOutcome least_split(const std::vector<SplitGroup>& groups, int64_t low, int64_t high,
                         int64_t min_part, Split& split, const SplitFirst& first = {});

}  // namespace rc
