// src/plan/unit_labels.h: the search over units and single layers; see units.h.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "src/plan/search.h"
#include "src/plan/unit_segments.h"

namespace rc {

// Capacities: memory in each state, then the link, then the host in each state.
struct UnitRow {
  enum Kind : uint8_t { kMemory, kLink, kHost };
  Kind kind = kMemory;
  size_t state = 0;
  int64_t capacity = 0;
};
std::vector<UnitRow> unit_rows(const PlanStage& stage);

class UnitLabels {
 public:
  static constexpr size_t kMostRows = 24;

  UnitLabels(const PlanStage& stage, const UnitSegments& segments,
             const std::vector<UnitRow>& rows);

  // Prices per byte of each row under which the relaxation bounds best; any are valid.
  void find_prices();
  const std::vector<double>& prices() const { return prices_; }
  double bound() const { return relaxed(prices_); }

  // Looks for the cheapest plan below `cutoff`, with at most `width` labels per layer. False: none
  // was found. exhausted(): nothing that could be cheaper than what was found was left out.
  bool run(int64_t cutoff, size_t width, const CountLimits& limits);
  bool exhausted() const { return left_out_ == kNoCost; }
  int64_t cost() const { return cost_; }
  // No plan costs less (than the cutoff either).
  int64_t lower_bound() const { return std::min(left_out_, cost_); }
  void write(StagePlan* plan) const;

 private:
  struct Label {
    int64_t cost = 0, kept = 0, most = 0;  // most: in any backward of the chunk so far
    std::array<int64_t, kMostRows> use{};  // of the chunks before
    double bound = 0;
    int32_t from_layer = -1, from_label = -1, segment = -1;
  };
  struct Place {
    size_t chunk, layer;
  };

  double relaxed(const std::vector<double>& prices) const;
  void complete(const std::vector<double>& prices, std::vector<double>* with_last,
                std::vector<double>* without) const;
  double kept_price(const std::vector<double>& prices, size_t chunk) const;
  double most_price(const std::vector<double>& prices, size_t chunk) const;
  double link_price(const std::vector<double>& prices, size_t chunk) const;
  int64_t times(size_t row, size_t chunk) const;
  bool own(size_t row, size_t chunk) const;
  void extend(size_t at, int32_t index, const UnitSegment& segment, int32_t which);
  bool fits(const Label& label, size_t at) const;
  double bound_of(const Label& label, size_t at) const;
  void reduce(std::vector<Label>* labels, size_t width);
  bool no_worse(const Label& a, const Label& b) const;

  const PlanStage& stage_;
  const UnitSegments& segments_;
  const std::vector<UnitRow>& rows_;
  std::vector<Place> places_;                     // of every layer, and one behind the last
  std::vector<std::vector<int64_t>> least_rest_;  // [layer][row]: kept bytes from there on
  std::vector<double> prices_, with_last_, without_;
  std::vector<std::vector<Label>> labels_;
  size_t width_ = 0;
  int64_t cutoff_ = 0, left_out_ = kNoCost, cost_ = kNoCost;
  int32_t best_ = -1;
};

}  // namespace rc
