// src/plan/check_units.cc: the proof of a lower bound over plans with units, by enumeration; see
// check.h.
#include <algorithm>
#include <cstddef>
#include <numeric>
#include <tuple>
#include <utility>
#include <vector>

#include "src/plan/check.h"

namespace rc {
namespace {

using Wide = __int128;
constexpr Wide kScale = Wide(1) << 20;  // of PlanBoundRow::price

// What one layer, or a unit of several, takes: kept bytes, the copies, the fullest backward with
// what it keeps itself, and in the last layer's backward beyond that.
struct Piece {
  size_t layers;
  int64_t kept, link, top, last, cost;
};
struct Partial {
  int64_t cost = 0, kept = 0, top = 0;
  std::vector<int64_t> use;
};

class UnitProof {
 public:
  UnitProof(const PlanStage& stage, const StagePlan& plan, int64_t claim, size_t limit)
      : stage_(stage), rows_(plan.certificate.proof), claim_(claim), limit_(limit) {}

  bool run(std::string* finding) {
    for (const PlanBoundRow& row : rows_) {
      const bool fine = row.state >= 0 && size_t(row.state) < stage_.states.size() &&
                        row.price >= 0 && row.kind != PlanBoundRow::kMemoryAndLink &&
                        (row.kind != PlanBoundRow::kHost || stage_.host_bytes >= 0);
      if (!fine) return *finding = "the proof has a row that is none", false;
    }
    for (size_t c = 0; c < stage_.chunks.size(); ++c) {
      for (size_t l = 0; l < stage_.chunks[c].layers.size(); ++l) {
        at_.push_back({c, l});
        pieces_.push_back(pieces(c, l));
      }
    }
    at_.push_back({stage_.chunks.size(), 0});
    round_claim();
    prepare_ahead();
    return enumerate(finding);
  }

 private:
  const PlanLayerClass& layer(size_t c, size_t l) const {
    return stage_.classes[size_t(stage_.chunks[c].layers[l])];
  }
  bool may_move(size_t c, size_t l, const PlanChoice& choice) const {
    const int64_t layers = int64_t(stage_.chunks[c].layers.size());
    const bool tail = c + 1 == stage_.chunks.size() && int64_t(l) >= layers - stage_.tail_margin;
    return !tail && choice.link_bytes >= stage_.min_offload_bytes;
  }

  // One layer: every combination of choices that no other one beats. Of what can be recomputed
  // nothing moves in this regime.
  std::vector<Piece> pieces(size_t c, size_t l) const {
    const PlanLayerClass& k = layer(c, l);
    struct Part {
      Piece piece;
      std::vector<int64_t> moments;
    };
    std::vector<Part> parts = {{{1, 0, 0, 0, 0, 0}, k.moments}};
    for (const PlanItem& item : k.items) {
      std::vector<Part> next;
      for (const Part& part : parts) {
        for (const PlanChoice& choice : item.choices) {
          if (choice.link_bytes > 0 &&
              (item.find(PlanOption::kRecompute) != nullptr || !may_move(c, l, choice))) {
            continue;
          }
          Part more = part;
          more.piece.kept += choice.kept_bytes;
          more.piece.link += choice.link_bytes;
          more.piece.cost += choice.cost;
          for (size_t m = 0; m < more.moments.size(); ++m) {
            if (item.moment < 0 || size_t(item.moment) == m)
              more.moments[m] += choice.transient_bytes;
          }
          next.push_back(std::move(more));
        }
      }
      parts.clear();
      std::sort(next.begin(), next.end(), [](const Part& a, const Part& b) {
        return std::tie(a.piece.cost, a.piece.kept) < std::tie(b.piece.cost, b.piece.kept);
      });
      for (Part& part : next) {
        const bool beaten = std::any_of(parts.begin(), parts.end(), [&](const Part& other) {
          bool less = other.piece.kept <= part.piece.kept && other.piece.link <= part.piece.link;
          for (size_t m = 0; m < part.moments.size(); ++m) {
            less = less && other.piece.kept + other.moments[m] <= part.piece.kept + part.moments[m];
          }
          return less;
        });
        if (!beaten) parts.push_back(std::move(part));
      }
    }
    std::vector<Piece> all;
    for (Part& part : parts) {
      part.piece.last = *std::max_element(part.moments.begin(), part.moments.end());
      part.piece.top = part.piece.kept + part.piece.last;
      all.push_back(part.piece);
    }
    add_units(c, l, &all);
    return all;
  }

  void add_units(size_t c, size_t first, std::vector<Piece>* all) const {
    const PlanLayerClass& head = layer(c, first);
    if (head.input_item < 0) return;
    for (const PlanChoice& from : head.items[size_t(head.input_item)].choices) {
      if (from.option == PlanOption::kRecompute) continue;
      if (from.link_bytes > 0 && !may_move(c, first, from)) continue;
      Piece unit{0, from.kept_bytes, from.link_bytes, 0, from.transient_bytes, from.cost};
      int64_t back = from.transient_bytes, run = from.cost;
      for (size_t l = first; l < stage_.chunks[c].layers.size(); ++l) {
        const PlanLayerClass& k = layer(c, l);
        if (k.input_item < 0 || k.items[size_t(k.input_item)].find(PlanOption::kKeep) == nullptr)
          break;
        int64_t items = 0;
        bool all_alone = true;
        for (size_t i = 0; i < k.items.size(); ++i) {
          if (k.items[i].pinned) {
            unit.kept += k.items[i].find(PlanOption::kKeep)->kept_bytes;
          } else if (int32_t(i) != k.input_item || l > first) {
            back += k.items[i].bytes();
          }
          if (k.items[i].pinned || int32_t(i) == k.input_item) continue;
          const PlanChoice* alone = k.items[i].find(PlanOption::kRecompute);
          const int64_t again = alone != nullptr ? alone->cost : k.items[i].layer_cost;
          all_alone = all_alone && again >= 0;
          items += again > 0 ? again : 0;
        }
        unit.layers += 1;
        unit.last = back + *std::max_element(k.moments.begin(), k.moments.end());
        unit.top = std::max(unit.top, unit.kept + unit.last);
        unit.cost = run + items + (all_alone ? 0 : k.tail_cost);
        run += items + k.tail_cost;
        if (unit.layers > 1) all->push_back(unit);
      }
    }
  }

  // Whether the row is about backward of the chunk, and how often what the chunk keeps counts
  // besides.
  bool own(const PlanBoundRow& row, size_t c) const {
    return row.kind == PlanBoundRow::kMemory && size_t(stage_.states[size_t(row.state)].chunk) == c;
  }
  int64_t held(const PlanBoundRow& row, size_t c) const {
    return stage_.states[size_t(row.state)].held[c];
  }
  int64_t capacity(const PlanBoundRow& row) const {
    if (row.kind == PlanBoundRow::kLink) return stage_.link_bytes;
    if (row.kind == PlanBoundRow::kHost) return stage_.host_bytes;
    return stage_.budget - stage_.fixed_bytes;
  }

  // Costs are whole units: what is below the claim is a unit below.
  void round_claim() {
    int64_t unit = 0;
    for (const auto& pieces : pieces_) {
      for (const Piece& piece : pieces) unit = std::gcd(unit, piece.cost);
    }
    if (unit > 1 && claim_ > 0) claim_ = (claim_ - 1) / unit * unit + 1;
  }

  // Priced cost of what is still to come, at least.
  void prepare_ahead() {
    ahead_.assign(at_.size(), 0);
    for (size_t p = pieces_.size(); p-- > 0;) {
      const size_t c = at_[p].first;
      bool first = true;
      for (const Piece& piece : pieces_[p]) {
        const size_t next = p + piece.layers;
        const bool ends = at_[next].first != c;
        Wide sum = Wide(piece.cost) * kScale + ahead_[next];
        for (const PlanBoundRow& row : rows_) {
          if (row.kind == PlanBoundRow::kMemory) {
            sum += Wide(row.price) * held(row, c) * piece.kept;
            if (own(row, c) && ends) sum += Wide(row.price) * piece.last;
          } else {
            const int64_t times = row.kind == PlanBoundRow::kHost ? held(row, c) : 1;
            sum += Wide(row.price) * times * piece.link;
          }
        }
        if (first || sum < ahead_[p]) ahead_[p] = sum;
        first = false;
      }
    }
  }

  bool add(size_t p, const Partial& from, const Piece& piece, std::vector<Partial>* out) const {
    const size_t c = at_[p].first, next = p + piece.layers;
    Partial more = from;
    more.cost += piece.cost;
    more.top = std::max(more.top, more.kept + piece.top);
    more.kept += piece.kept;
    const bool ends = at_[next].first != c;
    Wide bound = Wide(more.cost) * kScale + ahead_[next];
    for (size_t r = 0; r < rows_.size(); ++r) {
      const PlanBoundRow& row = rows_[r];
      int64_t now = 0;
      if (row.kind == PlanBoundRow::kMemory) {
        const bool mine = own(row, c);
        now = (held(row, c) - (mine ? 1 : 0)) * more.kept;
        // While the chunk goes on, its last backward meets all it keeps.
        const int64_t full = ends ? more.top : more.kept;
        bound += Wide(row.price) * (more.use[r] + now + (mine ? full : 0));
        if (mine) now += more.top;
        if (more.use[r] + now > capacity(row)) return false;
        if (ends) more.use[r] += now;
      } else {
        more.use[r] += piece.link * (row.kind == PlanBoundRow::kHost ? held(row, c) : 1);
        if (more.use[r] > capacity(row)) return false;
        bound += Wide(row.price) * more.use[r];
      }
      bound -= Wide(row.price) * capacity(row);
    }
    if (ends) more.kept = more.top = 0;
    if (bound >= Wide(claim_) * kScale) return false;
    out->push_back(std::move(more));
    return true;
  }

  static bool no_worse(const Partial& a, const Partial& b) {
    if (a.cost > b.cost || a.kept > b.kept || a.top > b.top) return false;
    for (size_t r = 0; r < a.use.size(); ++r) {
      if (a.use[r] > b.use[r]) return false;
    }
    return true;
  }
  static void keep_best(std::vector<Partial>* partials) {
    std::sort(partials->begin(), partials->end(), [](const Partial& a, const Partial& b) {
      return std::tie(a.cost, a.kept, a.top, a.use) < std::tie(b.cost, b.kept, b.top, b.use);
    });
    std::vector<Partial> left;
    for (Partial& partial : *partials) {
      const auto beats = [&](const Partial& other) { return no_worse(other, partial); };
      if (std::none_of(left.rbegin(), left.rend(), beats)) left.push_back(std::move(partial));
    }
    partials->swap(left);
  }

  bool enumerate(std::string* finding) {
    std::vector<std::vector<Partial>> partials(at_.size());
    partials[0].push_back({0, 0, 0, std::vector<int64_t>(rows_.size(), 0)});
    for (size_t p = 0; p < pieces_.size(); ++p) {
      if (partials[p].size() > limit_) {
        *finding = "too many partial plans with units";
        return false;
      }
      keep_best(&partials[p]);
      for (const Partial& from : partials[p]) {
        for (const Piece& piece : pieces_[p]) add(p, from, piece, &partials[p + piece.layers]);
      }
      partials[p].clear();
      partials[p].shrink_to_fit();
    }
    for (const Partial& left : partials.back()) {
      if (left.cost >= claim_) continue;
      *finding = "a plan with units below the bound could not be excluded";
      return false;
    }
    return true;
  }

  const PlanStage& stage_;
  const std::vector<PlanBoundRow> rows_;
  int64_t claim_;
  const size_t limit_;
  std::vector<std::pair<size_t, size_t>> at_;
  std::vector<std::vector<Piece>> pieces_;
  std::vector<Wide> ahead_;
};

}  // namespace

bool prove_bound_of_units(const PlanStage& stage, const StagePlan& plan, int64_t claim,
                          size_t partial_plans, std::string* finding) {
  return UnitProof(stage, plan, claim, partial_plans).run(finding);
}

}  // namespace rc
