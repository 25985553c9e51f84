// src/plan/pipeline.cc: see pipeline.h.
#include "src/plan/pipeline.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <map>
#include <utility>

#include "src/plan/schedule.h"
#include "src/plan/solve.h"

namespace rc {
namespace {

constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

class BoundarySearch {
 public:
  BoundarySearch(const PlanPipeline& pipeline, const PlanOptions& options, bool units)
      : pipeline_(pipeline), options_(options), units_(units), layers_(pipeline.layers.size()) {
    options_.find_minimum = false;
    compute_.push_back(0);
    for (const int32_t k : pipeline.layers) {
      const PlanLayerClass& c = pipeline.classes[size_t(k)];
      compute_.push_back(compute_.back() + c.forward_cost + c.backward_cost);
    }
  }

  Status run(PipelinePlan* plan) {
    const size_t stages = size_t(pipeline_.stages);
    RC_TRY(try_even_split());
    std::vector<std::vector<int64_t>> best(stages + 1, std::vector<int64_t>(layers_ + 1, kNever));
    std::vector<std::vector<size_t>> from(stages + 1, std::vector<size_t>(layers_ + 1, 0));
    best[0][0] = 0;
    for (size_t s = 0; s < stages; ++s) {
      for (size_t i = s + 1; i + (stages - s - 1) <= layers_; ++i) {
        // Short segments first: they are the cheap ones to plan.
        for (size_t j = i; j-- > s;) {
          if (best[s][j] == kNever || alone(s, j, i) > limit_) continue;
          if (std::max(best[s][j], alone(s, j, i)) >= best[s + 1][i]) continue;
          int64_t cost = 0;
          RC_TRY(segment_cost(s, j, i, &cost));
          const int64_t slowest = std::max(best[s][j], cost);
          if (slowest > limit_ || slowest >= best[s + 1][i]) continue;
          best[s + 1][i] = slowest;
          from[s + 1][i] = j;
        }
      }
    }
    if (best[stages][layers_] == kNever) {
      plan->verdict = PlanVerdict::kInfeasible;
      return ok_status();
    }
    return write(best[stages][layers_], from, plan);
  }

 private:
  // Without recomputation: what no plan of the segment can beat.
  int64_t alone(size_t s, size_t j, size_t i) const {
    return pipeline_.extra_cost[s] + compute_[i] - compute_[j];
  }

  Status segment_cost(size_t s, size_t j, size_t i, int64_t* cost) {
    std::vector<int32_t> key(pipeline_.layers.begin() + int64_t(j),
                             pipeline_.layers.begin() + int64_t(i));
    key.push_back(int32_t(s));
    const auto known = known_.find(key);
    if (known != known_.end()) {
      *cost = known->second;
      return ok_status();
    }
    StagePlan plan;
    PlanStage stage = pipeline_stage(pipeline_, int32_t(s), int32_t(j), int32_t(i));
    stage.allow_units = units_;
    *cost = kNever;
    if (stage.budget >= stage.fixed_bytes) {
      RC_TRY(solve_stage(stage, options_, &plan));
      if (plan.verdict == PlanVerdict::kSolved) {
        *cost = alone(s, j, i) + plan.certificate.objective;
        proven_ = proven_ && plan.certificate.optimal;
      } else if (plan.verdict == PlanVerdict::kUnknown) {
        proven_ = false;
      }
    }
    known_.emplace(std::move(key), *cost);
    return ok_status();
  }

  // A first limit: the layers spread evenly.
  Status try_even_split() {
    const size_t stages = size_t(pipeline_.stages);
    int64_t slowest = 0;
    for (size_t s = 0; s < stages && slowest < kNever; ++s) {
      int64_t cost = 0;
      RC_TRY(segment_cost(s, s * layers_ / stages, (s + 1) * layers_ / stages, &cost));
      slowest = std::max(slowest, cost);
    }
    limit_ = slowest;
    return ok_status();
  }

  Status write(int64_t bottleneck, const std::vector<std::vector<size_t>>& from,
               PipelinePlan* plan) {
    plan->verdict = PlanVerdict::kSolved;
    plan->bottleneck = bottleneck;
    // Unproven stage plans still cannot beat compute alone.
    plan->lower_bound = bottleneck;
    if (!proven_) {
      plan->lower_bound = (compute_.back() + pipeline_.stages - 1) / pipeline_.stages;
    }
    plan->first_layer.assign(size_t(pipeline_.stages), 0);
    plan->stages.assign(size_t(pipeline_.stages), {});
    size_t end = layers_;
    for (size_t s = size_t(pipeline_.stages); s-- > 0;) {
      const size_t first = from[s + 1][end];
      plan->first_layer[s] = int32_t(first);
      PlanStage stage = pipeline_stage(pipeline_, int32_t(s), int32_t(first), int32_t(end));
      stage.allow_units = units_;
      RC_TRY(solve_stage(stage, options_, &plan->stages[s]));
      end = first;
    }
    return ok_status();
  }

  const PlanPipeline& pipeline_;
  PlanOptions options_;
  const bool units_;
  const size_t layers_;
  std::vector<int64_t> compute_;
  std::map<std::vector<int32_t>, int64_t> known_;
  int64_t limit_ = kNever;
  bool proven_ = true;
};

}  // namespace

PlanStage pipeline_stage(const PlanPipeline& pipeline, int32_t stage, int32_t first, int32_t last) {
  PlanStage made;
  made.classes = pipeline.classes;
  made.chunks.resize(1);
  int64_t state = pipeline.extra_bytes[size_t(stage)];
  double seconds = double(pipeline.extra_cost[size_t(stage)]) * 1e-12;
  for (int32_t l = first; l < last; ++l) {
    const int32_t k = pipeline.layers[size_t(l)];
    const PlanLayerClass& layer_class = pipeline.classes[size_t(k)];
    made.chunks[0].layers.push_back(k);
    state += layer_class.state_bytes;
    seconds += double(layer_class.forward_cost + layer_class.backward_cost) * 1e-12;
  }
  made.states = {{{std::min(pipeline.microbatches, pipeline.stages - stage)}, 0}};
  made.budget = std::max<int64_t>(0, pipeline.device_bytes[size_t(stage)]);
  made.fixed_bytes = state;
  // One microbatch's forward alone hides its copies; between others, its backward does too.
  const bool steady = made.states[0].held[0] > 1;
  made.link_bytes = int64_t(pipeline.link_rate * seconds / (steady ? 1 : 3));
  made.host_bytes = pipeline.host_bytes;
  made.min_offload_bytes = pipeline.min_offload_bytes;
  made.tail_margin = pipeline.tail_margin;
  made.allow_units = false;
  return made;
}

Status solve_pipeline(const PlanPipeline& pipeline, const PlanOptions& options,
                      PipelinePlan* plan) {
  *plan = {};
  const auto has_all = [&](const std::vector<int64_t>& v) {
    return v.size() == size_t(std::max(pipeline.stages, 0));
  };
  if (pipeline.stages < 1 || size_t(pipeline.stages) > pipeline.layers.size()) {
    return argument_error("stages",
                          format("%d for %zu layers", pipeline.stages, pipeline.layers.size()));
  }
  if (pipeline.microbatches < 1) {
    return argument_error("microbatches", format("%d; at least 1", pipeline.microbatches));
  }
  if (!has_all(pipeline.device_bytes)) return argument_error("device_bytes", "one per stage");
  if (!has_all(pipeline.extra_bytes)) return argument_error("extra_bytes", "one per stage");
  if (!has_all(pipeline.extra_cost)) return argument_error("extra_cost", "one per stage");
  for (size_t l = 0; l < pipeline.layers.size(); ++l) {
    if (pipeline.layers[l] < 0 || size_t(pipeline.layers[l]) >= pipeline.classes.size()) {
      return argument_error(
          format("layers[%zu]", l),
          format("%d of %zu classes", pipeline.layers[l], pipeline.classes.size()));
    }
  }
  RC_TRY(BoundarySearch(pipeline, options, false).run(plan));
  if (plan->verdict != PlanVerdict::kInfeasible || !pipeline.allow_units) return ok_status();
  *plan = {};
  return BoundarySearch(pipeline, options, true).run(plan);
}

}  // namespace rc
