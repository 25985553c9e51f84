// src/region/module.cc: plans per site, occurrence counts, and the end of a module.
#include "src/region/module.h"

#include <algorithm>

#include "src/region/context.h"
#include "src/region/kernel_module.h"
#include "src/storage/tensor.h"

namespace rc {
namespace {

// More sites than this per module and policy (microbatches times chunks) are planned again when
// met.
constexpr size_t kMaxPlans = 4096;

}  // namespace

Module::Module(Context* owner, uint64_t number) : context(owner), serial(number) {}

Module::~Module() {
  if (has_ops && ops.destroy) ops.destroy(ops.user_data);
  for (rc_side_state& state : states)
    if (state.destroy) state.destroy(state.user_data);
}

void Module::read_kind() {
  // A layer's output is read by the next layer, which holds it where it is the head of a recompute
  // unit: `layer` is not discarding in the sense of the region machine.
  discards_output = context->policy && kind != "layer" && context->policy->discards_output(kind);
}

const SitePlan& Module::plan(uint32_t chunk, uint32_t microbatch) {
  const Policy* policy = context->policy.get();
  const uint32_t c = policy && policy->depends_on_chunk() ? chunk : 0;
  const uint32_t m = policy && policy->depends_on_microbatch() ? microbatch : 0;
  const auto matches = [&](const SitePlan& p) {
    return p.epoch == context->epoch && p.chunk == c && p.microbatch == m;
  };
  if (last_plan_ < plans_.size() && matches(*plans_[last_plan_])) return *plans_[last_plan_];
  for (last_plan_ = 0; last_plan_ < plans_.size(); ++last_plan_)
    if (matches(*plans_[last_plan_])) return *plans_[last_plan_];
  if (plans_.size() >= kMaxPlans) plans_.erase(plans_.begin(), plans_.begin() + kMaxPlans / 2);
  auto owned = std::make_unique<SitePlan>();
  SitePlan& fresh = *owned;
  fresh.epoch = context->epoch;
  fresh.chunk = c;
  fresh.microbatch = m;
  make_plan(&fresh);
  plans_.push_back(std::move(owned));  // only a finished plan can be found
  last_plan_ = plans_.size() - 1;
  return fresh;
}

void Module::make_plan(SitePlan* plan) {
  plan->slots.assign(slots.size(), SlotPlan());
  const Policy* policy = context->policy.get();
  if (!policy) return;
  const Site site = {
      .kind = kind, .layer = layer, .chunk = plan->chunk, .microbatch = plan->microbatch};
  const auto ask = [&](std::string_view slot, rc_role role) {
    const Decision d = policy->decide(site, Slot{.name = slot, .role = role});
    if (d.rule >= 0 && static_cast<size_t>(d.rule) < context->rule_hits.size())
      ++context->rule_hits[static_cast<size_t>(d.rule)];
    if (d.action != RC_ACTION_KEEP) {
      plan->plain = false;
      counts.asked = true;
    }
    return SlotPlan{.action = d.action, .tier = d.tier, .rule = d.rule};
  };
  for (size_t i = 0; i < slots.size(); ++i) plan->slots[i] = ask(slots[i].name, slots[i].role);
  for (int role = RC_ROLE_INPUT; role <= RC_ROLE_DECISION; ++role)
    plan->by_role[role] = ask({}, static_cast<rc_role>(role));
  plan->inside = plan->by_role[RC_ROLE_SAVED].action == RC_ACTION_RECOMPUTE;
  plan->named = plan_by_name(*plan);
  if (plan->named) plan->plain = false;
}

// Their rules count as alive where a region adds such a slot, not before.
std::shared_ptr<const NamedPlans> Module::plan_by_name(const SitePlan& plan) const {
  const Policy& policy = *context->policy;
  const Site site = {
      .kind = kind, .layer = layer, .chunk = plan.chunk, .microbatch = plan.microbatch};
  auto named = std::make_shared<NamedPlans>();
  named->epoch = plan.epoch;
  for (const RuleSpec& rule : policy.spec().rules) {
    const auto declared = [&](const SlotDef& def) { return def.name == rule.slot; };
    if (rule.slot.empty() || std::any_of(slots.begin(), slots.end(), declared) ||
        named->find(rule.slot, RC_ROLE_SAVED))
      continue;
    NamedPlans::Entry entry = {.slot = rule.slot, .by_role = {}};
    bool differs = false;
    for (int role = RC_ROLE_INPUT; role <= RC_ROLE_DECISION; ++role) {
      const Decision d =
          policy.decide(site, Slot{.name = rule.slot, .role = static_cast<rc_role>(role)});
      entry.by_role[role] = {.action = d.action, .tier = d.tier, .rule = d.rule};
      differs = differs || d.rule != plan.by_role[role].rule;
    }
    if (differs) named->entries.push_back(std::move(entry));
  }
  return named->entries.empty() ? nullptr : named;
}

const SlotPlan* NamedPlans::find(std::string_view slot, rc_role role) const {
  for (const Entry& entry : entries)
    if (entry.slot == slot) return &entry.by_role[role];
  return nullptr;
}

uint32_t Module::next_occurrence(uint64_t step, uint32_t chunk, uint32_t microbatch) {
  Count* oldest = nullptr;
  for (Count& count : counts_) {
    if (count.chunk == chunk && count.microbatch == microbatch) {
      if (count.step == step) return ++count.n;
      // A closed step's counter can be taken over; an open one's cannot.
      bool open = count.step == 0;
      for (const Step* s : context->steps) open = open || s->serial == count.step;
      if (!open) oldest = &count;
    }
  }
  if (!oldest) oldest = &counts_.emplace_back();
  *oldest = {.step = step, .chunk = chunk, .microbatch = microbatch, .n = 1};
  return 1;
}

void Module::take_back_occurrence(uint64_t step, uint32_t chunk, uint32_t microbatch,
                                  uint32_t occurrence) {
  for (Count& count : counts_)
    if (count.step == step && count.chunk == chunk && count.microbatch == microbatch &&
        count.n == occurrence)
      --count.n;
}

}  // namespace rc
