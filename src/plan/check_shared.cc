// src/plan/check_shared.cc: the proof of a lower bound where one memory row or two and a link of
// one price per byte are all that the certificate names; see check.h.
//
// Kept or offloaded, a tensor takes as much of memory + link. So every plan is a choice of what is
// not recomputed, whose bytes beyond memory pay the link's price, and a split of it into what is
// kept and what is offloaded. All choices that could cost less than the claim are walked, with the
// exact least cost of the tensors still to come; for each it is shown that its tensors do not split
// below the claim: sums of whole tensors, with one in part where one may be cut.
//
// A second row is one in which some tensors (late ones) take as much whatever becomes of them, and
// the others as much as in the first row, but for a constant. With capacities C1 and C2,
//   early + late <= C1 and early <= C2   is   early + max(late, C1 - C2) <= C1,
// so that late tensors together have a floor.
#include <algorithm>
#include <cstddef>
#include <map>
#include <numeric>
#include <tuple>
#include <utility>
#include <vector>

#include "src/plan/check.h"
#include "src/plan/check_kinds.h"

namespace rc {
namespace {

constexpr int64_t kScale = int64_t{1} << 20;  // of PlanBoundRow::price
constexpr int64_t kMostSums = 12'000'000;
constexpr int kMostLeaves = 2000;
constexpr size_t kFewParts = 8;
constexpr int64_t kFewRows = 64;

class SharedProof {
 public:
  // inner: the row that late tensors are not in; NULL: there is none.
  SharedProof(const PlanStage& stage, const PlanBoundRow& row, const PlanBoundRow* inner,
              size_t limit)
      : stage_(stage), row_(row), inner_(inner), limit_(limit) {}

  // Whether the stage is of this kind.
  bool prepare();
  bool holds(int64_t claim);

 private:
  bool add_item(size_t c, size_t l, const PlanItem& item);
  bool set_price(const PlanItem& item, const PlanChoice& moved, const PlanChoice& kept);
  int64_t use(const PlanBoundRow& row, size_t c, size_t l, const PlanItem& item,
              const PlanChoice& choice) const;
  int64_t use(size_t c, size_t l, const PlanItem& item, const PlanChoice& choice) const {
    return use(row_, c, l, item, choice);
  }
  bool is_row(const PlanBoundRow& row) const;
  int64_t room_of(const PlanBoundRow& row) const;
  bool set_late(size_t c, size_t l, const PlanItem& item, bool moves, ProofKind& kind);
  int64_t rounded(int64_t room, bool late) const;
  void round_room();
  ProofWide price_of(const ProofKind& kind) const { return kind.late ? late_lambda_ : lambda_; }
  bool build(const ProofParts& cut);
  ProofWide priced(const ProofKind& kind, const ProofWay& way) const {
    return way.cost * scale_ + price_of(kind) * way.weight;
  }
  ProofWide lowest(const ProofKind& kind) const;
  std::vector<ProofPoint> joined(const std::vector<ProofPoint>& a, const std::vector<ProofPoint>& b,
                                 ProofWay by, int64_t times, ProofWide ahead, int64_t lightest,
                                 bool late) const;
  bool excluded(size_t cut);
  bool parts_excluded(const ProofParts& cut, int64_t floor);
  bool walk(size_t kind, ProofWide cost, int64_t room, int64_t memory);
  bool choose(size_t kind, size_t way, int64_t left, ProofWide cost, int64_t room, int64_t memory);
  bool splits_below(ProofWide cost, int64_t room);
  // early: of the sum, what early kinds have at least.
  bool sum_between(const std::vector<int64_t>& count, int64_t early, int64_t low, int64_t high,
                   int64_t row, int64_t rows) const;

  const PlanStage& stage_;
  const PlanBoundRow row_;
  const PlanBoundRow* const inner_;
  const size_t limit_;
  std::map<ProofKind, int64_t> all_;
  std::vector<ProofKind> kinds_;
  std::vector<int64_t> count_;
  int64_t memory_ = 0, link_ = 0, factor_ = 0;   // factor: of the link in memory's row
  int64_t price_ = 0, per_ = 0;                  // of the link: so much for so many bytes
  int64_t jump_ = 0;                             // of memory's row: the smallest that may move
  ProofWide scale_ = 1, slope_ = 0, claim_ = 0;  // costs are scaled so that the slope is whole
  ProofWide lambda_ = 0, late_lambda_ = 0;       // the certificate's prices, scaled likewise
  int64_t inner_room_ = 0;                       // for the weight of the early ones
  int64_t floor_ = 0;                            // of the late ones, beside a cut one of them
  int64_t late_room_ = 0;                        // where the late ones begin, on the way down
  size_t first_late_ = 0;                        // of the kinds
  ProofWide worth_ = 0;
  std::vector<ProofFront> fronts_;
  std::vector<int64_t> kept_;  // [kind] on the way down
  int leaves_ = 0;
};

int64_t SharedProof::use(const PlanBoundRow& row, size_t c, size_t l, const PlanItem& item,
                         const PlanChoice& choice) const {
  const PlanState& state = stage_.states[size_t(row.state)];
  const bool own_chunk = size_t(state.chunk) == c;
  const int64_t times = state.held[c] - (own_chunk && l > size_t(row.layer) ? 1 : 0);
  const bool now =
      own_chunk && l == size_t(row.layer) && (item.moment < 0 || item.moment == row.moment);
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
  return ProofWide(more) * per_ == ProofWide(price_) * moved.link_bytes;
}

// Which of the two a tensor is in the second row, less what it takes there anyway.
bool SharedProof::set_late(size_t c, size_t l, const PlanItem& item, bool moves, ProofKind& kind) {
  if (inner_ == nullptr) return true;
  bool early = true, late = true, any = false;
  int64_t more = 0, fixed = 0;
  for (const PlanChoice& choice : item.choices) {
    if (choice.option == PlanOption::kOffload && !moves) continue;
    const int64_t outer = use(c, l, item, choice), inner = use(*inner_, c, l, item, choice);
    if (!any) more = inner - outer, fixed = inner;
    any = true;
    early = early && inner - outer == more;
    late = late && inner == fixed;
    // ProofParts of it likewise.
    if (item.rows > 1 && (outer % item.rows != 0 || inner % item.rows != 0)) return false;
  }
  kind.late = !early;
  inner_room_ -= early ? more : fixed;
  return early || late;
}

bool SharedProof::add_item(size_t c, size_t l, const PlanItem& item) {
  ProofKind kind;
  const PlanChoice *kept = item.find(PlanOption::kKeep), *moved = item.find(PlanOption::kOffload);
  const int64_t layers = int64_t(stage_.chunks[c].layers.size());
  const bool tail = c + 1 == stage_.chunks.size() && int64_t(l) >= layers - stage_.tail_margin;
  if (!set_late(c, l, item, !tail, kind)) return false;
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
int64_t SharedProof::rounded(int64_t room, bool late) const {
  int64_t all = 0, base = 0;
  for (const auto& [kind, count] : all_) {
    if (kind.late && !late) continue;
    base += kind.ways[0].weight * count;
    for (const ProofWay& way : kind.ways) all = std::gcd(all, way.weight - kind.ways[0].weight);
    if (kind.cut_rows > 0) {
      all = std::gcd(all, kind.ways[0].weight / kind.cut_rows);
      all = std::gcd(all, kind.ways[kind.replay].weight / kind.cut_rows);
    }
    all = std::gcd(all, factor_ * (kind.link / kind.rows));
  }
  const int64_t spare = room - base;
  return all > 0 ? room - (spare % all + all) % all : room;
}

void SharedProof::round_room() {
  memory_ = rounded(memory_, true);
  inner_room_ = rounded(inner_room_, false);
  int64_t link = 0;
  for (const auto& [kind, count] : all_) link = std::gcd(link, kind.link / kind.rows);
  if (link > 0) link_ -= link_ % link;
}

bool SharedProof::is_row(const PlanBoundRow& row) const {
  if (row.kind != PlanBoundRow::kMemoryAndLink || row.price < 0) return false;
  if (row.state < 0 || size_t(row.state) >= stage_.states.size()) return false;
  const PlanChunk& chunk = stage_.chunks[size_t(stage_.states[size_t(row.state)].chunk)];
  if (row.layer < 0 || size_t(row.layer) >= chunk.layers.size()) return false;
  const PlanLayerClass& own = stage_.classes[size_t(chunk.layers[size_t(row.layer)])];
  return row.moment >= 0 && size_t(row.moment) < own.moments.size();
}

int64_t SharedProof::room_of(const PlanBoundRow& row) const {
  const PlanChunk& chunk = stage_.chunks[size_t(stage_.states[size_t(row.state)].chunk)];
  const PlanLayerClass& own = stage_.classes[size_t(chunk.layers[size_t(row.layer)])];
  return stage_.budget - stage_.fixed_bytes - own.moments[size_t(row.moment)];
}

bool SharedProof::prepare() {
  if (!is_row(row_) || (inner_ != nullptr && !is_row(*inner_))) return false;
  if (stage_.host_bytes >= 0 && stage_.chunks.size() > 1) return false;
  memory_ = room_of(row_);
  inner_room_ = inner_ != nullptr ? room_of(*inner_) : 0;
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
  scale_ = ProofWide(per_) * factor_ * kScale;
  slope_ = ProofWide(price_) * kScale;
  late_lambda_ = ProofWide(row_.price) * per_ * factor_;
  lambda_ = late_lambda_ + (inner_ != nullptr ? ProofWide(inner_->price) * per_ * factor_ : 0);
  worth_ = lambda_ * memory_ + std::max<ProofWide>(0, lambda_ - slope_) * factor_ * link_;
  return true;
}

// The least of a tensor's cost and priced weight.
ProofWide SharedProof::lowest(const ProofKind& kind) const {
  ProofWide low = kProofFar;
  for (const ProofWay& way : kind.ways) low = std::min(low, priced(kind, way));
  return low;
}

// The best of a, and of b with `times` more of a way, less what cannot end below the claim: `ahead`
// is what all else adds to the Lagrangian at least, `lightest` what it weighs.
std::vector<ProofPoint> SharedProof::joined(const std::vector<ProofPoint>& a,
                                            const std::vector<ProofPoint>& b, ProofWay by,
                                            int64_t times, ProofWide ahead, int64_t lightest,
                                            bool late) const {
  std::vector<ProofPoint> out;
  const int64_t weight = by.weight * times, room = memory_ + factor_ * link_;
  const ProofWide cost = by.cost * scale_ * times, lambda = late ? late_lambda_ : lambda_;
  const ProofWide base = ahead - worth_ + (late ? (lambda_ - late_lambda_) * floor_ : 0);
  for (size_t i = 0, j = 0; i < a.size() || j < b.size();) {
    const bool first = j == b.size() || (i < a.size() && a[i].weight <= b[j].weight + weight);
    const ProofPoint next = first ? a[i++] : ProofPoint{b[j].weight + weight, b[j].cost + cost};
    if (!first) ++j;
    if (next.weight + lightest > room) continue;
    if (next.cost + lambda * next.weight + base >= claim_) continue;
    if (!out.empty() && out.back().cost <= next.cost) continue;
    if (!out.empty() && out.back().weight == next.weight) out.pop_back();
    out.push_back(next);
  }
  return out;
}

// Fronts of the kinds from each on; `cut`: one tensor is apart.
bool SharedProof::build(const ProofParts& cut) {
  const size_t n = kinds_.size();
  ProofWide ahead = 0;
  int64_t lightest = 0;
  if (cut.kind < n) {
    const ProofKind& kind = kinds_[cut.kind];
    const ProofWay ends[] = {kind.part(cut.first), kind.part(cut.last)};
    lightest = std::min(ends[0].weight, ends[1].weight);
    // ProofParts' costs are rounded up.
    ahead = std::min(priced(kind, ends[0]), priced(kind, ends[1])) - 2 * scale_;
  }
  const auto light = [](const ProofKind& kind) {
    return std::min_element(kind.ways.begin(), kind.ways.end())->weight;
  };
  for (size_t k = 0; k < n; ++k) {
    ahead += lowest(kinds_[k]) * count_[k];
    lightest += light(kinds_[k]) * count_[k];
  }
  fronts_.assign(n + 1, {});
  fronts_[n].points = {{0, 0}};
  if (inner_ != nullptr && first_late_ == n) raise(fronts_[n].points, floor_);
  fronts_[n].plant(slope_);
  size_t points = 0;
  for (size_t k = n; k-- > 0;) {
    const ProofKind& kind = kinds_[k];
    std::vector<ProofPoint> front = fronts_[k + 1].points;
    const ProofWide each = lowest(kind);
    for (int64_t left = count_[k]; left > 0;) {
      // All of a block do the same: with blocks of 1, 2, 4, ... every number of two ways comes up.
      const int64_t block =
          kind.ways.size() == 2 ? std::min(left, std::max<int64_t>(1, (count_[k] - left) + 1)) : 1;
      left -= block;
      ahead -= each * block;
      lightest -= light(kind) * block;
      std::vector<ProofPoint> sum;
      for (const ProofWay& way : kind.ways)
        sum = joined(sum, front, way, block, ahead, lightest, kind.late);
      front.swap(sum);
    }
    if (k == first_late_) raise(front, floor_);
    fronts_[k].points = std::move(front);
    fronts_[k].plant(slope_);
    points += fronts_[k].points.size();
    if (points > limit_) return false;
  }
  return true;
}

// Whether the members can be told apart into sums that cost less than the claim.
bool SharedProof::splits_below(ProofWide cost, int64_t room) {
  const auto up = [&](int64_t over) { return over <= 0 ? 0 : (over + factor_ - 1) / factor_; };
  const int64_t all = factor_ * link_;
  const int64_t early = inner_ != nullptr ? up(all + floor_ - late_room_) : 0;
  const int64_t low = std::max(up(all - room), early);
  if (low == 0) return true;
  // The link's price for that many bytes is below the claim.
  const ProofWide spare = (claim_ - 1 - cost) / (slope_ * factor_ + (slope_ == 0 ? 1 : 0));
  const int64_t high = slope_ == 0 || spare > link_ ? link_ : int64_t(spare);
  if (low > high) return false;
  if (++leaves_ > kMostLeaves) return true;
  if (sum_between(kept_, early, low, high, 1, 0)) return true;
  for (size_t k = 0; k < kinds_.size(); ++k) {
    if (kinds_[k].link == 0 || kinds_[k].rows < 2 || kept_[k] == 0) continue;
    std::vector<int64_t> others = kept_;
    --others[k];
    const int64_t row = kinds_[k].link / kinds_[k].rows;
    const int64_t rows = kinds_[k].rows - 1;
    // Rows of an early one count for both; where they are many, all of them are taken for them.
    const bool each = !kinds_[k].late && early > 0;
    if (each && rows <= kFewRows) {
      for (int64_t n = 1; n <= rows; ++n) {
        const int64_t part = n * row;
        if (part <= high && sum_between(others, early - part, low - part, high - part, row, 0))
          return true;
      }
    } else if (sum_between(others, each ? early - rows * row : early, low, high, row, rows)) {
      return true;
    }
  }
  return false;
}

// A sum of whole members, and up to `rows` rows of so many bytes, within the bounds.
bool SharedProof::sum_between(const std::vector<int64_t>& count, int64_t early, int64_t low,
                              int64_t high, int64_t row, int64_t rows) const {
  int64_t unit = 0;
  for (size_t k = 0; k < kinds_.size(); ++k)
    if (count[k] > 0) unit = std::gcd(unit, kinds_[k].link);
  unit = std::max<int64_t>(unit, 1);
  if (high / unit > kMostSums) return true;
  // Of the latest kind, how many a sum needs; -1: no way to it.
  std::vector<int32_t> used(size_t(high / unit) + 1, -1);
  used[0] = 0;
  const auto drop = [&] {
    for (size_t sum = 0; sum < used.size() && int64_t(sum) * unit < early; ++sum) used[sum] = -1;
  };
  for (size_t k = 0; k < kinds_.size(); ++k) {
    if (k == first_late_) drop();
    const size_t each = size_t(kinds_[k].link / unit);
    if (each == 0 || count[k] == 0) continue;
    for (size_t sum = 0; sum < used.size(); ++sum) {
      if (used[sum] >= 0)
        used[sum] = 0;
      else if (sum >= each && used[sum - each] >= 0 && used[sum - each] < count[k])
        used[sum] = used[sum - each] + 1;
    }
  }
  if (first_late_ == kinds_.size()) drop();
  for (size_t sum = 0; sum < used.size(); ++sum) {
    if (used[sum] < 0) continue;
    const int64_t whole = int64_t(sum) * unit;
    const int64_t more = whole >= low ? 0 : (low - whole + row - 1) / row;
    if (more > rows) continue;
    if (whole + more * row <= high) return true;
  }
  return false;
}

bool SharedProof::choose(size_t kind, size_t way, int64_t left, ProofWide cost, int64_t room,
                         int64_t memory) {
  const ProofWay& mine = kinds_[kind].ways[way];
  const bool last = way + 1 == kinds_[kind].ways.size();
  for (int64_t n = last ? left : 0; n <= left; ++n) {
    const ProofWide then = cost + mine.cost * scale_ * n;
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
bool SharedProof::walk(size_t kind, ProofWide cost, int64_t room, int64_t memory) {
  if (memory < 0) return true;
  if (kind == first_late_ && inner_ != nullptr) {
    if (room < floor_ || memory < floor_) return true;
    late_room_ = room;
  }
  if (cost + fronts_[kind].least(room - factor_ * link_, jump_, room, slope_) >= claim_)
    return true;
  if (kind == kinds_.size()) return !splits_below(cost, room);
  kept_[kind] = 0;
  return choose(kind, 0, count_[kind], cost, room, memory);
}

// No plan below the claim with one tensor of kind `cut` cut between keep and recompute.
bool SharedProof::excluded(size_t cut) {
  floor_ = memory_ - inner_room_;
  if (cut >= kinds_.size())
    return build({cut, 0, 0}) && walk(0, 0, memory_ + factor_ * link_, memory_);
  --count_[cut];
  const bool good = parts_excluded({cut, 1, kinds_[cut].cut_rows - 1}, floor_);
  ++count_[cut];
  return good;
}

// A late one's parts count for the floor: that beside the heaviest serves all of them. Where that
// leaves many to be walked, each half of them has its own.
bool SharedProof::parts_excluded(const ProofParts& cut, int64_t floor) {
  const ProofKind& kind = kinds_[cut.kind];
  const int64_t heaviest = std::max(kind.part(cut.first).weight, kind.part(cut.last).weight);
  floor_ = kind.late ? floor - heaviest : floor;
  if (!build(cut)) return false;
  const int64_t room = memory_ + factor_ * link_;
  std::vector<int64_t> left;
  for (int64_t kept = cut.first; kept <= cut.last; ++kept) {
    const ProofWay way = kind.part(kept);
    const int64_t rest = room - way.weight;
    const ProofWide least = fronts_[0].least(rest - factor_ * link_, jump_, rest, slope_);
    if (way.cost * scale_ + least < claim_) left.push_back(kept);
  }
  if (kind.late && left.size() > kFewParts) {
    const int64_t middle = (cut.first + cut.last) / 2;
    return parts_excluded({cut.kind, cut.first, middle}, floor) &&
           parts_excluded({cut.kind, middle + 1, cut.last}, floor);
  }
  for (const int64_t kept : left) {
    const ProofWay way = kind.part(kept);
    if (kind.late) floor_ = floor - way.weight;
    if (!walk(0, way.cost * scale_, room - way.weight, memory_ - way.weight)) return false;
  }
  return true;
}

bool SharedProof::holds(int64_t claim) {
  claim_ = claim * scale_;
  for (const auto& [kind, count] : all_) kinds_.push_back(kind);
  // What cannot move first: it may be too much for memory alone.
  std::stable_partition(kinds_.begin(), kinds_.end(),
                        [](const ProofKind& k) { return k.link == 0; });
  std::stable_partition(kinds_.begin(), kinds_.end(), [](const ProofKind& k) { return !k.late; });
  first_late_ = size_t(
      std::count_if(kinds_.begin(), kinds_.end(), [](const ProofKind& k) { return !k.late; }));
  for (const ProofKind& kind : kinds_) count_.push_back(all_[kind]);
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
  const std::vector<PlanBoundRow>& rows = plan.certificate.proof;
  if (rows.empty() || rows.size() > 2) return false;
  for (size_t outer = 0; outer < rows.size() && !*applies; ++outer) {
    const PlanBoundRow* inner = rows.size() > 1 ? &rows[1 - outer] : nullptr;
    SharedProof proof(stage, rows[outer], inner, partial_plans);
    *applies = proof.prepare();
    if (*applies) return proof.holds(claim);
  }
  return false;
}

}  // namespace rc
