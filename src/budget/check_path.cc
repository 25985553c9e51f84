// src/budget/check_path.cc: see check_path.h.
#include "src/budget/check_path.h"

#include <algorithm>
#include <iterator>
#include <map>

#include "src/status.h"

namespace rc::budget {
namespace {

constexpr int64_t kFar = INT64_MAX / 4;

bool steps_lead_through(const LayerPath& path, const PathPlan& answer, std::string* finding) {
  size_t place = 0;
  int64_t cost = 0;
  for (const PathStep& s : answer.steps) {
    if (s.place != place || place >= path.ways.size() || s.way >= path.ways[place].size()) {
      *finding = format("the step to place %u is none of place %zu's", s.place, place);
      return false;
    }
    cost += path.ways[place][s.way].cost;
    place += path.ways[place][s.way].layers;
  }
  if (place != path.ways.size()) {
    *finding = format("the steps end at place %zu of %zu", place, path.ways.size());
  } else if (cost != answer.cost) {
    *finding = format("cost %lld, the steps cost %lld", static_cast<long long>(answer.cost),
                      static_cast<long long>(cost));
  } else {
    return true;
  }
  return false;
}

bool peak_is(int64_t peak, int64_t budget, const PathPlan& answer, std::string* finding) {
  if (peak != answer.peak)
    *finding = format("peak %lld, the steps have %lld", static_cast<long long>(answer.peak),
                      static_cast<long long>(peak));
  else if (peak > budget)
    *finding = format("peak %lld above the budget %lld", static_cast<long long>(peak),
                      static_cast<long long>(budget));
  else
    return true;
  return false;
}

// The bytes of each backward in turn, as layer_path.h defines them.
int64_t peak_of(const LayerPath& path, const std::vector<PathStep>& steps) {
  int64_t peak = -kFar;
  for (size_t at = 0; at < steps.size(); ++at) {
    int64_t bytes = path.ways[steps[at].place][steps[at].way].transient;
    for (size_t other = 0; other < steps.size(); ++other) {
      const int64_t kept = path.ways[steps[other].place][steps[other].way].kept;
      bytes += kept * (other <= at ? path.held : path.held - 1);
    }
    peak = std::max(peak, bytes);
  }
  return steps.empty() ? 0 : peak;
}

// A path up to a place: kept bytes, the most of kept and transient so far, cost.
struct Partial {
  int64_t kept, high, cost;
};

// Sorted by kept; no other one has as little of all three.
void keep_best(std::vector<Partial>* all) {
  std::sort(all->begin(), all->end(), [](const Partial& a, const Partial& b) {
    return a.kept != b.kept   ? a.kept < b.kept
           : a.high != b.high ? a.high < b.high
                              : a.cost < b.cost;
  });
  std::map<int64_t, int64_t> least;  // of those before: cost falls as `high` rises
  std::vector<Partial> best;
  for (const Partial& one : *all) {
    auto next = least.upper_bound(one.high);
    if (next != least.begin() && std::prev(next)->second <= one.cost) continue;
    while (next != least.end() && next->second >= one.cost) next = least.erase(next);
    least[one.high] = one.cost;
    best.push_back(one);
  }
  all->swap(best);
}

class Proof {
 public:
  Proof(const LayerPath& path, int64_t budget) : path_(path), budget_(budget) {
    const size_t n = path.ways.size();
    least_kept_.assign(n + 1, kFar);
    least_cost_.assign(n + 1, kFar);
    least_kept_[n] = least_cost_[n] = 0;
    for (size_t p = n; p-- > 0;)
      for (const PathWay& w : path.ways[p]) {
        if (p + w.layers > n || least_cost_[p + w.layers] >= kFar) continue;
        least_kept_[p] = std::min(least_kept_[p], w.kept + least_kept_[p + w.layers]);
        least_cost_[p] = std::min(least_cost_[p], w.cost + least_cost_[p + w.layers]);
      }
  }

  // Whether no path that fits costs less than claim.
  bool holds(int64_t claim, size_t limit) const {
    const size_t n = path_.ways.size();
    std::vector<std::vector<Partial>> at(n + 1);
    at[0].push_back({0, -kFar, 0});
    for (size_t p = 0; p < n; ++p) {
      keep_best(&at[p]);
      if (at[p].size() > limit) return false;
      for (const Partial& from : at[p])
        for (const PathWay& w : path_.ways[p]) {
          const size_t to = p + w.layers;
          if (to > n || least_cost_[to] >= kFar) continue;
          const int64_t kept = from.kept + w.kept;
          const Partial next = {kept, std::max(from.high, kept + w.transient), from.cost + w.cost};
          if (next.cost + least_cost_[to] >= claim) continue;
          if ((path_.held - 1) * (kept + least_kept_[to]) + next.high > budget_) continue;
          at[to].push_back(next);
        }
      std::vector<Partial>().swap(at[p]);
    }
    return at[n].empty();  // each that is left would fit and cost less
  }

 private:
  const LayerPath& path_;
  const int64_t budget_;
  std::vector<int64_t> least_kept_, least_cost_;  // [place]: of the places from there on
};

// The fullest of all rows as row_path.h defines them, place by place.
int64_t peak_of(const RowPath& rows, const std::vector<PathStep>& steps) {
  // Of each place's backward: what the way that covers it adds beside the row's base.
  std::vector<int64_t> own(rows.path.ways.size(), 0);
  for (const PathStep& s : steps) {
    const PathWay& way = rows.path.ways[s.place][s.way];
    int64_t top = rows.most[s.place];
    for (size_t p = s.place; p < s.place + way.layers; ++p) top = std::max(top, rows.most[p]);
    for (size_t p = s.place; p < s.place + way.layers; ++p)
      own[p] = way.transient + top - rows.most[p];
  }
  int64_t peak = rows.base.empty() ? 0 : -kFar;
  for (size_t r = 0; r < rows.base.size(); ++r) {
    int64_t bytes = rows.base[r] + own[rows.place[r]];
    for (const PathStep& s : steps)
      bytes += rows.path.ways[s.place][s.way].kept * rows.held[r][s.place];
    peak = std::max(peak, bytes);
  }
  return peak;
}

// Any prices prove: a path that fits costs no less than the cheapest one by cost and priced bytes,
// less the priced budgets. Forward over the places, with the rows' prices summed up beforehand.
int64_t priced_bound(const RowPath& rows, int64_t budget, const std::vector<int64_t>& prices) {
  using Wide = __int128;
  constexpr Wide kScale = Wide(1) << 20;
  const size_t n = rows.path.ways.size();
  Wide given = 0;                // by the rows themselves
  std::vector<Wide> of_kept(n);  // [place]: a byte that it keeps, over all rows
  std::vector<Wide> of_own(n);   // [place]: a byte of its own backwards
  for (size_t r = 0; r < prices.size(); ++r) {
    given += Wide(prices[r]) * (rows.base[r] - budget);
    of_own[rows.place[r]] += prices[r];
    for (size_t p = 0; p < n; ++p) of_kept[p] += Wide(prices[r]) * rows.held[r][p];
  }
  std::vector<Wide> reach(n + 1, -1);
  std::vector<bool> reached(n + 1, false);
  reach[0] = 0;
  reached[0] = true;
  for (size_t p = 0; p < n; ++p) {
    if (!reached[p]) continue;
    for (const PathWay& way : rows.path.ways[p]) {
      const size_t end = p + way.layers;
      if (end > n) continue;
      const int64_t top =
          *std::max_element(rows.most.begin() + long(p), rows.most.begin() + long(end));
      Wide sum = reach[p] + way.cost * kScale + of_kept[p] * way.kept;
      for (size_t q = p; q < end; ++q) sum += of_own[q] * (way.transient + top - rows.most[q]);
      if (!reached[end] || sum < reach[end]) reach[end] = sum;
      reached[end] = true;
    }
  }
  if (!reached[n]) return kFar;
  const Wide value = reach[n] + given;
  return value <= 0 ? 0 : int64_t((value + kScale - 1) / kScale);
}

}  // namespace

PathCheck check_path(const LayerPath& path, int64_t budget, const PathPlan& answer,
                     size_t partial_paths) {
  PathCheck check;
  check.fits = answer.found && steps_lead_through(path, answer, &check.finding) &&
               peak_is(peak_of(path, answer.steps), budget, answer, &check.finding);
  if (answer.found && answer.lower_bound > answer.cost) {
    check.fits = false;
    check.finding = "the lower bound is above the cost";
  } else if (Proof(path, budget).holds(answer.lower_bound, partial_paths)) {
    check.proven_bound = answer.lower_bound;
  } else if (check.finding.empty()) {
    check.finding = "a path below the bound could not be excluded";
  }
  return check;
}

PathCheck check_rows(const RowPath& rows, int64_t budget, const RowPathPlan& answer) {
  PathCheck check;
  check.fits = answer.plan.found && steps_lead_through(rows.path, answer.plan, &check.finding) &&
               peak_is(peak_of(rows, answer.plan.steps), budget, answer.plan, &check.finding);
  if (answer.plan.found && answer.plan.lower_bound > answer.plan.cost) {
    check.fits = false;
    check.finding = "the lower bound is above the cost";
  }
  if (std::any_of(answer.prices.begin(), answer.prices.end(), [](int64_t p) { return p < 0; }) ||
      answer.prices.size() != rows.base.size()) {
    if (check.finding.empty()) check.finding = "the prices are not one per row, at least 0";
    return check;
  }
  check.proven_bound = std::min(priced_bound(rows, budget, answer.prices), answer.plan.lower_bound);
  return check;
}

}  // namespace rc::budget
