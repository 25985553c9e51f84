// src/policy/kind_table.h: KindTable, the kinds a policy knows: the built-in ones and the host's.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "src/policy/policy_spec.h"

namespace rc {

struct Kind {
  std::string name;
  bool discards_output = false;
  bool built_in = false;
  int family = -1;  // index of the kind that also speaks for this one
};

class KindTable {
 public:
  KindTable();
  // Refuses a malformed or known name. `field` is the name's.
  Status add(const KindSpec& kind, const std::string& field);
  // -1 where the name is not known.
  int find(std::string_view name) const;
  // As find, refused with the nearest known name.
  Status resolve(std::string_view name, const std::string& field, int* index) const;
  int layer() const { return layer_; }
  const std::vector<Kind>& all() const { return kinds_; }
  const Kind& at(int index) const { return kinds_[static_cast<size_t>(index)]; }
  // True if a rule about `spoken` holds for `kind`: the same, or its family.
  bool speaks_for(int spoken, int kind) const {
    return spoken == kind || (spoken >= 0 && at(kind).family == spoken);
  }

 private:
  struct Hash : std::hash<std::string_view> {
    using is_transparent = void;
  };
  std::vector<Kind> kinds_;
  std::unordered_map<std::string, int, Hash, std::equal_to<>> index_;
  int layer_ = -1;
};

// The names Megatron-Core allows in recompute_modules and in offload_modules.
bool is_megatron_recompute_module(std::string_view name);
bool is_megatron_offload_module(std::string_view name);

}  // namespace rc
