// src/device/page_ranges.h: mapped blocks, the cache of their pages, and parking.
//
// A block is a Range: addresses of ours, with pages behind all or none of them while it is in use.
// Freed ranges keep addresses and pages for the next block of their size. A range that lacks pages
// gets them, by mremap, from idle ranges of any size before the system is asked: what is resident
// follows the peak of what is in use, not the sum of the peaks of every size. Parking a block moves
// its pages to an idle range. Ranges live until trim, so in steady state the records are in place
// and nothing is allocated.
//
// Not thread-safe: the device holds its lock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <unordered_map>
#include <vector>

#include "src/device/pages.h"

namespace rc {

class PageRanges {
 public:
  // Pages move between ranges in pieces of this size at least (but for what is left of an earlier
  // move): below, a move costs more than it spares, and a block would become many kernel mappings.
  static constexpr size_t kPieceMin = size_t{1} << 20;

  PageRanges(Parking parking, size_t mappings_max)
      : parking_(parking), mappings_max_(mappings_max) {}
  PageRanges(const PageRanges&) = delete;
  PageRanges& operator=(const PageRanges&) = delete;
  ~PageRanges();

  // A block of `bytes` rounded up to pages; nullptr when the system refuses. Throws bad_alloc.
  char* allocate(size_t bytes);
  // False for what is not a block of that size in use (or parked): nothing changed.
  bool free(char* address, size_t bytes);
  bool park(char* address, size_t bytes);
  // False where the kernel could not give the block its pages: its addresses are lost. True if it
  // is not parked.
  bool unpark(char* address, size_t bytes);
  void trim();

  uint64_t backed_bytes() const { return backed_bytes_; }
  uint64_t parked_bytes() const { return parked_bytes_; }
  size_t mappings() const { return ranges_.size() + cuts_; }  // at most: the kernel may join some
  uint64_t fresh() const { return fresh_; }  // times that new pages were taken from the system

 private:
  struct Bin;
  struct Range {
    enum State { kIdle, kInUse, kParked };
    char* address;
    Bin* bin;
    State state;
    size_t backed;             // pages are behind [0, backed); of an idle range possibly not all
    std::vector<size_t> cuts;  // offsets where one kernel mapping ends and the next begins: mremap
                               // moves one at a time
  };
  struct Bin {  // the ranges of one size
    size_t bytes = 0;
    size_t ranges = 0;
    // Idle ones. Each list can hold every range of the bin without growing.
    std::vector<Range*> full, partial, hollow;
  };

  static size_t round_up(size_t bytes) { return (bytes + page_bytes() - 1) & ~(page_bytes() - 1); }
  std::vector<Range*>& list_of(Range* range);
  void retire(Range* range);
  Range* find(char* address, size_t bytes);
  Range* map_range(Bin* bin);
  void forget(Range* range);
  Range* donor_for(size_t missing);
  bool fill(Range* range);
  void set_cuts(Range* range, size_t begin, size_t end);
  bool move_out(Range* range);
  bool crowded();
  void unmap_idle(std::vector<Range*>* list, size_t bytes);

  const Parking parking_;
  const size_t mappings_max_;
  std::map<size_t, Bin> bins_;
  std::unordered_map<char*, Range> ranges_;
  size_t cuts_ = 0;  // of all ranges
  uint64_t backed_bytes_ = 0;
  uint64_t parked_bytes_ = 0;
  uint64_t fresh_ = 0;
};

}  // namespace rc
