// src/policy/policy.h: Policy, the immutable table (site, slot) -> decision.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "src/policy/kind_table.h"
#include "src/policy/microbatch_window.h"
#include "src/policy/policy_spec.h"
#include "src/policy/stage_layout.h"

namespace rc {

struct Site {
  std::string_view kind;
  uint32_t layer = 0;
  uint32_t chunk = 0;
  uint32_t microbatch = 0;
};

struct Slot {
  std::string_view name;
  rc_role role = RC_ROLE_SAVED;
};

struct Decision {
  rc_action action = RC_ACTION_KEEP;
  rc_tier tier = RC_TIER_DEVICE;
  rc_codec codec = RC_CODEC_NONE;
  // The recompute unit that contains the site's layer; the layer alone where there is none.
  uint32_t first_layer = 0;
  uint32_t n_layers = 1;
  int32_t rule = -1;       // index for rule_text; -1: nothing speaks about the slot
  std::string_view group;  // lives as long as the policy
  bool operator==(const Decision&) const = default;
};

// A finding that is no error.
struct Note {
  std::string field, message;
};

// What a context must have to carry the policy out.
struct Requirement {
  enum class What { kHostTier, kDiskTier, kGroup, kCodec };
  What what;
  std::string name;  // "host tier", "disk tier", the group's name, the codec's name
  std::string rule;  // the line that asks for it
};

// What offloading asks of the storage and decide() cannot know.
struct OffloadLimits {
  uint64_t min_elements = 0;
  uint64_t bytes_cap = 0;  // per rank; 0: none
};

class Policy {
 public:
  // Use create_policy, which validates.
  Policy(PolicySpec spec, KindTable kinds, StageLayout layout, std::vector<Note> notes);

  // Pure. A kind that is not known is kept.
  Decision decide(const Site& site, const Slot& slot) const;

  const KindTable& kinds() const { return kinds_; }
  bool knows_kind(std::string_view name) const { return kinds_.find(name) >= 0; }
  // Says whether the kind's outputs are dropped when it is recomputed; `layer` counts among them.
  bool discards_output(std::string_view kind) const;

  const std::vector<Requirement>& requirements() const { return requirements_; }
  const std::vector<Note>& notes() const { return notes_; }
  OffloadLimits offload_limits() const {
    return {spec_.min_offloaded_tensor_size, spec_.offload_bytes_cap};
  }
  // The explicit rules under their own indices, then the lines that the other settings write.
  uint32_t n_rules() const { return static_cast<uint32_t>(rule_texts_.size()); }
  const std::string& rule_text(uint32_t index) const { return rule_texts_[index]; }
  bool depends_on_microbatch() const { return depends_on_microbatch_; }
  bool depends_on_chunk() const { return depends_on_chunk_; }
  const PolicySpec& spec() const { return spec_; }
  const StageLayout& layout() const { return layout_; }

 private:
  // Kinds as indices: what decide() compares instead of names.
  struct RuleKey {
    int kind = -1;  // -1: every kind
    bool whole_layer = false;
  };
  struct LayerMode {
    bool recomputed = false;
    int32_t rule = -1;
    uint32_t origin = 0;
    uint32_t size = 1;
    uint32_t end = 0;
  };
  struct Unit {
    uint32_t first, n;
    int32_t rule;
    bool recomputed;
  };

  void compile();
  int32_t add_line(std::string text);
  void compile_selective();
  void compile_offload();
  void require(Requirement::What what, std::string name, const std::string& rule);
  bool at_site(const RuleSpec& rule, const Site& site) const;
  bool speaks_about(size_t index, int kind, const Slot& slot) const;
  LayerMode base_mode(const Site& site, const Stage& stage) const;
  LayerMode mode_of(const Site& site, const Stage& stage) const;
  Unit unit_of(const Site& site, const Stage& stage) const;
  void apply_base(int kind, const Site& site, const Slot& slot, Decision* decision) const;
  void apply_rule(int32_t index, Decision* decision) const;
  void apply_offload(int kind, const Slot& slot, const Stage& stage, const Site& site,
                     bool inside_unit, Decision* decision) const;

  PolicySpec spec_;
  KindTable kinds_;
  StageLayout layout_;
  MicrobatchWindow window_;
  std::vector<Note> notes_;
  std::vector<RuleKey> keys_;
  std::vector<int32_t> selective_;  // by kind: the line that recomputes it, or -1
  std::vector<int32_t> offloaded_;  // by kind: the line that offloads its inputs, or -1
  int32_t full_line_ = -1, partial_line_ = -1, cpu_offload_line_ = -1;
  bool has_layer_rules_ = false;
  bool depends_on_microbatch_ = false, depends_on_chunk_ = false;
  std::vector<std::string> rule_texts_;
  std::vector<Requirement> requirements_;
};

// Completes what is left open (the default module, the deprecated alias), checks every rule of
// POLICY_RULES.md, and writes the table.
Status create_policy(const PolicySpec& spec, std::shared_ptr<const Policy>* out);
// The same from JSON (POLICY_JSON.md). A syntax error has line and column in its message; anything
// else the JSON pointer of the offending value in Status::field.
Status create_policy_json(std::string_view text, std::shared_ptr<const Policy>* out);
// The policy's inputs as JSON; the inverse of create_policy_json.
std::string describe(const Policy& policy);

// The name of an enumerator as the JSON form and the reports spell it; "?" for none.
const char* name_of(rc_granularity value);
const char* name_of(rc_method value);
const char* name_of(rc_fp8 value);
const char* name_of(rc_graph value);
const char* name_of(rc_action value);
const char* name_of(rc_tier value);
const char* name_of(rc_codec value);
const char* name_of(rc_role value);

}  // namespace rc
