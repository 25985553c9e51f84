// src/plan/counts.h: a stage as a problem of counts: how many equal layers give a tensor which
// option, under a few rows (capacities) of the stage.
//
// A memory row is one layer of one state in one moment of its backward: what all chunks hold then,
//   sum over layers of weight * kept + the layer's own transients + moment <= budget - fixed,
// where weight is the number of microbatches held of the layer's chunk, less one for layers of the
// same chunk behind the one in backward, which are released already. Layers of a class whose
// coefficients agree in all rows in use are interchangeable, so that their counts lose nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "src/plan/problem.h"

namespace rc {

enum class RowKind : uint8_t { kMemory, kLink, kHost };

struct PlanRow {
  RowKind kind = RowKind::kMemory;
  int32_t state = 0, layer = 0, moment = 0;
  bool operator==(const PlanRow&) const = default;
};

// What a row asks of one layer with this choice of this item.
int64_t row_use(const PlanStage& stage, const PlanRow& row, int32_t chunk, int32_t layer,
                int32_t item, const PlanChoice& choice);
int64_t row_capacity(const PlanStage& stage, const PlanRow& row);

// Offloading is legal there: large enough, and not in the tail that is needed again at once.
bool may_offload(const PlanStage& stage, int32_t chunk, int32_t layer, const PlanChoice& choice);
int32_t choice_of(const PlanItem& item, PlanOption option);  // -1: the item has no such choice
// The most one microbatch may offload: the window, and the pinned memory where one chunk shares it.
int64_t link_capacity(const PlanStage& stage);

struct CountOption {
  int32_t choice = 0;
  int64_t cost = 0;
  std::vector<int64_t> use;  // one per row
};
struct CountGroup {
  int32_t layer_class = 0, item = 0;
  std::vector<std::pair<int32_t, int32_t>> places;  // (chunk, layer), earliest first
  std::vector<CountOption> options;                 // none dominated by another one
  // Shared link: the option that keeps the tensor where it is or moves it, free either way.
  int32_t shared_option = -1;
  int64_t link_bytes = 0;       // that moving one takes
  int64_t link_cost = 0;        // and costs
  std::vector<int64_t> relief;  // that moving one gives to each row
};
struct CountProblem {
  bool shared_link = false;  // false: the link is a row, or nothing may be offloaded
  int64_t link = 0;          // of the shared link
  std::vector<PlanRow> rows;
  std::vector<int64_t> capacity;
  std::vector<CountGroup> groups;
  int64_t fixed_cost = 0;  // of items without a choice left
};

// Whether every tensor that may be offloaded is free to be kept or offloaded, whole or in part:
// then the two are one option (planning by one knapsack of capacity memory + link).
bool link_is_shared(const PlanStage& stage);
// Whether all offloads keep nothing and cost the same per byte, so that what is not recomputed may
// be chosen first and what of it goes over the link after that (src/plan/shared_search.h).
bool link_has_one_price(const PlanStage& stage);

// memory row + factor * link is a capacity too; with this factor no offload takes less of it than
// keeping.
int64_t link_factor(const CountProblem& problem, size_t row, size_t link_row);
int64_t shared_link_factor(const CountProblem& problem, size_t row);

// The order in which the shared link serves groups: what relieves the first row most per byte
// first, then the second, ...
bool relieves_more(const CountGroup& a, const CountGroup& b);

// What one of the items' choices takes of the rows, also where a better one is among the options.
CountOption count_option(const PlanStage& stage, const CountProblem& problem,
                         const CountGroup& group, int32_t choice);

// With a price of zero for everything where `free` is set: which plans fit at all.
CountProblem count_problem(const PlanStage& stage, const std::vector<PlanRow>& rows,
                           bool shared_link, bool free);

}  // namespace rc
