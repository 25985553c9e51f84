// src/storage/packer.cc: the order of attack: greedy fits, a better order, the exact search.
#include "src/storage/packer.h"

#include <algorithm>
#include <chrono>
#include <random>

#include "src/storage/packer_fit.h"

namespace rc {
namespace {

using Clock = std::chrono::steady_clock;

// The conflict lists of the search are quadratic and its path is a recursion.
constexpr size_t kMaxSearchItems = 4000;
// Greedy work is about items^2 per fit; this many pair visits take about half a second.
constexpr double kGreedyPairVisits = 4e8;
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
    packing_.proven_bound = aligned_lower_bound(problem);
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
    return uint64_t(best_.height) <= std::max(packing_.proven_bound, options_.enough);
  }
  bool done() const { return reached() || Clock::now() > deadline_; }

  void greedy();
  void improve(GreedyFit& fitter, std::vector<int32_t> order, FitRule rule, uint64_t rounds);
  void search();
  SearchOutcome search_at(CapacitySearch& search, int64_t height, uint64_t slice, uint64_t round);
  void adopt(const std::vector<int64_t>& offsets);

  const PackOptions& options_;
  const PackingSections sections_;
  const Clock::time_point deadline_;
  Packing packing_;
  Fit best_;
};

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
  const auto affordable = uint64_t(std::max(1.0, kGreedyPairVisits / (n * n)));
  std::vector<int32_t> best_order;
  FitRule best_rule = FitRule::kLowest;
  uint64_t fits = 0;
  for (const FitOrder key : kFitOrders) {
    const std::vector<int32_t> order = fit_order(sections_, key);
    for (const FitRule rule : {FitRule::kLowest, FitRule::kTightest}) {
      if (fits > 0 && (fits >= affordable || done())) break;
      Fit fit = fitter.place(order, rule);
      ++fits;
      if (best_order.empty() || fit.height < best_.height) {
        best_ = std::move(fit);
        best_order = order;
        best_rule = rule;
      }
    }
  }
  packing_.statistics.orders_tried = fits;
  if (fits < affordable && !done()) {
    improve(fitter, best_order, best_rule, std::min(options_.improvement_rounds, affordable - fits));
  }
}

// Squeaky wheel: the items that stick out above the bound move towards the front of the order, by a
// random share of their way, and everything is placed again (Joslin and Clements, JAIR 10, 1999).
void Packer::improve(GreedyFit& fitter, std::vector<int32_t> order, FitRule rule, uint64_t rounds) {
  std::mt19937_64 random(options_.seed);
  Fit current = best_;
  for (uint64_t round = 0; round < rounds && !done(); ++round) {
    std::vector<std::pair<double, int32_t>> priority;
    const auto bound = int64_t(packing_.proven_bound);
    for (size_t k = 0; k < order.size(); ++k) {
      const int32_t i = order[k];
      const bool sticks_out = current.offsets[i] + sections_.items[i].size > bound;
      const double share = sticks_out ? double(random() >> 11) * 0x1p-53 : 1;
      priority.push_back({double(k) * share, i});
    }
    std::stable_sort(priority.begin(), priority.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    for (size_t k = 0; k < order.size(); ++k) order[k] = priority[k].second;
    current = fitter.place(order, rule);
    ++packing_.statistics.orders_tried;
    if (current.height < best_.height) best_ = current;
  }
}

// One slice of nodes at one height, with the three rankings in turn.
SearchOutcome Packer::search_at(CapacitySearch& search, int64_t height, uint64_t slice,
                                uint64_t round) {
  for (const SearchOrder order :
       {SearchOrder::kLifetimeAreaPressure, SearchOrder::kPressureAreaLifetime,
        SearchOrder::kPressureLifetimeArea}) {
    uint64_t& nodes = packing_.statistics.nodes;
    const uint64_t left = options_.node_limit - std::min(nodes, options_.node_limit);
    if (left == 0 || Clock::now() > deadline_) return SearchOutcome::kLimit;
    const double noise = 0;
    const SearchOutcome outcome = search.run(height, order, noise, options_.seed + round,
                                             {std::min(slice, left), deadline_});
    nodes += search.nodes();
    ++packing_.statistics.searches;
    if (outcome == SearchOutcome::kFound) adopt(search.offsets());
    if (outcome != SearchOutcome::kLimit) return outcome;
  }
  return SearchOutcome::kLimit;
}

// The height of every search is a multiple of the unit. First the best one that could exist; as
// long as slices run out, heights half way up to the best known packing, and ever longer slices.
void Packer::search() {
  CapacitySearch search(sections_, options_.switches);
  const int64_t unit = sections_.unit;
  uint64_t slice = kFirstSlice * sections_.items.size();
  int64_t target = 0;
  for (uint64_t round = 0; !done() && packing_.statistics.nodes < options_.node_limit;) {
    const int64_t bound = align_up(int64_t(packing_.proven_bound), unit);
    const int64_t wanted = std::max(bound, int64_t(options_.enough) / unit * unit);
    target = std::max(target, wanted);
    if (target >= best_.height) target = wanted;
    const SearchOutcome outcome = search_at(search, target, slice, round);
    if (outcome == SearchOutcome::kInfeasible) {
      packing_.proven_bound = std::max(packing_.proven_bound, uint64_t(target + unit));
      continue;
    }
    if (outcome == SearchOutcome::kFound) {
      target = wanted;
      continue;
    }
    const int64_t middle = align_up(target + (best_.height - target) / 2, unit);
    if (options_.enough == 0 && middle > target && middle < best_.height) {
      target = middle;
    } else {
      target = wanted;
      slice *= 2;
      ++round;
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
