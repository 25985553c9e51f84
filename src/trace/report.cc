// src/trace/report.cc: rc_stats and the JSON report.
#include "src/trace/report.h"

#include <nlohmann/json.hpp>

#include "src/region/context.h"

namespace rc {

void read_stats(const Context& c, rc_stats* out) {
  const StorageStats& s = c.storage.stats();
  const DeviceMemory memory = c.storage.device().memory();
  out->regions_live = c.regions_live;
  out->regions_begun = c.counts.begun;
  out->regions_passed = c.counts.passed;
  out->regions_cancelled = c.counts.cancelled;
  out->regions_abandoned = c.counts.abandoned;
  out->replays = c.counts.replays;
  out->replay_ns = c.counts.replay_ns;
  out->live_bytes = s.live_bytes;
  out->peak_bytes = s.peak_bytes;
  out->dropped_bytes = s.dropped_bytes;
  out->regenerated_bytes = s.regenerated_bytes;
  out->reserved_bytes = memory.reserved_bytes;
  out->parked_bytes = memory.parked_bytes;
  out->allocations = memory.allocations;
  out->arena_bytes = c.storage.arena().size().bytes;
  out->arena_bound = c.storage.arena().size().bound;
  out->arena_misses = c.storage.last_misses();
  out->objects = s.blocks + c.pooled_regions();
}

std::string report_json(const Context& c) {
  using nlohmann::ordered_json;
  ordered_json report;
  report["rcore_report"] = 1;
  ordered_json modules = ordered_json::array(), nothing = ordered_json::array(),
               forced = ordered_json::array();
  for (const Module* m : c.modules) {
    const ModuleCounts& n = m->counts;
    ordered_json row = {{"module", m->name},
                        {"kind", m->kind},
                        {"layer", m->layer},
                        {"regions", n.regions},
                        {"replays", n.replays},
                        {"replay_ns", n.replay_ns},
                        {"dropped_bytes", n.dropped_bytes},
                        {"regenerated_bytes", n.regenerated_bytes}};
    modules.push_back(row);
    // A site whose bytes went with its nested regions counts these, not itself.
    if (n.asked && n.regions > 0 && n.dropped_bytes == 0 && n.nested_dropped_bytes == 0)
      nothing.push_back({{"module", m->name}, {"layer", m->layer}, {"dropped_bytes", 0}});
    if (n.kept_by_force)
      forced.push_back(
          {{"module", m->name},
           {"layer", m->layer},
           {"reason", "an input that the policy drops has no producer known to the core"}});
  }
  report["modules"] = std::move(modules);
  report["freed_nothing"] = std::move(nothing);
  report["kept_by_force"] = std::move(forced);
  ordered_json dead = ordered_json::array(), notes = ordered_json::array();
  if (c.policy) {
    for (uint32_t i = 0; i < c.policy->n_rules(); ++i)
      if (c.rule_hits[i] == 0) dead.push_back({{"rule", i}, {"text", c.policy->rule_text(i)}});
    for (const Note& note : c.policy->notes())
      notes.push_back({{"field", note.field}, {"message", note.message}});
  }
  ordered_json undeclared = ordered_json::array();
  for (const Module* m : c.modules)
    if (c.policy && !c.policy->knows_kind(m->kind))
      undeclared.push_back({{"module", m->name}, {"kind", m->kind}});
  report["undeclared_kinds"] = std::move(undeclared);
  report["dead_rules"] = std::move(dead);
  report["notes"] = std::move(notes);
  return report.dump(2);
}

}  // namespace rc
