// src/plan/problem.h: what the planner is asked and what it answers, all in integers.
//
// Bytes are per microbatch and per layer unless said otherwise, times are picoseconds (so that a
// certificate is exact: sums of 10^7 seconds fit). A problem is one pipeline stage on one device:
// its virtual chunks, their layers in forward order, the class of each layer, and for each class
// the tensors that forward saves for backward with what may become of them. Knows no model, no
// policy, no device: the memory model fills it in, a policy is written from the answer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace rc {

enum class PlanOption : uint8_t { kKeep, kRecompute, kOffload, kShard, kCompress };
inline constexpr int kPlanOptions = 5;

// One way to treat an item.
struct PlanChoice {
  PlanOption option = PlanOption::kKeep;
  int64_t kept_bytes = 0;       // on the device from forward to the end of the layer's backward
  int64_t link_bytes = 0;       // copied to the host after forward and back before backward
  int64_t transient_bytes = 0;  // beyond kept_bytes while the layer is in backward: what was
                                // regenerated, reloaded, gathered or unpacked (usually the whole)
  int64_t cost = 0;             // added to one microbatch's step, exposed link time included
};

// An item with this moment has its transient bytes in every moment of its layer's backward.
inline constexpr int32_t kEveryMoment = -1;

// A saved tensor of a layer, or several that must share one decision (fused producers, regions
// that draw random numbers, a producer that only feeds another dropped one).
struct PlanItem {
  std::string name;
  std::vector<std::string> slots;   // what the host calls the tensors; the solver does not read it
  std::vector<PlanChoice> choices;  // not empty, each option at most once, any order
  int32_t moment = kEveryMoment;    // index into PlanLayerClass::moments
  // Rows (tokens) between which the item may be cut; every byte count and cost of a cut part is
  // proportional to its rows (costs rounded up). 1: cannot be cut.
  int64_t rows = 1;
  // One part kept, the other offloaded: used where every offload is free inside the window (then
  // memory and link are one capacity); where any costs, whole tensors move.
  bool cut_offload = false;
  // One part kept, the other recomputed: row-local kernels only (half a GEMM has other bits). One
  // tensor of a plan.
  bool cut_recompute = false;
  bool pinned = false;  // kept even where its whole layer runs again: a recorded decision
  // Of making it again with its whole layer, where it has no recompute choice; -1: tail_cost has
  // it, for every layer of a unit.
  int64_t layer_cost = -1;

  // NULL where the item has no such choice.
  const PlanChoice* find(PlanOption option) const {
    for (const PlanChoice& choice : choices) {
      if (choice.option == option) return &choice;
    }
    return nullptr;
  }
  // What it holds while it is there, kept or made again.
  int64_t bytes() const {
    const PlanChoice* keep = find(PlanOption::kKeep);
    return keep ? keep->kept_bytes : choices[0].kept_bytes + choices[0].transient_bytes;
  }
};

// Layers of one class have the same items. Their order within the chunk is that of backward's
// reverse; it matters to nothing but reports.
struct PlanLayerClass {
  std::string name;
  std::vector<PlanItem> items;
  // Backward of a layer in moments: the bytes beyond its items that are live in each (gradients,
  // scratch, double buffers). Kept bytes count in every moment, transient bytes in the moment of
  // their item. One moment with everything is the safe default.
  std::vector<int64_t> moments = {0};
  // For reports, link windows and movable boundaries.
  int64_t forward_cost = 0, backward_cost = 0;
  int64_t state_bytes = 0;  // parameters, gradients and optimizer of one such layer
  // For units of layers (src/plan/units.h): the item that is the layer's input, -1 where it cannot
  // be in one; and what running the layer to its end takes beyond regenerating its items.
  int32_t input_item = -1;
  int64_t tail_cost = 0;
};

// The layers of one virtual chunk in forward order: indices into PlanStage::classes.
struct PlanChunk {
  std::vector<int32_t> layers;
};

// A moment of the schedule at which a backward pass starts: how many microbatches of each chunk
// are held then (the one whose backward starts included), and the chunk it is of. The peak of a
// stage is the largest over its states; dominated ones may be left out (src/plan/schedule.h).
struct PlanState {
  std::vector<int32_t> held;  // one per chunk
  int32_t chunk = 0;
};

struct PlanStage {
  std::vector<PlanLayerClass> classes;
  std::vector<PlanChunk> chunks;
  std::vector<PlanState> states;
  int64_t budget = 0;             // device bytes for what is saved and for backward's transients
  int64_t fixed_bytes = 0;        // of the budget, always taken (communication buffers)
  int64_t link_bytes = 0;         // that one microbatch's pass over all chunks may offload: the
                                  // window times the measured rate, each direction
  int64_t host_bytes = -1;        // pinned memory of this stage, all microbatches; -1: no limit
  int64_t min_offload_bytes = 0;  // smaller tensors (and smaller parts of one) stay
  int32_t tail_margin = 1;        // so many last layers of the last chunk offload nothing: their
                                  // copies could not land before they are needed again
  bool allow_units = true;        // where no plan layer by layer fits: several layers are run again
                                  // from the input of the first
};

struct PlanOptions {
  double time_limit = 10;           // seconds; the best plan and the proven bound at its end
  uint64_t node_limit = 5'000'000;  // makes runs that stop there equal on every machine
  bool find_minimum = true;         // for an infeasible budget, the least one that would do
};

// One item of one layer is cut in two: the first rows keep, the others are all offloaded or all
// recomputed.
struct PlanCut {
  int32_t chunk = 0, layer = 0, item = 0;                          // layer: its place in the chunk
  int64_t kept_rows = 0, offloaded_rows = 0, recomputed_rows = 0;  // sum to the item's rows
};

// Layers of a chunk that backward runs again together, from the input of the first: what it keeps
// of them is that input (as the choice of the first layer's input item says) and pinned items.
struct PlanUnit {
  int32_t chunk = 0, first = 0, layers = 2;
};

// A choice of a tensor, and of all that take the same of all rows of a proof.
struct PlanBoundBase {
  int32_t chunk = 0, layer = 0, item = 0, choice = 0;
};

// A capacity that takes part in the proof of a lower bound: device memory while one layer of one
// state is in one moment of its backward, the link's, or the host's in one state.
struct PlanBoundRow {
  enum Kind : uint8_t { kMemory, kMemoryAndLink, kLink, kHost, kRounded };
  Kind kind = kMemory;
  int32_t state = 0, layer = 0, moment = 0;
  int64_t price = 0;  // Lagrange multiplier in 2^-20 picoseconds per byte; prunes, proves nothing
  // kRounded: so many times the rows before it, which rounding to whole counts tightens: of each
  // class of equal tensors, the choice of one base is taken to be what the others leave.
  std::vector<int64_t> factors = {};
  int64_t divisor = 0;
  std::vector<PlanBoundBase> bases = {};  // of classes in which that is not the first, cheapest one
};

// A proof by branches, in the order of a walk: a node, all below its first branch, all below its
// second. Tensors are one class where their choices take the same of all rows of the proof. The
// branches are: of the class of this tensor, at most so many have this choice; or more.
struct PlanBoundNode {
  PlanBoundBase at = {-1};  // chunk -1: no branches
  int64_t most = 0;
  // Without branches, of each row in 2^-40 picoseconds per unit: these prices prove the bound.
  std::vector<int64_t> price;
  // Of the root, where they do not: a row whose capacity no sum of choices comes near enough, of
  // choices that these prices make dearer by less than is missing; -1: none.
  int32_t filled = -1;
};

// What the checker verifies (src/plan/check.h).
struct PlanCertificate {
  int64_t objective = 0;                         // cost of the plan per microbatch
  int64_t lower_bound = 0;                       // no plan costs less
  bool optimal = false;                          // objective == lower_bound
  int64_t peak = 0;                              // device bytes, fixed bytes included
  std::vector<std::vector<int64_t>> layer_peak;  // [chunk][layer]: while it is in backward
  std::vector<int64_t> kept;                     // [chunk]: bytes held per microbatch
  int64_t link = 0;                              // bytes offloaded per microbatch
  int64_t host = 0;                              // host bytes at the fullest state
  std::vector<PlanBoundRow> proof;  // what the lower bound was proven from; empty: the sum of the
                                    // cheapest choices
  std::vector<PlanBoundNode> tree;  // where it was proven by branches under these rows
  uint64_t nodes = 0;
  double seconds = 0;
};

enum class PlanVerdict : uint8_t {
  kSolved,      // a plan that fits; optimal unless the certificate says otherwise
  kInfeasible,  // no plan fits; minimum_budget would
  kUnknown,     // no plan found within the limits
};

struct StagePlan {
  PlanVerdict verdict = PlanVerdict::kUnknown;
  // [chunk][layer][item]: index into the item's choices. A cut item has its keep choice here.
  std::vector<std::vector<std::vector<uint8_t>>> choice;
  std::vector<PlanCut> cuts;    // at most two
  std::vector<PlanUnit> units;  // of two layers or more, in order; their layers' choices count for
                                // nothing but the input of the first
  int64_t minimum_budget = 0;   // for kInfeasible: the least budget that has a plan; -1: none has,
                                // the link or the host lacks room
  PlanCertificate certificate;
};

// A whole model whose layers are spread over stages; the solver moves the boundaries.
struct PlanPipeline {
  std::vector<PlanLayerClass> classes;
  std::vector<int32_t> layers;  // of the whole model, in forward order
  int32_t stages = 1;
  int32_t microbatches = 1;
  // Per stage: device bytes for state and activations; what it holds beside its layers (embedding,
  // head, workspace) and the time that takes.
  std::vector<int64_t> device_bytes, extra_bytes, extra_cost;
  double link_rate = 0;     // bytes per second that copies reach beside compute; 0: no offload
  int64_t host_bytes = -1;  // per stage
  int64_t min_offload_bytes = 0;
  int32_t tail_margin = 1;
  bool allow_units = false;  // where no boundaries have a plan layer by layer
};

struct PipelinePlan {
  PlanVerdict verdict = PlanVerdict::kUnknown;
  std::vector<int32_t> first_layer;  // of each stage
  std::vector<StagePlan> stages;
  int64_t bottleneck = 0;  // the slowest stage's forward, backward and recomputation
  int64_t lower_bound = 0;
};

}  // namespace rc
