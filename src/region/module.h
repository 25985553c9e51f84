// src/region/module.h: a registered submodule: kind, layer, slots, and how it is replayed.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "src/region/slot.h"

namespace rc {

class Context;
class KernelModule;
struct Region;

// What the rules by slot name say of slots that a region may add while it runs.
struct NamedPlans {
  struct Entry {
    std::string slot;
    SlotPlan by_role[6];
  };
  uint64_t epoch = 0;  // of the context's policy
  std::vector<Entry> entries;

  const SlotPlan* find(std::string_view slot, rc_role role) const;
};

// What the policy says for one site.
struct SitePlan {
  uint64_t epoch = 0;  // of the context's policy
  uint32_t chunk = 0, microbatch = 0;
  std::vector<SlotPlan> slots;              // declared ones
  SlotPlan by_role[6];                      // for slots added while it runs
  std::shared_ptr<const NamedPlans> named;  // before by_role; NULL if no rule names such a slot
  bool inside =
      false;          // the module's whole inside is recomputed: nested regions are dropped with it
  bool plain = true;  // everything is kept
};

// Since the last rc_context_configure.
struct ModuleCounts {
  uint64_t regions = 0, replays = 0, replay_ns = 0;
  uint64_t dropped_bytes = 0, regenerated_bytes = 0;
  uint64_t nested_dropped_bytes = 0;  // of regions nested in it that went with it
  bool asked = false;                 // a rule asked for something else than keep
  bool kept_by_force = false;  // a dropped input had no producer known to the core, and was kept
};

class Module {
 public:
  Module(Context* owner, uint64_t number);
  ~Module();

  // The plan for a site, made once per policy (and per microbatch or chunk where the policy speaks
  // of these).
  const SitePlan& plan(uint32_t chunk, uint32_t microbatch);
  // Whether the policy's table of kinds says that outputs are discarded.
  void read_kind();
  uint32_t next_occurrence(uint64_t step, uint32_t chunk, uint32_t microbatch);
  // The begin has failed; where others were begun meanwhile, theirs stay as they are.
  void take_back_occurrence(uint64_t step, uint32_t chunk, uint32_t microbatch,
                            uint32_t occurrence);

  Context* const context;
  const uint64_t serial;
  std::string kind, name;
  uint32_t layer = 0;
  bool discards_output = false;
  std::vector<SlotDef> slots;
  rc_module_ops ops = {};
  bool has_ops = false;
  std::unique_ptr<KernelModule> kernel;
  std::vector<rc_side_state> states;
  uint32_t handles = 1;
  uint64_t pins = 0;       // host code that is still to run before its tables are destroyed
  uint64_t regions = 0;    // live
  Region* live = nullptr;  // newest first
  ModuleCounts counts;

 private:
  void make_plan(SitePlan* plan);
  std::shared_ptr<const NamedPlans> plan_by_name(const SitePlan& plan) const;
  struct Count {
    uint64_t step = 0;
    uint32_t chunk = 0, microbatch = 0, n = 0;
  };
  std::vector<std::unique_ptr<SitePlan>> plans_;
  size_t last_plan_ = 0;
  std::vector<Count> counts_;
};

}  // namespace rc
