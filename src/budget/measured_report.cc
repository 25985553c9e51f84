// src/budget/measured_report.cc: a measured plan as JSON, as PLAN_JSON.md has it.
#include <nlohmann/json.hpp>

#include "src/budget/measured_plan.h"

namespace rc::budget {
namespace {

using Json = nlohmann::ordered_json;

double seconds(uint64_t ns) {
  return double(ns) * 1e-9;
}

Json names_of(const Way& way) {
  Json names = Json::array();
  if (way.whole_layer) names.push_back("layer");
  for (const Again& again : way.again)
    names.push_back(again.slot.empty() ? again.kind : again.kind + "." + again.slot);
  return names;
}

Json describe_way(const Way& way) {
  return {{"recompute", names_of(way)},
          {"layers", way.layers},
          {"freed_bytes", way.freed},
          {"added_transient_bytes", way.added},
          {"seconds", seconds(uint64_t(way.cost))}};
}

// What was measured, once for each sort of group.
Json describe_ways(const Ways& ways) {
  Json all = Json::array();
  std::vector<uint64_t> seen;
  for (const Group& g : ways.groups) {
    if (std::find(seen.begin(), seen.end(), g.likeness) != seen.end()) continue;
    seen.push_back(g.likeness);
    Json layers = Json::array(), list = Json::array();
    for (const Group& other : ways.groups)
      if (other.likeness == g.likeness) layers.push_back(other.layer);
    for (const Way& way : g.ways) list.push_back(describe_way(way));
    for (const Way& way : g.units) list.push_back(describe_way(way));
    all.push_back({{"group", g.name}, {"layers", layers}, {"ways", list}});
  }
  return all;
}

Json describe_decisions(const Ways& ways, const std::vector<PathStep>& steps) {
  Json all = Json::array();
  for (const PathStep& step : steps) {
    const Group& g = ways.groups[step.place];
    Json one = describe_way(ways.way_of(step));
    one["group"] = g.name;
    one["first_layer"] = g.layer;
    all.push_back(std::move(one));
  }
  return all;
}

}  // namespace

std::string make_report(const Measured& m, const MeasuredPlan& p, const Policy& policy) {
  const Profile& profile = *m.profile;
  Json json = {{"rcore_plan_report", 1},
               {"model", "measured"},
               {"budget_bytes", p.budget},
               {"predicted_peak_bytes", p.chosen.peak},
               {"keep_all_peak_bytes", p.ways.keep_all_peak},
               {"least_budget_bytes", p.least_peak},
               {"step_seconds", seconds(profile.step_ns() + p.chosen.replay_ns)},
               {"replay_seconds", seconds(p.chosen.replay_ns)},
               {"overhead",
                profile.step_ns() > 0 ? double(p.chosen.replay_ns) / double(profile.step_ns()) : 0},
               {"replays", p.chosen.replays},
               {"origin", p.chosen.name},
               {"microbatches_held", p.ways.held},
               {"profile",
                {{"step_seconds", seconds(profile.step_ns())},
                 {"trial_seconds", seconds(profile.trial_ns())},
                 {"trials", profile.trials()}}},
               {"search",
                {{"forecasts", p.ways.forecasts},
                 {"rounds", p.rounds},
                 {"complete", p.ways.complete},
                 {"seconds", p.seconds}}}};
  const PathPlan& inner = p.inner.plan;
  if (p.chosen.name == "plan" && inner.found)
    json["certificate"] = {
        {"objective_ns", inner.cost},         {"lower_bound_ns", inner.lower_bound},
        {"optimal", inner.optimal},           {"proven_lower_bound_ns", p.proven_bound},
        {"budget_bytes", p.inner_budget},     {"peak_bytes", inner.peak},
        {"improved_by_forecast", p.improved}, {"nodes", inner.nodes}};
  json["decisions"] = describe_decisions(p.ways, inner.steps);
  json["ways"] = describe_ways(p.ways);
  json["hand_policies"] = Json::array();
  for (const Candidate& c : p.hand)
    json["hand_policies"].push_back({{"flags", c.name},
                                     {"fits", c.peak <= p.budget},
                                     {"peak_bytes", c.peak},
                                     {"replay_seconds", seconds(c.replay_ns)}});
  json["policy"] = Json::parse(describe(policy));
  return json.dump(1);
}

}  // namespace rc::budget
