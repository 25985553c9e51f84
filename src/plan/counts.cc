// src/plan/counts.cc: see counts.h.
#include "src/plan/counts.h"

#include <algorithm>
#include <cstddef>
#include <map>
#include <numeric>

namespace rc {
namespace {

int64_t held(const PlanStage& stage, const PlanRow& row, int32_t chunk) {
  return stage.states[size_t(row.state)].held[size_t(chunk)];
}

// How many times the kept bytes of a layer count in a memory row.
int64_t row_weight(const PlanStage& stage, const PlanRow& row, int32_t chunk, int32_t layer) {
  const bool released = chunk == stage.states[size_t(row.state)].chunk && layer > row.layer;
  return held(stage, row, chunk) - (released ? 1 : 0);
}

bool is_own_layer(const PlanStage& stage, const PlanRow& row, int32_t chunk, int32_t layer) {
  return row.kind == RowKind::kMemory && chunk == stage.states[size_t(row.state)].chunk &&
         layer == row.layer;
}

bool worse_or_equal(const CountOption& a, const CountOption& b) {
  if (a.cost < b.cost) return false;
  for (size_t r = 0; r < a.use.size(); ++r) {
    if (a.use[r] < b.use[r]) return false;
  }
  return true;
}

// Keeps the order of the choices among the others.
void remove_dominated(CountGroup& group) {
  std::vector<CountOption> kept;
  for (size_t i = 0; i < group.options.size(); ++i) {
    bool beaten = false;
    for (size_t j = 0; j < group.options.size() && !beaten; ++j) {
      const CountOption &mine = group.options[i], &other = group.options[j];
      beaten = i != j && worse_or_equal(mine, other) && (!worse_or_equal(other, mine) || j < i);
      // What may be moved is no worse than what its kept bytes say.
      beaten = beaten && group.shared_option != int32_t(i);
    }
    if (beaten) continue;
    if (group.shared_option == int32_t(i)) group.shared_option = -2 - int32_t(kept.size());
    kept.push_back(group.options[i]);
  }
  if (group.shared_option <= -2) group.shared_option = -2 - group.shared_option;
  group.options = std::move(kept);
}

}  // namespace

int64_t row_use(const PlanStage& stage, const PlanRow& row, int32_t chunk, int32_t layer,
                int32_t item, const PlanChoice& choice) {
  if (row.kind == RowKind::kLink) return choice.link_bytes;
  if (row.kind == RowKind::kHost) return held(stage, row, chunk) * choice.link_bytes;
  int64_t use = row_weight(stage, row, chunk, layer) * choice.kept_bytes;
  if (is_own_layer(stage, row, chunk, layer)) {
    const int32_t layer_class = stage.chunks[size_t(chunk)].layers[size_t(layer)];
    const int32_t moment = stage.classes[size_t(layer_class)].items[size_t(item)].moment;
    if (moment == kEveryMoment || moment == row.moment) use += choice.transient_bytes;
  }
  return use;
}

int64_t row_capacity(const PlanStage& stage, const PlanRow& row) {
  if (row.kind == RowKind::kLink) return link_capacity(stage);
  if (row.kind == RowKind::kHost) return stage.host_bytes;
  const int32_t chunk = stage.states[size_t(row.state)].chunk;
  const int32_t layer_class = stage.chunks[size_t(chunk)].layers[size_t(row.layer)];
  return stage.budget - stage.fixed_bytes -
         stage.classes[size_t(layer_class)].moments[size_t(row.moment)];
}

int32_t choice_of(const PlanItem& item, PlanOption option) {
  for (size_t i = 0; i < item.choices.size(); ++i) {
    if (item.choices[i].option == option) return int32_t(i);
  }
  return -1;
}

bool may_offload(const PlanStage& stage, int32_t chunk, int32_t layer, const PlanChoice& choice) {
  if (choice.link_bytes < stage.min_offload_bytes) return false;
  const size_t last = stage.chunks.size() - 1;
  return size_t(chunk) != last ||
         layer < int32_t(stage.chunks[last].layers.size()) - stage.tail_margin;
}

int64_t link_capacity(const PlanStage& stage) {
  if (stage.host_bytes < 0 || stage.chunks.size() > 1) return stage.link_bytes;
  int64_t most = 1;
  for (const PlanState& state : stage.states) most = std::max<int64_t>(most, state.held[0]);
  return std::min(stage.link_bytes, stage.host_bytes / most);
}

bool link_is_shared(const PlanStage& stage) {
  if (stage.host_bytes >= 0 && stage.chunks.size() > 1) return false;
  bool any_cut = false;
  for (const PlanLayerClass& layer_class : stage.classes) {
    for (const PlanItem& item : layer_class.items) {
      const int32_t offload = choice_of(item, PlanOption::kOffload);
      if (offload < 0 || item.choices[size_t(offload)].link_bytes < stage.min_offload_bytes)
        continue;
      const int32_t keep = choice_of(item, PlanOption::kKeep);
      if (keep < 0) return false;
      const PlanChoice &moved = item.choices[size_t(offload)], &kept = item.choices[size_t(keep)];
      if (moved.cost != kept.cost || moved.kept_bytes != 0) return false;
      if (moved.link_bytes != kept.kept_bytes) return false;
      any_cut = any_cut || item.cut_offload;
    }
  }
  return any_cut;
}

bool link_has_one_price(const PlanStage& stage) {
  if (stage.host_bytes >= 0 && stage.chunks.size() > 1) return false;
  int64_t cost = 0, bytes = 0;
  for (const PlanLayerClass& layer_class : stage.classes) {
    for (const PlanItem& item : layer_class.items) {
      const PlanChoice *moved = item.find(PlanOption::kOffload),
                       *kept = item.find(PlanOption::kKeep);
      if (moved == nullptr || moved->link_bytes < std::max<int64_t>(1, stage.min_offload_bytes))
        continue;
      if (kept == nullptr || moved->kept_bytes != 0 || moved->link_bytes != kept->kept_bytes)
        return false;
      const int64_t more = moved->cost - kept->cost;
      if (more < 0 || (item.cut_offload && item.rows > 1 && more > 0)) return false;
      if (bytes == 0) cost = more, bytes = moved->link_bytes;
      if (__int128(more) * bytes != __int128(cost) * moved->link_bytes) return false;
    }
  }
  return bytes > 0;
}

namespace {

// Fills a group's options from the item's choices at one of its places.
void add_options(const PlanStage& stage, const CountProblem& problem, bool free,
                 CountGroup& group) {
  const PlanItem& item = stage.classes[size_t(group.layer_class)].items[size_t(group.item)];
  const auto [chunk, layer] = group.places.front();
  const int32_t moved = choice_of(item, PlanOption::kOffload);
  const bool legal = moved >= 0 && may_offload(stage, chunk, layer, item.choices[size_t(moved)]);
  for (size_t i = 0; i < item.choices.size(); ++i) {
    if (int32_t(i) == moved && (!legal || problem.shared_link)) continue;
    CountOption option{int32_t(i), free ? 0 : item.choices[i].cost, {}};
    for (const PlanRow& row : problem.rows) {
      option.use.push_back(row_use(stage, row, chunk, layer, group.item, item.choices[i]));
    }
    group.options.push_back(std::move(option));
    if (!problem.shared_link || !legal || item.choices[i].option != PlanOption::kKeep) continue;
    group.shared_option = int32_t(group.options.size()) - 1;
    group.link_bytes = item.choices[size_t(moved)].link_bytes;
    group.link_cost = free ? 0 : item.choices[size_t(moved)].cost - item.choices[i].cost;
    for (size_t r = 0; r < problem.rows.size(); ++r) {
      group.relief.push_back(group.options.back().use[r] - row_use(stage, problem.rows[r], chunk,
                                                                   layer, group.item,
                                                                   item.choices[size_t(moved)]));
    }
  }
  remove_dominated(group);
}

// What tells the layers of one class apart under these rows.
std::vector<int64_t> signature(const PlanStage& stage, const std::vector<PlanRow>& rows,
                               int32_t chunk, int32_t layer) {
  const size_t last = stage.chunks.size() - 1;
  const bool tail = size_t(chunk) == last &&
                    layer >= int32_t(stage.chunks[last].layers.size()) - stage.tail_margin;
  std::vector<int64_t> key = {stage.chunks[size_t(chunk)].layers[size_t(layer)], tail};
  for (const PlanRow& row : rows) {
    if (row.kind == RowKind::kLink) continue;
    key.push_back(row.kind == RowKind::kHost ? held(stage, row, chunk)
                                             : row_weight(stage, row, chunk, layer));
    key.push_back(is_own_layer(stage, row, chunk, layer));
  }
  return key;
}

}  // namespace

int64_t link_factor(const CountProblem& problem, size_t row, size_t link_row) {
  int64_t factor = 1;
  for (const CountGroup& group : problem.groups) {
    int64_t most = 0;
    for (const CountOption& option : group.options) most = std::max(most, option.use[row]);
    for (const CountOption& option : group.options) {
      const int64_t moved = option.use[link_row];
      if (moved > 0) factor = std::max(factor, (most - option.use[row] + moved - 1) / moved);
    }
  }
  return factor;
}

int64_t shared_link_factor(const CountProblem& problem, size_t row) {
  int64_t factor = 0;
  for (const CountGroup& group : problem.groups) {
    if (group.shared_option < 0) continue;
    factor = std::max(factor, (group.relief[row] + group.link_bytes - 1) / group.link_bytes);
  }
  return factor;
}

bool relieves_more(const CountGroup& a, const CountGroup& b) {
  for (size_t r = 0; r < a.relief.size(); ++r) {
    const __int128 left = __int128(a.relief[r]) * b.link_bytes;
    const __int128 right = __int128(b.relief[r]) * a.link_bytes;
    if (left != right) return left > right;
  }
  return false;
}

namespace {

// Finer than whole tensors only where the item may be cut so.
int64_t step(int64_t bytes, int64_t rows, bool cut) {
  return cut ? bytes / rows : bytes;
}

// Of what all options differ in, whole or cut.
int64_t step_of_row(const PlanStage& stage, const CountProblem& problem, size_t row) {
  int64_t all = 0;
  for (const CountGroup& group : problem.groups) {
    const PlanItem& item = stage.classes[size_t(group.layer_class)].items[size_t(group.item)];
    for (const CountOption& option : group.options)
      all = std::gcd(all, option.use[row] - group.options[0].use[row]);
    const int32_t kept = choice_of(item, PlanOption::kKeep);
    const int32_t replayed = choice_of(item, PlanOption::kRecompute);
    if (item.cut_recompute && item.rows > 1 && kept >= 0 && replayed >= 0) {
      for (const int32_t choice : {kept, replayed})
        all = std::gcd(all, count_option(stage, problem, group, choice).use[row] / item.rows);
      all = std::gcd(all, group.options[0].use[row] / item.rows);
    }
    if (group.shared_option >= 0)
      all = std::gcd(all, step(group.relief[row], item.rows, item.cut_offload));
  }
  return all;
}

// What no sum of options reaches is no capacity: this is where two rows together have less room
// than the sum of their capacities says.
void round_capacities(const PlanStage& stage, CountProblem& problem) {
  for (size_t r = 0; r < problem.rows.size(); ++r) {
    const int64_t all = step_of_row(stage, problem, r);
    int64_t room = problem.capacity[r];
    for (const CountGroup& group : problem.groups) {
      if (!group.options.empty()) room -= group.options[0].use[r] * int64_t(group.places.size());
    }
    if (all > 1) problem.capacity[r] -= (room % all + all) % all;
  }
  int64_t all = 0;
  for (const CountGroup& group : problem.groups) {
    const PlanItem& item = stage.classes[size_t(group.layer_class)].items[size_t(group.item)];
    if (group.shared_option >= 0)
      all = std::gcd(all, step(group.link_bytes, item.rows, item.cut_offload));
  }
  if (all > 1) problem.link -= problem.link % all;
}

}  // namespace

CountOption count_option(const PlanStage& stage, const CountProblem& problem,
                         const CountGroup& group, int32_t choice) {
  const PlanItem& item = stage.classes[size_t(group.layer_class)].items[size_t(group.item)];
  const auto [chunk, layer] = group.places.front();
  CountOption option{choice, item.choices[size_t(choice)].cost, {}};
  for (const PlanRow& row : problem.rows) {
    option.use.push_back(
        row_use(stage, row, chunk, layer, group.item, item.choices[size_t(choice)]));
  }
  return option;
}

CountProblem count_problem(const PlanStage& stage, const std::vector<PlanRow>& rows,
                           bool shared_link, bool free) {
  CountProblem problem;
  problem.shared_link = shared_link;
  problem.link = link_capacity(stage);
  problem.rows = rows;
  for (const PlanRow& row : rows) problem.capacity.push_back(row_capacity(stage, row));
  std::map<std::vector<int64_t>, std::vector<std::pair<int32_t, int32_t>>> alike;
  for (size_t c = 0; c < stage.chunks.size(); ++c) {
    for (size_t l = 0; l < stage.chunks[c].layers.size(); ++l) {
      alike[signature(stage, rows, int32_t(c), int32_t(l))].push_back({int32_t(c), int32_t(l)});
    }
  }
  int64_t movable = 0;
  for (const auto& [key, places] : alike) {
    const size_t items = stage.classes[size_t(key[0])].items.size();
    for (size_t i = 0; i < items; ++i) {
      CountGroup group{int32_t(key[0]), int32_t(i), places, {}, -1, 0, 0, {}};
      add_options(stage, problem, free, group);
      movable += group.link_bytes * int64_t(places.size());
      problem.groups.push_back(std::move(group));
    }
  }
  if (shared_link) problem.link = std::min(problem.link, movable);
  round_capacities(stage, problem);
  return problem;
}

}  // namespace rc
