// src/plan/plan_layouts.h: layouts of published models, for tests and benchmarks of proofs: all
// options, and budgets from a fifth to nine tenths of what everything kept would take.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "src/plan/request.h"
#include "src/plan/stage_problem.h"

namespace rc::plan {

struct PlanLayout {
  const char* name;
  const char* model;
  nlohmann::json layout;
};

inline const std::vector<PlanLayout>& plan_layouts() {
  static const std::vector<PlanLayout> layouts = {
      {"llama3-8b", "llama3-8b", {{"seq_length", 4096}}},
      {"llama3-8b tp4", "llama3-8b", {{"seq_length", 8192}, {"tensor_model_parallel_size", 4}}},
      {"llama3-70b tp4 sp pp4 vpp5",
       "llama3-70b",
       {{"seq_length", 4096},
        {"tensor_model_parallel_size", 4},
        {"sequence_parallel", true},
        {"pipeline_model_parallel_size", 4},
        {"virtual_pipeline_model_parallel_size", 5}}},
      {"llama3-70b tp8 sp",
       "llama3-70b",
       {{"seq_length", 8192}, {"tensor_model_parallel_size", 8}, {"sequence_parallel", true}}},
      {"llama3-70b tp8", "llama3-70b", {{"seq_length", 4096}, {"tensor_model_parallel_size", 8}}},
      {"llama3-70b tp8 cp2 pp2",
       "llama3-70b",
       {{"seq_length", 32768},
        {"tensor_model_parallel_size", 8},
        {"context_parallel_size", 2},
        {"pipeline_model_parallel_size", 2}}},
      {"gpt-175b tp8", "gpt-175b", {{"seq_length", 2048}, {"tensor_model_parallel_size", 8}}},
      {"gpt-175b tp8 pp8",
       "gpt-175b",
       {{"seq_length", 2048},
        {"tensor_model_parallel_size", 8},
        {"pipeline_model_parallel_size", 8}}},
      {"gpt-175b tp8 sp pp4 vpp3",
       "gpt-175b",
       {{"seq_length", 2048},
        {"tensor_model_parallel_size", 8},
        {"sequence_parallel", true},
        {"pipeline_model_parallel_size", 4},
        {"virtual_pipeline_model_parallel_size", 3}}},
      {"mixtral ep8 pp4",
       "mixtral-8x7b",
       {{"seq_length", 4096},
        {"expert_model_parallel_size", 8},
        {"pipeline_model_parallel_size", 4}}},
      {"mixtral ep4 pp4 vpp2",
       "mixtral-8x7b",
       {{"seq_length", 4096},
        {"expert_model_parallel_size", 4},
        {"pipeline_model_parallel_size", 4},
        {"virtual_pipeline_model_parallel_size", 2}}},
      {"deepseek-v3 ep64",
       "deepseek-v3",
       {{"seq_length", 4096}, {"expert_model_parallel_size", 64}}},
      {"deepseek-v3 ep64 pp4 vpp4",
       "deepseek-v3",
       {{"seq_length", 4096},
        {"expert_model_parallel_size", 64},
        {"pipeline_model_parallel_size", 4},
        {"virtual_pipeline_model_parallel_size", 4},
        {"layers_per_virtual_stage", {4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 1}}}},
  };
  return layouts;
}

// The stages of all ranks; none where the request is refused.
inline std::vector<PlanStage> layout_stages(const PlanLayout& layout, double fraction) {
  const nlohmann::json text = {{"rcore_plan", 1},
                               {"model", layout.model},
                               {"layout", layout.layout},
                               {"budget_fraction", fraction}};
  PlanRequest request;
  std::vector<PlanStage> stages;
  if (!read_request(text.dump(), &request).ok()) return stages;
  for (uint32_t rank = 0; rank < request.layout.pp; ++rank)
    stages.push_back(make_stage(request, rank));
  return stages;
}

inline const PlanLayout& plan_layout(const std::string& name) {
  for (const PlanLayout& layout : plan_layouts())
    if (layout.name == name) return layout;
  return plan_layouts()[0];
}

}  // namespace rc::plan
