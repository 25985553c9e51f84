// src/plan/report.cc: plans, inventories and evaluations as JSON.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "src/plan/plan.h"
#include "src/plan/stage_problem.h"

namespace rc::plan {
namespace {

using Json = nlohmann::ordered_json;

const char* name_of(PlanOption option) {
  static const char* const names[] = {"keep", "recompute", "offload", "split", "compress"};
  return names[static_cast<size_t>(option)];
}

Json describe_work(const Work& w) {
  return {{"gemm_flops", w.gemm_flops}, {"attention_flops", w.attention_flops},
          {"hbm_bytes", w.hbm_bytes},   {"tp_bytes", w.tp_bytes},
          {"ep_bytes", w.ep_bytes},     {"kernels", w.kernels}};
}

Json describe_tensor(const SavedTensor& t) {
  Json json = {{"name", t.name}, {"kind", t.kind}};
  if (!t.slot.empty()) json["slot"] = t.slot;
  json["role"] = rc::name_of(t.role);
  json["bytes"] = t.bytes;
  if (t.statistic) json["statistic"] = true;
  if (!t.owner.empty()) json["owner"] = t.owner;
  if (!t.consumer.empty()) json["consumer"] = t.consumer;
  if (!t.inside.empty()) json["inside"] = t.inside;
  if (!t.can_recompute) json["can_recompute"] = false;
  if (t.replicated) json["replicated"] = true;
  return json;
}

// Runs of layers with one decision for one tensor.
class Decisions {
 public:
  explicit Decisions(const PlanRequest& request, const RankPlan& rank) : r_(request), rank_(rank) {}

  Json write() const {
    Json all = Json::array();
    for (size_t k = 0; k < r_.classes.size(); ++k)
      for (size_t i = 0; i < r_.classes[k].tensors.size(); ++i) add(k, i, &all);
    return all;
  }

 private:
  void add(size_t of_class, size_t item, Json* all) const {
    std::vector<std::vector<uint32_t>> layers(kPlanOptions);
    for (size_t c = 0; c < rank_.layers.size(); ++c) {
      for (size_t l = 0; l < rank_.layers[c].size(); ++l) {
        if (size_t(rank_.stage.chunks[c].layers[l]) != of_class || in_unit(c, l)) continue;
        layers[size_t(choice(c, l, item).option)].push_back(rank_.layers[c][l]);
      }
    }
    const TensorSpec& t = r_.classes[of_class].tensors[item];
    for (size_t o = 0; o < layers.size(); ++o) {
      if (layers[o].empty()) continue;
      const PlanItem& i = rank_.stage.classes[of_class].items[item];
      const auto& made = *std::find_if(i.choices.begin(), i.choices.end(),
                                       [&](const auto& one) { return size_t(one.option) == o; });
      const auto n = int64_t(layers[o].size());
      all->push_back({{"tensor", t.tensor.name},
                      {"kind", t.tensor.kind},
                      {"class", r_.classes[of_class].name},
                      {"action", name_of(static_cast<PlanOption>(o))},
                      {"layers", layers[o]},
                      {"bytes", t.tensor.bytes},
                      {"freed_bytes", (int64_t(t.tensor.bytes) - made.kept_bytes) * n},
                      {"seconds", double(made.cost) * double(n) * 1e-12}});
    }
  }

  const PlanChoice& choice(size_t c, size_t l, size_t item) const {
    const auto& choices =
        rank_.stage.classes[size_t(rank_.stage.chunks[c].layers[l])].items[item].choices;
    return choices[rank_.plan.choice[c][l][item]];
  }

  bool in_unit(size_t c, size_t l) const {
    return std::any_of(rank_.plan.units.begin(), rank_.plan.units.end(), [&](const PlanUnit& unit) {
      const size_t first = size_t(unit.first);
      return size_t(unit.chunk) == c && l >= first && l < first + size_t(unit.layers);
    });
  }

  const PlanRequest& r_;
  const RankPlan& rank_;
};

// Layers that are run again together from the first one's input.
Json describe_units(const RankPlan& p) {
  Json all = Json::array();
  for (const PlanUnit& unit : p.plan.units) {
    const auto& layers = p.layers[size_t(unit.chunk)];
    const PlanLayerClass& k =
        p.stage.classes[size_t(p.stage.chunks[size_t(unit.chunk)].layers[size_t(unit.first)])];
    const uint8_t input =
        p.plan.choice[size_t(unit.chunk)][size_t(unit.first)][size_t(k.input_item)];
    all.push_back({{"first_layer", layers[size_t(unit.first)]},
                   {"n_layers", unit.layers},
                   {"input", name_of(k.items[size_t(k.input_item)].choices[input].option)}});
  }
  return all;
}

Json describe_certificate(const PlanCertificate& c) {
  return {{"objective_ps", c.objective},
          {"lower_bound_ps", c.lower_bound},
          {"optimal", c.optimal},
          {"peak_bytes", c.peak},
          {"layer_peak_bytes", c.layer_peak},
          {"kept_bytes", c.kept},
          {"link_bytes", c.link},
          {"host_bytes", c.host},
          {"nodes", c.nodes},
          {"seconds", c.seconds}};
}

Json describe_rank(const Plan& plan, uint32_t rank) {
  const RankPlan& p = plan.ranks[rank];
  const double step = p.forward_seconds + p.backward_seconds;
  Json json = {{"rank", rank},
               {"layers", p.layers},
               {"budget_bytes", p.stage.budget},
               {"peak_bytes", p.plan.certificate.peak},
               {"keep_all_peak_bytes", p.keep_all_peak},
               {"fixed_bytes", p.stage.fixed_bytes},
               {"link_bytes", p.plan.certificate.link},
               {"link_limit_bytes", p.stage.link_bytes},
               {"forward_seconds", p.forward_seconds},
               {"backward_seconds", p.backward_seconds},
               {"replay_seconds", p.replay_seconds()},
               {"overhead", step > 0 ? p.replay_seconds() / step : 0},
               {"decisions", Decisions(plan.request, p).write()}};
  for (const PlanCut& cut : p.plan.cuts) {
    json["cuts"].push_back({{"chunk", cut.chunk},
                            {"layer", p.layers[size_t(cut.chunk)][size_t(cut.layer)]},
                            {"item", cut.item},
                            {"kept_rows", cut.kept_rows},
                            {"offloaded_rows", cut.offloaded_rows},
                            {"recomputed_rows", cut.recomputed_rows}});
  }
  if (!p.plan.cuts.empty()) {
    json["policy_lacks"] = Json::array();
    for (const PlanCut& cut : p.plan.cuts) {
      const PlanItem& item =
          p.stage.classes[size_t(p.stage.chunks[size_t(cut.chunk)].layers[size_t(cut.layer)])]
              .items[size_t(cut.item)];
      json["policy_lacks"].push_back(
          {{"tensor", item.name},
           {"layer", p.layers[size_t(cut.chunk)][size_t(cut.layer)]},
           {"cut", "a policy treats whole tensors"},
           {"whole",
            name_of(cut.offloaded_rows > 0 ? PlanOption::kOffload : PlanOption::kRecompute)}});
    }
  }
  json["regime"] = p.plan.units.empty() ? "layers" : "units";
  if (!p.plan.units.empty()) json["units"] = describe_units(p);
  json["certificate"] = describe_certificate(p.plan.certificate);
  // Whatever differs there is no answer at all.
  json["certificate"]["checked"] = {
      {"figures", true}, {"simulated", true}, {"bound", p.bound_proven}};
  return json;
}

Json describe_ranks(const std::vector<RankEvaluation>& ranks) {
  Json all = Json::array();
  for (const RankEvaluation& e : ranks) {
    all.push_back({{"peak_bytes", e.peak},
                   {"keep_all_peak_bytes", e.keep_all_peak},
                   {"saved_bytes", e.saved_bytes},
                   {"kept_bytes", e.kept_bytes},
                   {"offloaded_bytes", e.offloaded_bytes},
                   {"dropped_bytes", e.dropped_bytes},
                   {"forward_seconds", e.forward_seconds},
                   {"backward_seconds", e.backward_seconds},
                   {"replay_seconds", e.replay_seconds},
                   {"checkpoint_seconds", e.checkpoint_seconds},
                   {"exposed_seconds", e.exposed_seconds}});
  }
  return all;
}

bool fits(const Plan& plan, const HandPolicy& hand) {
  for (size_t rank = 0; rank < plan.ranks.size(); ++rank)
    if (hand.ranks[rank].peak > uint64_t(plan.ranks[rank].stage.budget)) return false;
  return true;
}

Json describe_hand_policies(const Plan& plan) {
  Json all = Json::array();
  for (const HandPolicy& hand : hand_policies(plan.request)) {
    all.push_back({{"flags", hand.flags},
                   {"fits", fits(plan, hand)},
                   {"peak_bytes", hand.peak()},
                   {"step_seconds", hand.step_seconds()},
                   {"ranks", describe_ranks(hand.ranks)}});
  }
  return all;
}

}  // namespace

std::string make_report(const Plan& plan) {
  Json json = {{"rcore_plan_report", 1},
               {"model", plan.request.model.name},
               {"hardware", plan.request.device.name},
               {"ranks", Json::array()}};
  double slowest = 0;
  for (uint32_t rank = 0; rank < plan.ranks.size(); ++rank) {
    const RankPlan& p = plan.ranks[rank];
    slowest = std::max(slowest, p.forward_seconds + p.backward_seconds + p.replay_seconds());
    json["ranks"].push_back(describe_rank(plan, rank));
  }
  json["step_seconds"] = slowest;
  if (plan.request.compare) json["hand_policies"] = describe_hand_policies(plan);
  json["policy"] = Json::parse(describe(*plan.policy));
  return json.dump(1);
}

std::string describe_inventory(const PlanRequest& r) {
  Json json = {{"rcore_inventory", 1}, {"model", r.model.name}, {"classes", Json::array()}};
  for (const ClassSpec& c : r.classes) {
    Json one = {{"name", c.name},
                {"layers", std::count(r.layer_class.begin(), r.layer_class.end(),
                                      int32_t(&c - r.classes.data()))},
                {"bytes", c.published_bytes},
                {"gradient_bytes", c.gradient_bytes},
                {"state_bytes", c.state_bytes},
                {"forward_seconds", c.forward_seconds},
                {"tensors", Json::array()}};
    for (const TensorSpec& t : c.tensors) {
      Json tensor = describe_tensor(t.tensor);
      uint64_t statistics = 0;
      Json with = Json::array();
      for (const SavedTensor& s : t.statistics) {
        statistics += s.bytes;
        with.push_back(describe_tensor(s));
      }
      tensor["bytes"] = t.tensor.bytes - statistics;
      tensor["regenerate"] = describe_work(t.tensor.regenerate);
      tensor["recompute_seconds"] = t.recompute_seconds;
      if (!with.empty()) tensor["with"] = std::move(with);
      one["tensors"].push_back(std::move(tensor));
    }
    json["classes"].push_back(std::move(one));
  }
  for (uint32_t rank = 0; rank < r.layout.pp; ++rank) {
    const PlanStage stage = make_stage(r, rank);
    json["ranks"].push_back({{"layers", layers_of(r, rank)},
                             {"keep_all_peak_bytes", keep_all_peak(stage)},
                             {"fixed_bytes", stage.fixed_bytes},
                             {"link_limit_bytes", stage.link_bytes},
                             {"state_bytes", state_of_rank(r, rank)}});
  }
  return json.dump(1);
}

std::string describe_evaluation(const PlanRequest& r, const Policy& policy) {
  Json json = {{"rcore_evaluation", 1}, {"model", r.model.name}};
  json["ranks"] = describe_ranks(evaluate(r, policy));
  json["notes"] = Json::array();
  for (const Note& note : policy.notes())
    json["notes"].push_back({{"field", note.field}, {"message", note.message}});
  return json.dump(1);
}

}  // namespace rc::plan
