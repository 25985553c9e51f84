// src/storage/packer_fit.h: greedy packing of the items of a problem in a given order.
#pragma once

#include <cstdint>
#include <vector>

#include "src/storage/packing_sections.h"

namespace rc {

enum class FitRule : uint8_t {
  kLowest,    // the lowest gap that is large enough
  kTightest,  // the smallest gap that is large enough, the lowest among equals
};

// Keys by which the greedy orders sort, largest first unless said otherwise.
enum class FitOrder : uint8_t {
  kSize,
  kArea,
  kLifetime,
  kPressure,  // live bytes of the fullest section the item is in, then area
  kBegin,     // earliest first, then size
  kEnd,       // latest end first, then size
};
// In the order in which they serve transformer traces best.
inline constexpr FitOrder kFitOrders[] = {
    FitOrder::kLifetime, FitOrder::kEnd,      FitOrder::kSize,
    FitOrder::kArea,     FitOrder::kPressure, FitOrder::kBegin,
};

std::vector<int32_t> fit_order(const PackingSections& sections, FitOrder order);

struct Fit {
  std::vector<int64_t> offsets;  // one per item
  int64_t height = 0;
};

// Places items one after another between those that are already placed. Keeps its memory between
// calls. One placement costs one pass over the placed items in address order, in blocks that are
// skipped as a whole where none of their items shares a stretch of time with the new one.
class GreedyFit {
 public:
  explicit GreedyFit(const PackingSections& sections);
  Fit place(const std::vector<int32_t>& order, FitRule rule);

 private:
  struct Row {
    uint64_t stretches;  // of the 64 equal stretches of time, those in which the item lives
    int64_t offset, top;
    int32_t item, begin, end;  // begin, end: the sections from its first to its last
    bool simple;               // one span only
  };
  struct Block {
    uint64_t stretches = 0;
    std::vector<Row> rows;  // in address order
  };
  bool conflict(const Row& placed, const Row& incoming) const;
  int64_t find_gap(const Row& incoming, FitRule rule) const;
  void insert(const Row& row);

  const PackingSections& sections_;
  std::vector<Row> prepared_;
  std::vector<Block> blocks_;
};

}  // namespace rc
