// src/plan/plan_instances.h: the planner's set of instances for tests and benchmarks.
//
// Bytes per token and kilobytes freed per microsecond are those of published shapes on one H100
// (8B and 70B at 8192 tokens, DeepSeek-V3 at 4096); they fix the orders of magnitude in which the
// planner is judged, not a model: the memory model has its own inventories.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "src/plan/problem.h"

namespace rc {

struct InstanceTensor {
  const char* name;
  int64_t bytes;  // per token
  double rate;    // bytes freed per nanosecond of recomputation; 0: cannot be recomputed
  bool row_local = false;
};

inline const std::vector<InstanceTensor>& llama_8b_tensors() {
  static const std::vector<InstanceTensor> tensors = {
      {"x_in", 8192, 0},       {"ln1", 8192, 1424, true}, {"qkv", 12288, 154},
      {"core_attn", 8320, 74}, {"x_mid", 8192, 151},      {"ln2", 8192, 1424, true},
      {"gate_up", 57344, 169}, {"act", 28672, 949, true}};
  return tensors;
}
inline const std::vector<InstanceTensor>& llama_70b_tensors() {
  static const std::vector<InstanceTensor> tensors = {
      {"x_in", 16384, 0},        {"ln1", 16384, 1424, true}, {"qkv", 20480, 80},
      {"core_attn", 16640, 74},  {"x_mid", 16384, 80},       {"ln2", 16384, 1424, true},
      {"gate_up", 114688, 84.5}, {"act", 57344, 949, true}};
  return tensors;
}
inline const std::vector<InstanceTensor>& deepseek_moe_tensors() {
  static const std::vector<InstanceTensor> tensors = {{"x_in", 14336, 0},
                                                      {"ln1", 14336, 1424, true},
                                                      {"latents", 8448, 193},
                                                      {"q_up", 49152, 683},
                                                      {"k_up", 49152, 683},
                                                      {"v_up", 32768, 683},
                                                      {"core_attn", 32768, 116},
                                                      {"x_mid", 14336, 41},
                                                      {"ln2", 14336, 1424, true},
                                                      {"permuted", 114688, 54},
                                                      {"fc1", 65536, 97},
                                                      {"act", 32768, 949, true},
                                                      {"shared_act", 12288, 949, true}};
  return tensors;
}
inline const std::vector<InstanceTensor>& deepseek_dense_tensors() {
  static const std::vector<InstanceTensor> tensors = {
      {"x_in", 14336, 0},        {"ln1", 14336, 1424, true}, {"latents", 8448, 193},
      {"q_up", 49152, 683},      {"k_up", 49152, 683},       {"v_up", 32768, 683},
      {"core_attn", 32768, 116}, {"x_mid", 14336, 41},       {"ln2", 14336, 1424, true},
      {"fc1", 73728, 97},        {"act", 36864, 949, true}};
  return tensors;
}
inline const std::vector<InstanceTensor>& deepseek_mtp_tensors() {
  static const std::vector<InstanceTensor> tensors = [] {
    std::vector<InstanceTensor> all = deepseek_moe_tensors();
    all.push_back({"eh_norm", 28672, 1424, true});
    all.push_back({"eh_proj", 14336, 61});
    return all;
  }();
  return tensors;
}

struct InstanceOptions {
  bool offload = true;
  bool cut = true;  // tensors may be cut between device and host
  bool cut_recompute = false;
  double offload_cost = 0;  // picoseconds per byte: contention that copies cause
};

inline PlanLayerClass instance_class(const std::string& name,
                                     const std::vector<InstanceTensor>& tensors, int64_t tokens,
                                     const InstanceOptions& options, int64_t gradients = 0) {
  PlanLayerClass made;
  made.name = name;
  made.moments = {gradients};
  made.input_item = 0;
  for (const InstanceTensor& tensor : tensors) {
    PlanItem item;
    item.name = tensor.name;
    const int64_t bytes = tensor.bytes * tokens;
    item.choices.push_back({PlanOption::kKeep, bytes, 0, 0, 0});
    if (tensor.rate > 0) {
      const int64_t cost = int64_t(double(bytes) / tensor.rate * 1000);
      item.choices.push_back({PlanOption::kRecompute, 0, 0, bytes, cost});
      made.forward_cost += cost;
    }
    if (options.offload) {
      item.choices.push_back(
          {PlanOption::kOffload, 0, bytes, bytes, int64_t(options.offload_cost * double(bytes))});
    }
    item.rows = options.cut || options.cut_recompute ? tokens : 1;
    item.cut_offload = options.cut;
    item.cut_recompute = options.cut_recompute && tensor.row_local;
    made.items.push_back(item);
  }
  made.backward_cost = 2 * made.forward_cost;
  return made;
}

inline int64_t saved_bytes(const PlanStage& stage) {
  int64_t sum = 0;
  for (const PlanChunk& chunk : stage.chunks) {
    for (const int32_t k : chunk.layers) {
      for (const PlanItem& item : stage.classes[size_t(k)].items) {
        sum += item.choices[0].kept_bytes;
      }
    }
  }
  return sum;
}

// One microbatch at a time over one chunk; the budget and the link as shares of what is saved.
inline void set_shares(PlanStage& stage, double budget, double link) {
  const double saved = double(saved_bytes(stage));
  int64_t widest = 0;
  for (const PlanLayerClass& k : stage.classes) {
    int64_t own = k.moments[0];
    for (const PlanItem& item : k.items) own += item.choices[0].kept_bytes;
    widest = std::max(widest, own);
  }
  stage.states = {{std::vector<int32_t>(stage.chunks.size(), 1), 0}};
  stage.budget = widest + int64_t(saved * budget);
  stage.link_bytes = int64_t(saved * link);
}

// 81 layers of three kinds: DeepSeek-V3's 3 dense, 77 expert layers and its prediction layer.
inline PlanStage deepseek_stage(double budget, double link, const InstanceOptions& options = {}) {
  PlanStage stage;
  const int64_t tokens = 4096;
  stage.classes = {instance_class("dense", deepseek_dense_tensors(), tokens, options, 1 << 28),
                   instance_class("moe", deepseek_moe_tensors(), tokens, options, 1 << 28),
                   instance_class("mtp", deepseek_mtp_tensors(), tokens, options, 1 << 28)};
  stage.chunks.resize(1);
  for (int l = 0; l < 81; ++l) stage.chunks[0].layers.push_back(l < 3 ? 0 : l < 80 ? 1 : 2);
  set_shares(stage, budget, link);
  return stage;
}

inline PlanStage llama_stage(int layers, double budget, double link,
                             const InstanceOptions& options = {}) {
  PlanStage stage;
  stage.classes = {instance_class("layer", layers > 40 ? llama_70b_tensors() : llama_8b_tensors(),
                                  8192, options, 1 << 28)};
  stage.chunks.resize(1);
  stage.chunks[0].layers.assign(size_t(layers), 0);
  set_shares(stage, budget, link);
  return stage;
}

// 81 layers of three kinds, 27 each and mixed, sizes and rates drawn at random: many ratios close
// to each other. unit: all sizes are multiples; tokens do not help where it is 1.
inline PlanStage mixed_stage(uint64_t seed, double budget, double link, int64_t unit,
                             const InstanceOptions& options = {}) {
  std::mt19937_64 random(seed);
  const auto uniform = [&](double low, double high) {
    return low + (high - low) * double(random() >> 11) * 0x1p-53;
  };
  static const char* const kNames[] = {"t0", "t1", "t2", "t3", "t4",  "t5",
                                       "t6", "t7", "t8", "t9", "t10", "t11"};
  PlanStage stage;
  for (int k = 0; k < 3; ++k) {
    std::vector<InstanceTensor> tensors;
    for (int i = 0; i < 8 + 2 * k; ++i) {
      const int64_t bytes = int64_t(uniform(8, 256)) * 256 / unit * unit + (unit == 1 ? i : 0);
      tensors.push_back({kNames[i], bytes, i == 0 ? 0 : uniform(50, 200), i % 3 == 1});
    }
    stage.classes.push_back(
        instance_class("kind" + std::to_string(k), tensors, 2048, options, 1 << 26));
  }
  stage.chunks.resize(1);
  for (int l = 0; l < 81; ++l) stage.chunks[0].layers.push_back(int32_t(random() % 3));
  set_shares(stage, budget, link);
  return stage;
}

// The families and modes of the set.
enum PlanFamily : int64_t { kDeepSeek, kLlama80, kLlama8, kMixed, kMixedOdd };
enum PlanMode : int64_t { kRecompute, kCut, kWhole, kPriced, kCutBoth };

inline PlanStage plan_instance(int64_t family, int64_t mode, size_t seed, double budget,
                               double link) {
  InstanceOptions options;
  options.offload = mode != kRecompute;
  options.cut = mode != kWhole && mode != kPriced;
  options.offload_cost = mode == kPriced ? 2 : 0;
  options.cut_recompute = mode == kCutBoth;
  if (family == kDeepSeek) return deepseek_stage(budget, link, options);
  if (family == kLlama80) return llama_stage(80, budget, link, options);
  if (family == kLlama8) return llama_stage(8, budget, link, options);
  return mixed_stage(seed, budget, link, family == kMixed ? 256 : 1, options);
}

// Nine budgets and five links: 45 stages, tight ones among them.
inline std::vector<PlanStage> plan_instances(int64_t family, int64_t mode) {
  std::vector<PlanStage> all;
  for (const double budget : {0.02, 0.05, 0.08, 0.12, 0.2, 0.3, 0.5, 0.7, 0.9}) {
    for (const double link : {0.0, 0.02, 0.1, 0.2, 0.4}) {
      all.push_back(plan_instance(family, mode, all.size() + 1, budget, link));
      // Units of layers are another problem, measured apart.
      all.back().allow_units = false;
    }
  }
  return all;
}

}  // namespace rc
