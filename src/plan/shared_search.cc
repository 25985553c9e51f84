// src/plan/shared_search.cc: see shared_search.h.
#include "src/plan/shared_search.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>

#include "src/plan/row_pair.h"

namespace rc {
namespace {

// Before the search is left to others: leaves that do not split, and nodes in all.
constexpr int kMostLeaves = 400;
constexpr uint64_t kMostNodes = 200'000;

// A group as the search sees it: weights in memory + factor * link.
struct Item {
  struct Option {
    size_t option;
    int64_t weight, cost;
    int64_t fixed;  // of the weight: what cannot leave memory
  };
  size_t group = 0;
  int32_t count = 0;
  std::vector<Option> options;
};

// Of equal cost and no more weight, what weighs nothing or cannot be moved either is no worse.
std::vector<Item::Option> options_of(const CountGroup& group, size_t row) {
  std::vector<Item::Option> kept;
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

// The tensor that is cut between keep and recompute; none where rows is 0.
struct CutItem {
  size_t group = 0;
  int64_t rows = 0;
  int64_t first = 1, last = 0;  // kept rows that are tried
  Item::Option keep{}, recompute{};

  int64_t cost(int64_t kept) const {
    const auto share = [&](int64_t whole, int64_t part) {
      return int64_t((__int128(whole) * part + rows - 1) / rows);
    };
    return share(keep.cost, kept) + share(recompute.cost, rows - kept);
  }
  int64_t weight(int64_t kept) const {
    return keep.weight / rows * kept + recompute.weight / rows * (rows - kept);
  }
  int64_t lightest() const { return std::min(weight(first), weight(last)); }
  int64_t heaviest() const { return std::max(weight(first), weight(last)); }
};

class SharedSearch {
 public:
  SharedSearch(const PlanStage& stage, const CountProblem& problem, bool cuts,
               const CountLimits& limits)
      : stage_(stage), problem_(problem), limits_(limits), rows_(*row_pair(problem)) {
    const size_t row = rows_.outer;
    for (size_t g = 0; g < problem.groups.size(); ++g) {
      const CountGroup& group = problem.groups[g];
      if (is_movable(group, row)) {
        factor_ = group.relief[row] / group.link_bytes;
        price_ = double(group.link_cost) / double(group.link_bytes) / double(factor_);
        jump_ = jump_ == 0 ? group.relief[row] : std::min(jump_, group.relief[row]);
      }
      items_.push_back({g, int32_t(group.places.size()), options_of(group, row)});
      cuts_.emplace_back();
      if (cuts) cuts_.back() = cut_of(g);
    }
    // Late ones last. What cannot move first, since it may be too much for memory alone; then large
    // members: small ones fill gaps.
    std::stable_sort(items_.begin(), items_.end(), [&](const Item& a, const Item& b) {
      const auto stays = [&](const Item& item) {
        return item.options.size() > 1 && !is_movable(problem.groups[item.group], row);
      };
      if (rows_.late[a.group] != rows_.late[b.group]) return bool(rows_.late[b.group]);
      if (stays(a) != stays(b)) return stays(a);
      return a.options.back().weight + a.options.front().weight >
             b.options.back().weight + b.options.front().weight;
    });
    if (rows_.inner != row)
      first_late_ = size_t(std::count(rows_.late.begin(), rows_.late.end(), false));
    memory_ = problem.capacity[row];
    room_ = memory_ + factor_ * problem.link;
    find_share();
    variants_.push_back(variant(CutItem{}));
    for (const CutItem& cut : cuts_)
      if (cut.rows > 1) variants_.push_back(variant(cut));
    path_.resize(items_.size());
    children_.resize(items_.size() + 1);
  }

  SharedResult run();

 private:
  // All plans with one tensor cut, or without.
  struct Variant {
    CutItem cut;
    std::vector<int32_t> count;  // [item]
    std::vector<int64_t> stays;  // [item] in memory at least, from this one on
    Knapsack knapsack;
    int64_t lightest;  // way of the cut
    int64_t ahead;     // what the cut adds to its bounds
    bool dead;         // has no plan
  };
  struct Child {
    int64_t bound, cost, room;
    int64_t memory;  // left for what cannot leave it
    std::array<int32_t, kPlanOptions> counts;
  };

  void find_share();
  bool is_two() const { return rows_.inner != rows_.outer; }
  // The floor beside a cut tensor of the late ones, which weighs so much of it itself.
  int64_t floor_beside(const CutItem& cut, int64_t weight) const {
    return rows_.floor - (is_late_cut(cut) ? weight : 0);
  }
  // Its weight, and the floor with it, differ with the rows.
  bool is_late_cut(const CutItem& cut) const {
    return is_two() && cut.rows > 0 && rows_.late[cut.group];
  }
  // By what the early ones exceed the inner row where they leave so much room.
  int64_t early_over(int64_t room) const { return factor_ * problem_.link + floor_now_ - room; }
  CutItem cut_of(size_t g) const;
  Variant variant(const CutItem& cut) const;
  bool search(Variant& v);
  void descend(size_t depth, int64_t cost, int64_t room, int64_t memory);
  void expand(size_t depth, size_t option, int32_t members, Child& child);
  void leaf(int64_t cost, int64_t room);
  void adopt(int64_t cost, const std::vector<size_t>& movable, const Split& split);
  int64_t bound(size_t depth, int64_t cost, int64_t room) const;
  bool stopped() const;

  const PlanStage& stage_;
  const CountProblem& problem_;
  const CountLimits limits_;
  std::vector<Item> items_;
  std::vector<CutItem> cuts_;      // [group]
  int64_t factor_ = 1;             // of the link in memory's row
  double price_ = 0;               // of weight beyond memory
  int64_t jump_ = 0;               // the least of it that a whole tensor is
  int64_t memory_ = 0, room_ = 0;  // room: memory and link
  const RowPair rows_;
  size_t first_late_ = std::numeric_limits<size_t>::max();  // of the items
  double share_ = 1;                                        // of the price that late ones pay
  int64_t floor_now_ = 0;                                   // beside the cut as it is
  int64_t late_room_ = 0;                                   // where the late ones begin
  std::vector<Variant> variants_;
  const Variant* now_ = nullptr;
  int64_t kept_rows_ = 0;  // of now_'s cut
  int64_t cutoff_ = 0;
  int leaves_ = 0;
  bool exact_ = true;  // nothing was left out
  SharedResult result_;
  std::vector<std::array<int32_t, kPlanOptions>> path_;
  std::vector<std::vector<Child>> children_;
};

// The prices of both rows under which the knapsack bounds best.
void SharedSearch::find_share() {
  if (!is_two()) return;
  const auto value = [&](double share) {
    share_ = share;
    const Variant v = variant(CutItem{});
    return v.dead ? 0 : v.knapsack.relaxed();
  };
  double low = 0, high = 1;
  for (int i = 0; i < 16; ++i) {
    const double a = low + (high - low) / 3, b = high - (high - low) / 3;
    if (value(a) <= value(b))
      low = a;
    else
      high = b;
  }
  const int64_t at_low = value(low), at_high = value(high);
  share_ = at_low > at_high ? low : high;
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
  cut.keep = {0, keep.use[rows_.outer], keep.cost, 0};
  cut.recompute = {0, recompute.use[rows_.outer], recompute.cost, 0};
  cut.group = g;
  cut.rows = item.rows;
  cut.last = item.rows - 1;
  return cut;
}

SharedSearch::Variant SharedSearch::variant(const CutItem& cut) const {
  std::vector<KnapsackGroup> groups;
  std::vector<int32_t> count;
  for (const Item& item : items_) {
    count.push_back(item.count - (cut.rows > 0 && item.group == cut.group ? 1 : 0));
    groups.push_back({count.back(), {}});
    for (const Item::Option& option : item.options)
      groups.back().options.push_back({option.weight, option.cost});
  }
  const int64_t least = cut.rows > 0 ? cut.lightest() : 0;
  KnapsackFloor floor;
  if (is_two()) floor = {first_late_, floor_beside(cut, least), share_, is_late_cut(cut)};
  Knapsack knapsack(std::move(groups), room_ - least, memory_ - least, price_, jump_, floor);
  std::vector<int64_t> stays(items_.size() + 1, least);
  const auto raise = [&](size_t j) {
    // Counted from the cut's lightest way, which the floor has in full.
    if (j != first_late_) return;
    const int64_t most = cut.rows > 0 ? cut.heaviest() : 0;
    stays[j] = std::max(stays[j], floor_beside(cut, most) + least);
  };
  raise(items_.size());
  for (size_t j = items_.size(); j-- > 0;) {
    int64_t each = kNoCost;
    for (const Item::Option& option : items_[j].options) each = std::min(each, option.fixed);
    stays[j] = stays[j + 1] + each * count[j];
    raise(j);
  }
  const bool dead = !knapsack.feasible() || stays[0] > memory_;
  if (dead) return {cut, std::move(count), std::move(stays), std::move(knapsack), least, 0, true};
  // Of the cut tensor, what it adds at least to the Lagrangian of the others beside its lightest
  // way.
  const double share = is_late_cut(cut) ? share_ : 1;
  const auto priced = [&](int64_t kept) {
    return double(cut.cost(kept)) + share * knapsack.price() * double(cut.weight(kept) - least);
  };
  const double ahead = cut.rows > 0 ? std::min(priced(cut.first), priced(cut.last)) : 0;
  const int64_t more = int64_t(std::floor(ahead)) - 2;
  return {cut, std::move(count), std::move(stays), std::move(knapsack), least, more, false};
}

int64_t SharedSearch::bound(size_t depth, int64_t cost, int64_t room) const {
  const int64_t free = room - factor_ * problem_.link;
  if (is_late_cut(now_->cut) && depth < first_late_) {
    const int64_t least = now_->knapsack.least_above(depth, floor_now_, free, room);
    return least >= kNoCost ? kNoCost : cost + least;
  }
  const int64_t least = price_ > 0 ? now_->knapsack.least_sloped(depth, free, room)
                                   : now_->knapsack.least(depth, room);
  if (least >= kNoCost) return kNoCost;
  // Of an open floor the fronts know nothing where the late ones begin, either.
  const bool begins = depth == first_late_;
  if (price_ == 0 || depth < first_late_ || (begins && !is_late_cut(now_->cut)))
    return cost + least;
  const int64_t over = early_over(begins ? room : late_room_);
  const double paid = price_ * double(std::max<int64_t>(0, over));
  const int64_t other = now_->knapsack.least(depth, room) + int64_t(std::ceil(paid - 0.01));
  return cost + std::max(least, other);
}

bool SharedSearch::stopped() const {
  return leaves_ > kMostLeaves || result_.counts.nodes >= std::min(kMostNodes, limits_.nodes) ||
         limits_.late();
}

void SharedSearch::expand(size_t depth, size_t option, int32_t members, Child& child) {
  const Item& item = items_[depth];
  const Item::Option& mine = item.options[option];
  const auto take = [&](Child& to, int32_t n) {
    to.counts[mine.option] = n;
    to.cost += n * mine.cost;
    to.room -= n * mine.weight;
    to.memory -= n * mine.fixed;
  };
  if (option + 1 == item.options.size()) {
    Child last = child;
    take(last, members);
    if (last.memory < now_->stays[depth + 1]) return;
    last.bound = bound(depth + 1, last.cost, last.room);
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
  if (depth == first_late_) {
    if (room < floor_now_ || memory - now_->lightest < floor_now_) return;
    late_room_ = room;
  }
  if (depth == items_.size()) {
    leaf(cost, room);
    return;
  }
  ++result_.counts.nodes;
  children_[depth].clear();
  Child child{0, cost, room, memory, {}};
  expand(depth, 0, now_->count[depth], child);
  // Of equal bounds, more room first.
  std::sort(children_[depth].begin(), children_[depth].end(), [](const Child& a, const Child& b) {
    return a.bound != b.bound ? a.bound < b.bound : a.room > b.room;
  });
  for (size_t i = 0; i < children_[depth].size(); ++i) {
    const Child next = children_[depth][i];
    if (next.bound >= cutoff_) return;
    if (stopped()) {
      exact_ = false;
      return;
    }
    path_[depth] = next.counts;
    descend(depth + 1, next.cost, next.room, next.memory);
  }
}

// What is not recomputed is known; does it split?
void SharedSearch::leaf(int64_t cost, int64_t room) {
  std::vector<SplitGroup> groups;
  std::vector<size_t> movable;
  SplitFirst first;
  for (size_t j = 0; j < items_.size(); ++j) {
    const CountGroup& group = problem_.groups[items_[j].group];
    if (!is_movable(group, rows_.outer)) continue;
    const int32_t members = path_[j][size_t(group.shared_option)];
    if (members == 0) continue;
    const PlanItem& item = stage_.classes[size_t(group.layer_class)].items[size_t(group.item)];
    groups.push_back({group.link_bytes, members, item.cut_offload ? item.rows : 1});
    movable.push_back(items_[j].group);
    first.groups += j < first_late_;
  }
  const auto up = [&](int64_t over) { return over <= 0 ? 0 : (over + factor_ - 1) / factor_; };
  if (is_two()) first.low = up(early_over(late_room_));
  const int64_t over = factor_ * problem_.link - room;
  const int64_t low = up(over);
  Split split;
  const SplitOutcome outcome =
      least_split(groups, low, problem_.link, stage_.min_offload_bytes, split, first);
  if (outcome != SplitOutcome::kFound) {
    ++leaves_;
    exact_ = exact_ && outcome == SplitOutcome::kNone;
    return;
  }
  int64_t total = cost;
  for (size_t i = 0; i < movable.size(); ++i)
    total += split.moved[i] * problem_.groups[movable[i]].link_cost;
  exact_ = exact_ && (split.least || price_ == 0);
  if (total > cost && total >= cutoff_) ++leaves_;
  if (total < cutoff_) adopt(total, movable, split);
}

void SharedSearch::adopt(int64_t cost, const std::vector<size_t>& movable, const Split& split) {
  cutoff_ = cost;
  CountResult& counts = result_.counts;
  counts.found = true;
  counts.cost = cost;
  counts.counts.assign(problem_.groups.size(), {});
  for (size_t j = 0; j < items_.size(); ++j) counts.counts[items_[j].group] = path_[j];
  result_.has_cut = now_->cut.rows > 0;
  result_.cut = {now_->cut.group, kept_rows_};
  LinkMembers& link = result_.link;
  link = {std::vector<int32_t>(problem_.groups.size(), 0), split.cut_rows, 0};
  for (size_t i = 0; i < movable.size(); ++i) link.moved[movable[i]] = split.moved[i];
  if (split.cut_rows > 0) link.part_group = movable[size_t(split.cut_group)];
}

// Everything of the variant below the cutoff; false where its fronts grow too long.
bool SharedSearch::search(Variant& v) {
  now_ = &v;
  if (v.dead || v.knapsack.relaxed() + v.ahead >= cutoff_) return true;
  const CutItem& cut = v.cut;
  if (!v.knapsack.build(cutoff_ - v.ahead, limits_.pairs)) return false;
  if (cut.rows == 0) {
    floor_now_ = rows_.floor;
    if (bound(0, 0, room_) < cutoff_) descend(0, 0, room_, memory_);
    return true;
  }
  std::vector<std::pair<int64_t, int64_t>> tries;  // bound, kept rows
  for (int64_t kept = cut.first; kept <= cut.last; ++kept) {
    floor_now_ = floor_beside(cut, cut.weight(kept));
    const int64_t least = bound(0, cut.cost(kept), room_ - cut.weight(kept));
    if (least < cutoff_) tries.push_back({least, kept});
  }
  std::sort(tries.begin(), tries.end());
  for (const auto& [least, kept] : tries) {
    if (least >= cutoff_ || !exact_) break;
    kept_rows_ = kept;
    const int64_t weight = cut.weight(kept);
    // stays counts the cut tensor's lightest way already.
    const int64_t memory = memory_ - weight + v.lightest;
    floor_now_ = floor_beside(cut, weight);
    if (memory >= v.stays[0]) descend(0, cut.cost(kept), room_ - weight, memory);
  }
  return true;
}

SharedResult SharedSearch::run() {
  CountResult& counts = result_.counts;
  result_.prices.assign(problem_.rows.size(), 0);
  int64_t most = 1, floor = kNoCost;
  for (const Item& item : items_) {
    int64_t dearest = 0;
    for (const Item::Option& option : item.options) dearest = std::max(dearest, option.cost);
    if (problem_.groups[item.group].shared_option >= 0)
      dearest += problem_.groups[item.group].link_cost;
    most += dearest * item.count;
  }
  for (const Variant& v : variants_) {
    if (!v.dead) floor = std::min(floor, v.knapsack.relaxed() + v.ahead);
  }
  if (floor >= kNoCost) {
    counts.outcome = CountOutcome::kInfeasible;
    return result_;
  }
  result_.prices[rows_.inner] = (1 - share_) * variants_[0].knapsack.price();
  result_.prices[rows_.outer] += share_ * variants_[0].knapsack.price();
  floor = std::max<int64_t>(floor, 0);
  size_t pairs = 0;
  for (int64_t step = std::max<int64_t>(2, (most - floor) >> 24);;) {
    const int64_t tried = cutoff_ = std::min(most, floor + step);
    for (Variant& v : variants_) {
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
    for (const Variant& v : variants_) now += v.knapsack.pairs();
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
