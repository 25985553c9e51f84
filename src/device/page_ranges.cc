// src/device/page_ranges.cc: ranges, their pages, and the moves between them.
#include "src/device/page_ranges.h"

#include <algorithm>
#include <new>

#include "src/device/poison.h"

namespace rc {

PageRanges::~PageRanges() {
  for (auto& [address, range] : ranges_) {
    forget_range(address, range.bin->bytes);
    unmap_pages(address, range.bin->bytes);
  }
}

std::vector<PageRanges::Range*>& PageRanges::list_of(Range* range) {
  if (range->backed == range->bin->bytes) return range->bin->full;
  return range->backed ? range->bin->partial : range->bin->hollow;
}

void PageRanges::retire(Range* range) {
  range->state = Range::kIdle;
  list_of(range).push_back(range);
}

PageRanges::Range* PageRanges::find(char* address, size_t bytes) {
  const auto found = ranges_.find(address);
  if (found == ranges_.end() || found->second.bin->bytes != round_up(bytes)) return nullptr;
  return &found->second;
}

// A new range without pages. Throws bad_alloc; nullptr when the system refuses.
PageRanges::Range* PageRanges::map_range(Bin* bin) {
  for (std::vector<Range*>* list : {&bin->full, &bin->partial, &bin->hollow}) {
    if (list->capacity() <= bin->ranges) list->reserve(2 * bin->ranges + 4);
  }
  // Past the limit ranges are not aligned, so that the kernel can join neighbours into one mapping.
  char* address = map_pages(bin->bytes, mappings() < mappings_max_);
  if (!address) return nullptr;
  try {
    Range* range =
        &ranges_.emplace(address, Range{address, bin, Range::kIdle, 0, {}}).first->second;
    ++bin->ranges;
    poison_range(address, bin->bytes);
    return range;
  } catch (...) {
    unmap_pages(address, bin->bytes);
    throw;
  }
}

void PageRanges::forget(Range* range) {
  --range->bin->ranges;
  cuts_ -= range->cuts.size();
  backed_bytes_ -= range->backed;
  forget_range(range->address, range->bin->bytes);
  ranges_.erase(range->address);
}

// An idle range to take pages from: the smallest that has enough, else the largest.
PageRanges::Range* PageRanges::donor_for(size_t missing) {
  Range* best = nullptr;
  for (auto at = bins_.lower_bound(kPieceMin); at != bins_.end(); ++at) {
    for (std::vector<Range*>* list : {&at->second.partial, &at->second.full}) {
      if (list->empty() || list->back()->backed < kPieceMin) continue;
      Range* range = list->back();
      const bool enough = range->backed >= missing;
      const bool best_enough = best && best->backed >= missing;
      if (!best || (enough && (!best_enough || range->backed < best->backed)) ||
          (!enough && !best_enough && range->backed > best->backed)) {
        best = range;
      }
    }
  }
  return best;
}

// [begin, end) of the range has become one mapping of its own.
void PageRanges::set_cuts(Range* range, size_t begin, size_t end) {
  cuts_ -= range->cuts.size();
  std::erase_if(range->cuts, [&](size_t cut) { return cut >= begin && cut <= end; });
  auto at = std::lower_bound(range->cuts.begin(), range->cuts.end(), begin);
  if (end < range->bin->bytes) at = range->cuts.insert(at, end);
  if (begin > 0) range->cuts.insert(at, begin);
  cuts_ += range->cuts.size();
}

// Puts pages behind the rest of a range: moved from idle ranges, then new ones, which the first use
// faults in. False where the kernel lost part of it. Throws bad_alloc, with the range as it was or
// filled in part.
bool PageRanges::fill(Range* range) {
  const size_t bytes = range->bin->bytes;
  while (parking_ == Parking::kMove && bytes - range->backed >= kPieceMin && !crowded()) {
    Range* donor = donor_for(bytes - range->backed);
    if (!donor) break;
    range->cuts.reserve(range->cuts.size() + 2);
    // The end of its pages, back to where its last mapping begins.
    const auto cut = std::lower_bound(donor->cuts.begin(), donor->cuts.end(), donor->backed);
    const size_t piece = cut == donor->cuts.begin() ? 0 : *std::prev(cut);
    const size_t length = std::min(donor->backed - piece, bytes - range->backed);
    const size_t from = donor->backed - length;
    bool lost = false;
    if (!move_pages(range->address + range->backed, donor->address + from, length, &lost)) {
      if (lost) return false;
      break;
    }
    list_of(donor).pop_back();
    donor->backed = from;
    retire(donor);
    set_cuts(range, range->backed, range->backed + length);
    range->backed += length;
  }
  if (range->backed < bytes) {
    backed_bytes_ += bytes - range->backed;
    range->backed = bytes;
    ++fresh_;
  }
  return true;
}

char* PageRanges::allocate(size_t bytes) {
  Bin* bin = &bins_[round_up(bytes)];
  bin->bytes = round_up(bytes);
  Range* range = nullptr;
  for (std::vector<Range*>* list : {&bin->full, &bin->partial, &bin->hollow}) {
    if (list->empty()) continue;
    range = list->back();
    list->pop_back();
    break;
  }
  if (!range) range = map_range(bin);
  if (!range) return nullptr;
  try {
    if (fill(range)) {
      range->state = Range::kInUse;
      return range->address;
    }
  } catch (...) {
    retire(range);
    throw;
  }
  forget(range);
  return nullptr;
}

bool PageRanges::free(char* address, size_t bytes) {
  Range* range = find(address, bytes);
  if (!range || range->state == Range::kIdle) return false;
  poison_range(range->address, range->bin->bytes);
  if (range->state == Range::kParked) parked_bytes_ -= range->bin->bytes;
  retire(range);
  return true;
}

// Moves the pages of a block to an idle range, one mapping after the other.
bool PageRanges::move_out(Range* range) {
  Bin* bin = range->bin;
  Range* to = nullptr;
  try {
    if (!bin->hollow.empty()) {
      to = bin->hollow.back();
      to->cuts.reserve(range->cuts.size());
      bin->hollow.pop_back();
    } else {
      if (crowded()) return false;
      to = map_range(bin);
      if (!to) return false;
      to->cuts.reserve(range->cuts.size());
    }
  } catch (const std::bad_alloc&) {
    return false;
  }
  bool lost = false;
  size_t begin = 0;
  for (size_t i = 0; i <= range->cuts.size(); ++i) {
    const size_t end = i < range->cuts.size() ? range->cuts[i] : bin->bytes;
    if (!move_pages(to->address + begin, range->address + begin, end - begin, &lost)) {
      // Back with what has gone, so that nothing has changed. That this fails too is a kernel
      // without memory for its own records.
      bool home_lost = false;
      for (size_t j = 0, at = 0; j < i; at = range->cuts[j++]) {
        (void)move_pages(range->address + at, to->address + at, range->cuts[j] - at, &home_lost);
      }
      forget(to);  // its addresses are in doubt: never used again
      return false;
    }
    begin = end;
  }
  cuts_ += range->cuts.size() - to->cuts.size();
  to->cuts.assign(range->cuts.begin(), range->cuts.end());
  to->backed = bin->bytes;
  range->backed = 0;
  retire(to);
  return true;
}

bool PageRanges::park(char* address, size_t bytes) {
  Range* range = find(address, bytes);
  if (!range || range->state != Range::kInUse) return range && range->state == Range::kParked;
  if (parking_ == Parking::kMove) {
    if (!move_out(range)) return false;
  } else {
    if (parking_ == Parking::kOff || !drop_pages(range->address, range->bin->bytes)) return false;
    backed_bytes_ -= range->backed;
    range->backed = 0;
  }
  poison_range(range->address, range->bin->bytes);
  range->state = Range::kParked;
  parked_bytes_ += range->bin->bytes;
  return true;
}

bool PageRanges::unpark(char* address, size_t bytes) {
  Range* range = find(address, bytes);
  if (!range || range->state != Range::kParked) return true;
  parked_bytes_ -= range->bin->bytes;
  bool filled = false;
  try {
    filled = fill(range);
  } catch (const std::bad_alloc&) {  // no room to note a cut: its own addresses are mapped, fresh
                                     // pages will do
    backed_bytes_ += range->bin->bytes - range->backed;
    range->backed = range->bin->bytes;
    ++fresh_;
    filled = true;
  }
  if (!filled) {
    forget(range);  // the addresses may be somebody else's by now: free must leave them alone
    return false;
  }
  range->state = Range::kInUse;
  unpoison_range(address, bytes);
  return true;
}

// Where mappings run out, idle ranges go: first those without pages, which only spare calls, then
// all.
bool PageRanges::crowded() {
  const auto full = [&] { return mappings() >= mappings_max_; };
  if (!full()) return false;
  for (auto& [bytes, bin] : bins_) unmap_idle(&bin.hollow, bytes);
  if (full()) trim();
  return full();
}

void PageRanges::unmap_idle(std::vector<Range*>* list, size_t bytes) {
  for (Range* range : *list) {
    char* address = range->address;
    forget(range);
    unmap_pages(address, bytes);
  }
  list->clear();
}

void PageRanges::trim() {
  for (auto& [bytes, bin] : bins_) {
    for (std::vector<Range*>* list : {&bin.full, &bin.partial, &bin.hollow})
      unmap_idle(list, bytes);
  }
}

}  // namespace rc
