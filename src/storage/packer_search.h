// src/storage/packer_search.h: exact search for a packing that fits a given height.
//
// Depth first over canonical packings: items are placed in rising order of offset, each resting on
// the highest conflicting item below it. Canonical packings, section bounds, dominance and
// decomposition follow M. Moffitt, "MiniMalloc: A Lightweight Memory Allocator for
// Hardware-Accelerated Machine Learning", ASPLOS 2023, doi 10.1145/3623278.3624752; the code, the
// stack order of items of equal lifetime and the bound for passed items are rcore's own.
#pragma once

#include <chrono>
#include <cstdint>
#include <tuple>
#include <utility>
#include <vector>

#include "src/storage/packing_sections.h"

namespace rc {

// Each switch takes work away from the search without losing a solution.
struct SearchSwitches {
  bool section_bound = true;  // floor of a section + its unplaced bytes must fit
  bool dominance = true;      // never place above a spot in which an unplaced item fits entirely
  bool decomposition = true;  // stretches of time without a common unplaced item are independent
  bool stack_order = true;    // items of equal lifetime that touch lie in one fixed order
  bool passed_bound = true;   // an item that was passed over must be lifted by another one first
};

// How unplaced items are ranked where their offsets are equal.
enum class SearchOrder : uint8_t {
  kLifetimeAreaPressure,
  kPressureAreaLifetime,
  kPressureLifetimeArea
};

enum class SearchOutcome : uint8_t { kFound, kInfeasible, kLimit };

struct SearchLimits {
  uint64_t nodes = 0;
  std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max();
};

class CapacitySearch {
 public:
  CapacitySearch(const PackingSections& sections, SearchSwitches switches);

  SearchOutcome run(int64_t capacity, SearchOrder order, const SearchLimits& limits);

  const std::vector<int64_t>& offsets() const { return solution_; }  // after kFound
  uint64_t nodes() const { return nodes_; }                          // of the latest run

 private:
  struct Entry {
    int32_t item, rank;
  };
  struct Key {  // the place of the latest item in the canonical order
    int64_t offset;
    int32_t rank;
    bool operator<(const Key& o) const {
      return offset != o.offset ? offset < o.offset : rank < o.rank;
    }
  };
  struct Change {
    int64_t* where;
    int64_t before;
  };
  struct Candidate {
    Key key;
    int32_t item;
  };
  using Score = std::tuple<double, double, double>;  // the larger goes first
  struct Range {                                     // of stack_
    size_t begin, end;
  };

  void reset(int64_t capacity, SearchOrder order);
  Score score(int32_t item) const;
  std::vector<Entry> ranked(const std::vector<int32_t>& items) const;
  SearchOutcome solve(const std::vector<int32_t>& items, SectionSpan sections, int64_t last_offset);
  SearchOutcome descend(Range parent, SectionSpan sections, Key last);
  SearchOutcome branch(Range unplaced, SectionSpan sections, Key last);
  SearchOutcome decompose(Range unplaced, SectionSpan sections, Key last, int32_t item);
  SearchOutcome solve_parts(Range unplaced, const std::vector<int32_t>& cuts, int64_t offset);
  void collect(Range unplaced, Key last, std::vector<Candidate>& candidates) const;
  bool out_of_stack_order(int32_t item) const;
  bool passed_items_fit(Range unplaced, SectionSpan sections, Key last);
  void place(int32_t item, int64_t offset);
  bool pass_over(int32_t item, int64_t last_offset);
  void raise(int32_t item, int64_t lower);
  void refresh_floors();
  void undo(size_t mark);
  void unplace(int32_t item);
  bool sections_fit(SectionSpan sections, int32_t item, int64_t offset) const;
  int64_t rest_on(int32_t item, int64_t top) const;
  void mark_dirty(int32_t section);
  int64_t lifted(int32_t item, int64_t last_offset) const;
  void prepare_conflicts();
  void prepare_classes();
  void rank_classes();
  void set(int64_t& where, int64_t value);
  bool out_of_budget();

  const PackingSections& sections_;
  const SearchSwitches switches_;
  const int32_t count_;

  // Fixed per problem. Ragged arrays: row i is [start[i], start[i + 1]).
  std::vector<int32_t> conflict_start_, conflicts_;
  std::vector<int32_t> member_start_, members_;  // items of a section
  std::vector<int32_t> lifetime_class_;          // -1 where the stack order does not apply
  std::vector<int32_t> by_class_;                // items that have a class, class by class
  std::vector<char> rounds_;                     // its alignment can move it up

  // The partial packing.
  int64_t limit_ = 0;           // the height to reach, for sizes
  int64_t capacity_ = 0;        // the same rounded up to the stride, for padded sizes
  std::vector<int64_t> rest_;   // lowest offset at which an unplaced item rests on the placed ones
  std::vector<int64_t> lower_;  // proven bound on its offset from here on; >= rest_
  std::vector<char> placed_;
  std::vector<int64_t> floor_;  // lowest lower_ among the unplaced items of a section
  std::vector<int64_t> total_;  // unplaced bytes of a section
  std::vector<int32_t> cuts_;   // unplaced items that span the border after a section
  std::vector<int64_t> class_top_, class_last_;  // the latest placed item of a lifetime class
  std::vector<Change> trail_;
  std::vector<int32_t> dirty_;
  std::vector<char> is_dirty_;

  std::vector<Entry> stack_;  // the lists of unplaced items of all nodes on the path
  std::vector<std::vector<Candidate>> candidate_pool_;
  size_t depth_ = 0;
  std::vector<int64_t> above_;  // scratch of passed_items_fit
  std::vector<std::pair<int64_t, int32_t>> by_lift_;

  SearchOrder order_ = SearchOrder::kLifetimeAreaPressure;
  std::vector<int32_t> class_rank_;   // the place of an item in the order of its class
  std::vector<int32_t> twin_before_;  // the item of its class and size right before it, or -1
  std::vector<int64_t> solution_;
  SearchLimits limits_;
  uint64_t nodes_ = 0;
};

}  // namespace rc
