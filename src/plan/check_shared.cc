// src/plan/check_shared.cc: see check_shared.h.
#include "src/plan/check_shared.h"

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <utility>
#include <vector>

#include "src/plan/check.h"

namespace rc {
namespace {

constexpr int64_t kMostSums = 12'000'000;
constexpr int kMostLeaves = 2000;
constexpr size_t kFewParts = 8, kManyParts = 4;
constexpr int64_t kFewRows = 64;
// Of the walks: before a cut's rows are taken one after another, and in all.
constexpr uint64_t kFillSteps = 2'000'000, kMostSteps = 50'000'000;

}  // namespace

// The least of a tensor's cost and priced weight.
ProofWide SharedProof::lowest(const ProofKind& kind) const {
  ProofWide low = kProofFar;
  for (size_t way = 0; way < kind.ways.size(); ++way)
    low = std::min(low, cost_of(kind, way) + price_of(kind) * kind.ways[way].weight);
  return low;
}

// The best of a, and of b moved by (weight, cost), less what cannot end below the claim: `ahead`
// is what all else adds to the Lagrangian at least, `lightest` what it weighs.
std::vector<ProofPoint> SharedProof::joined(const std::vector<ProofPoint>& a,
                                            const std::vector<ProofPoint>& b, int64_t weight,
                                            ProofWide cost, ProofWide ahead, int64_t lightest,
                                            bool late) const {
  std::vector<ProofPoint> out;
  const int64_t room = memory_ + factor_ * link_;
  const ProofWide lambda = late ? side_->late_lambda : side_->lambda;
  const ProofWide base =
      ahead - side_->worth + (late ? (side_->lambda - side_->late_lambda) * floor_ : 0);
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
  staying_.assign(n + 1, 0);
  for (size_t k = n; k-- > 0;) {
    int64_t least = kinds_[k].ways[0].weight;
    for (size_t way = 0; way < kinds_[k].ways.size(); ++way)
      least = std::min(least, stays(kinds_[k], way));
    staying_[k] = staying_[k + 1] + least * count_[k];
  }
  return std::all_of(sides_.begin(), sides_.end(), [&](ProofSide& side) {
    side_ = &side;
    return build_side(cut);
  });
}

bool SharedProof::build_side(const ProofParts& cut) {
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
  std::vector<ProofFront>& fronts = side_->fronts;
  fronts.assign(n + 1, {});
  fronts[n].points = {{0, 0}};
  if (inner_ != nullptr && first_late_ == n) raise(fronts[n].points, floor_);
  fronts[n].plant(slope_);
  size_t points = 0;
  for (size_t k = n; k-- > 0;) {
    const ProofKind& kind = kinds_[k];
    std::vector<ProofPoint> front = fronts[k + 1].points;
    const ProofWide each = lowest(kind);
    for (int64_t left = count_[k]; left > 0;) {
      // All of a block do the same: with blocks of 1, 2, 4, ... every number of two ways comes up.
      const int64_t block =
          kind.ways.size() == 2 ? std::min(left, std::max<int64_t>(1, (count_[k] - left) + 1)) : 1;
      left -= block;
      ahead -= each * block;
      lightest -= light(kind) * block;
      std::vector<ProofPoint> sum;
      for (size_t way = 0; way < kind.ways.size(); ++way)
        sum = joined(sum, front, kind.ways[way].weight * block, cost_of(kind, way) * block, ahead,
                     lightest, kind.late);
      front.swap(sum);
    }
    if (k == first_late_) raise(front, floor_);
    fronts[k].points = std::move(front);
    fronts[k].plant(slope_);
    points += fronts[k].points.size();
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
    const int64_t free = memory - stays(kinds_[kind], way) * n;
    const bool good =
        last ? walk(kind + 1, then, rest, free) : choose(kind, way + 1, left - n, then, rest, free);
    if (!good) return false;
  }
  return true;
}

// Of the kinds from one on beside what memory and link have left, and of a cut that fills them.
ProofWide SharedProof::least(size_t kind, int64_t room, int64_t memory) const {
  ProofWide best = -kProofFar;
  for (const ProofSide& side : sides_) {
    const ProofFront& front = side.fronts[kind];
    const ProofWide least =
        fills_ ? side.cost + front.least(room - side.most, 0, room - lightest_, side.slope)
               : front.least(room - factor_ * link_, jump_, room, slope_);
    best = std::max(best, least - side.held * memory);
  }
  return best;
}

// memory: left for what cannot leave it.
bool SharedProof::walk(size_t kind, ProofWide cost, int64_t room, int64_t memory) {
  if (memory < lightest_ + staying_[kind]) return true;
  if (++steps_ > last_step_) return false;
  if (kind == first_late_ && inner_ != nullptr) {
    if (std::min(room, memory) - lightest_ < floor_) return true;
    late_room_ = room;
  }
  if (cost + least(kind, room, memory) >= claim_) return true;
  if (kind == kinds_.size())
    return fills_ ? !fills_below(cost, room, memory) : cost >= claim_ || !splits_below(cost, room);
  kept_[kind] = 0;
  return choose(kind, 0, count_[kind], cost, room, memory);
}

// No plan below the claim with one tensor of kind `cut` cut between keep and recompute.
bool SharedProof::excluded(size_t cut) {
  floor_ = memory_ - inner_room_;
  if (cut >= kinds_.size())
    return build({cut, 0, 0}) && walk(0, 0, memory_ + factor_ * link_, memory_);
  // Parts of one that is better whole (no dearer, no heavier) are no better.
  const ProofWay &keep = kinds_[cut].ways[0], &other = kinds_[cut].ways[kinds_[cut].replay];
  if (keep.cost <= other.cost ? keep.weight <= other.weight : keep.weight >= other.weight)
    return true;
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
    if (way.cost * scale_ + least(0, rest, memory_ - way.weight) < claim_) left.push_back(kept);
  }
  if (!kind.late && slope_ == 0 && left.size() > kManyParts && filled_excluded(cut)) return true;
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

// All numbers of rows at once: exact but for parts of rows, which the leaves leave out.
bool SharedProof::filled_excluded(const ProofParts& cut) {
  const ProofKind& kind = kinds_[cut.kind];
  const ProofWay light = kind.part(cut.first), heavy = kind.part(cut.last);
  const ProofWay &keep = kind.ways[0], &other = kind.ways[kind.replay];
  if (heavy.weight <= light.weight) return false;
  for (ProofSide& side : sides_) {
    const ProofWide slope =
        scale_ * (other.cost - keep.cost) / (keep.weight - other.weight) - side.held;
    const ProofWay& best = slope > 0 ? heavy : light;
    side.slope = std::max<ProofWide>(slope, 0);
    // Costs of parts are rounded up.
    side.cost = (best.cost - 2) * scale_ + side.held * best.weight;
    side.most = best.weight;
    for (ProofFront& front : side.fronts) front.plant(side.slope);
  }
  fill_ = cut;
  lightest_ = light.weight;
  fills_ = true;
  const int leaves = leaves_;
  const uint64_t last = last_step_;
  last_step_ = std::min(last, steps_ + kFillSteps);
  const bool good = walk(0, 0, memory_ + factor_ * link_, memory_);
  last_step_ = last;
  fills_ = false;
  lightest_ = 0;
  for (ProofSide& side : sides_)
    for (ProofFront& front : side.fronts) front.plant(slope_);
  if (!good) leaves_ = leaves;
  return good;
}

// Of the rows that stay below the claim the fewest leave most room.
bool SharedProof::fills_below(ProofWide cost, int64_t room, int64_t memory) {
  const ProofKind& kind = kinds_[fill_.kind];
  int64_t fewest = fill_.last + 1;
  for (int64_t low = fill_.first; low < fewest;) {
    const int64_t middle = (low + fewest) / 2;
    if (cost + kind.part(middle).cost * scale_ < claim_)
      fewest = middle;
    else
      low = middle + 1;
  }
  if (fewest > fill_.last) return false;
  const ProofWay way = kind.part(fewest);
  if (way.weight > room || way.weight > memory) return false;
  if (inner_ != nullptr && late_room_ - way.weight < floor_) return false;
  late_room_ -= way.weight;
  const bool below = splits_below(cost + way.cost * scale_, room - way.weight);
  late_room_ += way.weight;
  return below;
}

bool SharedProof::holds(int64_t claim) {
  claim_ = claim * scale_;
  last_step_ = kMostSteps;
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

bool prove_shared_bound(const PlanStage& stage, const StagePlan& plan, int64_t claim,
                        size_t partial_plans, bool* applies) {
  *applies = false;
  std::vector<PlanBoundRow> rows;
  const PlanBoundRow* held = nullptr;
  for (const PlanBoundRow& row : plan.certificate.proof) {
    if (row.kind == PlanBoundRow::kMemory)
      held = &row;
    else
      rows.push_back(row);
  }
  if (rows.empty() || rows.size() > 2) return false;
  for (size_t outer = 0; outer < rows.size() && !*applies; ++outer) {
    const PlanBoundRow* inner = rows.size() > 1 ? &rows[1 - outer] : nullptr;
    SharedProof proof(stage, rows[outer], inner, held, partial_plans);
    *applies = proof.prepare();
    if (*applies) return proof.holds(claim);
  }
  return false;
}

}  // namespace rc
