// src/plan/place.cc: see place.h.
#include "src/plan/place.h"

#include <algorithm>
#include <cstddef>
#include <tuple>
#include <utility>

#include "src/plan/unit_stage.h"

namespace rc {
namespace {

// Bytes of one item of one layer: what stays, what moves, what comes back, and the cost.
struct ItemUse {
  int64_t kept = 0, link = 0, transient = 0, cost = 0;
};

ItemUse part(const PlanChoice& choice, int64_t rows, int64_t of) {
  return {choice.kept_bytes / of * rows, choice.link_bytes / of * rows,
          choice.transient_bytes / of * rows,
          int64_t((__int128(choice.cost) * rows + of - 1) / of)};
}

ItemUse use_of(const PlanItem& item, uint8_t choice, const PlanCut* cut) {
  const PlanChoice& whole = item.choices[choice];
  if (cut == nullptr) {
    return {whole.kept_bytes, whole.link_bytes, whole.transient_bytes, whole.cost};
  }
  ItemUse sum = part(whole, cut->kept_rows, item.rows);
  const auto add = [&](PlanOption option, int64_t rows) {
    if (rows == 0) return;
    const ItemUse more = part(item.choices[size_t(choice_of(item, option))], rows, item.rows);
    sum.kept += more.kept;
    sum.link += more.link;
    sum.transient += more.transient;
    sum.cost += more.cost;
  };
  add(PlanOption::kOffload, cut->offloaded_rows);
  add(PlanOption::kRecompute, cut->recomputed_rows);
  return sum;
}

struct LayerUse {
  int64_t kept = 0, link = 0, cost = 0;
  std::vector<int64_t> moments;  // transients and the class's own bytes
};

LayerUse use_of_layer(const PlanStage& stage, const StagePlan& plan, size_t chunk, size_t layer) {
  const PlanLayerClass& layer_class = stage.classes[size_t(stage.chunks[chunk].layers[layer])];
  LayerUse sum;
  sum.moments = layer_class.moments;
  for (size_t i = 0; i < layer_class.items.size(); ++i) {
    const PlanItem& item = layer_class.items[i];
    const PlanCut* cut = nullptr;
    for (const PlanCut& c : plan.cuts) {
      if (size_t(c.chunk) == chunk && size_t(c.layer) == layer && size_t(c.item) == i) cut = &c;
    }
    const ItemUse use = use_of(item, plan.choice[chunk][layer][i], cut);
    sum.kept += use.kept;
    sum.link += use.link;
    sum.cost += use.cost;
    for (size_t m = 0; m < sum.moments.size(); ++m) {
      if (item.moment == kEveryMoment || size_t(item.moment) == m) sum.moments[m] += use.transient;
    }
  }
  return sum;
}

std::vector<std::vector<LayerUse>> all_layers(const PlanStage& stage, const StagePlan& plan) {
  std::vector<std::vector<LayerUse>> uses(stage.chunks.size());
  for (size_t c = 0; c < stage.chunks.size(); ++c) {
    for (size_t l = 0; l < stage.chunks[c].layers.size(); ++l) {
      uses[c].push_back(use_of_layer(stage, plan, c, l));
    }
  }
  return uses;
}

// Calls visit(state, layer, moment, bytes) for every moment of every backward.
template <typename Visit>
void each_moment(const PlanStage& stage, const std::vector<std::vector<LayerUse>>& uses,
                 Visit visit) {
  for (size_t s = 0; s < stage.states.size(); ++s) {
    const PlanState& state = stage.states[s];
    int64_t live = stage.fixed_bytes;
    for (size_t c = 0; c < uses.size(); ++c) {
      for (const LayerUse& use : uses[c]) live += state.held[c] * use.kept;
    }
    const std::vector<LayerUse>& own = uses[size_t(state.chunk)];
    for (size_t l = own.size(); l-- > 0;) {
      for (size_t m = 0; m < own[l].moments.size(); ++m) visit(s, l, m, live + own[l].moments[m]);
      live -= own[l].kept;
    }
  }
}

struct Candidate {
  size_t group;
  std::pair<int32_t, int32_t> place;
};

// What may move over the shared link, in the order in which the search let it.
std::vector<Candidate> movable(const CountProblem& problem, const CountResult& result,
                               const CutMember* cut, bool small_first) {
  std::vector<Candidate> candidates;
  for (size_t g = 0; g < problem.groups.size(); ++g) {
    const CountGroup& group = problem.groups[g];
    if (group.shared_option < 0) continue;
    // The kept ones are at the end of the places; a cut member is the last of the others.
    const size_t kept = size_t(result.counts[g][size_t(group.shared_option)]);
    size_t end = group.places.size();
    if (cut != nullptr && cut->group == g) --end;
    for (size_t i = end - kept; i < end; ++i) candidates.push_back({g, group.places[i]});
  }
  const auto earlier = [&](const Candidate& a, const Candidate& b) {
    const CountGroup &x = problem.groups[a.group], &y = problem.groups[b.group];
    if (relieves_more(x, y)) return true;
    if (relieves_more(y, x)) return false;
    if (small_first) return std::tie(x.link_bytes, a.place) < std::tie(y.link_bytes, b.place);
    if (a.place != b.place) return a.place < b.place;
    return std::make_tuple(-x.link_bytes, a.group) < std::make_tuple(-y.link_bytes, b.group);
  };
  std::sort(candidates.begin(), candidates.end(), earlier);
  return candidates;
}

}  // namespace

void measure_plan(const PlanStage& stage, StagePlan& plan) {
  if (!plan.units.empty()) {
    UnitView view = expand_units(stage, plan);
    measure_plan(view.stage, view.plan);
    plan.certificate = std::move(view.plan.certificate);
    return;
  }
  PlanCertificate& c = plan.certificate;
  const std::vector<std::vector<LayerUse>> uses = all_layers(stage, plan);
  c.objective = c.peak = c.link = c.host = 0;
  c.kept.assign(uses.size(), 0);
  c.layer_peak.assign(uses.size(), {});
  std::vector<int64_t> moved(uses.size(), 0);
  for (size_t k = 0; k < uses.size(); ++k) {
    c.layer_peak[k].assign(uses[k].size(), 0);
    for (const LayerUse& use : uses[k]) {
      c.objective += use.cost;
      c.kept[k] += use.kept;
      moved[k] += use.link;
    }
    c.link += moved[k];
  }
  for (const PlanState& state : stage.states) {
    int64_t host = 0;
    for (size_t k = 0; k < uses.size(); ++k) host += state.held[k] * moved[k];
    c.host = std::max(c.host, host);
  }
  each_moment(stage, uses, [&](size_t s, size_t l, size_t, int64_t bytes) {
    int64_t& peak = c.layer_peak[size_t(stage.states[s].chunk)][l];
    peak = std::max(peak, bytes);
    c.peak = std::max(c.peak, bytes);
  });
}

size_t fullest_host(const PlanStage& stage, const StagePlan& plan) {
  const std::vector<std::vector<LayerUse>> uses = all_layers(stage, plan);
  size_t fullest = 0;
  int64_t most = -1;
  for (size_t s = 0; s < stage.states.size(); ++s) {
    int64_t sum = 0;
    for (size_t k = 0; k < uses.size(); ++k) {
      for (const LayerUse& use : uses[k]) sum += stage.states[s].held[k] * use.link;
    }
    if (sum > most) most = sum, fullest = s;
  }
  return fullest;
}

std::optional<PlanRow> worst_row(const PlanStage& stage, const StagePlan& plan) {
  std::optional<PlanRow> worst;
  int64_t most = stage.budget;
  each_moment(stage, all_layers(stage, plan), [&](size_t s, size_t l, size_t m, int64_t bytes) {
    if (bytes <= most) return;
    most = bytes;
    worst = PlanRow{RowKind::kMemory, int32_t(s), int32_t(l), int32_t(m)};
  });
  return worst;
}

namespace {

// Moves what the rows still need; false where that does not come out.
bool fill_link(const PlanStage& stage, const CountProblem& problem, const CountResult& result,
               const CutMember* cut, bool small_first, std::vector<int64_t> excess,
               StagePlan& plan) {
  const auto settled = [&] {
    return std::all_of(excess.begin(), excess.end(), [](int64_t e) { return e <= 0; });
  };
  int64_t link = problem.link;
  for (const Candidate& candidate : movable(problem, result, cut, small_first)) {
    if (settled()) return true;
    const CountGroup& group = problem.groups[candidate.group];
    const PlanItem& item = stage.classes[size_t(group.layer_class)].items[size_t(group.item)];
    const auto [chunk, layer] = candidate.place;
    if (group.link_bytes <= link) {
      plan.choice[size_t(chunk)][size_t(layer)][size_t(group.item)] =
          uint8_t(choice_of(item, PlanOption::kOffload));
      link -= group.link_bytes;
      for (size_t r = 0; r < excess.size(); ++r) excess[r] -= group.relief[r];
      continue;
    }
    if (!item.cut_offload) continue;
    const int64_t row_bytes = group.link_bytes / item.rows;
    int64_t rows = (stage.min_offload_bytes + row_bytes - 1) / row_bytes;
    for (size_t r = 0; r < excess.size(); ++r) {
      if (excess[r] <= 0) continue;
      const int64_t relief = group.relief[r] / item.rows;
      rows = relief > 0 ? std::max(rows, (excess[r] + relief - 1) / relief) : item.rows;
    }
    if (rows * row_bytes > link || rows >= item.rows) continue;
    plan.cuts.push_back({chunk, layer, group.item, item.rows - rows, rows, 0});
    return true;
  }
  return settled();
}

// What the rows then still lack of room, nothing being offloaded.
std::vector<int64_t> place_kept(const PlanStage& stage, const CountProblem& problem,
                                const CountResult& result, const CutMember* cut, StagePlan& plan) {
  plan.cuts.clear();
  plan.choice.assign(stage.chunks.size(), {});
  for (size_t c = 0; c < stage.chunks.size(); ++c) {
    for (const int32_t k : stage.chunks[c].layers) {
      plan.choice[c].push_back(
          std::vector<uint8_t>(stage.classes[size_t(k)].items.size(), uint8_t(0)));
    }
  }
  std::vector<int64_t> excess;
  for (const int64_t capacity : problem.capacity) excess.push_back(-capacity);
  for (size_t g = 0; g < problem.groups.size(); ++g) {
    const CountGroup& group = problem.groups[g];
    const PlanItem& item = stage.classes[size_t(group.layer_class)].items[size_t(group.item)];
    std::vector<size_t> order(group.options.size());
    for (size_t o = 0; o < order.size(); ++o) order[o] = o;
    const auto kept = [&](size_t o) {
      // What may move counts as kept: it is decided last and goes by position itself.
      return std::make_tuple(int32_t(o) == group.shared_option,
                             item.choices[size_t(group.options[o].choice)].kept_bytes, o);
    };
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return kept(a) < kept(b); });
    size_t place = 0;
    for (const size_t o : order) {
      const CountOption& option = group.options[o];
      for (int32_t n = 0; n < result.counts[g][o]; ++n, ++place) {
        const auto [chunk, layer] = group.places[place];
        plan.choice[size_t(chunk)][size_t(layer)][size_t(group.item)] = uint8_t(option.choice);
        for (size_t r = 0; r < excess.size(); ++r) excess[r] += option.use[r];
      }
    }
    if (cut == nullptr || cut->group != g) continue;
    const auto [chunk, layer] = group.places[place];
    plan.choice[size_t(chunk)][size_t(layer)][size_t(group.item)] =
        uint8_t(choice_of(item, PlanOption::kKeep));
    plan.cuts.push_back({chunk, layer, group.item, cut->kept_rows, 0, item.rows - cut->kept_rows});
    const auto add = [&](PlanOption what, int64_t rows) {
      const CountOption option = count_option(stage, problem, group, choice_of(item, what));
      for (size_t r = 0; r < excess.size(); ++r) excess[r] += option.use[r] / item.rows * rows;
    };
    add(PlanOption::kKeep, cut->kept_rows);
    add(PlanOption::kRecompute, item.rows - cut->kept_rows);
  }
  return excess;
}

}  // namespace

bool place_counts(const PlanStage& stage, const CountProblem& problem, const CountResult& result,
                  const CutMember* cut, StagePlan& plan) {
  const std::vector<int64_t> excess = place_kept(stage, problem, result, cut, plan);
  if (!problem.shared_link) return true;
  // By deadline first; where the last piece does not come out, small ones first leave the cut to a
  // large tensor.
  const StagePlan before = plan;
  for (const bool small_first : {false, true}) {
    if (fill_link(stage, problem, result, cut, small_first, excess, plan)) return true;
    plan = before;
  }
  return false;
}

void place_members(const PlanStage& stage, const CountProblem& problem, const CountResult& result,
                   const CutMember* cut, const LinkMembers& link, StagePlan& plan) {
  place_kept(stage, problem, result, cut, plan);
  for (size_t g = 0; g < problem.groups.size(); ++g) {
    const CountGroup& group = problem.groups[g];
    if (group.shared_option < 0) continue;
    const PlanItem& item = stage.classes[size_t(group.layer_class)].items[size_t(group.item)];
    const int32_t kept = result.counts[g][size_t(group.shared_option)];
    const size_t end = group.places.size() - (cut != nullptr && cut->group == g ? 1 : 0);
    for (int32_t n = 0; n < link.moved[g]; ++n) {
      const auto [chunk, layer] = group.places[end - size_t(kept) + size_t(n)];
      plan.choice[size_t(chunk)][size_t(layer)][size_t(group.item)] =
          uint8_t(choice_of(item, PlanOption::kOffload));
    }
    if (link.part_rows == 0 || link.part_group != g) continue;
    const auto [chunk, layer] = group.places[end - size_t(kept) + size_t(link.moved[g])];
    plan.cuts.push_back({chunk, layer, group.item, item.rows - link.part_rows, link.part_rows, 0});
  }
}

}  // namespace rc
