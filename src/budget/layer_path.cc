// src/budget/layer_path.cc: see layer_path.h.
//
// X, the most by which P + transient passes S in any backward, couples all layers with the total:
// held * S + X must fit. For X within [low, high] the constraints S <= (budget - low) / held and
// P + transient <= that + high are a relaxation in which a prefix matters by (P, cost) alone, so
// that fronts of undominated prefixes solve it. Intervals are halved until the best path found is
// no worse than every relaxation left.
#include "src/budget/layer_path.h"

#include <algorithm>
#include <queue>

namespace rc::budget {
namespace {

constexpr int64_t kNone = INT64_MAX / 4;

int64_t floor_div(int64_t a, int64_t b) {
  return a / b - (a % b != 0 && (a < 0) != (b < 0));
}

struct Prefix {
  int64_t kept = 0, cost = 0;
  uint32_t place = 0, way = 0, before = 0;  // the step that led here, and the prefix in ways[place]
};

class Fronts {
 public:
  Fronts(const LayerPath& path, const PathLimits& limits) : path_(path), limits_(limits) {
    const size_t n = path.ways.size();
    least_behind_.assign(n + 1, kNone);
    least_behind_[n] = 0;
    for (size_t p = n; p-- > 0;)
      for (const PathWay& w : path.ways[p])
        if (p + w.layers <= n && least_behind_[p + w.layers] < kNone)
          least_behind_[p] = std::min(least_behind_[p], w.kept + least_behind_[p + w.layers]);
  }

  // The cheapest path with S <= total and P + transient <= room.
  bool solve(int64_t total, int64_t room, PathPlan* out) {
    const size_t n = path_.ways.size();
    fronts_.assign(n + 1, {});
    fronts_[0].push_back({});
    for (size_t p = 0; p <= n; ++p) {
      settle(&fronts_[p]);
      for (uint32_t i = 0; p < n && i < fronts_[p].size(); ++i) extend(p, i, total, room);
    }
    if (fronts_[n].empty()) return false;
    trace(out);
    return true;
  }
  bool exact() const { return exact_; }

 private:
  void extend(size_t p, uint32_t index, int64_t total, int64_t room) {
    const Prefix from = fronts_[p][index];
    for (uint32_t w = 0; w < path_.ways[p].size(); ++w) {
      const PathWay& way = path_.ways[p][w];
      const size_t to = p + way.layers;
      if (to >= fronts_.size() || least_behind_[to] >= kNone) continue;
      const int64_t kept = from.kept + way.kept;
      if (kept + way.transient > room || kept + least_behind_[to] > total) continue;
      fronts_[to].push_back({kept, from.cost + way.cost, uint32_t(p), w, index});
    }
  }

  void settle(std::vector<Prefix>* front) {
    std::sort(front->begin(), front->end(), [](const Prefix& a, const Prefix& b) {
      return a.kept != b.kept ? a.kept < b.kept : a.cost < b.cost;
    });
    size_t n = 0;
    for (const Prefix& one : *front)
      if (n == 0 || one.cost < (*front)[n - 1].cost) (*front)[n++] = one;
    front->resize(n);
    if (n <= limits_.states) return;
    exact_ = false;  // every so many-th, the first and the last among them
    std::vector<Prefix> thin;
    for (size_t i = 0; i < limits_.states; ++i)
      thin.push_back((*front)[i * (n - 1) / (limits_.states - 1)]);
    front->swap(thin);
  }

  void trace(PathPlan* out) const {
    const Prefix* at = &fronts_.back().back();  // most kept, least cost
    out->cost = at->cost;
    out->steps.clear();
    for (size_t p = fronts_.size() - 1; p > 0;) {
      out->steps.push_back({at->place, at->way});
      p = at->place;
      at = &fronts_[p][at->before];
    }
    std::reverse(out->steps.begin(), out->steps.end());
    out->peak = path_peak(path_, out->steps);
  }

  const LayerPath& path_;
  const PathLimits& limits_;
  std::vector<int64_t> least_behind_;
  std::vector<std::vector<Prefix>> fronts_;
  bool exact_ = true;
};

struct Interval {
  int64_t low, high, bound;
  bool operator<(const Interval& other) const { return bound > other.bound; }  // least bound first
};

// What X can be.
Interval range_of(const LayerPath& path) {
  Interval range = {kNone, -kNone, 0};
  const size_t n = path.ways.size();
  int64_t behind = 0;  // most that the later layers can be short of zero
  for (size_t p = n; p-- > 0;) {
    int64_t most = 0;
    for (const PathWay& w : path.ways[p]) {
      if (p + w.layers == n) range.low = std::min(range.low, w.transient);
      range.high = std::max(range.high, w.transient + behind);
      most = std::max(most, -w.kept);
    }
    behind += most;
  }
  return range;
}

}  // namespace

int64_t path_peak(const LayerPath& path, const std::vector<PathStep>& steps) {
  int64_t total = 0, so_far = 0, peak = -kNone;
  for (const PathStep& s : steps) total += path.ways[s.place][s.way].kept;
  for (const PathStep& s : steps) {
    const PathWay& w = path.ways[s.place][s.way];
    so_far += w.kept;
    peak = std::max(peak, (path.held - 1) * total + so_far + w.transient);
  }
  return steps.empty() ? 0 : peak;
}

PathPlan solve_path(const LayerPath& path, int64_t budget, const PathLimits& limits) {
  PathPlan best;
  if (path.ways.empty()) {
    best.found = best.optimal = budget >= 0;
    return best;
  }
  Fronts fronts(path, limits);
  best.cost = kNone;
  best.lower_bound = kNone;
  bool complete = true;
  std::priority_queue<Interval> open;
  const auto push = [&](int64_t low, int64_t high) {
    if (low > high) return;
    ++best.nodes;
    PathPlan relaxed;
    const int64_t total = floor_div(budget - low, path.held);
    if (!fronts.solve(total, total + high, &relaxed) || relaxed.cost >= best.cost) return;
    if (relaxed.peak <= budget) {
      best.found = true;
      best.cost = relaxed.cost;
      best.peak = relaxed.peak;
      best.steps = relaxed.steps;
    } else if (low < high) {
      open.push({low, high, relaxed.cost});
    }
  };
  const Interval whole = range_of(path);
  push(whole.low, whole.high);
  while (!open.empty() && open.top().bound < best.cost) {
    const Interval next = open.top();
    if (best.nodes >= limits.nodes || std::chrono::steady_clock::now() > limits.deadline) {
      best.lower_bound = next.bound;
      complete = false;
      break;
    }
    open.pop();
    const int64_t middle = next.low + (next.high - next.low) / 2;
    push(next.low, middle);
    push(middle + 1, next.high);
  }
  best.optimal = complete && fronts.exact();
  best.lower_bound = std::min(best.lower_bound, best.cost);
  if (!fronts.exact()) best.lower_bound = 0;
  if (!best.found) best.cost = best.lower_bound = 0;
  return best;
}

PathPlan least_path(const LayerPath& path, const PathLimits& limits) {
  PathPlan least = solve_path(path, kNone / 2, limits);
  if (!least.found) return least;
  // The floor: what the last layer's backward meets where everything keeps least.
  int64_t low = -kNone / 2, high = least.peak;
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    PathPlan next = solve_path(path, middle, limits);
    if (next.found) {
      high = next.peak;
      least = std::move(next);
    } else {
      low = middle;
    }
  }
  return least;
}

}  // namespace rc::budget
