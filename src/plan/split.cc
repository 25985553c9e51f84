// src/plan/split.cc: see split.h.
#include "src/plan/split.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <numeric>

namespace rc {
namespace {

// Of all sums of all groups: where there are more, those near an even share are tried first; more
// than 32 MiB are not made.
constexpr size_t kFewWords = size_t{1} << 16, kMostWords = size_t{1} << 22;

// A set of numbers from 0 to size - 1.
class Sums {
 public:
  explicit Sums(int64_t size) : size_(size), words_(size_t(size + 63) / 64, 0) {}

  bool has(int64_t at) const {
    return at >= 0 && at < size_ && (words_[size_t(at) / 64] >> (at % 64) & 1) != 0;
  }
  void remove_below(int64_t at) {
    at = std::clamp<int64_t>(at, 0, size_);
    std::fill(words_.begin(), words_.begin() + at / 64, 0);
    if (at % 64 != 0) words_[size_t(at) / 64] &= ~uint64_t{0} << (at % 64);
  }
  void add(int64_t at) { words_[size_t(at) / 64] |= uint64_t{1} << (at % 64); }
  // Joins all numbers of `other`, each `by` larger (or smaller, below 0). Its own may be joined
  // larger: words are read before any that they reach is written.
  void join(const Sums& other, int64_t by) {
    const size_t n = words_.size(), skip = size_t(std::abs(by)) / 64;
    const int bits = int(std::abs(by) % 64);
    if (skip >= n) return;
    if (by >= 0) {
      for (size_t i = n; i-- > skip;) {
        uint64_t word = other.words_[i - skip] << bits;
        if (bits > 0 && i > skip) word |= other.words_[i - skip - 1] >> (64 - bits);
        words_[i] |= word;
      }
    } else {
      for (size_t i = 0; i + skip < n; ++i) {
        uint64_t word = other.words_[i + skip] >> bits;
        if (bits > 0 && i + skip + 1 < n) word |= other.words_[i + skip + 1] << (64 - bits);
        words_[i] |= word;
      }
    }
    if (size_ % 64 != 0) words_.back() &= (uint64_t{1} << (size_ % 64)) - 1;
  }
  // The first number from `low` to `high`; -1: none.
  int64_t first(int64_t low, int64_t high) const {
    low = std::max<int64_t>(low, 0);
    high = std::min(high, size_ - 1);
    for (int64_t at = low; at <= high; at = (at / 64 + 1) * 64) {
      const uint64_t word = words_[size_t(at) / 64] >> (at % 64);
      if (word == 0) continue;
      const int64_t found = at + std::countr_zero(word);
      return found <= high ? found : -1;
    }
    return -1;
  }

 private:
  int64_t size_;
  std::vector<uint64_t> words_;
};

// All sums of whole members up to a limit, in units of what their sizes share.
class SumTable {
 public:
  SumTable(const std::vector<SplitGroup>& groups, int64_t unit, int64_t most,
           const SplitFirst& first)
      : groups_(groups), unit_(unit) {
    const int64_t least = (std::max<int64_t>(first.low, 0) + unit - 1) / unit;
    tables_.emplace_back(most / unit + 1);
    tables_.back().add(0);
    if (first.groups == 0) tables_.back().remove_below(least);
    for (const SplitGroup& group : groups) {
      Sums sums = tables_.back();
      for (int32_t left = group.count, block = 1; left > 0; block *= 2) {
        const int32_t members = std::min(block, left);
        left -= members;
        sums.join(sums, members * (group.bytes / unit));
      }
      if (tables_.size() == first.groups) sums.remove_below(least);
      tables_.push_back(std::move(sums));
    }
  }

  // The first sum of bytes within the bounds; -1: none.
  int64_t first(int64_t low, int64_t high) const {
    if (high < 0) return -1;
    const int64_t at =
        tables_.back().first((std::max<int64_t>(low, 0) + unit_ - 1) / unit_, high / unit_);
    return at < 0 ? -1 : at * unit_;
  }
  // How many members of each group make up a sum.
  std::vector<int32_t> members(int64_t bytes) const {
    std::vector<int32_t> moved(groups_.size(), 0);
    int64_t left = bytes / unit_;
    for (size_t g = groups_.size(); g-- > 0;) {
      for (; !tables_[g].has(left); left -= groups_[g].bytes / unit_) ++moved[g];
    }
    return moved;
  }

 private:
  const std::vector<SplitGroup>& groups_;
  const int64_t unit_;
  std::vector<Sums> tables_;  // [group]: of the groups before it
};

int64_t shared_unit(const std::vector<SplitGroup>& groups) {
  int64_t unit = 0;
  for (const SplitGroup& group : groups) unit = std::gcd(unit, group.bytes);
  return std::max<int64_t>(unit, 1);
}

// Few members more or less of each group than a share of all: finds sums where there are many.
class NearShare {
 public:
  NearShare(const std::vector<SplitGroup>& groups, int64_t unit, int64_t target)
      : groups_(groups), unit_(unit) {
    int64_t all = 0, sum = 0;
    for (const SplitGroup& group : groups) all += group.bytes * group.count;
    for (const SplitGroup& group : groups) {
      const double share = all > 0 ? double(target) / double(all) : 0;
      base_.push_back(std::clamp(int32_t(share * group.count), 0, group.count));
      sum += base_.back() * group.bytes;
    }
    for (size_t g = 0; g < groups.size(); ++g) {
      while (base_[g] < groups[g].count && sum + groups[g].bytes <= target) {
        ++base_[g];
        sum += groups[g].bytes;
      }
    }
    base_bytes_ = sum;
    tables_.emplace_back(2 * kReach + 1);
    tables_.back().add(kReach);
    for (size_t g = 0; g < groups.size(); ++g) {
      Sums sums = tables_.back();
      for (int32_t more = least(g); more <= most(g); ++more) {
        if (more != 0) sums.join(tables_.back(), more * (groups[g].bytes / unit));
      }
      tables_.push_back(std::move(sums));
    }
  }

  // As SumTable's.
  int64_t first(int64_t low, int64_t high) const {
    const auto above = [&](int64_t bytes) { return bytes - base_bytes_; };
    // Down is floored, up is ceiled: both are multiples of the unit away from the base.
    const int64_t from = above(low) >= 0 ? (above(low) + unit_ - 1) / unit_ : above(low) / unit_;
    const int64_t to = above(high) >= 0 ? above(high) / unit_ : (above(high) - unit_ + 1) / unit_;
    const int64_t at = tables_.back().first(from + kReach, to + kReach);
    return at < 0 ? -1 : base_bytes_ + (at - kReach) * unit_;
  }
  std::vector<int32_t> members(int64_t bytes) const {
    std::vector<int32_t> moved = base_;
    int64_t left = (bytes - base_bytes_) / unit_ + kReach;
    for (size_t g = groups_.size(); g-- > 0;) {
      int32_t more = least(g);
      while (!tables_[g].has(left - more * (groups_[g].bytes / unit_))) ++more;
      moved[g] += more;
      left -= more * (groups_[g].bytes / unit_);
    }
    return moved;
  }

 private:
  static constexpr int64_t kReach = 1 << 17;
  static constexpr int32_t kMostMore = 4;
  int32_t least(size_t g) const { return -std::min(base_[g], kMostMore); }
  int32_t most(size_t g) const { return std::min(groups_[g].count - base_[g], kMostMore); }

  const std::vector<SplitGroup>& groups_;
  const int64_t unit_;
  std::vector<int32_t> base_;
  int64_t base_bytes_ = 0;
  std::vector<Sums> tables_;
};

// The whole members of a sum, and a part of so many rows.
template <typename Table>
void take(const Table& sums, int64_t at, int64_t part, int64_t row, Split& split) {
  split.moved = sums.members(at);
  split.bytes = at + part * row;
  split.cut_rows = part;
}

// Whole members, and one to `rows` rows of so many bytes.
template <typename Table>
bool split_with_rows(const Table& sums, int64_t row, int64_t rows, int64_t low, int64_t high,
                     int64_t min_part, Split& split) {
  const int64_t fewest = std::max<int64_t>(1, (min_part + row - 1) / row);
  if (fewest > rows) return false;
  for (int64_t at = sums.first(low - rows * row, high); at >= 0 && at <= low;
       at = sums.first(at + 1, high)) {
    const int64_t part = std::max((low - at + row - 1) / row, fewest);
    if (part > rows || at + part * row > high) continue;
    take(sums, at, part, row, split);
    return true;
  }
  return false;
}

// The same of each group in turn that may be cut, by sums near an even share.
bool split_near(const std::vector<SplitGroup>& groups, int64_t low, int64_t high, int64_t min_part,
                Split& split) {
  for (size_t g = 0; g < groups.size(); ++g) {
    if (groups[g].rows < 2 || groups[g].count < 1) continue;
    std::vector<SplitGroup> others = groups;
    --others[g].count;
    const int64_t row = groups[g].bytes / groups[g].rows, rows = groups[g].rows - 1;
    const NearShare sums(others, shared_unit(others), std::max<int64_t>(0, low - rows / 2 * row));
    split.cut_group = int32_t(g);
    if (split_with_rows(sums, row, rows, low, high, min_part, split)) return true;
  }
  split.cut_group = -1;
  return false;
}

// A part of one of the first groups counts for them too: as many rows as they lack, one by one.
bool split_with_first_rows(const std::vector<SplitGroup>& groups, int64_t row, int64_t rows,
                           int64_t low, int64_t high, int64_t min_part, SplitFirst first,
                           Split& split) {
  const int64_t fewest = std::max<int64_t>(1, (min_part + row - 1) / row);
  for (int64_t part = fewest; part <= rows && part * row <= high; ++part) {
    const SumTable sums(groups, shared_unit(groups), high - part * row,
                        {first.groups, first.low - part * row});
    const int64_t at = sums.first(low - part * row, high - part * row);
    if (at < 0) continue;
    take(sums, at, part, row, split);
    return true;
  }
  return false;
}

SplitOutcome split_with_cut(const std::vector<SplitGroup>& groups, int64_t low, int64_t high,
                            int64_t min_part, const SplitFirst& first, Split& split) {
  constexpr int64_t kMostRows = 64;
  bool exact = true;
  for (size_t g = 0; g < groups.size(); ++g) {
    if (groups[g].rows < 2 || groups[g].count < 1) continue;
    std::vector<SplitGroup> others = groups;
    --others[g].count;
    split.cut_group = int32_t(g);
    const int64_t row = groups[g].bytes / groups[g].rows, rows = groups[g].rows - 1;
    const bool counts = g < first.groups && first.low > 0;
    if (counts && rows > kMostRows) {
      exact = false;
      continue;
    }
    if (counts ? split_with_first_rows(others, row, rows, low, high, min_part, first, split)
               : split_with_rows(SumTable(others, shared_unit(others), high, first), row, rows, low,
                                 high, min_part, split))
      return SplitOutcome::kFound;
  }
  split.cut_group = -1;
  return exact ? SplitOutcome::kNone : SplitOutcome::kUnknown;
}

// Where the first groups have bytes enough of their own, by all sums.
SplitOutcome split_both(const std::vector<SplitGroup>& groups, int64_t low, int64_t high,
                        int64_t min_part, const SplitFirst& first, Split& split) {
  split = {std::vector<int32_t>(groups.size(), 0), 0, -1, 0, true};
  int64_t all = 0;
  for (const SplitGroup& group : groups) all += group.bytes * group.count;
  const int64_t unit = shared_unit(groups), most = std::min(high, all);
  if (low > most) return SplitOutcome::kNone;
  if (size_t(most / unit / 64 + 1) * (groups.size() + 1) > kMostWords)
    return SplitOutcome::kUnknown;
  const SumTable sums(groups, unit, most, first);
  const int64_t whole = sums.first(low, most);
  if (whole < 0) return split_with_cut(groups, low, most, min_part, first, split);
  split.moved = sums.members(whole);
  split.bytes = whole;
  return SplitOutcome::kFound;
}

}  // namespace

SplitOutcome least_split(const std::vector<SplitGroup>& groups, int64_t low, int64_t high,
                         int64_t min_part, Split& split, const SplitFirst& first) {
  if (first.low > 0) {
    low = std::max(low, first.low);
    if (first.groups >= groups.size()) return least_split(groups, low, high, min_part, split, {});
    // The first groups alone mostly do, which serves both.
    const std::vector<SplitGroup> own(groups.begin(), groups.begin() + int64_t(first.groups));
    const SplitOutcome outcome = least_split(own, low, high, min_part, split, {});
    split.moved.resize(groups.size(), 0);
    split.least = split.bytes < low + shared_unit(groups);
    if (outcome == SplitOutcome::kFound && (split.least || split.cut_group >= 0)) return outcome;
    Split both;
    const SplitOutcome then = split_both(groups, low, high, min_part, first, both);
    if (then == SplitOutcome::kUnknown && outcome == SplitOutcome::kFound) return outcome;
    split = both;
    return then;
  }
  split = {std::vector<int32_t>(groups.size(), 0), 0, -1, 0, true};
  if (low <= 0) return high >= 0 ? SplitOutcome::kFound : SplitOutcome::kNone;
  if (low > high) return SplitOutcome::kNone;
  const int64_t unit = shared_unit(groups);
  int64_t all = 0;
  for (const SplitGroup& group : groups) all += group.bytes * group.count;
  if (all < low) return SplitOutcome::kNone;
  const int64_t most = std::min(high, all);
  const size_t words = size_t(most / unit / 64 + 1) * (groups.size() + 1);
  if (words > kFewWords) {
    const NearShare near(groups, unit, low);
    const int64_t at = near.first(low, high);
    const bool found = at >= 0;
    if (found) split = {near.members(at), at, -1, 0, at < low + unit};
    if (found ? split.least : split_near(groups, low, high, min_part, split))
      return SplitOutcome::kFound;
    if (words > kMostWords) return found ? SplitOutcome::kFound : SplitOutcome::kUnknown;
    split.least = true;
  }
  const SumTable sums(groups, unit, most, {});
  const int64_t whole = sums.first(low, most);
  if (whole >= 0) {
    split.moved = sums.members(whole);
    split.bytes = whole;
    return SplitOutcome::kFound;
  }
  return split_with_cut(groups, low, most, min_part, {}, split);
}

}  // namespace rc
