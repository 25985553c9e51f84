// src/testing/arena_cases.h: models, policies and schedules for traces of the arena.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "src/plan/plan_instances.h"
#include "src/plan/solve.h"
#include "src/testing/arena_trace.h"

namespace rc {

struct ArenaModel {
  std::string name;
  std::vector<std::vector<InstanceTensor>> classes;
  std::vector<int32_t> layers;  // of one stage
  int64_t tokens = 4096;
};

// Two bytes an element, one a mask; unfused attention for gpt_unfused (heads * sequence scores).
inline std::vector<ArenaModel> arena_models() {
  const std::vector<InstanceTensor> mixtral = {
      {"x_in", 8192, 0},        {"ln1", 8192, 1424, true}, {"qkv", 12288, 154},
      {"core_attn", 8320, 74},  {"x_mid", 8192, 151},      {"ln2", 8192, 1424, true},
      {"permuted", 16384, 54},  {"gate_up", 114688, 169},  {"act", 57344, 949, true},
      {"expert_out", 16384, 60}};
  const std::vector<InstanceTensor> gpt = {{"x_in", 24576, 0},         {"ln1", 24576, 1424, true},
                                           {"qkv", 73728, 40},         {"core_attn", 24576, 70},
                                           {"proj_mask", 12288, 0},    {"x_mid", 24576, 40},
                                           {"ln2", 24576, 1424, true}, {"fc1", 98304, 40},
                                           {"act", 98304, 949, true},  {"mlp_mask", 12288, 0}};
  std::vector<InstanceTensor> unfused = gpt;
  unfused.insert(
      unfused.begin() + 3,
      {{"softmax", 393216, 300}, {"softmax_mask", 196608, 0}, {"softmax_dropped", 393216, 900}});
  return {{"llama_8b", {llama_8b_tensors()}, std::vector<int32_t>(8, 0)},
          {"llama_70b", {llama_70b_tensors()}, std::vector<int32_t>(20, 0)},
          {"mixtral", {mixtral}, std::vector<int32_t>(8, 0)},
          {"deepseek_first_stage",
           {deepseek_dense_tensors(), deepseek_moe_tensors()},
           {0, 0, 0, 1, 1, 1, 1, 1}},
          {"deepseek_last_stage",
           {deepseek_moe_tensors(), deepseek_mtp_tensors()},
           {0, 0, 0, 0, 0, 0, 0, 1}},
          {"gpt_fused", {gpt}, std::vector<int32_t>(12, 0)},
          {"gpt_unfused", {unfused}, std::vector<int32_t>(12, 0), 2048}};
}

inline constexpr int32_t kArenaStages = 4, kArenaMicrobatches = 8;

inline std::vector<PipelinePass> arena_passes(int32_t chunks) {
  return pipeline_passes(kArenaStages, 0, chunks, kArenaMicrobatches);
}

inline PlanStage arena_stage(const ArenaModel& model, int32_t chunks) {
  PlanStage stage;
  for (const auto& tensors : model.classes) {
    stage.classes.push_back(instance_class(model.name, tensors, model.tokens, {}));
  }
  const size_t each = model.layers.size() / size_t(chunks);
  for (size_t c = 0; c < size_t(chunks); ++c) {
    stage.chunks.push_back({{model.layers.begin() + int64_t(c * each),
                             model.layers.begin() + int64_t((c + 1) * each)}});
  }
  set_shares(stage, 0.5, 0.1);
  stage.states = peak_states(arena_passes(chunks), chunks);
  return stage;
}

// What is kept, and the planner's choice at half of it.
inline std::vector<ArenaPolicy> arena_policies(const PlanStage& stage) {
  const auto named = [&](std::set<std::string> names, PlanOption option) {
    return choose(stage, [=](const PlanItem& item, size_t, size_t, size_t) {
      return names.count(item.name) ? option : PlanOption::kKeep;
    });
  };
  std::vector<ArenaPolicy> all;
  const PlanOption drop = PlanOption::kRecompute;
  all.push_back({"none", named({}, drop)});
  all.push_back({"core_attn", named({"core_attn", "softmax", "softmax_dropped"}, drop)});
  all.push_back({"norms", named({"ln1", "ln2", "eh_norm"}, drop)});
  all.push_back(
      {"norms_and_activations", named({"ln1", "ln2", "eh_norm", "act", "shared_act"}, drop)});
  all.push_back({"up_projections", named({"q_up", "k_up", "v_up", "qkv"}, drop)});
  all.push_back({"mlp", named({"ln2", "gate_up", "fc1", "act", "shared_act", "permuted"}, drop)});
  all.push_back({"offload_norm_inputs", named({"x_in", "x_mid"}, PlanOption::kOffload)});
  all.push_back({"offload_and_drop", named({"act", "ln1", "ln2"}, drop)});
  all.back().choice = choose(stage, [](const PlanItem& item, size_t, size_t l, size_t layers) {
    if (item.name == "act" || item.name == "ln1" || item.name == "ln2") {
      return PlanOption::kRecompute;
    }
    return l + 1 < layers && item.name == "core_attn" ? PlanOption::kOffload : PlanOption::kKeep;
  });
  const auto layers = [&](auto full) {
    return choose(stage, [=](const PlanItem&, size_t i, size_t l, size_t count) {
      return i > 0 && full(l, count) ? PlanOption::kRecompute : PlanOption::kKeep;
    });
  };
  all.push_back({"full", layers([](size_t, size_t) { return true; }), true});
  all.push_back({"block", layers([](size_t l, size_t count) { return l < count / 2; }), true});
  PlanStage half = stage;
  int64_t most = 0;
  for (const PlanState& state : stage.states) {
    int64_t sum = 0;
    for (size_t c = 0; c < stage.chunks.size(); ++c) {
      for (const int32_t k : stage.chunks[c].layers) {
        for (const PlanItem& item : stage.classes[size_t(k)].items) {
          sum += state.held[c] * item.choices[0].kept_bytes;
        }
      }
    }
    most = std::max(most, sum);
  }
  half.budget = most / 2;
  StagePlan plan;
  if (solve_stage(half, {}, &plan).ok() && plan.verdict == PlanVerdict::kSolved) {
    all.push_back({"planned", plan.choice});
  }
  return all;
}

}  // namespace rc
