// src/plan/request_fixture.h: requests of tests, read and planned.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "src/plan/plan.h"

namespace rc::plan {

using nlohmann::json;

inline PlanRequest read(const json& text) {
  PlanRequest r;
  const Status status = read_request(text.dump(), &r);
  EXPECT_TRUE(status.ok()) << status.field() << " " << status.message();
  return r;
}

inline json request(const char* model, json layout = json::object(), json more = json::object()) {
  layout.update({{"seq_length", 4096}});
  json all = {{"rcore_plan", 1}, {"model", model}, {"layout", layout}};
  all.update(more);
  return all;
}

inline std::shared_ptr<const Plan> planned(const json& text) {
  std::shared_ptr<const Plan> plan;
  const Status status = make_plan(read(text), &plan);
  EXPECT_TRUE(status.ok()) << status.message();
  return plan;
}

inline const json kPipeline = {{"tensor_model_parallel_size", 4},
                               {"sequence_parallel", true},
                               {"pipeline_model_parallel_size", 4},
                               {"virtual_pipeline_model_parallel_size", 5}};

// 61 layers, four ranks of four chunks each.
inline const json kDeepSeekPipeline = {
    {"expert_model_parallel_size", 64},
    {"pipeline_model_parallel_size", 4},
    {"virtual_pipeline_model_parallel_size", 4},
    {"layers_per_virtual_stage", {4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 1}}};

}  // namespace rc::plan
