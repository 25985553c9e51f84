// src/policy/validate.h: the checks that stand between a PolicySpec and a Policy.
//
// Each of Megatron's rules has an id (POLICY_RULES.md beside the public header); a refusal or a
// note that comes from one ends with that id in brackets.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "src/policy/kind_table.h"
#include "src/policy/policy.h"
#include "src/policy/policy_spec.h"
#include "src/policy/stage_layout.h"

namespace rc {

// What the checks read, and where they leave their notes.
class RuleCheck {
 public:
  RuleCheck(const PolicySpec& its_spec, const KindTable& its_kinds, const StageLayout& its_layout)
      : spec(its_spec), kinds(its_kinds), layout(its_layout) {}

  const PolicySpec& spec;
  const KindTable& kinds;
  const StageLayout& layout;

  Status refuse(const char* id, std::string field, std::string message) const;
  // For what Megatron forbids and rcore does: refused only under strict_megatron.
  Status relax(const char* id, std::string field, std::string message) const;
  void note(std::string field, std::string message, const char* id = nullptr);
  std::vector<Note> take_notes() { return std::move(notes_); }

  bool selective() const { return spec.granularity == RC_GRANULARITY_SELECTIVE; }
  bool full() const { return spec.granularity == RC_GRANULARITY_FULL; }
  // Selected by recompute_modules, by name.
  bool recomputes(std::string_view module) const;
  bool offloads(std::string_view module) const;
  bool fine_grained() const { return spec.has(RC_POLICY_FINE_GRAINED_OFFLOADING); }
  // "recompute_modules[2]" of a selected module.
  std::string module_field(std::string_view module) const;
  std::string offload_field(std::string_view module) const;

 private:
  std::vector<Note> notes_;
};

// Enumerators, ranks, sizes, probabilities, list lengths, unknown flags.
Status check_shape(const PolicySpec& spec);
// Granularity, method, counts, distribution, partial microbatches, multi-token prediction.
Status check_recompute(RuleCheck& check);
// recompute_modules against the architecture.
Status check_modules(RuleCheck& check);
// The mhc module against the settings it does not go with.
Status check_hyper_connections(RuleCheck& check);
Status check_offload(RuleCheck& check);
Status check_graphs(RuleCheck& check);
// The overlap of expert-parallel communication.
Status check_overlap(RuleCheck& check);
// The explicit rules.
Status check_explicit_rules(RuleCheck& check);

// Megatron's rules, as the table in POLICY_RULES.md lists them.
enum class Verdict { kSame, kRelaxed, kNotApplicable };
struct MegatronRule {
  const char* id;
  Verdict verdict;
};
const std::vector<MegatronRule>& megatron_rules();

}  // namespace rc
