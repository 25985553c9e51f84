// src/plan/hand_policies.cc: Megatron-Core's settings that go with a model, each evaluated.
#include <algorithm>

#include "src/plan/plan.h"

namespace rc::plan {
namespace {

std::vector<std::string> modules_of(const PlanRequest& r) {
  std::vector<std::string> names = {"layernorm", "core_attn"};
  if (r.model.any_dense()) names.push_back("mlp");
  if (r.model.attention.kind == AttentionKind::kLatent) names.push_back("mla_up_proj");
  if (r.model.any_moe()) {
    names.insert(names.end(), {"moe_act", "moe"});
    if (r.model.experts.shared_width != 0) names.push_back("shared_experts");
  }
  return names;
}

class Collection {
 public:
  explicit Collection(const PlanRequest& request) : r_(request) {}

  // A setting that the rules refuse is none that a user can choose.
  void add(std::string flags, const PolicySpec& spec) {
    HandPolicy one;
    one.flags = std::move(flags);
    if (!create_policy(spec, &one.policy).ok()) return;
    one.ranks = evaluate(r_, *one.policy);
    all_.push_back(std::move(one));
  }
  std::vector<HandPolicy> take() { return std::move(all_); }

 private:
  const PlanRequest& r_;
  std::vector<HandPolicy> all_;
};

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& n : names) text += " " + n;
  return text;
}

void add_selective(const PlanRequest& r, Collection* all) {
  const std::vector<std::string> modules = modules_of(r);
  for (uint32_t set = 1; set < 1u << modules.size(); ++set) {
    PolicySpec spec = policy_frame(r);
    spec.granularity = RC_GRANULARITY_SELECTIVE;
    auto& chosen = spec.recompute_modules.emplace();
    for (size_t i = 0; i < modules.size(); ++i)
      if ((set >> i & 1) != 0) chosen.push_back(modules[i]);
    const bool whole = std::find(chosen.begin(), chosen.end(), "moe") != chosen.end();
    const auto inside = [](const std::string& m) {
      return m == "moe_act" || m == "shared_experts";
    };
    if (whole && std::any_of(chosen.begin(), chosen.end(), inside)) continue;
    all->add("--recompute-granularity selective --recompute-modules" + joined(chosen), spec);
  }
}

void add_full(const PlanRequest& r, Collection* all) {
  PolicySpec spec = policy_frame(r);
  spec.granularity = RC_GRANULARITY_FULL;
  spec.method = RC_METHOD_UNIFORM;
  const uint32_t largest = r.stages.largest();
  for (uint32_t n = 1; n <= std::min(largest, 4u); ++n) {
    spec.recompute_num_layers = n;
    all->add(format("--recompute-granularity full --recompute-method uniform "
                    "--recompute-num-layers %u",
                    n),
             spec);
  }
  spec.method = RC_METHOD_BLOCK;
  for (uint32_t n = 1; n <= largest; n += std::max(1u, largest / 32)) {
    spec.recompute_num_layers = n;
    all->add(format("--recompute-granularity full --recompute-method block "
                    "--recompute-num-layers %u",
                    n),
             spec);
  }
}

}  // namespace

uint64_t HandPolicy::peak() const {
  uint64_t most = 0;
  for (const RankEvaluation& e : ranks) most = std::max(most, e.peak);
  return most;
}

double HandPolicy::step_seconds() const {
  double slowest = 0;
  for (const RankEvaluation& e : ranks) {
    slowest = std::max(
        slowest, e.forward_seconds + e.backward_seconds + e.checkpoint_seconds + e.exposed_seconds);
  }
  return slowest;
}

std::vector<HandPolicy> hand_policies(const PlanRequest& r) {
  Collection all(r);
  all.add("(no recomputation)", policy_frame(r));
  add_selective(r, &all);
  add_full(r, &all);
  return all.take();
}

}  // namespace rc::plan
