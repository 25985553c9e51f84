// src/policy/policy_compile.cc: turns a validated PolicySpec into the table that decide() reads.
#include <algorithm>

#include "src/policy/policy.h"

namespace rc {
namespace {

std::string range_text(const char* noun, uint32_t first, uint32_t n) {
  if (n == 0) return first == 0 ? std::string() : format(" of %s %u on", noun, first);
  return format(" of %s %u to %u", noun, first, first + (n - 1));
}

std::string text_of(const RuleSpec& rule, size_t index) {
  std::string text = format("rules[%zu]: ", index);
  text += rule.kind.empty() ? "every kind" : rule.kind;
  if (!rule.slot.empty()) text += " slot " + rule.slot;
  if (rule.role != RC_ROLE_ANY) text += format(" (%s)", name_of(rule.role));
  text += range_text("layers", rule.first_layer, rule.n_layers);
  if (rule.chunk) text += format(" of chunk %u", *rule.chunk);
  if (rule.by_microbatch) {
    text += range_text("microbatches", rule.first_microbatch, rule.n_microbatches);
  }
  text += format(": %s", name_of(rule.action));
  if (rule.group_layers > 1) text += format(" in units of %u", rule.group_layers);
  if (rule.action != RC_ACTION_STORE) return text;
  text += format(" on %s", name_of(rule.tier));
  if (!rule.group.empty()) text += " split over " + rule.group;
  if (rule.codec != RC_CODEC_NONE) text += format(" as %s", name_of(rule.codec));
  return text;
}

}  // namespace

Policy::Policy(PolicySpec spec, KindTable kinds, StageLayout layout, std::vector<Note> notes)
    : spec_(std::move(spec)),
      kinds_(std::move(kinds)),
      layout_(std::move(layout)),
      window_(spec_),
      notes_(std::move(notes)) {
  compile();
}

int32_t Policy::add_line(std::string text) {
  rule_texts_.push_back(std::move(text));
  return static_cast<int32_t>(rule_texts_.size()) - 1;
}

void Policy::require(Requirement::What what, std::string name, const std::string& rule) {
  for (const Requirement& known : requirements_) {
    if (known.what == what && known.name == name) return;
  }
  requirements_.push_back({what, std::move(name), rule});
}

void Policy::compile() {
  for (size_t i = 0; i < spec_.rules.size(); ++i) {
    const RuleSpec& rule = spec_.rules[i];
    RuleKey key;
    key.kind = rule.kind.empty() ? -1 : kinds_.find(rule.kind);
    key.whole_layer = (key.kind < 0 || key.kind == kinds_.layer()) && rule.slot.empty() &&
                      rule.role == RC_ROLE_ANY;
    has_layer_rules_ |= key.whole_layer;
    depends_on_chunk_ |= rule.chunk.has_value();
    depends_on_microbatch_ |= rule.by_microbatch;
    keys_.push_back(key);
    const std::string text = text_of(rule, i);
    add_line(text);
    if (rule.action != RC_ACTION_STORE) continue;
    if (rule.tier == RC_TIER_HOST) require(Requirement::What::kHostTier, "host tier", text);
    if (rule.tier == RC_TIER_DISK) require(Requirement::What::kDiskTier, "disk tier", text);
    if (!rule.group.empty()) require(Requirement::What::kGroup, rule.group, text);
    if (rule.codec != RC_CODEC_NONE) {
      require(Requirement::What::kCodec, name_of(rule.codec), text);
    }
  }
  compile_selective();
  if (spec_.granularity == RC_GRANULARITY_FULL) {
    full_line_ = add_line(format("recompute_granularity: full, %s, %u", name_of(spec_.method),
                                 spec_.recompute_num_layers));
  }
  if (window_.active()) {
    depends_on_microbatch_ = true;
    depends_on_chunk_ |= spec_.vpp_size > 1;
    // The window ends before a microbatch is full: then the line can match nothing.
    if (window_.length() > spec_.num_microbatches_with_partial_recompute) {
      partial_line_ = add_line(format(
          "num_microbatches_with_partial_recompute: full from microbatch %u of each window of %u",
          spec_.num_microbatches_with_partial_recompute, window_.length()));
    }
  }
  if (spec_.has(RC_POLICY_DISTRIBUTE_SAVED)) {
    require(Requirement::What::kGroup, "tp", "distribute_saved_activations");
  }
  compile_offload();
}

void Policy::compile_selective() {
  selective_.assign(kinds_.all().size(), -1);
  if (spec_.granularity != RC_GRANULARITY_SELECTIVE) return;
  const auto& modules = *spec_.recompute_modules;
  for (size_t i = 0; i < modules.size(); ++i) {
    const int spoken = kinds_.find(modules[i]);
    const int32_t line =
        add_line(format("recompute_modules[%zu]: %s: recompute", i, modules[i].c_str()));
    for (size_t kind = 0; kind < selective_.size(); ++kind) {
      const int index = static_cast<int>(kind);
      // A member named by itself reports under its own line.
      if (index == spoken || (kinds_.speaks_for(spoken, index) && selective_[kind] < 0)) {
        selective_[kind] = line;
      }
    }
  }
}

void Policy::compile_offload() {
  offloaded_.assign(kinds_.all().size(), -1);
  if (spec_.has(RC_POLICY_CPU_OFFLOADING)) {
    cpu_offload_line_ =
        add_line(format("cpu_offloading: the first %u layers of each stage: store on host",
                        spec_.cpu_offloading_num_layers));
    require(Requirement::What::kHostTier, "host tier", rule_texts_.back());
  }
  if (!spec_.has(RC_POLICY_FINE_GRAINED_OFFLOADING)) return;
  for (size_t i = 0; i < spec_.offload_modules.size(); ++i) {
    const std::string& name = spec_.offload_modules[i];
    const int spoken = kinds_.find(name);
    const int32_t line =
        add_line(format("offload_modules[%zu]: inputs of %s: store on host", i, name.c_str()));
    require(Requirement::What::kHostTier, "host tier", rule_texts_.back());
    for (size_t kind = 0; kind < offloaded_.size(); ++kind) {
      const int index = static_cast<int>(kind);
      if (index == spoken || (kinds_.speaks_for(spoken, index) && offloaded_[kind] < 0)) {
        offloaded_[kind] = line;
      }
    }
  }
}

}  // namespace rc
