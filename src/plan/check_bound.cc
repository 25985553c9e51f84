// src/plan/check_bound.cc: the proof of a lower bound by enumeration; see check.h.
#include <algorithm>
#include <array>
#include <cstddef>
#include <iterator>
#include <map>
#include <numeric>
#include <tuple>
#include <utility>
#include <vector>

#include "src/plan/check.h"

namespace rc {
namespace {

using Wide = __int128;
constexpr Wide kScale = Wide(1) << 20;  // of PlanBoundRow::price

struct Option {
  std::vector<int64_t> use;
  int64_t cost;
  bool operator<(const Option& o) const { return std::tie(cost, use) < std::tie(o.cost, o.use); }
};
// Equal tensors: `count` of them each take one of the options. A cut one may take any mixture of
// two options, in steps of a row.
struct Tensors {
  std::vector<Option> options;
  int64_t rows = 0;  // > 0: may be cut between cut_keep and cut_recompute
  Option cut_keep, cut_recompute;
  bool operator<(const Tensors& o) const {
    return std::tie(options, rows, cut_keep, cut_recompute) <
           std::tie(o.options, o.rows, o.cut_keep, o.cut_recompute);
  }
};
constexpr size_t kMostRows = 12;
struct Partial {
  std::array<int64_t, kMostRows> use;
  int64_t cost;
};

class Proof {
 public:
  Proof(const PlanStage& stage, const StagePlan& plan, size_t limit)
      : stage_(stage), rows_(plan.certificate.proof), limit_(limit) {}

  bool prepare(std::string* finding);
  // Whether no plan costs less than claim.
  bool holds(int64_t claim, std::string* finding);

 private:
  int64_t use(const PlanBoundRow& row, size_t c, size_t l, const PlanItem& item,
              const PlanChoice& choice) const;
  int64_t memory_use(const PlanBoundRow& row, size_t c, size_t l, const PlanItem& item,
                     const PlanChoice& choice) const;
  bool may_move(size_t c, size_t l, const PlanChoice& choice) const;
  void link_factors();
  void round_capacities();
  Tensors tensors(size_t c, size_t l, const PlanItem& item) const;
  Wide priced(const Option& option) const;
  bool enumerate(int64_t claim, const Tensors* cut);
  void keep_best(std::vector<Partial>& partials) const;
  bool beats(const Partial& partial, const Tensors& cut, int64_t claim) const;

  const PlanStage& stage_;
  const std::vector<PlanBoundRow> rows_;
  const size_t limit_;
  std::vector<int64_t> capacity_, link_factor_;
  int64_t movable_ = 0;    // all that may be offloaded
  int64_t link_step_ = 0;  // of all sums of it
  int64_t unit_ = 0;       // of all costs; what is below a claim is a unit below
  std::map<Tensors, int64_t> all_;
};

bool Proof::may_move(size_t c, size_t l, const PlanChoice& choice) const {
  const int64_t layers = int64_t(stage_.chunks[c].layers.size());
  const bool tail = c + 1 == stage_.chunks.size() && int64_t(l) >= layers - stage_.tail_margin;
  return !tail && choice.link_bytes >= stage_.min_offload_bytes;
}

int64_t Proof::memory_use(const PlanBoundRow& row, size_t c, size_t l, const PlanItem& item,
                          const PlanChoice& choice) const {
  const PlanState& state = stage_.states[size_t(row.state)];
  const bool own_chunk = size_t(state.chunk) == c;
  int64_t times = state.held[c];
  if (own_chunk && l > size_t(row.layer)) times -= 1;
  int64_t bytes = times * choice.kept_bytes;
  if (own_chunk && l == size_t(row.layer) && (item.moment < 0 || item.moment == row.moment)) {
    bytes += choice.transient_bytes;
  }
  return bytes;
}

int64_t Proof::use(const PlanBoundRow& row, size_t c, size_t l, const PlanItem& item,
                   const PlanChoice& choice) const {
  if (row.kind == PlanBoundRow::kLink) return choice.link_bytes;
  if (row.kind == PlanBoundRow::kHost) {
    return choice.link_bytes * stage_.states[size_t(row.state)].held[c];
  }
  return memory_use(row, c, l, item, choice) +
         link_factor_[size_t(&row - rows_.data())] * choice.link_bytes;
}

// Memory + factor * link is a capacity for any factor >= 0; with this one, offloading takes no less
// of it than keeping, so that a mixture of the two is covered by keeping.
void Proof::link_factors() {
  for (size_t c = 0; c < stage_.chunks.size(); ++c) {
    for (size_t l = 0; l < stage_.chunks[c].layers.size(); ++l) {
      for (const PlanItem& item : stage_.classes[size_t(stage_.chunks[c].layers[l])].items) {
        for (const PlanChoice& choice : item.choices) {
          if (may_move(c, l, choice)) movable_ += choice.link_bytes;
        }
      }
    }
  }
  link_factor_.assign(rows_.size(), 0);
  for (size_t r = 0; r < rows_.size(); ++r) {
    if (rows_[r].kind != PlanBoundRow::kMemoryAndLink) continue;
    for (size_t c = 0; c < stage_.chunks.size(); ++c) {
      for (size_t l = 0; l < stage_.chunks[c].layers.size(); ++l) {
        for (const PlanItem& item : stage_.classes[size_t(stage_.chunks[c].layers[l])].items) {
          int64_t keep = 0;
          for (const PlanChoice& choice : item.choices) {
            keep = std::max(keep, memory_use(rows_[r], c, l, item, choice));
          }
          for (const PlanChoice& choice : item.choices) {
            if (choice.link_bytes == 0 || !may_move(c, l, choice)) continue;
            const int64_t freed = keep - memory_use(rows_[r], c, l, item, choice);
            link_factor_[r] =
                std::max(link_factor_[r], (freed + choice.link_bytes - 1) / choice.link_bytes);
          }
        }
      }
    }
  }
}

// What no sum of choices reaches is no room. A row's own bytes only: the link's are rounded apart.
void Proof::round_capacities() {
  std::vector<int64_t> step(rows_.size(), 0), base(rows_.size(), 0);
  link_step_ = 0;
  for (size_t c = 0; c < stage_.chunks.size(); ++c) {
    for (size_t l = 0; l < stage_.chunks[c].layers.size(); ++l) {
      for (const PlanItem& item : stage_.classes[size_t(stage_.chunks[c].layers[l])].items) {
        const bool cut = item.rows > 1 && (item.cut_offload || item.cut_recompute);
        const int64_t parts = cut ? item.rows : 1;
        for (const PlanChoice& choice : item.choices) {
          link_step_ = std::gcd(link_step_, choice.link_bytes / parts);
          for (size_t r = 0; r < rows_.size(); ++r) {
            if (rows_[r].kind == PlanBoundRow::kLink || rows_[r].kind == PlanBoundRow::kHost)
              continue;
            const int64_t first = memory_use(rows_[r], c, l, item, item.choices[0]);
            const int64_t mine = memory_use(rows_[r], c, l, item, choice);
            if (&choice == item.choices.data()) base[r] += first;
            step[r] = std::gcd(step[r], cut ? mine / parts : mine - first);
          }
        }
      }
    }
  }
  for (size_t r = 0; r < rows_.size(); ++r) {
    const int64_t room = capacity_[r] - base[r];
    if (step[r] > 1) capacity_[r] -= (room % step[r] + step[r]) % step[r];
  }
}

Tensors Proof::tensors(size_t c, size_t l, const PlanItem& item) const {
  Tensors result;
  const auto option = [&](const PlanChoice& choice) {
    Option o{{}, choice.cost};
    for (const PlanBoundRow& row : rows_) o.use.push_back(use(row, c, l, item, choice));
    return o;
  };
  bool keeps = false, replays = false;
  for (const PlanChoice& choice : item.choices) {
    if (choice.link_bytes > 0 && !may_move(c, l, choice)) continue;
    result.options.push_back(option(choice));
    if (choice.option == PlanOption::kKeep) result.cut_keep = option(choice), keeps = true;
    if (choice.option == PlanOption::kRecompute) {
      result.cut_recompute = option(choice), replays = true;
    }
  }
  std::sort(result.options.begin(), result.options.end());
  if (item.cut_recompute && item.rows > 1 && keeps && replays) {
    result.rows = item.rows;
  } else {
    result.cut_keep = result.cut_recompute = {};
  }
  return result;
}

bool Proof::prepare(std::string* finding) {
  if (rows_.size() > kMostRows) return *finding = "the proof has too many rows", false;
  for (const PlanBoundRow& row : rows_) {
    const bool in_range =
        row.state >= 0 && size_t(row.state) < stage_.states.size() && row.price >= 0;
    if (!in_range) return *finding = "the proof names a state that is none", false;
    if (row.kind == PlanBoundRow::kLink) {
      capacity_.push_back(stage_.link_bytes);
      continue;
    }
    if (row.kind == PlanBoundRow::kHost) {
      if (stage_.host_bytes < 0) return *finding = "the host has no limit", false;
      capacity_.push_back(stage_.host_bytes);
      continue;
    }
    const PlanChunk& chunk = stage_.chunks[size_t(stage_.states[size_t(row.state)].chunk)];
    if (row.layer < 0 || size_t(row.layer) >= chunk.layers.size()) {
      return *finding = "the proof names a layer that is none", false;
    }
    const PlanLayerClass& k = stage_.classes[size_t(chunk.layers[size_t(row.layer)])];
    if (row.moment < 0 || size_t(row.moment) >= k.moments.size()) {
      return *finding = "the proof names a moment that is none", false;
    }
    capacity_.push_back(stage_.budget - stage_.fixed_bytes - k.moments[size_t(row.moment)]);
  }
  link_factors();
  round_capacities();
  int64_t link = stage_.link_bytes;
  if (stage_.host_bytes >= 0 && stage_.chunks.size() == 1) {
    // All microbatches of the fullest state share the host's memory.
    for (const PlanState& s : stage_.states) link = std::min(link, stage_.host_bytes / s.held[0]);
  }
  if (link_step_ > 1) link -= link % link_step_;
  const int64_t used = std::min(link, movable_);
  for (size_t r = 0; r < rows_.size(); ++r) {
    capacity_[r] += link_factor_[r] * used;
    if (rows_[r].kind == PlanBoundRow::kLink) capacity_[r] = link;
  }
  for (size_t c = 0; c < stage_.chunks.size(); ++c) {
    for (size_t l = 0; l < stage_.chunks[c].layers.size(); ++l) {
      for (const PlanItem& item : stage_.classes[size_t(stage_.chunks[c].layers[l])].items) {
        ++all_[tensors(c, l, item)];
        for (const PlanChoice& choice : item.choices) unit_ = std::gcd(unit_, choice.cost);
        if (item.rows > 1 && (item.cut_offload || item.cut_recompute)) unit_ = 1;
      }
    }
  }
  return true;
}

Wide Proof::priced(const Option& option) const {
  Wide sum = Wide(option.cost) * kScale;
  for (size_t r = 0; r < rows_.size(); ++r) sum += Wide(rows_[r].price) * option.use[r];
  return sum;
}

// Drops partial plans that cost no less and use no less than another one: all of them for one or
// two rows; for more, those whose better lies among the neighbours in the order of the first use.
void Proof::keep_best(std::vector<Partial>& partials) const {
  std::sort(partials.begin(), partials.end(), [](const Partial& a, const Partial& b) {
    return a.use != b.use ? a.use < b.use : a.cost < b.cost;
  });
  std::vector<Partial> kept;
  if (rows_.size() <= 2) {
    // Of what came before, which uses no more of the first row: cost falling with the second use.
    std::map<int64_t, int64_t> least;
    for (const Partial& partial : partials) {
      const int64_t second = rows_.size() == 2 ? partial.use[1] : 0;
      auto next = least.upper_bound(second);
      if (next != least.begin() && std::prev(next)->second <= partial.cost) continue;
      while (next != least.end() && next->second >= partial.cost) next = least.erase(next);
      least[second] = partial.cost;
      kept.push_back(partial);
    }
    partials.swap(kept);
    return;
  }
  for (const Partial& partial : partials) {
    bool beaten = false;
    const size_t back = std::min<size_t>(kept.size(), rows_.size() > 1 ? 8 : 1);
    for (size_t i = kept.size() - back; i < kept.size() && !beaten; ++i) {
      beaten = kept[i].cost <= partial.cost;
      for (size_t r = 0; r < rows_.size(); ++r) beaten = beaten && kept[i].use[r] <= partial.use[r];
    }
    if (!beaten) kept.push_back(partial);
  }
  partials.swap(kept);
}

// Whether the cut tensor can complete the partial plan below the claim.
bool Proof::beats(const Partial& partial, const Tensors& cut, int64_t claim) const {
  int64_t kept = cut.rows - 1;
  for (size_t r = 0; r < rows_.size(); ++r) {
    const int64_t low = cut.cut_recompute.use[r], high = cut.cut_keep.use[r];
    const int64_t room = capacity_[r] - partial.use[r] - low;
    if (room < 0 && high >= low) return false;
    if (high > low) kept = std::min(kept, room / ((high - low) / cut.rows));
  }
  if (kept < 1) return false;
  const auto share = [&](int64_t whole, int64_t part) {
    return (Wide(whole) * part + cut.rows - 1) / cut.rows;
  };
  return partial.cost + share(cut.cut_keep.cost, kept) +
             share(cut.cut_recompute.cost, cut.rows - kept) <
         claim;
}

bool Proof::enumerate(int64_t claim, const Tensors* cut) {
  const size_t rows = rows_.size();
  std::vector<std::pair<const Tensors*, int64_t>> order;
  for (const auto& [tensors, count] : all_) {
    order.push_back({&tensors, count - (&tensors == cut ? 1 : 0)});
  }
  // What is still to come at least: priced cost, and use of each row.
  Wide ahead = -Wide(claim) * kScale;
  std::vector<int64_t> least(rows, 0);
  for (size_t r = 0; r < rows; ++r) ahead -= Wide(rows_[r].price) * capacity_[r];
  const auto cheapest = [&](const Tensors& t) {
    Wide low = priced(t.options[0]);
    for (const Option& o : t.options) low = std::min(low, priced(o));
    return low;
  };
  const auto smallest = [&](const Tensors& t, size_t r) {
    int64_t low = t.options[0].use[r];
    for (const Option& o : t.options) low = std::min(low, o.use[r]);
    return low;
  };
  for (const auto& [t, count] : order) {
    ahead += cheapest(*t) * count;
    for (size_t r = 0; r < rows; ++r) least[r] += smallest(*t, r) * count;
  }
  if (cut != nullptr) {
    ahead += std::min(priced(cut->cut_keep), priced(cut->cut_recompute));
    for (size_t r = 0; r < rows; ++r) {
      least[r] += std::min(cut->cut_keep.use[r], cut->cut_recompute.use[r]);
    }
  }
  std::vector<Partial> partials(1), next;
  partials[0] = {};
  for (const auto& [t, count] : order) {
    for (int64_t n = 0; n < count; ++n) {
      ahead -= cheapest(*t);
      for (size_t r = 0; r < rows; ++r) least[r] -= smallest(*t, r);
      next.clear();
      for (const Partial& partial : partials) {
        for (const Option& o : t->options) {
          Partial more = partial;
          more.cost += o.cost;
          bool fits = true;
          Wide bound = Wide(more.cost) * kScale + ahead;
          for (size_t r = 0; r < rows; ++r) {
            more.use[r] += o.use[r];
            fits = fits && more.use[r] + least[r] <= capacity_[r];
            bound += Wide(rows_[r].price) * more.use[r];
          }
          if (fits && bound < 0) next.push_back(more);
        }
      }
      keep_best(next);
      partials.swap(next);
      if (partials.size() > limit_) return false;
    }
  }
  if (cut == nullptr) {
    return std::none_of(partials.begin(), partials.end(),
                        [&](const Partial& p) { return p.cost < claim; });
  }
  return std::none_of(partials.begin(), partials.end(),
                      [&](const Partial& p) { return beats(p, *cut, claim); });
}

bool Proof::holds(int64_t claim, std::string* finding) {
  if (unit_ > 1 && claim > 0) claim = (claim - 1) / unit_ * unit_ + 1;
  if (!enumerate(claim, nullptr)) {
    *finding = "a plan below the bound could not be excluded";
    return false;
  }
  for (const auto& [tensors, count] : all_) {
    if (tensors.rows > 0 && !enumerate(claim, &tensors)) {
      *finding = "a plan with a cut tensor below the bound could not be excluded";
      return false;
    }
  }
  return true;
}

}  // namespace

bool prove_bound(const PlanStage& stage, const StagePlan& plan, int64_t claim, size_t partial_plans,
                 std::string* finding) {
  if (!plan.certificate.tree.empty()) return prove_bound_by_branches(stage, plan, claim, finding);
  bool applies = false;
  if (prove_shared_bound(stage, plan, claim, partial_plans, &applies)) return true;
  if (applies) {
    *finding = "a plan below the bound could not be excluded";
    return false;
  }
  Proof proof(stage, plan, partial_plans);
  return proof.prepare(finding) && proof.holds(claim, finding);
}

}  // namespace rc
