// src/storage/packer.cc: the order of attack: greedy fits, a better order, the exact search.
#include "src/storage/packer.h"

#include <algorithm>
#include <chrono>
#include <random>
#include <set>

#include "src/storage/packer_fit.h"

namespace rc {
namespace {

using Clock = std::chrono::steady_clock;

// The conflict lists of the search are quadratic and its path is a recursion.
constexpr size_t kMaxSearchItems = 4000;
// A node of the search costs about one visit per section of its items. This many visits count as
// one node against the limit (a MiniMalloc instance has 1,500 to 12,000).
constexpr uint64_t kVisitsPerNode = 20'000;
constexpr int64_t kNearestShare = 16;  // of the way from the best known height to the bound
constexpr uint64_t kPatience = 25;  // rounds of the improvement without success before it goes back
// Greedy work is about items^2 per fit; this many pair visits take about half a second.
constexpr double kGreedyPairVisits = 1e9;
constexpr uint64_t kFirstSlice = 4;  // nodes per item in the first round of the search

Clock::time_point deadline_after(double seconds) {
  if (!(seconds < 1e9)) return Clock::time_point::max();
  return Clock::now() + std::chrono::duration_cast<Clock::duration>(
                            std::chrono::duration<double>(std::max(seconds, 0.0)));
}

class Packer {
 public:
  Packer(const PackingProblem& problem, const PackOptions& options)
      : options_(options),
        sections_(fold_sections(problem)),
        deadline_(deadline_after(options.time_limit)) {
    packing_.lower_bound = lower_bound(problem);
    for (const PackingItem& item : sections_.items) residues_.insert(item.size % sections_.unit);
    packing_.proven_bound = uint64_t(next_height(int64_t(aligned_lower_bound(problem))));
    const double tolerated = double(packing_.proven_bound) * (1 + std::max(0.0, options.tolerance));
    enough_ = std::max(options.enough, uint64_t(std::min(tolerated, double(kMaxPackingBytes))));
    packing_.offsets.resize(problem.buffers.size());
    packing_.statistics.sections = uint64_t(sections_.count());
  }

  Packing run() {
    const Clock::time_point start = Clock::now();
    if (!sections_.items.empty()) {
      greedy();
      packing_.statistics.greedy_height = uint64_t(best_.height);
      if (!done() && sections_.items.size() <= kMaxSearchItems) search();
      for (size_t i = 0; i < sections_.items.size(); ++i) {
        packing_.offsets[sections_.items[i].buffer] = uint64_t(best_.offsets[i]);
      }
      packing_.height = uint64_t(best_.height);
    }
    packing_.proven_optimal = packing_.height == packing_.proven_bound;
    packing_.statistics.seconds = std::chrono::duration<double>(Clock::now() - start).count();
    return std::move(packing_);
  }

 private:
  bool reached() const {
    return uint64_t(best_.height) <= std::max(packing_.proven_bound, enough_);
  }
  bool done() const { return reached() || Clock::now() > deadline_; }

  void greedy();
  struct Start {
    std::vector<int32_t> order;
    FitRule rule = FitRule::kLowest;
  };
  void improve(GreedyFit& fitter, Start start, uint64_t rounds);
  void search();
  uint64_t nodes_left() const;
  SearchOutcome search_at(CapacitySearch& search, int64_t height, uint64_t slice);
  int64_t next_height(int64_t least) const;
  void adopt(const std::vector<int64_t>& offsets);

  const PackOptions& options_;
  const PackingSections sections_;
  const Clock::time_point deadline_;
  std::set<int64_t> residues_;  // of the sizes, by the unit
  uint64_t enough_ = 0;         // a height at which to stop
  Packing packing_;
  Fit best_;
};

// A packing without slack has offsets that are multiples of the unit, so its height leaves one of
// the residues of the sizes.
int64_t Packer::next_height(int64_t least) const {
  if (residues_.empty()) return least;
  const int64_t base = least / sections_.unit * sections_.unit;
  const auto at = residues_.lower_bound(least - base);
  return at != residues_.end() ? base + *at : base + sections_.unit + *residues_.begin();
}

void Packer::adopt(const std::vector<int64_t>& offsets) {
  best_.offsets = offsets;
  best_.height = 0;
  for (size_t i = 0; i < offsets.size(); ++i) {
    best_.height = std::max(best_.height, offsets[i] + sections_.items[i].size);
  }
}

void Packer::greedy() {
  GreedyFit fitter(sections_);
  const auto n = double(sections_.items.size());
  const auto affordable = uint64_t(std::max(2.0, kGreedyPairVisits / (n * n)));
  Start best;
  for (const FitOrder key : kFitOrders) {
    const std::vector<int32_t> order = fit_order(sections_, key);
    for (const FitRule rule : {FitRule::kLowest, FitRule::kTightest}) {
      const uint64_t fits = packing_.statistics.orders_tried;
      if (fits > 0 && (fits >= affordable || done())) break;
      Fit fit = fitter.place(order, rule);
      ++packing_.statistics.orders_tried;
      if (fits > 0 && fit.height >= best_.height) continue;
      best = {order, rule};
      best_ = std::move(fit);
    }
  }
  const uint64_t fits = packing_.statistics.orders_tried;
  if (fits < affordable) {
    improve(fitter, best, std::min(options_.improvement_rounds, affordable - fits));
  }
}

// Squeaky wheel: the items that stick out above the bound move towards the front of the order, by a
// random share of their way, and everything is placed again (Joslin and Clements, JAIR 10, 1999).
void Packer::improve(GreedyFit& fitter, Start start, uint64_t rounds) {
  std::mt19937_64 random(options_.seed);
  const auto bound = int64_t(packing_.proven_bound);
  std::vector<std::pair<double, int32_t>> priority;
  std::vector<int32_t> order = start.order;
  Fit current = best_;
  uint64_t failures = 0;
  for (uint64_t round = 0; round < rounds && !done(); ++round) {
    priority.clear();
    for (size_t k = 0; k < order.size(); ++k) {
      const bool sticks_out = current.offsets[order[k]] + sections_.items[order[k]].size > bound;
      const double share = sticks_out ? double(random() >> 11) * 0x1p-53 : 1;
      priority.push_back({double(k) * share, order[k]});
    }
    std::stable_sort(priority.begin(), priority.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    for (size_t k = 0; k < order.size(); ++k) order[k] = priority[k].second;
    current = fitter.place(order, start.rule);
    ++packing_.statistics.orders_tried;
    if (current.height < best_.height) {
      best_ = current;
      start.order = order;
      failures = 0;
    } else if (++failures % kPatience == 0) {
      order = start.order;
      current = best_;
    }
  }
}

uint64_t Packer::nodes_left() const {
  uint64_t visits = 0;
  for (const PackingItem& item : sections_.items) visits += uint64_t(item.sections);
  const uint64_t limit = options_.node_limit / (1 + visits / kVisitsPerNode);
  return limit - std::min(limit, packing_.statistics.nodes);
}

// One slice of nodes at one height, with the three rankings in turn.
SearchOutcome Packer::search_at(CapacitySearch& search, int64_t height, uint64_t slice) {
  for (const SearchOrder order :
       {SearchOrder::kLifetimeAreaPressure, SearchOrder::kPressureAreaLifetime,
        SearchOrder::kPressureLifetimeArea}) {
    if (nodes_left() == 0 || Clock::now() > deadline_) return SearchOutcome::kLimit;
    const SearchOutcome outcome =
        search.run(height, order, {std::min(slice, nodes_left()), deadline_});
    packing_.statistics.nodes += search.nodes();
    ++packing_.statistics.searches;
    if (outcome == SearchOutcome::kFound) adopt(search.offsets());
    if (outcome != SearchOutcome::kLimit) return outcome;
  }
  return SearchOutcome::kLimit;
}

// First the least height that could exist. Where the slice runs out: once a height on the way up to
// the best known packing, half way at first and nearer to it after each failure, again as long as
// it succeeds. Then a longer slice from the bottom.
void Packer::search() {
  CapacitySearch search(sections_, options_.switches);
  uint64_t slice = kFirstSlice * sections_.items.size();
  int64_t divisor = 2;
  bool above = false;
  while (!done() && nodes_left() > 0) {
    const int64_t wanted = next_height(int64_t(std::max(packing_.proven_bound, enough_)));
    const int64_t between = next_height(best_.height - (best_.height - wanted) / divisor);
    const bool room = options_.enough == 0 && wanted < between && between < best_.height;
    above = above && room;
    const int64_t target = above ? between : wanted;
    const SearchOutcome outcome = search_at(search, target, slice);
    if (outcome == SearchOutcome::kInfeasible) {
      packing_.proven_bound = std::max(packing_.proven_bound, uint64_t(next_height(target + 1)));
    } else if (outcome == SearchOutcome::kFound) {
      divisor = 2;
    } else if (room && !above) {
      above = true;
    } else {
      if (above) divisor = std::min(2 * divisor, kNearestShare);
      above = false;
      slice *= 2;
    }
  }
}

}  // namespace

Packing pack(const PackingProblem& problem, const PackOptions& options) {
  Packing packing;
  packing.error = problem_defect(problem);
  if (!packing.error.empty()) return packing;
  return Packer(problem, options).run();
}

}  // namespace rc
