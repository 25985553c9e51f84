// src/storage/packer_search.cc: depth-first search over canonical packings of a given height.
#include "src/storage/packer_search.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <tuple>

namespace rc {
namespace {

bool same_spans(const PackingItem& a, const PackingItem& b) {
  return std::equal(a.spans.begin(), a.spans.end(), b.spans.begin(), b.spans.end(),
                    [](const SectionSpan& x, const SectionSpan& y) {
                      return x.begin == y.begin && x.end == y.end;
                    });
}

bool spans_less(const PackingItem& a, const PackingItem& b) {
  return std::lexicographical_compare(
      a.spans.begin(), a.spans.end(), b.spans.begin(), b.spans.end(),
      [](const SectionSpan& x, const SectionSpan& y) {
        return x.begin != y.begin ? x.begin < y.begin : x.end < y.end;
      });
}

}  // namespace

CapacitySearch::CapacitySearch(const PackingSections& sections, SearchSwitches switches)
    : sections_(sections), switches_(switches), count_(int32_t(sections.items.size())) {
  prepare_conflicts();
  prepare_classes();
  is_dirty_.resize(sections.totals.size());
  above_.resize(sections.totals.size());
  candidate_pool_.resize(size_t(count_) + 1);
}

void CapacitySearch::prepare_conflicts() {
  std::vector<std::vector<int32_t>> members(sections_.totals.size());
  for (int32_t i = 0; i < count_; ++i) {
    const PackingItem& item = sections_.items[i];
    rounds_.push_back(sections_.unit % item.alignment != 0);
    for (const SectionSpan& span : item.spans) {
      for (int32_t s = span.begin; s < span.end; ++s) members[s].push_back(i);
    }
  }
  for (const std::vector<int32_t>& list : members) {
    member_start_.push_back(int32_t(members_.size()));
    members_.insert(members_.end(), list.begin(), list.end());
  }
  member_start_.push_back(int32_t(members_.size()));
  for (int32_t i = 0; i < count_; ++i) {
    conflict_start_.push_back(int32_t(conflicts_.size()));
    for (int32_t k = 0; k < count_; ++k) {
      if (k != i && items_conflict(sections_.items[i], sections_.items[k])) conflicts_.push_back(k);
    }
  }
  conflict_start_.push_back(int32_t(conflicts_.size()));
}

// Only where alignment never moves an item of the class.
void CapacitySearch::prepare_classes() {
  lifetime_class_.assign(count_, -1);
  const auto& items = sections_.items;
  for (int32_t i = 0; i < count_; ++i) {
    if (items[i].size % items[i].alignment == 0) by_class_.push_back(i);
  }
  const auto less = [&](int32_t a, int32_t b) {
    if (!same_spans(items[a], items[b])) return spans_less(items[a], items[b]);
    return items[a].alignment < items[b].alignment;
  };
  std::stable_sort(by_class_.begin(), by_class_.end(), less);
  int32_t classes = 0;
  for (size_t k = 0; k < by_class_.size(); ++k) {
    if (k == 0 || less(by_class_[k - 1], by_class_[k])) ++classes;
    lifetime_class_[by_class_[k]] = classes - 1;
  }
  class_top_.resize(classes);
  class_last_.resize(classes);
}

// Two touching items of equal lifetime can be swapped, and twins can always be: one order of each
// class suffices. It has to be the order of the ranking, or the first descent runs into this rule.
// The sum of size * offset is unchanged by a swap and falls with every push down, so this rule and
// the dominance rule agree on a packing.
void CapacitySearch::rank_classes() {
  std::stable_sort(by_class_.begin(), by_class_.end(), [&](int32_t a, int32_t b) {
    if (lifetime_class_[a] != lifetime_class_[b]) return lifetime_class_[a] < lifetime_class_[b];
    const Score x = score(a), y = score(b);
    return x != y ? x > y : a < b;
  });
  class_rank_.assign(count_, 0);
  twin_before_.assign(count_, -1);
  for (size_t k = 0; k < by_class_.size(); ++k) {
    const int32_t i = by_class_[k];
    class_rank_[i] = int32_t(k);
    for (size_t j = k; j-- > 0 && lifetime_class_[by_class_[j]] == lifetime_class_[i];) {
      if (sections_.items[by_class_[j]].size != sections_.items[i].padded) continue;
      twin_before_[i] = by_class_[j];
      break;
    }
  }
}

void CapacitySearch::reset(int64_t capacity, SearchOrder order) {
  limit_ = capacity;
  capacity_ = align_up(capacity, sections_.stride);
  order_ = order;
  nodes_ = 0;
  rest_.assign(count_, 0);
  lower_.assign(count_, 0);
  placed_.assign(count_, 0);
  solution_.assign(count_, 0);
  floor_.assign(sections_.totals.size(), 0);
  total_ = sections_.totals;
  cuts_.assign(sections_.totals.size(), 0);
  for (const PackingItem& item : sections_.items) {
    for (int32_t s = item.first(); s + 1 < item.last(); ++s) ++cuts_[s];
  }
  std::fill(class_top_.begin(), class_top_.end(), -1);
  std::fill(class_last_.begin(), class_last_.end(), -1);
  trail_.clear();
  stack_.clear();
  depth_ = 0;
  rank_classes();
}

SearchOutcome CapacitySearch::run(int64_t capacity, SearchOrder order, const SearchLimits& limits) {
  reset(capacity, order);
  limits_ = limits;
  for (const int64_t total : total_) {
    if (total > capacity_) return SearchOutcome::kInfeasible;
  }
  if (count_ == 0) return SearchOutcome::kFound;
  std::vector<int32_t> cuts = {0};
  for (int32_t s = 0; s + 1 < sections_.count(); ++s) {
    if (cuts_[s] == 0) cuts.push_back(s + 1);
  }
  cuts.push_back(sections_.count());
  for (int32_t i = 0; i < count_; ++i) stack_.push_back({i, i});
  return solve_parts({0, size_t(count_)}, cuts, 0);
}

bool CapacitySearch::out_of_budget() {
  if (nodes_ >= limits_.nodes) return true;
  ++nodes_;
  if (nodes_ % 32 != 0) return false;
  return std::chrono::steady_clock::now() > limits_.deadline;
}

CapacitySearch::Score CapacitySearch::score(int32_t i) const {
  const PackingItem& item = sections_.items[i];
  int64_t fullest = 0;
  for (const SectionSpan& span : item.spans) {
    for (int32_t s = span.begin; s < span.end; ++s) fullest = std::max(fullest, total_[s]);
  }
  const double area = item.area();
  const auto pressure = double(fullest), lifetime = double(item.lifetime);
  switch (order_) {
    case SearchOrder::kLifetimeAreaPressure:
      return {lifetime, area, pressure};
    case SearchOrder::kPressureAreaLifetime:
      return {pressure, area, lifetime};
    case SearchOrder::kPressureLifetimeArea:
      return {pressure, lifetime, area};
  }
  return {};
}

std::vector<CapacitySearch::Entry> CapacitySearch::ranked(const std::vector<int32_t>& items) const {
  std::vector<std::pair<Score, int32_t>> scored;
  scored.reserve(items.size());
  for (const int32_t i : items) scored.push_back({score(i), i});
  std::sort(scored.begin(), scored.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  });
  std::vector<Entry> entries;
  entries.reserve(items.size());
  for (const auto& [unused, item] : scored) entries.push_back({item, int32_t(entries.size())});
  return entries;
}

SearchOutcome CapacitySearch::solve(const std::vector<int32_t>& items, SectionSpan sections,
                                    int64_t last_offset) {
  const std::vector<Entry> entries = ranked(items);
  const Range all{stack_.size(), stack_.size() + entries.size()};
  stack_.insert(stack_.end(), entries.begin(), entries.end());
  const SearchOutcome outcome = descend(all, sections, {last_offset, -1});
  stack_.resize(all.begin);
  return outcome;
}

SearchOutcome CapacitySearch::descend(Range parent, SectionSpan sections, Key last) {
  if (out_of_budget()) return SearchOutcome::kLimit;
  const size_t begin = stack_.size();
  for (size_t k = parent.begin; k < parent.end; ++k) {
    const Entry entry = stack_[k];
    if (!placed_[entry.item]) stack_.push_back(entry);
  }
  const Range unplaced{begin, stack_.size()};
  SearchOutcome outcome = SearchOutcome::kInfeasible;
  if (unplaced.begin == unplaced.end) {
    outcome = SearchOutcome::kFound;
  } else if (!switches_.passed_bound || passed_items_fit(unplaced, sections, last)) {
    outcome = branch(unplaced, sections, last);
  }
  stack_.resize(begin);
  return outcome;
}

bool CapacitySearch::out_of_stack_order(int32_t item) const {
  if (twin_before_[item] >= 0 && !placed_[twin_before_[item]]) return true;
  const int32_t c = lifetime_class_[item];
  return c >= 0 && class_top_[c] == rest_[item] && class_rank_[class_last_[c]] > class_rank_[item];
}

void CapacitySearch::collect(Range unplaced, Key last, std::vector<Candidate>& candidates) const {
  candidates.clear();
  int64_t lowest_top = std::numeric_limits<int64_t>::max();
  for (size_t k = unplaced.begin; k < unplaced.end; ++k) {
    const int32_t i = stack_[k].item;
    lowest_top = std::min(lowest_top, rest_[i] + sections_.items[i].padded);
  }
  for (size_t k = unplaced.begin; k < unplaced.end; ++k) {
    const int32_t i = stack_[k].item;
    const Key key{rest_[i], stack_[k].rank};
    if (key < last || rest_[i] < lower_[i]) continue;
    if (switches_.dominance && key.offset >= lowest_top) continue;
    if (switches_.stack_order && out_of_stack_order(i)) continue;
    candidates.push_back({key, i});
  }
  std::sort(candidates.begin(), candidates.end(),
            [](const Candidate& a, const Candidate& b) { return a.key < b.key; });
}

SearchOutcome CapacitySearch::branch(Range unplaced, SectionSpan sections, Key last) {
  std::vector<Candidate>& candidates = candidate_pool_[depth_];
  collect(unplaced, last, candidates);
  const size_t entry_mark = trail_.size();
  SearchOutcome outcome = SearchOutcome::kInfeasible;
  for (const Candidate& candidate : candidates) {
    const size_t mark = trail_.size();
    place(candidate.item, candidate.key.offset);
    outcome = SearchOutcome::kInfeasible;
    ++depth_;
    if (sections_fit(sections, candidate.item, candidate.key.offset)) {
      outcome = switches_.decomposition
                    ? decompose(unplaced, sections, candidate.key, candidate.item)
                    : descend(unplaced, sections, candidate.key);
    }
    --depth_;
    undo(mark);
    unplace(candidate.item);
    if (outcome != SearchOutcome::kInfeasible) break;
    if (switches_.passed_bound && !pass_over(candidate.item, last.offset)) break;
  }
  undo(entry_mark);
  return outcome;
}

SearchOutcome CapacitySearch::decompose(Range unplaced, SectionSpan sections, Key last,
                                        int32_t item) {
  const int32_t first = sections_.items[item].first(), end = sections_.items[item].last();
  std::vector<int32_t> cuts;
  for (int32_t s = first; s + 1 < end; ++s) {
    if (--cuts_[s] > 0) continue;
    if (cuts.empty()) cuts.push_back(sections.begin);
    cuts.push_back(s + 1);
  }
  SearchOutcome outcome;
  if (cuts.empty()) {
    outcome = descend(unplaced, sections, last);
  } else {
    cuts.push_back(sections.end);
    outcome = solve_parts(unplaced, cuts, last.offset);
  }
  for (int32_t s = first; s + 1 < end; ++s) ++cuts_[s];
  return outcome;
}

// The fullest part goes first: if one of them has no solution, it is most likely that one.
SearchOutcome CapacitySearch::solve_parts(Range unplaced, const std::vector<int32_t>& cuts,
                                          int64_t offset) {
  struct Part {
    SectionSpan sections;
    std::vector<int32_t> items;
    int64_t fullest = 0;
  };
  std::vector<Part> parts(cuts.size() - 1);
  for (size_t p = 0; p < parts.size(); ++p) {
    parts[p].sections = {cuts[p], cuts[p + 1]};
    for (int32_t s = cuts[p]; s < cuts[p + 1]; ++s) {
      if (total_[s] > 0) parts[p].fullest = std::max(parts[p].fullest, floor_[s] + total_[s]);
    }
  }
  for (size_t k = unplaced.begin; k < unplaced.end; ++k) {
    const int32_t i = stack_[k].item;
    if (placed_[i]) continue;
    const auto part = std::upper_bound(cuts.begin(), cuts.end(), sections_.items[i].first());
    parts[size_t(part - cuts.begin()) - 1].items.push_back(i);
  }
  std::stable_sort(parts.begin(), parts.end(),
                   [](const Part& a, const Part& b) { return a.fullest > b.fullest; });
  for (const Part& part : parts) {
    if (part.items.empty()) continue;
    const SearchOutcome outcome = solve(part.items, part.sections, offset);
    if (outcome != SearchOutcome::kFound) return outcome;
  }
  return SearchOutcome::kFound;
}

// An item that the canonical order has passed over can only be placed after an unplaced item in its
// way has lifted it. With these offsets, the bytes that must lie at or above the offset of each
// unplaced item have to fit (the one-machine bound with heads).
bool CapacitySearch::passed_items_fit(Range unplaced, SectionSpan sections, Key last) {
  by_lift_.clear();
  for (size_t k = unplaced.begin; k < unplaced.end; ++k) {
    const int32_t i = stack_[k].item;
    int64_t lowest = lower_[i];
    if (Key{lowest, stack_[k].rank} < last) lowest = std::max(lowest, lifted(i, last.offset));
    if (lowest > limit_ - sections_.items[i].size) return false;
    by_lift_.push_back({-lowest, i});
  }
  std::sort(by_lift_.begin(), by_lift_.end());
  std::fill(above_.begin() + sections.begin, above_.begin() + sections.end, 0);
  for (const auto& [negated, i] : by_lift_) {
    const int64_t room = capacity_ + negated;
    for (const SectionSpan& span : sections_.items[i].spans) {
      for (int32_t s = span.begin; s < span.end; ++s) {
        above_[s] += sections_.items[i].padded;
        if (above_[s] > room) return false;
      }
    }
  }
  return true;
}

int64_t CapacitySearch::lifted(int32_t item, int64_t last_offset) const {
  int64_t lowest = std::numeric_limits<int64_t>::max() / 2;
  for (int32_t c = conflict_start_[item]; c < conflict_start_[item + 1]; ++c) {
    const int32_t other = conflicts_[c];
    if (placed_[other]) continue;
    lowest = std::min(lowest, std::max(lower_[other], last_offset) + sections_.items[other].padded);
  }
  return lowest;
}

int64_t CapacitySearch::rest_on(int32_t item, int64_t top) const {
  return rounds_[item] ? align_up(top, sections_.items[item].alignment) : top;
}

void CapacitySearch::set(int64_t& where, int64_t value) {
  trail_.push_back({&where, where});
  where = value;
}

void CapacitySearch::mark_dirty(int32_t section) {
  if (is_dirty_[section]) return;
  is_dirty_[section] = 1;
  dirty_.push_back(section);
}

void CapacitySearch::place(int32_t item, int64_t offset) {
  const int64_t top = offset + sections_.items[item].padded;
  placed_[item] = 1;
  solution_[item] = offset;
  for (const SectionSpan& span : sections_.items[item].spans) {
    for (int32_t s = span.begin; s < span.end; ++s) {
      total_[s] -= sections_.items[item].padded;
      mark_dirty(s);
    }
  }
  for (int32_t c = conflict_start_[item]; c < conflict_start_[item + 1]; ++c) {
    const int32_t other = conflicts_[c];
    if (placed_[other]) continue;
    const int64_t before = rest_[other], rest = rest_on(other, top);
    if (before >= rest) continue;
    set(rest_[other], rest);
    if (rest > lower_[other]) raise(other, rest);
  }
  if (lifetime_class_[item] >= 0) {
    set(class_top_[lifetime_class_[item]], top);
    set(class_last_[lifetime_class_[item]], item);
  }
  refresh_floors();
}

void CapacitySearch::raise(int32_t item, int64_t lower) {
  for (const SectionSpan& span : sections_.items[item].spans) {
    for (int32_t s = span.begin; s < span.end; ++s) {
      if (floor_[s] >= lower_[item]) mark_dirty(s);
    }
  }
  set(lower_[item], lower);
}

// The item has no solution where it rests now, so an unplaced item has to lift it. Returns false if
// the sections it lives in then overflow: no later choice at this node can help.
bool CapacitySearch::pass_over(int32_t item, int64_t last_offset) {
  const int64_t lower = lifted(item, last_offset);
  if (lower > limit_ - sections_.items[item].size) return false;
  if (lower <= lower_[item]) return true;
  raise(item, lower);
  refresh_floors();
  for (const SectionSpan& span : sections_.items[item].spans) {
    for (int32_t s = span.begin; s < span.end; ++s) {
      if (floor_[s] + total_[s] > capacity_) return false;
    }
  }
  return true;
}

void CapacitySearch::refresh_floors() {
  for (const int32_t s : dirty_) {
    is_dirty_[s] = 0;
    if (total_[s] == 0) continue;
    int64_t lowest = std::numeric_limits<int64_t>::max();
    for (int32_t m = member_start_[s]; m < member_start_[s + 1]; ++m) {
      if (!placed_[members_[m]]) lowest = std::min(lowest, lower_[members_[m]]);
    }
    if (lowest != floor_[s]) set(floor_[s], lowest);
  }
  dirty_.clear();
}

void CapacitySearch::undo(size_t mark) {
  while (trail_.size() > mark) {
    *trail_.back().where = trail_.back().before;
    trail_.pop_back();
  }
}

void CapacitySearch::unplace(int32_t item) {
  placed_[item] = 0;
  for (const SectionSpan& span : sections_.items[item].spans) {
    for (int32_t s = span.begin; s < span.end; ++s) total_[s] += sections_.items[item].padded;
  }
}

bool CapacitySearch::sections_fit(SectionSpan sections, int32_t item, int64_t offset) const {
  if (offset > limit_ - sections_.items[item].size) return false;
  if (!switches_.section_bound) return true;
  for (int32_t s = sections.begin; s < sections.end; ++s) {
    if (total_[s] > 0 && std::max(floor_[s], offset) + total_[s] > capacity_) return false;
  }
  return true;
}

}  // namespace rc
