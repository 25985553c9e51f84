// src/plan/unit_labels.cc: see unit_labels.h.
#include "src/plan/unit_labels.h"

#include <algorithm>
#include <cmath>

#include "src/plan/counts.h"

namespace rc {

std::vector<UnitRow> unit_rows(const PlanStage& stage) {
  std::vector<UnitRow> rows;
  for (size_t s = 0; s < stage.states.size(); ++s)
    rows.push_back({UnitRow::kMemory, s, stage.budget - stage.fixed_bytes});
  bool moves = false;
  for (const PlanLayerClass& k : stage.classes)
    for (const PlanItem& item : k.items)
      moves = moves || choice_of(item, PlanOption::kOffload) >= 0;
  if (!moves) return rows;
  rows.push_back({UnitRow::kLink, 0, stage.link_bytes});
  if (stage.host_bytes < 0) return rows;
  for (size_t s = 0; s < stage.states.size(); ++s)
    rows.push_back({UnitRow::kHost, s, stage.host_bytes});
  return rows;
}

UnitLabels::UnitLabels(const PlanStage& stage, const UnitSegments& segments,
                       const std::vector<UnitRow>& rows)
    : stage_(stage), segments_(segments), rows_(rows), prices_(rows.size(), 0) {
  for (size_t c = 0; c < stage.chunks.size(); ++c)
    for (size_t l = 0; l < stage.chunks[c].layers.size(); ++l) places_.push_back({c, l});
  places_.push_back({stage.chunks.size(), 0});
  // Kept bytes of the rest at least, by rows.
  const size_t layers = places_.size() - 1;
  std::vector<int64_t> least(layers + 1, 0);
  least_rest_.assign(layers + 1, std::vector<int64_t>(rows.size(), 0));
  for (size_t p = layers; p-- > 0;) {
    const auto [c, l] = places_[p];
    least[p] = kNoCost;
    for (const UnitSegment& s : segments_.at(c, l)) {
      const size_t next = p + size_t(s.layers);
      const bool whole_chunk = places_[next].chunk != c;
      least[p] = std::min(least[p], s.kept + (whole_chunk ? 0 : least[next]));
    }
    for (size_t r = 0; r < rows.size(); ++r) {
      if (rows[r].kind != UnitRow::kMemory) continue;
      size_t behind = p + 1;
      while (places_[behind].chunk == c) ++behind;
      const int64_t rest = least_rest_[behind][r];
      const bool none = least[p] >= kNoCost || rest >= kNoCost;  // no segment ends the chunk
      least_rest_[p][r] = none ? kNoCost : times(r, c) * least[p] + rest;
    }
  }
}

// How often what the chunk keeps counts in the row, beside a backward of its own.
int64_t UnitLabels::times(size_t row, size_t chunk) const {
  return stage_.states[rows_[row].state].held[chunk] - (own(row, chunk) ? 1 : 0);
}
bool UnitLabels::own(size_t row, size_t chunk) const {
  return rows_[row].kind == UnitRow::kMemory &&
         size_t(stage_.states[rows_[row].state].chunk) == chunk;
}

double UnitLabels::kept_price(const std::vector<double>& prices, size_t chunk) const {
  double sum = 0;
  for (size_t r = 0; r < rows_.size(); ++r)
    if (rows_[r].kind == UnitRow::kMemory) sum += prices[r] * double(times(r, chunk));
  return sum;
}
double UnitLabels::most_price(const std::vector<double>& prices, size_t chunk) const {
  double sum = 0;
  for (size_t r = 0; r < rows_.size(); ++r)
    if (own(r, chunk)) sum += prices[r];
  return sum;
}
double UnitLabels::link_price(const std::vector<double>& prices, size_t chunk) const {
  double sum = 0;
  for (size_t r = 0; r < rows_.size(); ++r) {
    if (rows_[r].kind == UnitRow::kLink) sum += prices[r];
    if (rows_[r].kind == UnitRow::kHost) {
      sum += prices[r] * double(stage_.states[rows_[r].state].held[chunk]);
    }
  }
  return sum;
}

// The least priced cost of the layers from each one on. A chunk's fullest backward is no less than
// that of its last layer (with_last: charged for it) nor than what it was so far (without).
void UnitLabels::complete(const std::vector<double>& prices, std::vector<double>* with_last,
                          std::vector<double>* without) const {
  const size_t layers = places_.size() - 1;
  with_last->assign(layers + 1, 0);
  without->assign(layers + 1, 0);
  for (size_t p = layers; p-- > 0;) {
    const auto [c, l] = places_[p];
    const double kept = kept_price(prices, c), most = most_price(prices, c);
    const double link = link_price(prices, c);
    double best_with = double(kNoCost), best_without = double(kNoCost);
    for (const UnitSegment& s : segments_.at(c, l)) {
      const size_t next = p + size_t(s.layers);
      const bool ends = places_[next].chunk != c;
      const double base = double(s.cost) + kept * double(s.kept) + link * double(s.link);
      best_with =
          std::min(best_with, base + most * double(s.kept) +
                                  (ends ? most * double(s.last_wide) : 0) + (*with_last)[next]);
      best_without = std::min(best_without, base + (ends ? (*with_last)[next] : (*without)[next]));
    }
    (*with_last)[p] = best_with;
    (*without)[p] = best_without;
  }
}

double UnitLabels::relaxed(const std::vector<double>& prices) const {
  std::vector<double> with_last, without;
  complete(prices, &with_last, &without);
  double sum = with_last[0];
  for (size_t r = 0; r < rows_.size(); ++r) sum -= prices[r] * double(rows_[r].capacity);
  return sum;
}

// The relaxation is concave in the prices: by turns, each by thirds.
void UnitLabels::find_prices() {
  double dearest = 0;
  for (size_t p = 0; p + 1 < places_.size(); ++p) {
    for (const UnitSegment& s : segments_.at(places_[p].chunk, places_[p].layer))
      dearest = std::max(dearest, double(s.cost) / double(std::max<int64_t>(1, s.kept + s.link)));
  }
  for (int round = 0; round < (rows_.size() == 1 ? 1 : 3); ++round) {
    for (size_t r = 0; r < rows_.size(); ++r) {
      const auto value = [&](double price) {
        std::vector<double> prices = prices_;
        prices[r] = price;
        return relaxed(prices);
      };
      double low = 0, high = dearest;
      for (int i = 0; i < 24; ++i) {
        const double a = low + (high - low) / 3, b = high - (high - low) / 3;
        if (value(a) < value(b)) {
          low = a;
        } else {
          high = b;
        }
      }
      const double found = (low + high) / 2;
      if (value(found) > relaxed(prices_)) prices_[r] = found;
    }
  }
}

double UnitLabels::bound_of(const Label& label, size_t at) const {
  const size_t c = places_[at].chunk;
  double sum = double(label.cost);
  for (size_t r = 0; r < rows_.size(); ++r)
    sum += prices_[r] * (double(label.use[r]) - double(rows_[r].capacity));
  if (c == stage_.chunks.size()) return sum;
  const double kept = kept_price(prices_, c), most = most_price(prices_, c);
  sum += kept * double(label.kept);
  return sum + std::max(most * double(label.kept) + with_last_[at],
                        most * double(label.most) + without_[at]);
}

bool UnitLabels::fits(const Label& label, size_t at) const {
  const size_t c = places_[at].chunk;
  for (size_t r = 0; r < rows_.size(); ++r) {
    int64_t use = label.use[r];
    if (rows_[r].kind == UnitRow::kMemory) {
      use += least_rest_[at][r];
      if (c < stage_.chunks.size()) {
        use += times(r, c) * label.kept;
        if (own(r, c)) use += label.most;
      }
    }
    if (use > rows_[r].capacity) return false;
  }
  return true;
}

void UnitLabels::extend(size_t at, int32_t index, const UnitSegment& segment, int32_t which) {
  const size_t c = places_[at].chunk, next = at + size_t(segment.layers);
  Label label = labels_[at][size_t(index)];
  label.from_layer = int32_t(at);
  label.from_label = index;
  label.segment = which;
  label.cost += segment.cost;
  label.most = std::max(label.most, label.kept + segment.top);
  label.kept += segment.kept;
  for (size_t r = 0; r < rows_.size(); ++r) {
    if (rows_[r].kind == UnitRow::kLink) label.use[r] += segment.link;
    if (rows_[r].kind == UnitRow::kHost) {
      label.use[r] += segment.link * stage_.states[rows_[r].state].held[c];
    }
  }
  if (places_[next].chunk != c) {
    for (size_t r = 0; r < rows_.size(); ++r) {
      if (rows_[r].kind != UnitRow::kMemory) continue;
      label.use[r] += times(r, c) * label.kept + (own(r, c) ? label.most : 0);
    }
    label.kept = label.most = 0;
  }
  if (!fits(label, next)) return;
  label.bound = bound_of(label, next);
  if (label.bound >= double(cutoff_) - 0.5) return;
  labels_[next].push_back(label);
  if (labels_[next].size() > 16 * width_) reduce(&labels_[next], width_);
}

bool UnitLabels::no_worse(const Label& a, const Label& b) const {
  if (a.cost > b.cost || a.kept > b.kept || a.most > b.most) return false;
  for (size_t r = 0; r < rows_.size(); ++r)
    if (a.use[r] > b.use[r]) return false;
  return true;
}

void UnitLabels::reduce(std::vector<Label>* labels, size_t width) {
  if (labels->size() > 4 * width) {
    // Far too many to compare: the least promising go first.
    std::nth_element(labels->begin(), labels->begin() + int64_t(4 * width), labels->end(),
                     [](const Label& a, const Label& b) { return a.bound < b.bound; });
    for (size_t i = 4 * width; i < labels->size(); ++i)
      left_out_ = std::min(left_out_, int64_t(std::ceil((*labels)[i].bound - 0.5)));
    labels->resize(4 * width);
  }
  std::sort(labels->begin(), labels->end(), [](const Label& a, const Label& b) {
    if (a.cost != b.cost) return a.cost < b.cost;
    return a.kept != b.kept ? a.kept < b.kept : a.most < b.most;
  });
  std::vector<Label> left;
  for (const Label& label : *labels) {
    const auto beats = [&](const Label& other) { return no_worse(other, label); };
    if (std::none_of(left.rbegin(), left.rend(), beats)) left.push_back(label);
  }
  if (left.size() > width) {
    std::sort(left.begin(), left.end(),
              [](const Label& a, const Label& b) { return a.bound < b.bound; });
    for (size_t i = width; i < left.size(); ++i)
      left_out_ = std::min(left_out_, int64_t(std::ceil(left[i].bound - 0.5)));
    left.resize(width);
  }
  labels->swap(left);
}

bool UnitLabels::run(int64_t cutoff, size_t width, const CountLimits& limits) {
  const size_t layers = places_.size() - 1;
  complete(prices_, &with_last_, &without_);
  cutoff_ = cutoff;
  width_ = width;
  cost_ = left_out_ = kNoCost;
  best_ = -1;
  labels_.assign(layers + 1, {});
  labels_[0].push_back({});
  for (size_t p = 0; p < layers; ++p) {
    if (std::chrono::steady_clock::now() >= limits.deadline) width_ = std::min<size_t>(width_, 64);
    reduce(&labels_[p], width_);
    const std::vector<UnitSegment>& next = segments_.at(places_[p].chunk, places_[p].layer);
    for (size_t i = 0; i < labels_[p].size(); ++i)
      for (size_t s = 0; s < next.size(); ++s) extend(p, int32_t(i), next[s], int32_t(s));
  }
  for (size_t i = 0; i < labels_[layers].size(); ++i) {
    if (labels_[layers][i].cost >= cost_) continue;
    cost_ = labels_[layers][i].cost;
    best_ = int32_t(i);
  }
  if (left_out_ >= std::min(cost_, cutoff_)) left_out_ = kNoCost;
  return best_ >= 0;
}

void UnitLabels::write(StagePlan* plan) const {
  plan->choice.assign(stage_.chunks.size(), {});
  for (size_t c = 0; c < stage_.chunks.size(); ++c)
    for (const int32_t k : stage_.chunks[c].layers)
      plan->choice[c].emplace_back(stage_.classes[size_t(k)].items.size(), uint8_t(0));
  plan->units.clear();
  size_t at = places_.size() - 1;
  for (int32_t index = best_; at > 0;) {
    const Label& label = labels_[at][size_t(index)];
    at = size_t(label.from_layer);
    index = label.from_label;
    const auto [c, l] = places_[at];
    const UnitSegment& s = segments_.at(c, l)[size_t(label.segment)];
    plan->choice[c][l] = s.choice;
    if (s.layers > 1) plan->units.insert(plan->units.begin(), {int32_t(c), int32_t(l), s.layers});
  }
}

}  // namespace rc
