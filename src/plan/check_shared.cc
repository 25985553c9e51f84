// src/plan/check_shared.cc: the proof of a lower bound where one memory row and a link of one price
// per byte are all that the certificate names; see check.h.
//
// Kept or offloaded, a tensor takes as much of memory + link. So every plan is a choice of what is
// not recomputed, whose bytes beyond memory pay the link's price, and a split of it into what is
// kept and what is offloaded. All choices that could cost less than the claim are walked, with the
// exact least cost of the tensors still to come; for each it is shown that its tensors do not split
// below the claim: sums of whole tensors, with one in part where one may be cut.
#include <algorithm>
#include <cstddef>
#include <map>
#include <numeric>
#include <tuple>
#include <utility>
#include <vector>

#include "src/plan/check.h"

namespace rc {
namespace {

using Wide = __int128;
constexpr int64_t kScale = int64_t{1} << 20;  // of PlanBoundRow::price
constexpr int64_t kMostSums = 4'000'000;
constexpr int kMostLeaves = 2000;
constexpr Wide kFar = Wide(1) << 120;

struct Way {
  int64_t weight = 0, cost = 0;
  bool operator<(const Way& o) const { return std::tie(weight, cost) < std::tie(o.weight, o.cost); }
};
// Tensors of one kind: what each may do, the kept one first (where it may be kept).
struct Kind {
  std::vector<Way> ways;
  int64_t link = 0;      // that a kept one may take instead; 0: none
  int64_t rows = 1;      // of one that may be cut between device and host
  int64_t cut_rows = 0;  // of one that may be cut between keep and ways[replay]
  size_t replay = 0;
  bool operator<(const Kind& o) const {
    return std::tie(ways, link, rows, cut_rows, replay) <
           std::tie(o.ways, o.link, o.rows, o.cut_rows, o.replay);
  }
};

struct Point {
  int64_t weight;
  Wide cost;
};

// Least costs of the kinds from one on, by weight.
struct Front {
  std::vector<Point> points;
  std::vector<Wide> tree;  // minima of cost + slope * weight over halves, quarters, ...

  void plant(Wide slope) {
    const size_t n = points.size();
    tree.assign(2 * n, 0);
    for (size_t i = 0; i < n; ++i) tree[n + i] = points[i].cost + slope * points[i].weight;
    for (size_t i = n; i-- > 1;) tree[i] = std::min(tree[2 * i], tree[2 * i + 1]);
  }
  size_t within(int64_t weight) const {
    return size_t(std::upper_bound(points.begin(), points.end(), weight,
                                   [](int64_t w, const Point& p) { return w < p.weight; }) -
                  points.begin());
  }
  // Beyond `free` at least `jump` is paid for.
  Wide least(int64_t free, int64_t jump, int64_t room, Wide slope) const {
    const size_t none = within(free), first = within(std::min(room, free + jump));
    const size_t last = within(room), n = points.size();
    Wide best = none > 0 ? points[none - 1].cost : kFar;
    if (first > none) best = std::min(best, points[first - 1].cost + slope * jump);
    for (size_t l = first + n, r = last + n; l < r; l /= 2, r /= 2) {
      if (l % 2 == 1) best = std::min(best, tree[l++] - slope * free);
      if (r % 2 == 1) best = std::min(best, tree[--r] - slope * free);
    }
    return best;
  }
};

class SharedProof {
 public:
  SharedProof(const PlanStage& stage, const PlanBoundRow& row, size_t limit)
      : stage_(stage), row_(row), limit_(limit) {}

  // Whether the stage is of this kind.
  bool prepare();
  bool holds(int64_t claim);

 private:
  bool add_item(size_t c, size_t l, const PlanItem& item);
  bool set_price(const PlanItem& item, const PlanChoice& moved, const PlanChoice& kept);
  int64_t use(size_t c, size_t l, const PlanItem& item, const PlanChoice& choice) const;
  void round_room();
  bool build(size_t cut);
  Wide lowest(const Kind& kind, bool ends) const;
  std::vector<Point> joined(const std::vector<Point>& a, const std::vector<Point>& b, Way by,
                            int64_t times, Wide ahead, int64_t lightest) const;
  Way cut_way(const Kind& kind, int64_t kept) const;
  bool excluded(size_t cut);
  bool walk(size_t kind, Wide cost, int64_t room, int64_t memory);
  bool choose(size_t kind, size_t way, int64_t left, Wide cost, int64_t room, int64_t memory);
  bool splits_below(Wide cost, int64_t room);
  bool sum_between(const std::vector<int64_t>& count, int64_t low, int64_t high, int64_t row,
                   int64_t rows) const;

  const PlanStage& stage_;
  const PlanBoundRow row_;
  const size_t limit_;
  std::map<Kind, int64_t> all_;
  std::vector<Kind> kinds_;
  std::vector<int64_t> count_;
  int64_t memory_ = 0, link_ = 0, factor_ = 0;  // factor: of the link in memory's row
  int64_t price_ = 0, per_ = 0;                 // of the link: so much for so many bytes
  int64_t jump_ = 0;                            // of memory's row: the smallest that may move
  Wide scale_ = 1, slope_ = 0, claim_ = 0;      // costs are scaled so that the slope is whole
  Wide lambda_ = 0;                             // the certificate's price, scaled likewise
  Wide worth_ = 0;
  std::vector<Front> fronts_;
  std::vector<int64_t> kept_;  // [kind] on the way down
  int leaves_ = 0;
};

int64_t SharedProof::use(size_t c, size_t l, const PlanItem& item, const PlanChoice& choice) const {
  const PlanState& state = stage_.states[size_t(row_.state)];
  const bool own_chunk = size_t(state.chunk) == c;
  const int64_t times = state.held[c] - (own_chunk && l > size_t(row_.layer) ? 1 : 0);
  const bool now =
      own_chunk && l == size_t(row_.layer) && (item.moment < 0 || item.moment == row_.moment);
  return times * choice.kept_bytes + (now ? choice.transient_bytes : 0);
}

// One price per byte for all that may be offloaded.
bool SharedProof::set_price(const PlanItem& item, const PlanChoice& moved, const PlanChoice& kept) {
  if (moved.kept_bytes != 0 || moved.link_bytes != kept.kept_bytes || moved.cost < kept.cost)
    return false;
  const int64_t more = moved.cost - kept.cost;
  if (more > 0 && item.cut_offload && item.rows > 1) return false;
  if (per_ == 0) {
    const int64_t common = std::max<int64_t>(1, std::gcd(more, moved.link_bytes));
    price_ = more / common;
    per_ = moved.link_bytes / common;
  }
  return Wide(more) * per_ == Wide(price_) * moved.link_bytes;
}

bool SharedProof::add_item(size_t c, size_t l, const PlanItem& item) {
  Kind kind;
  const PlanChoice *kept = item.find(PlanOption::kKeep), *moved = item.find(PlanOption::kOffload);
  const int64_t layers = int64_t(stage_.chunks[c].layers.size());
  const bool tail = c + 1 == stage_.chunks.size() && int64_t(l) >= layers - stage_.tail_margin;
  if (kept != nullptr) kind.ways.push_back({use(c, l, item, *kept), kept->cost});
  if (moved != nullptr && moved->link_bytes > 0 && moved->link_bytes >= stage_.min_offload_bytes) {
    if (kept == nullptr || !set_price(item, *moved, *kept)) return false;
    const int64_t freed = kind.ways[0].weight - use(c, l, item, *moved);
    // Where it frees nothing, keeping it is no worse.
    if (!tail && freed > 0) {
      if (freed % moved->link_bytes != 0) return false;
      if (factor_ == 0) factor_ = freed / moved->link_bytes;
      if (freed != factor_ * moved->link_bytes || freed > kind.ways[0].weight) return false;
      kind.link = moved->link_bytes;
      if (item.cut_offload) kind.rows = item.rows;
      jump_ = jump_ == 0 ? freed : std::min(jump_, freed);
    }
  }
  for (const PlanChoice& choice : item.choices) {
    if (&choice == kept || choice.link_bytes > 0) continue;
    if (choice.option == PlanOption::kOffload) return false;
    if (choice.option == PlanOption::kRecompute && kept != nullptr && item.cut_recompute &&
        item.rows > 1) {
      kind.cut_rows = item.rows;
      kind.replay = kind.ways.size();
    }
    kind.ways.push_back({use(c, l, item, choice), choice.cost});
  }
  ++all_[kind];
  return !kind.ways.empty();
}

// Sums of ways are what they share apart, so that room between two such sums is none.
void SharedProof::round_room() {
  int64_t all = 0, base = 0, link = 0;
  for (const auto& [kind, count] : all_) {
    base += kind.ways[0].weight * count;
    for (const Way& way : kind.ways) all = std::gcd(all, way.weight - kind.ways[0].weight);
    if (kind.cut_rows > 0) {
      all = std::gcd(all, kind.ways[0].weight / kind.cut_rows);
      all = std::gcd(all, kind.ways[kind.replay].weight / kind.cut_rows);
    }
    all = std::gcd(all, factor_ * (kind.link / kind.rows));
    link = std::gcd(link, kind.link / kind.rows);
  }
  const int64_t room = memory_ - base;
  if (all > 0) memory_ -= (room % all + all) % all;
  if (link > 0) link_ -= link_ % link;
}

bool SharedProof::prepare() {
  if (row_.kind != PlanBoundRow::kMemoryAndLink || row_.price < 0) return false;
  if (row_.state < 0 || size_t(row_.state) >= stage_.states.size()) return false;
  const PlanChunk& chunk = stage_.chunks[size_t(stage_.states[size_t(row_.state)].chunk)];
  if (row_.layer < 0 || size_t(row_.layer) >= chunk.layers.size()) return false;
  const PlanLayerClass& own = stage_.classes[size_t(chunk.layers[size_t(row_.layer)])];
  if (row_.moment < 0 || size_t(row_.moment) >= own.moments.size()) return false;
  if (stage_.host_bytes >= 0 && stage_.chunks.size() > 1) return false;
  memory_ = stage_.budget - stage_.fixed_bytes - own.moments[size_t(row_.moment)];
  for (size_t c = 0; c < stage_.chunks.size(); ++c)
    for (size_t l = 0; l < stage_.chunks[c].layers.size(); ++l)
      for (const PlanItem& item : stage_.classes[size_t(stage_.chunks[c].layers[l])].items)
        if (!add_item(c, l, item)) return false;
  if (factor_ == 0) return false;
  link_ = stage_.link_bytes;
  for (const PlanState& state : stage_.states)
    if (stage_.host_bytes >= 0) link_ = std::min(link_, stage_.host_bytes / state.held[0]);
  int64_t movable = 0;
  for (const auto& [kind, count] : all_) movable += kind.link * count;
  link_ = std::min(link_, movable);
  round_room();
  scale_ = Wide(per_) * factor_ * kScale;
  slope_ = Wide(price_) * kScale;
  lambda_ = Wide(row_.price) * per_ * factor_;
  worth_ = lambda_ * memory_ + std::max<Wide>(0, lambda_ - slope_) * factor_ * link_;
  return true;
}

// The least of a tensor's cost and priced weight.
Wide SharedProof::lowest(const Kind& kind, bool ends) const {
  Wide low = kFar;
  const auto offer = [&](const Way& way) {
    low = std::min(low, way.cost * scale_ + lambda_ * way.weight);
  };
  if (ends) {
    offer(cut_way(kind, 1));
    offer(cut_way(kind, kind.cut_rows - 1));
    return low - 2 * scale_;  // parts' costs are rounded up
  }
  for (const Way& way : kind.ways) offer(way);
  return low;
}

Way SharedProof::cut_way(const Kind& kind, int64_t kept) const {
  const Way &keep = kind.ways[0], &replay = kind.ways[kind.replay];
  const int64_t rest = kind.cut_rows - kept;
  const auto part = [&](int64_t cost, int64_t rows) {
    return int64_t((Wide(cost) * rows + kind.cut_rows - 1) / kind.cut_rows);
  };
  return {keep.weight / kind.cut_rows * kept + replay.weight / kind.cut_rows * rest,
          part(keep.cost, kept) + part(replay.cost, rest)};
}

// The best of a, and of b with `times` more of a way, less what cannot end below the claim: `ahead`
// is what all else adds to the Lagrangian at least, `lightest` what it weighs.
std::vector<Point> SharedProof::joined(const std::vector<Point>& a, const std::vector<Point>& b,
                                       Way by, int64_t times, Wide ahead, int64_t lightest) const {
  std::vector<Point> out;
  const int64_t weight = by.weight * times, room = memory_ + factor_ * link_;
  const Wide cost = by.cost * scale_ * times;
  for (size_t i = 0, j = 0; i < a.size() || j < b.size();) {
    const bool first = j == b.size() || (i < a.size() && a[i].weight <= b[j].weight + weight);
    const Point next = first ? a[i++] : Point{b[j].weight + weight, b[j].cost + cost};
    if (!first) ++j;
    if (next.weight + lightest > room) continue;
    if (next.cost + lambda_ * next.weight + ahead - worth_ >= claim_) continue;
    if (!out.empty() && out.back().cost <= next.cost) continue;
    if (!out.empty() && out.back().weight == next.weight) out.pop_back();
    out.push_back(next);
  }
  return out;
}

// Fronts of the kinds from each on; `cut`: one of that kind is apart.
bool SharedProof::build(size_t cut) {
  const size_t n = kinds_.size();
  Wide ahead = cut < n ? lowest(kinds_[cut], true) : 0;
  int64_t lightest = 0;
  if (cut < n)
    lightest = std::min(cut_way(kinds_[cut], 1).weight,
                        cut_way(kinds_[cut], kinds_[cut].cut_rows - 1).weight);
  const auto light = [](const Kind& kind) {
    return std::min_element(kind.ways.begin(), kind.ways.end())->weight;
  };
  for (size_t k = 0; k < n; ++k) {
    ahead += lowest(kinds_[k], false) * count_[k];
    lightest += light(kinds_[k]) * count_[k];
  }
  fronts_.assign(n + 1, {});
  fronts_[n].points = {{0, 0}};
  fronts_[n].plant(slope_);
  size_t points = 0;
  for (size_t k = n; k-- > 0;) {
    const Kind& kind = kinds_[k];
    std::vector<Point> front = fronts_[k + 1].points;
    const Wide each = lowest(kind, false);
    for (int64_t left = count_[k]; left > 0;) {
      // All of a block do the same: with blocks of 1, 2, 4, ... every number of two ways comes up.
      const int64_t block =
          kind.ways.size() == 2 ? std::min(left, std::max<int64_t>(1, (count_[k] - left) + 1)) : 1;
      left -= block;
      ahead -= each * block;
      lightest -= light(kind) * block;
      std::vector<Point> sum;
      for (const Way& way : kind.ways) sum = joined(sum, front, way, block, ahead, lightest);
      front.swap(sum);
    }
    fronts_[k].points = std::move(front);
    fronts_[k].plant(slope_);
    points += fronts_[k].points.size();
    if (points > limit_) return false;
  }
  return true;
}

// Whether the members can be told apart into sums that cost less than the claim.
bool SharedProof::splits_below(Wide cost, int64_t room) {
  const int64_t over = factor_ * link_ - room;
  const int64_t low = over <= 0 ? 0 : (over + factor_ - 1) / factor_;
  if (low == 0) return true;
  // The link's price for that many bytes is below the claim.
  const Wide spare = (claim_ - 1 - cost) / (slope_ * factor_ + (slope_ == 0 ? 1 : 0));
  const int64_t high = slope_ == 0 || spare > link_ ? link_ : int64_t(spare);
  if (low > high) return false;
  if (++leaves_ > kMostLeaves) return true;
  if (sum_between(kept_, low, high, 1, 0)) return true;
  for (size_t k = 0; k < kinds_.size(); ++k) {
    if (kinds_[k].link == 0 || kinds_[k].rows < 2 || kept_[k] == 0) continue;
    std::vector<int64_t> others = kept_;
    --others[k];
    const int64_t row = kinds_[k].link / kinds_[k].rows;
    if (sum_between(others, low, high, row, kinds_[k].rows - 1)) return true;
  }
  return false;
}

// A sum of whole members, and up to `rows` rows of so many bytes, within the bounds.
bool SharedProof::sum_between(const std::vector<int64_t>& count, int64_t low, int64_t high,
                              int64_t row, int64_t rows) const {
  int64_t unit = 0;
  for (size_t k = 0; k < kinds_.size(); ++k)
    if (count[k] > 0) unit = std::gcd(unit, kinds_[k].link);
  unit = std::max<int64_t>(unit, 1);
  if (high / unit > kMostSums) return true;
  // Of the latest kind, how many a sum needs; -1: no way to it.
  std::vector<int32_t> used(size_t(high / unit) + 1, -1);
  used[0] = 0;
  for (size_t k = 0; k < kinds_.size(); ++k) {
    const size_t each = size_t(kinds_[k].link / unit);
    if (each == 0 || count[k] == 0) continue;
    for (size_t sum = 0; sum < used.size(); ++sum) {
      if (used[sum] >= 0)
        used[sum] = 0;
      else if (sum >= each && used[sum - each] >= 0 && used[sum - each] < count[k])
        used[sum] = used[sum - each] + 1;
    }
  }
  for (size_t sum = 0; sum < used.size(); ++sum) {
    if (used[sum] < 0) continue;
    const int64_t whole = int64_t(sum) * unit;
    const int64_t more = whole >= low ? 0 : (low - whole + row - 1) / row;
    if (more > rows) continue;
    if (whole + more * row <= high) return true;
  }
  return false;
}

bool SharedProof::choose(size_t kind, size_t way, int64_t left, Wide cost, int64_t room,
                         int64_t memory) {
  const Way& mine = kinds_[kind].ways[way];
  const bool last = way + 1 == kinds_[kind].ways.size();
  for (int64_t n = last ? left : 0; n <= left; ++n) {
    const Wide then = cost + mine.cost * scale_ * n;
    const int64_t rest = room - mine.weight * n;
    const bool moves = kinds_[kind].link > 0 && way == 0;
    if (moves) kept_[kind] = n;
    const int64_t stays = mine.weight - (moves ? factor_ * kinds_[kind].link : 0);
    const int64_t free = memory - stays * n;
    const bool good =
        last ? walk(kind + 1, then, rest, free) : choose(kind, way + 1, left - n, then, rest, free);
    if (!good) return false;
  }
  return true;
}

// memory: left for what cannot leave it.
bool SharedProof::walk(size_t kind, Wide cost, int64_t room, int64_t memory) {
  if (memory < 0) return true;
  if (cost + fronts_[kind].least(room - factor_ * link_, jump_, room, slope_) >= claim_)
    return true;
  if (kind == kinds_.size()) return !splits_below(cost, room);
  kept_[kind] = 0;
  return choose(kind, 0, count_[kind], cost, room, memory);
}

// No plan below the claim with one tensor of kind `cut` cut between keep and recompute.
bool SharedProof::excluded(size_t cut) {
  const int64_t room = memory_ + factor_ * link_;
  if (cut >= kinds_.size()) return build(cut) && walk(0, 0, room, memory_);
  const Kind& kind = kinds_[cut];
  --count_[cut];
  bool good = build(cut);
  for (int64_t kept = 1; kept < kind.cut_rows && good; ++kept) {
    const Way way = cut_way(kind, kept);
    good = walk(0, way.cost * scale_, room - way.weight, memory_ - way.weight);
  }
  ++count_[cut];
  return good;
}

bool SharedProof::holds(int64_t claim) {
  claim_ = claim * scale_;
  for (const auto& [kind, count] : all_) kinds_.push_back(kind);
  // What cannot move first: it may be too much for memory alone.
  std::stable_partition(kinds_.begin(), kinds_.end(), [](const Kind& k) { return k.link == 0; });
  for (const Kind& kind : kinds_) count_.push_back(all_[kind]);
  kept_.assign(kinds_.size(), 0);
  if (!excluded(kinds_.size())) return false;
  for (size_t k = 0; k < kinds_.size(); ++k)
    if (kinds_[k].cut_rows > 0 && !excluded(k)) return false;
  return true;
}

}  // namespace

bool prove_shared_bound(const PlanStage& stage, const StagePlan& plan, int64_t claim,
                        size_t partial_plans, bool* applies) {
  *applies = false;
  if (plan.certificate.proof.size() != 1) return false;
  SharedProof proof(stage, plan.certificate.proof[0], partial_plans);
  *applies = proof.prepare();
  return *applies && proof.holds(claim);
}

}  // namespace rc
