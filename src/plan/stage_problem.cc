// src/plan/stage_problem.cc: see stage_problem.h.
#include "src/plan/stage_problem.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "src/plan/place.h"

namespace rc::plan {
namespace {

// FP8 from the model's precision and back: 3 bytes an element each way from 16 bits.
PlanChoice compress(const PlanRequest& r, const TensorSpec& spec) {
  const int64_t bytes = int64_t(spec.tensor.bytes), width = r.model.element_bytes;
  const double streamed = 2.0 * double(bytes) * double(width + 1) / double(width);
  const Work work{.hbm_bytes = streamed, .kernels = 2};
  return {.option = PlanOption::kCompress,
          .kept_bytes = (bytes + width - 1) / width,
          .transient_bytes = bytes,
          .cost = picoseconds(seconds(work, r.device))};
}

PlanChoice shard(const PlanRequest& r, const TensorSpec& spec) {
  const int64_t bytes = int64_t(spec.tensor.bytes), tp = r.layout.tp;
  const Work gather{.tp_bytes = double(bytes) * double(tp - 1) / double(tp), .kernels = 1};
  return {.option = PlanOption::kShard,
          .kept_bytes = (bytes + tp - 1) / tp,
          .transient_bytes = bytes,
          .cost = picoseconds(seconds(gather, r.device))};
}

// A copy inside its window costs what it takes from kernels that wait for the same memory: each
// byte is read once and written once. Where tensors may be cut, copies are free: memory and link
// are then one capacity.
double copy_seconds_per_byte(const PlanRequest& r) {
  return 2.0 / (r.device.hbm_rate * r.device.hbm_share) * r.device.copy_share;
}

double offload_seconds(const PlanRequest& r, const TensorSpec& spec) {
  if (spec.offload_seconds > 0 || r.token_split) return spec.offload_seconds;
  return std::max(1e-12, double(spec.tensor.bytes) * copy_seconds_per_byte(r));
}

}  // namespace

double storing_seconds(const PlanRequest& r, const TensorSpec& spec, PlanOption option) {
  if (option == PlanOption::kOffload) return offload_seconds(r, spec);
  return 1e-12 *
         double(option == PlanOption::kShard ? shard(r, spec).cost : compress(r, spec).cost);
}

namespace {

PlanItem make_item(const PlanRequest& r, const ClassSpec& of, const TensorSpec& spec) {
  const SavedTensor& t = spec.tensor;
  const int64_t bytes = int64_t(t.bytes);
  PlanItem item;
  item.name = t.name;
  item.slots.push_back(t.slot);
  for (const SavedTensor& s : spec.statistics) item.slots.push_back(s.slot);
  item.choices.push_back({.option = PlanOption::kKeep, .kept_bytes = bytes});
  item.moment = spec.moment;
  if (t.role == RC_ROLE_DECISION) {
    item.pinned = true;
    return item;
  }
  const bool fused = r.fused_norm && is_fusible_norm(r, of, t);
  if (r.allows(PlanOption::kRecompute) && t.can_recompute && !fused) {
    item.choices.push_back({.option = PlanOption::kRecompute,
                            .transient_bytes = bytes,
                            .cost = picoseconds(spec.recompute_seconds)});
  }
  if (fused) item.layer_cost = picoseconds(spec.recompute_seconds);
  if (r.allows(PlanOption::kOffload) && t.bytes >= r.min_offload_bytes && t.bytes > 0) {
    item.choices.push_back({.option = PlanOption::kOffload,
                            .link_bytes = bytes,
                            .transient_bytes = bytes,
                            .cost = picoseconds(offload_seconds(r, spec))});
  }
  if (r.allows(PlanOption::kShard) && t.replicated && r.layout.tp > 1)
    item.choices.push_back(shard(r, spec));
  const bool wide = !r.measured && r.model.element_bytes > 1;
  if (r.allows(PlanOption::kCompress) && wide && !t.linear_input && t.role != RC_ROLE_SAVED)
    item.choices.push_back(compress(r, spec));
  // A choice whose bytes are not whole ones per token (a tensor of few bytes split over ranks)
  // leaves the item whole.
  const auto divides = [&](const PlanChoice& c) {
    const int64_t rows = std::max<int64_t>(1, int64_t(t.rows));
    return c.kept_bytes % rows == 0 && c.link_bytes % rows == 0 && c.transient_bytes % rows == 0;
  };
  if (r.token_split && t.rows > 1 &&
      std::all_of(item.choices.begin(), item.choices.end(), divides)) {
    item.rows = int64_t(t.rows);
    item.cut_offload = true;
    item.cut_recompute = t.row_local && !fused;
  }
  return item;
}

PlanLayerClass make_class(const PlanRequest& r, const ClassSpec& spec) {
  PlanLayerClass c;
  c.name = spec.name;
  for (const TensorSpec& t : spec.tensors) {
    if (t.tensor.role == RC_ROLE_INPUT && t.tensor.kind == "layer")
      c.input_item = int32_t(c.items.size());
    c.items.push_back(make_item(r, spec, t));
  }
  c.moments = spec.moments;
  c.forward_cost = picoseconds(spec.forward_seconds);
  c.backward_cost = picoseconds(spec.backward_seconds);
  c.tail_cost = picoseconds(spec.tail_seconds);
  c.state_bytes = int64_t(spec.state_bytes);
  return c;
}

// Copies that all cost the same per byte cost so to the picosecond: what is not recomputed is then
// chosen apart from where it goes (src/plan/shared_search.h). False where they do not, or where the
// bytes that their sizes share are too few for that.
bool price_copies(const PlanRequest& r, PlanStage* stage) {
  if (r.token_split) return false;
  for (const ClassSpec& c : r.classes)
    for (const TensorSpec& t : c.tensors)
      if (t.offload_seconds > 0) return false;
  int64_t bytes = 0;
  for (const PlanLayerClass& c : stage->classes)
    for (const PlanItem& item : c.items)
      for (const PlanChoice& choice : item.choices) bytes = std::gcd(bytes, choice.link_bytes);
  const int64_t cost = picoseconds(double(bytes) * copy_seconds_per_byte(r));
  if (cost < 1000) return false;
  for (PlanLayerClass& c : stage->classes)
    for (PlanItem& item : c.items)
      for (PlanChoice& choice : item.choices)
        if (choice.option == PlanOption::kOffload) choice.cost = choice.link_bytes / bytes * cost;
  return true;
}

// Costs in whole parts of 2^-23 of the rank's forward and backward: far below what any of them is
// known to, and few enough different ones for proofs.
void round_costs(const PlanRequest& r, uint32_t rank, PlanStage* stage) {
  double step = 0;
  for (const auto& chunk : layers_of(r, rank)) {
    for (const uint32_t layer : chunk) {
      const ClassSpec& c = r.classes[size_t(r.layer_class[layer])];
      step += c.forward_seconds + c.backward_seconds;
    }
  }
  const int64_t unit = std::max<int64_t>(1, picoseconds(step) >> 23);
  const auto round = [unit](int64_t* cost) {
    if (*cost > 0) *cost = std::max<int64_t>(1, (*cost + unit / 2) / unit) * unit;
  };
  const bool priced = price_copies(r, stage);
  for (PlanLayerClass& c : stage->classes) {
    round(&c.tail_cost);
    for (PlanItem& item : c.items) {
      round(&item.layer_cost);
      for (PlanChoice& choice : item.choices)
        if (!priced || choice.option != PlanOption::kOffload) round(&choice.cost);
    }
  }
}

// More than four rounds of the pipeline hold nothing that four do not.
int32_t scheduled_microbatches(const Layout& l) {
  const uint32_t m = l.step_microbatches();
  return int32_t(m > 4 * l.pp ? 3 * l.pp + m % l.pp : m);
}

}  // namespace

std::vector<PipelinePass> scheduled_passes(const PlanRequest& r, uint32_t rank) {
  const Layout& l = r.layout;
  return pipeline_passes(int32_t(l.pp), int32_t(rank), int32_t(l.vpp), scheduled_microbatches(l));
}

bool is_fusible_norm(const PlanRequest& r, const ClassSpec& of, const SavedTensor& t) {
  if (t.kind == "attn_norm") return r.model.attention.kind == AttentionKind::kGrouped;
  return t.kind == "mlp_norm" && of.name == "dense";
}

int64_t picoseconds(double seconds) {
  return std::llround(std::min(seconds, 1e6) * 1e12);
}

uint64_t state_of_rank(const PlanRequest& r, uint32_t rank) {
  uint64_t sum = 0;
  for (const auto& chunk : layers_of(r, rank))
    for (const uint32_t layer : chunk) sum += r.classes[size_t(r.layer_class[layer])].state_bytes;
  const Layout& l = r.layout;
  const bool first = rank == 0, last = rank + 1 == l.pp;
  const int copies = first && last ? (r.model.tied_embeddings ? 1 : 2) : int(first || last);
  const double each = double(embedding_parameters(r.model)) / l.tp;
  return sum + uint64_t(copies * each * (6 + 12.0 / (double(l.dp) * l.cp)));
}

std::vector<std::vector<uint32_t>> layers_of(const PlanRequest& r, uint32_t rank) {
  std::vector<std::vector<uint32_t>> chunks(r.layout.vpp);
  for (const Stage& s : r.stages.stages()) {
    if (s.rank != rank) continue;
    for (uint32_t l = s.first; l < s.end(); ++l) chunks[s.chunk].push_back(l);
  }
  return chunks;
}

uint64_t fixed_bytes(const PlanRequest& r, uint32_t rank) {
  uint64_t sum = r.workspace_bytes;
  if (r.measured) return sum;
  const Layout& l = r.layout;
  if (rank == 0) {
    const int32_t held =
        most_in_flight(int32_t(l.pp), 0, int32_t(l.vpp), scheduled_microbatches(l));
    // Only the first chunk has the embedding; none is held more often than pp + 1 rounds allow.
    const uint32_t most = std::min(uint32_t(held), l.vpp == 1 ? uint32_t(held) : 2 * l.pp);
    sum += embedding_bytes(r.model, l) * most;
  }
  if (rank == l.pp - 1) sum += head_bytes(r.model, l);
  return sum;
}

double link_window_seconds(const PlanRequest& r, uint32_t rank) {
  double forward = 0, backward = 0;
  for (const auto& chunk : layers_of(r, rank)) {
    for (const uint32_t layer : chunk) {
      const ClassSpec& c = r.classes[size_t(r.layer_class[layer])];
      forward += c.forward_seconds;
      backward += c.backward_seconds;
    }
  }
  return r.layout.pp > 1 ? forward + backward : forward;
}

int64_t keep_all_peak(const PlanStage& stage) {
  StagePlan plan;
  for (const PlanChunk& chunk : stage.chunks) {
    plan.choice.emplace_back();
    for (const int32_t c : chunk.layers)
      plan.choice.back().emplace_back(stage.classes[size_t(c)].items.size(), uint8_t{0});
  }
  measure_plan(stage, plan);
  return plan.certificate.peak;
}

PlanStage make_stage(const PlanRequest& r, uint32_t rank) {
  const Layout& l = r.layout;
  PlanStage stage;
  for (const ClassSpec& c : r.classes) stage.classes.push_back(make_class(r, c));
  bool any_empty = false;
  const auto nothing = static_cast<int32_t>(stage.classes.size());
  for (const auto& layers : layers_of(r, rank)) {
    PlanChunk chunk;
    for (const uint32_t layer : layers) chunk.layers.push_back(r.layer_class[layer]);
    // A chunk with nothing but the embedding or the head: one layer that saves nothing.
    if (layers.empty()) chunk.layers.push_back(nothing);
    any_empty |= layers.empty();
    stage.chunks.push_back(std::move(chunk));
  }
  if (any_empty) {
    PlanItem none;
    none.name = "nothing";
    none.choices.push_back({.option = PlanOption::kKeep});
    PlanLayerClass empty;
    empty.name = "empty";
    empty.items.push_back(std::move(none));
    stage.classes.push_back(std::move(empty));
  }
  round_costs(r, rank, &stage);
  stage.states = peak_states(scheduled_passes(r, rank), int32_t(l.vpp));
  stage.fixed_bytes = int64_t(fixed_bytes(r, rank));
  stage.link_bytes = int64_t(link_window_seconds(r, rank) * host_rate(r.device));
  stage.host_bytes = r.host_bytes;
  stage.min_offload_bytes = int64_t(r.min_offload_bytes);
  stage.tail_margin = int32_t(r.tail_margin);
  stage.allow_units = r.units && r.allows(PlanOption::kRecompute);
  if (r.memory_bytes > 0)
    stage.budget = std::max<int64_t>(0, int64_t(r.memory_bytes) - int64_t(state_of_rank(r, rank)));
  else if (r.budget_fraction > 0)
    stage.budget = int64_t(r.budget_fraction * double(keep_all_peak(stage)));
  else if (!r.budget_bytes.empty())
    stage.budget = int64_t(r.budget_bytes[r.budget_bytes.size() == 1 ? 0 : rank]);
  else
    stage.budget = keep_all_peak(stage);
  return stage;
}

}  // namespace rc::plan
