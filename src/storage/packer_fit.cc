// src/storage/packer_fit.cc: greedy best fit and first fit over an address-ordered list of blocks.
#include "src/storage/packer_fit.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <tuple>

namespace rc {
namespace {

// Short enough that an insertion moves little, long enough that a pass stays sequential.
constexpr size_t kBlockRows = 128;

uint64_t stretch_mask(const PackingItem& item, int32_t section_count) {
  uint64_t mask = 0;
  for (const SectionSpan& span : item.spans) {
    const auto first = int64_t(span.begin) * 64 / section_count;
    const auto last = int64_t(span.end - 1) * 64 / section_count;
    for (int64_t s = first; s <= last; ++s) mask |= uint64_t{1} << s;
  }
  return mask;
}

int64_t fullest_section(const PackingSections& sections, const PackingItem& item) {
  int64_t fullest = 0;
  for (const SectionSpan& span : item.spans) {
    for (int32_t s = span.begin; s < span.end; ++s) fullest = std::max(fullest, sections.totals[s]);
  }
  return fullest;
}

// Larger tuples go first; ties fall back to the item's index.
using Key = std::tuple<double, double, double>;

Key order_key(const PackingSections& sections, const PackingItem& item, FitOrder order) {
  const auto size = double(item.size), lifetime = double(item.lifetime);
  switch (order) {
    case FitOrder::kSize:
      return {size, lifetime, 0};
    case FitOrder::kArea:
      return {item.area(), size, 0};
    case FitOrder::kLifetime:
      return {lifetime, size, 0};
    case FitOrder::kPressure:
      return {double(fullest_section(sections, item)), item.area(), size};
    case FitOrder::kBegin:
      return {-double(item.first()), size, lifetime};
    case FitOrder::kEnd:
      return {double(item.last()), size, lifetime};
  }
  return {};
}

}  // namespace

std::vector<int32_t> fit_order(const PackingSections& sections, FitOrder order) {
  std::vector<Key> keys;
  for (const PackingItem& item : sections.items) keys.push_back(order_key(sections, item, order));
  std::vector<int32_t> result(sections.items.size());
  std::iota(result.begin(), result.end(), 0);
  std::stable_sort(result.begin(), result.end(),
                   [&](int32_t a, int32_t b) { return keys[a] > keys[b]; });
  return result;
}

GreedyFit::GreedyFit(const PackingSections& sections) : sections_(sections) {
  prepared_.reserve(sections.items.size());
  for (size_t i = 0; i < sections.items.size(); ++i) {
    const PackingItem& item = sections.items[i];
    prepared_.push_back({stretch_mask(item, sections.count()), 0, 0, int32_t(i), item.first(),
                         item.last(), item.spans.size() == 1});
  }
}

bool GreedyFit::conflict(const Row& placed, const Row& incoming) const {
  if (placed.begin >= incoming.end || incoming.begin >= placed.end) return false;
  if (placed.simple && incoming.simple) return true;
  return items_conflict(sections_.items[placed.item], sections_.items[incoming.item]);
}

int64_t GreedyFit::find_gap(const Row& incoming, FitRule rule) const {
  const PackingItem& item = sections_.items[incoming.item];
  int64_t reached = 0;  // every conflicting item so far ends at or below this address
  int64_t best = -1, best_gap = std::numeric_limits<int64_t>::max();
  for (const Block& block : blocks_) {
    if ((block.stretches & incoming.stretches) == 0) continue;
    for (const Row& row : block.rows) {
      if ((row.stretches & incoming.stretches) == 0 || !conflict(row, incoming)) continue;
      if (row.offset > reached) {
        const int64_t start = align_up(reached, item.alignment);
        if (start + item.size <= row.offset) {
          if (rule == FitRule::kLowest) return start;
          if (row.offset - reached < best_gap) {
            best_gap = row.offset - reached;
            best = start;
          }
        }
      }
      reached = std::max(reached, row.top);
    }
  }
  return best >= 0 ? best : align_up(reached, item.alignment);
}

void GreedyFit::insert(const Row& row) {
  size_t b = 0;
  while (b + 1 < blocks_.size() && blocks_[b + 1].rows.front().offset <= row.offset) ++b;
  Block& block = blocks_[b];
  const auto at = std::upper_bound(block.rows.begin(), block.rows.end(), row.offset,
                                   [](int64_t offset, const Row& r) { return offset < r.offset; });
  block.rows.insert(at, row);
  block.stretches |= row.stretches;
  if (block.rows.size() < kBlockRows) return;
  Block upper;
  upper.rows.reserve(kBlockRows);
  upper.rows.assign(block.rows.begin() + kBlockRows / 2, block.rows.end());
  block.rows.resize(kBlockRows / 2);
  block.stretches = 0;
  for (const Row& r : block.rows) block.stretches |= r.stretches;
  for (const Row& r : upper.rows) upper.stretches |= r.stretches;
  blocks_.insert(blocks_.begin() + int64_t(b) + 1, std::move(upper));
}

Fit GreedyFit::place(const std::vector<int32_t>& order, FitRule rule) {
  Fit fit;
  fit.offsets.resize(sections_.items.size());
  blocks_.clear();
  blocks_.emplace_back();
  blocks_.front().rows.reserve(kBlockRows);
  for (const int32_t i : order) {
    Row row = prepared_[i];
    row.offset = find_gap(row, rule);
    row.top = row.offset + sections_.items[i].size;
    insert(row);
    fit.offsets[i] = row.offset;
    fit.height = std::max(fit.height, row.top);
  }
  return fit;
}

}  // namespace rc
