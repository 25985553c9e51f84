// src/plan/shared_search.cc: see shared_search.h.
#include "src/plan/shared_search.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>

#include "src/plan/row_pair.h"
#include "src/plan/shared_variant.h"

namespace rc {
namespace {

// Before the search is left to others: leaves that do not split, and nodes in all.
constexpr int kMostLeaves = 400;
constexpr uint64_t kMostNodes = 200'000;
// Before rows of a cut, taken one number after another, are left to the leaves.
constexpr uint64_t kFewNodes = 500;

// Of equal cost and no more weight, what weighs nothing or cannot be moved either is no worse.
std::vector<SharedItem::Option> options_of(const CountGroup& group, size_t row) {
  std::vector<SharedItem::Option> kept;
  const auto is_worse = [&](const CountOption& mine, const CountOption& other) {
    const bool moves =
        is_movable(group, row) && &mine == &group.options[size_t(group.shared_option)];
    if (mine.cost < other.cost || mine.use[row] < other.use[row]) return false;
    if (moves && other.use[row] > 0) return false;
    return mine.cost > other.cost || mine.use[row] > other.use[row] || &other < &mine;
  };
  for (const CountOption& mine : group.options) {
    if (std::none_of(group.options.begin(), group.options.end(), [&](const CountOption& other) {
          return &other != &mine && is_worse(mine, other);
        })) {
      const size_t option = size_t(&mine - group.options.data());
      const bool moves = is_movable(group, row) && option == size_t(group.shared_option);
      const int64_t use = mine.use[row];
      kept.push_back({option, use, mine.cost, use - (moves ? group.relief[row] : 0)});
    }
  }
  return kept;
}

class SharedSearch {
 public:
  SharedSearch(const PlanStage& stage, const CountProblem& problem, bool cuts_allowed,
               const CountLimits& limits)
      : stage_(stage), problem_(problem), limits_(limits), rows_(*row_pair(problem)) {
    std::vector<CutItem> cuts;
    for (size_t g = 0; g < problem.groups.size(); ++g) {
      add_item(g);
      if (cuts_allowed) cuts.push_back(cut_of(g));
    }
    order_items();
    frame_.memory = problem.capacity[rows_.outer];
    frame_.room = frame_.memory + factor_ * problem.link;
    frame_.two = is_two();
    frame_.floor = rows_.floor;
    if (frame_.two)
      frame_.first_late = size_t(std::count(rows_.late.begin(), rows_.late.end(), false));
    find_share();
    find_held_price();
    variants_.emplace_back(frame_, CutItem{});
    for (const CutItem& cut : cuts)
      if (cut.rows > 1) variants_.emplace_back(frame_, cut);
    path_.resize(frame_.items.size());
    children_.resize(frame_.items.size() + 1);
  }

  SharedResult run();

 private:
  // What is not recomputed.
  struct Leaf {
    std::vector<SplitGroup> groups;
    std::vector<size_t> movable;  // [split group]: of the problem
    size_t first = 0;             // of the groups: before the late ones
    int64_t cost, room;
  };
  struct Child {
    int64_t bound, cost, room;
    int64_t memory;  // left for what cannot leave it
    std::array<int32_t, kPlanOptions> counts;
  };

  bool is_two() const { return rows_.inner != rows_.outer; }
  void add_item(size_t g);
  void order_items();
  void find_share();
  void find_held_price();
  CutItem cut_of(size_t g) const;
  bool search(SharedVariant& v);
  bool try_rows();
  void descend(size_t depth, int64_t cost, int64_t room, int64_t memory);
  void expand(size_t depth, size_t option, int32_t members, Child& child);
  Leaf leaf(int64_t cost, int64_t room) const;
  SplitOutcome split(const Leaf& leaf, int64_t weight, Split& split) const;
  void split_leaf(const Leaf& leaf);
  void fill_leaf(const Leaf& leaf);
  void adopt(int64_t cost, const Leaf& leaf, const Split& split);
  int64_t bound(size_t depth, int64_t cost, int64_t room, int64_t memory) const;
  bool stopped() const;

  const PlanStage& stage_;
  const CountProblem& problem_;
  const CountLimits limits_;
  int64_t factor_ = 1;  // of the link in memory's row
  const RowPair rows_;
  SharedFrame frame_;
  std::vector<SharedVariant> variants_;
  const SharedVariant* now_ = nullptr;
  int64_t floor_now_ = 0;  // beside the cut as it is
  int64_t late_room_ = 0;  // where the late ones begin
  int64_t kept_rows_ = 0;  // of now_'s cut
  int64_t cutoff_ = 0;
  int leaves_ = 0;
  bool exact_ = true;                                         // nothing was left out
  uint64_t patience_ = std::numeric_limits<uint64_t>::max();  // nodes
  SharedResult result_;
  std::vector<std::array<int32_t, kPlanOptions>> path_;
  std::vector<std::vector<Child>> children_;
};

void SharedSearch::add_item(size_t g) {
  const CountGroup& group = problem_.groups[g];
  const size_t row = rows_.outer;
  if (is_movable(group, row)) {
    const int64_t freed = group.relief[row];
    factor_ = freed / group.link_bytes;
    frame_.price = double(group.link_cost) / double(group.link_bytes) / double(factor_);
    frame_.jump = frame_.jump == 0 ? freed : std::min(frame_.jump, freed);
  }
  frame_.items.push_back({g, int32_t(group.places.size()), options_of(group, row)});
}

// Late ones last. What cannot move first, since it may be too much for memory alone; then large
// members: small ones fill gaps.
void SharedSearch::order_items() {
  std::stable_sort(
      frame_.items.begin(), frame_.items.end(), [&](const SharedItem& a, const SharedItem& b) {
        const auto stays = [&](const SharedItem& item) {
          return item.options.size() > 1 && !is_movable(problem_.groups[item.group], rows_.outer);
        };
        if (rows_.late[a.group] != rows_.late[b.group]) return bool(rows_.late[b.group]);
        if (stays(a) != stays(b)) return stays(a);
        return a.options.back().weight + a.options.front().weight >
               b.options.back().weight + b.options.front().weight;
      });
}

// By thirds, towards where a function with one hill is highest.
template <class Value>
void narrow_to_best(const Value& value, double* low, double* high) {
  for (int i = 0; i < 16; ++i) {
    const double third = (*high - *low) / 3, a = *low + third, b = *high - third;
    if (value(a) <= value(b))
      *low = a;
    else
      *high = b;
  }
}

// The prices of both rows under which the knapsack bounds best.
void SharedSearch::find_share() {
  if (!frame_.two) return;
  const auto value = [&](double share) {
    frame_.share = share;
    const int64_t relaxed = SharedVariant(frame_, CutItem{}).relaxed();
    return relaxed >= kNoCost ? 0 : relaxed;
  };
  double low = 0, high = 1;
  narrow_to_best(value, &low, &high);
  const int64_t at_low = value(low), at_high = value(high);
  frame_.share = at_low > at_high ? low : high;
}

// The price of what cannot leave memory under which the bound is best; none where it has room.
void SharedSearch::find_held_price() {
  const SharedVariant plain(frame_, CutItem{});
  if (plain.relaxed() >= kNoCost || plain.price() <= 0) return;
  const auto value = [&](double power) {
    frame_.held_price = plain.price() * std::exp2(power);
    return SharedVariant(frame_, CutItem{}).relaxed();
  };
  double low = -8, high = 4;
  if (value(low) <= plain.relaxed()) {
    frame_.held_price = 0;
    return;
  }
  narrow_to_best(value, &low, &high);
  value((low + high) / 2);
}

CutItem SharedSearch::cut_of(size_t g) const {
  const CountGroup& group = problem_.groups[g];
  const PlanItem& item = stage_.classes[size_t(group.layer_class)].items[size_t(group.item)];
  CutItem cut;
  if (!item.cut_recompute || item.rows < 2 || group.places.empty()) return cut;
  const int32_t kept = choice_of(item, PlanOption::kKeep);
  const int32_t replayed = choice_of(item, PlanOption::kRecompute);
  if (kept < 0 || replayed < 0) return cut;
  const CountOption keep = count_option(stage_, problem_, group, kept);
  const CountOption recompute = count_option(stage_, problem_, group, replayed);
  const int64_t heavy = keep.use[rows_.outer], light = recompute.use[rows_.outer];
  cut.keep = {0, heavy, keep.cost, 0};
  cut.recompute = {0, light, recompute.cost, 0};
  if (cut.is_better_whole()) return cut;
  cut.group = g;
  cut.late = rows_.late[g];
  cut.rows = item.rows;
  cut.last = item.rows - 1;
  return cut;
}

int64_t SharedSearch::bound(size_t depth, int64_t cost, int64_t room, int64_t memory) const {
  const int64_t least = now_->least(depth, {room, memory, floor_now_, late_room_});
  return least >= kNoCost ? kNoCost : cost + least;
}

bool SharedSearch::stopped() const {
  return leaves_ > kMostLeaves || result_.counts.nodes >= std::min(kMostNodes, limits_.nodes) ||
         limits_.late();
}

void SharedSearch::expand(size_t depth, size_t option, int32_t members, Child& child) {
  const SharedItem& item = frame_.items[depth];
  const SharedItem::Option& mine = item.options[option];
  const auto take = [&](Child& to, int32_t n) {
    to.counts[mine.option] = n;
    to.cost += n * mine.cost;
    to.room -= n * mine.weight;
    to.memory -= n * mine.fixed;
  };
  if (option + 1 == item.options.size()) {
    Child last = child;
    take(last, members);
    if (last.memory < now_->stays(depth + 1)) return;
    last.bound = bound(depth + 1, last.cost, last.room, last.memory);
    if (last.bound < cutoff_) children_[depth].push_back(last);
    return;
  }
  for (int32_t n = 0; n <= members; ++n) {
    Child next = child;
    take(next, n);
    expand(depth, option + 1, members - n, next);
  }
}

void SharedSearch::descend(size_t depth, int64_t cost, int64_t room, int64_t memory) {
  if (frame_.two && depth == frame_.first_late) {
    if (room < floor_now_ || memory - now_->cut().lightest() < floor_now_) return;
    late_room_ = room;
  }
  if (depth == frame_.items.size()) {
    now_->fills() ? fill_leaf(leaf(cost, room)) : split_leaf(leaf(cost, room));
    return;
  }
  ++result_.counts.nodes;
  children_[depth].clear();
  Child child{0, cost, room, memory, {}};
  expand(depth, 0, now_->count(depth), child);
  // Of equal bounds, more room first.
  std::sort(children_[depth].begin(), children_[depth].end(), [](const Child& a, const Child& b) {
    return a.bound != b.bound ? a.bound < b.bound : a.room > b.room;
  });
  for (size_t i = 0; i < children_[depth].size(); ++i) {
    const Child next = children_[depth][i];
    if (next.bound >= cutoff_) return;
    if (result_.counts.nodes >= patience_) return;
    if (stopped()) {
      exact_ = false;
      return;
    }
    path_[depth] = next.counts;
    descend(depth + 1, next.cost, next.room, next.memory);
  }
}

SharedSearch::Leaf SharedSearch::leaf(int64_t cost, int64_t room) const {
  Leaf leaf{{}, {}, 0, cost, room};
  for (size_t j = 0; j < frame_.items.size(); ++j) {
    const CountGroup& group = problem_.groups[frame_.items[j].group];
    if (!is_movable(group, rows_.outer)) continue;
    const int32_t members = path_[j][size_t(group.shared_option)];
    if (members == 0) continue;
    const PlanItem& item = stage_.classes[size_t(group.layer_class)].items[size_t(group.item)];
    leaf.groups.push_back({group.link_bytes, members, item.cut_offload ? item.rows : 1});
    leaf.movable.push_back(frame_.items[j].group);
    leaf.first += j < frame_.first_late;
  }
  return leaf;
}

// Does it, beside a cut of so much weight that the room has not paid yet?
SplitOutcome SharedSearch::split(const Leaf& leaf, int64_t weight, Split& split) const {
  const auto up = [&](int64_t over) { return over <= 0 ? 0 : (over + factor_ - 1) / factor_; };
  SplitFirst first{leaf.first, 0};
  // By what the early ones exceed the inner row.
  const int64_t all = factor_ * problem_.link;
  if (frame_.two) first.low = up(all + floor_now_ - (late_room_ - weight));
  const int64_t low = up(all - (leaf.room - weight));
  return least_split(leaf.groups, low, problem_.link, stage_.min_offload_bytes, split, first);
}

void SharedSearch::split_leaf(const Leaf& leaf) {
  Split found;
  const SplitOutcome outcome = split(leaf, 0, found);
  if (outcome != SplitOutcome::kFound) {
    ++leaves_;
    exact_ = exact_ && outcome == SplitOutcome::kNone;
    return;
  }
  int64_t total = leaf.cost;
  for (size_t i = 0; i < leaf.movable.size(); ++i)
    total += found.moved[i] * problem_.groups[leaf.movable[i]].link_cost;
  exact_ = exact_ && (found.least || frame_.price == 0);
  if (total > leaf.cost && total >= cutoff_) ++leaves_;
  if (total < cutoff_) adopt(total, leaf, found);
}

// The most rows with which it splits: what splits with some of them does with fewer.
void SharedSearch::fill_leaf(const Leaf& leaf) {
  const CutItem& cut = now_->cut();
  const int64_t each = cut.weight(1) - cut.weight(0);
  int64_t above = std::min(cut.last, (leaf.room - cut.weight(0)) / each) + 1, most = 0;
  Split found;
  const auto splits = [&](int64_t kept) {
    Split tried;
    const SplitOutcome outcome = split(leaf, cut.weight(kept), tried);
    exact_ = exact_ && outcome != SplitOutcome::kUnknown;
    if (outcome == SplitOutcome::kFound) most = kept, found = tried;
    if (outcome != SplitOutcome::kFound) above = kept;
    return outcome == SplitOutcome::kFound;
  };
  for (int64_t step = 1; most == 0 && above > cut.first; step *= 2) {
    const int64_t kept = std::max(cut.first, above - step);
    if (leaf.cost + cut.cost(above - 1) >= cutoff_) return;
    splits(kept);
  }
  if (most == 0) {
    ++leaves_;
    return;
  }
  while (above - most > 1) splits((most + above) / 2);
  kept_rows_ = most;
  const int64_t total = leaf.cost + cut.cost(most);
  if (total < cutoff_) adopt(total, leaf, found);
}

void SharedSearch::adopt(int64_t cost, const Leaf& leaf, const Split& split) {
  cutoff_ = cost;
  CountResult& counts = result_.counts;
  counts.found = true;
  counts.cost = cost;
  counts.counts.assign(problem_.groups.size(), {});
  for (size_t j = 0; j < frame_.items.size(); ++j) counts.counts[frame_.items[j].group] = path_[j];
  result_.has_cut = now_->cut().rows > 0;
  result_.cut = {now_->cut().group, kept_rows_};
  LinkMembers& link = result_.link;
  link = {std::vector<int32_t>(problem_.groups.size(), 0), split.cut_rows, 0};
  for (size_t i = 0; i < leaf.movable.size(); ++i) link.moved[leaf.movable[i]] = split.moved[i];
  if (split.cut_rows > 0) link.part_group = leaf.movable[size_t(split.cut_group)];
}

// Everything of the variant below the cutoff; false where its fronts grow too long.
bool SharedSearch::search(SharedVariant& v) {
  now_ = &v;
  if (v.relaxed() >= cutoff_) return true;
  const CutItem& cut = v.cut();
  if (!v.build(cutoff_, limits_.pairs)) return false;
  if (cut.rows > 0 && !v.fills()) {
    if (try_rows()) return true;
    SharedVariant filled(frame_, cut, true);
    return search(filled);
  }
  floor_now_ = rows_.floor;
  if (bound(0, 0, frame_.room, frame_.memory) < cutoff_) descend(0, 0, frame_.room, frame_.memory);
  return true;
}

// All numbers of rows that now_'s cut may keep; false where they had too many nodes.
bool SharedSearch::try_rows() {
  const CutItem& cut = now_->cut();
  // What stays counts the cut tensor's lightest way already.
  const auto memory = [&](int64_t kept) {
    return frame_.memory - cut.weight(kept) + cut.lightest();
  };
  std::vector<std::pair<int64_t, int64_t>> tries;  // bound, kept rows
  for (int64_t kept = cut.first; kept <= cut.last; ++kept) {
    const int64_t weight = cut.weight(kept);
    floor_now_ = frame_.floor_beside(cut, weight);
    const int64_t least = bound(0, cut.cost(kept), frame_.room - weight, memory(kept));
    if (least < cutoff_) tries.push_back({least, kept});
  }
  std::sort(tries.begin(), tries.end());
  // A knapsack has one slope: the link's, or the cut's where that is free.
  if (frame_.price == 0 && !now_->has_late_cut() && cut.weight(cut.last) > cut.weight(cut.first))
    patience_ = result_.counts.nodes + kFewNodes;
  for (const auto& [least, kept] : tries) {
    if (least >= cutoff_ || !exact_ || result_.counts.nodes >= patience_) break;
    kept_rows_ = kept;
    const int64_t weight = cut.weight(kept);
    floor_now_ = frame_.floor_beside(cut, weight);
    if (memory(kept) >= now_->stays(0))
      descend(0, cut.cost(kept), frame_.room - weight, memory(kept));
  }
  const bool done = result_.counts.nodes < patience_;
  patience_ = std::numeric_limits<uint64_t>::max();
  return done;
}

SharedResult SharedSearch::run() {
  CountResult& counts = result_.counts;
  result_.prices.assign(problem_.rows.size(), 0);
  int64_t most = 1, floor = kNoCost;
  for (const SharedItem& item : frame_.items) {
    int64_t dearest = 0;
    for (const SharedItem::Option& option : item.options) dearest = std::max(dearest, option.cost);
    if (problem_.groups[item.group].shared_option >= 0)
      dearest += problem_.groups[item.group].link_cost;
    most += dearest * item.count;
  }
  for (const SharedVariant& v : variants_) floor = std::min(floor, v.relaxed());
  if (floor >= kNoCost) {
    counts.outcome = CountOutcome::kInfeasible;
    return result_;
  }
  result_.prices[rows_.inner] = (1 - frame_.share) * variants_[0].price();
  result_.held_row = rows_.outer;
  result_.held_price = frame_.held_price;
  result_.prices[rows_.outer] += frame_.share * variants_[0].price();
  floor = std::max<int64_t>(floor, 0);
  size_t pairs = 0;
  for (int64_t step = std::max<int64_t>(2, (most - floor) >> 24);;) {
    const int64_t tried = cutoff_ = std::min(most, floor + step);
    for (SharedVariant& v : variants_) {
      if (!search(v)) exact_ = false;
      if (!exact_) break;
    }
    if (!exact_) {
      counts.outcome = CountOutcome::kLimit;
      counts.lower_bound = counts.found ? std::min(floor, counts.cost) : floor;
      return result_;
    }
    floor = counts.found ? counts.cost : tried;
    counts.lower_bound = floor;
    counts.outcome = counts.found ? CountOutcome::kSolved : CountOutcome::kInfeasible;
    if (counts.found || tried >= most) return result_;
    // Where a higher cutoff let no more pairs in, a much higher one lets in few.
    size_t now = 0;
    for (const SharedVariant& v : variants_) now += v.pairs();
    step *= now == pairs ? 64 : 4;
    pairs = now;
  }
}

}  // namespace

SharedResult search_shared(const PlanStage& stage, const CountProblem& problem, bool cuts,
                           const CountLimits& limits) {
  return SharedSearch(stage, problem, cuts, limits).run();
}

}  // namespace rc
