// src/plan/check_shared.h: the proof of a lower bound where one memory row or two and a link of
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
//
// What cannot leave memory (compressed tensors, those of the last layers) may have a price of its
// own, for which the certificate names the row once more.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "src/plan/check_kinds.h"
#include "src/plan/problem.h"

namespace rc {

// A bound from prices of the rows: exact least costs, less what is left of memory is worth where it
// is held.
struct ProofSide {
  ProofWide lambda = 0, late_lambda = 0;  // the certificate's prices, scaled as costs are
  ProofWide held = 0;                     // of what cannot leave memory
  ProofWide worth = 0;                    // of memory and link
  std::vector<ProofFront> fronts = {};
  // Of a cut that fills what room the others leave: `cost` at `most` of its weight, and `slope`
  // more for each unit less.
  ProofWide slope = 0, cost = 0;
  int64_t most = 0;
};

class SharedProof {
 public:
  // inner: the row that late tensors are not in; held: the same row for what cannot leave memory.
  // NULL: there is none.
  SharedProof(const PlanStage& stage, const PlanBoundRow& row, const PlanBoundRow* inner,
              const PlanBoundRow* held, size_t limit)
      : stage_(stage), row_(row), inner_(inner), held_row_(held), limit_(limit) {}

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
  ProofWide price_of(const ProofKind& kind) const {
    return kind.late ? side_->late_lambda : side_->lambda;
  }
  bool build(const ProofParts& cut);
  bool build_side(const ProofParts& cut);
  // What of a way cannot leave memory.
  int64_t stays(const ProofKind& kind, size_t way) const {
    return kind.ways[way].weight - (way == 0 ? factor_ * kind.link : 0);
  }
  ProofWide cost_of(const ProofKind& kind, size_t way) const {
    return kind.ways[way].cost * scale_ + side_->held * stays(kind, way);
  }
  // Of a cut one, which is in memory.
  ProofWide priced(const ProofKind& kind, const ProofWay& part) const {
    return part.cost * scale_ + (price_of(kind) + side_->held) * part.weight;
  }
  ProofWide lowest(const ProofKind& kind) const;
  std::vector<ProofPoint> joined(const std::vector<ProofPoint>& a, const std::vector<ProofPoint>& b,
                                 int64_t weight, ProofWide cost, ProofWide ahead, int64_t lightest,
                                 bool late) const;
  bool excluded(size_t cut);
  bool parts_excluded(const ProofParts& cut, int64_t floor);
  bool filled_excluded(const ProofParts& cut);
  bool fills_below(ProofWide cost, int64_t room, int64_t memory);
  ProofWide least(size_t kind, int64_t room, int64_t memory) const;
  bool walk(size_t kind, ProofWide cost, int64_t room, int64_t memory);
  bool choose(size_t kind, size_t way, int64_t left, ProofWide cost, int64_t room, int64_t memory);
  bool splits_below(ProofWide cost, int64_t room);
  // early: of the sum, what early kinds have at least.
  bool sum_between(const std::vector<int64_t>& count, int64_t early, int64_t low, int64_t high,
                   int64_t row, int64_t rows) const;

  const PlanStage& stage_;
  const PlanBoundRow row_;
  const PlanBoundRow *const inner_, *const held_row_;
  const size_t limit_;
  std::map<ProofKind, int64_t> all_;
  std::vector<ProofKind> kinds_;
  std::vector<int64_t> count_;
  int64_t memory_ = 0, link_ = 0, factor_ = 0;   // factor: of the link in memory's row
  int64_t price_ = 0, per_ = 0;                  // of the link: so much for so many bytes
  int64_t jump_ = 0;                             // of memory's row: the smallest that may move
  ProofWide scale_ = 1, slope_ = 0, claim_ = 0;  // costs are scaled so that the slope is whole
  std::vector<ProofSide> sides_;                 // without a price on what is held, and with one
  ProofSide* side_ = nullptr;                    // the one that is built
  int64_t inner_room_ = 0;                       // for the weight of the early ones
  int64_t floor_ = 0;                            // of the late ones, beside a cut one of them
  int64_t late_room_ = 0;                        // where the late ones begin, on the way down
  size_t first_late_ = 0;                        // of the kinds
  std::vector<int64_t> staying_;  // [kind] in memory, of the kinds from there on, at least
  std::vector<int64_t> kept_;     // [kind] on the way down
  int leaves_ = 0;
  uint64_t steps_ = 0, last_step_ = 0;
  // A cut that fills, and its lightest way.
  ProofParts fill_;
  int64_t lightest_ = 0;
  bool fills_ = false;
};

}  // namespace rc
