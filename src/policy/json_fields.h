// src/policy/json_fields.h: the keys of the JSON form: names, spellings, and what each one sets.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "src/policy/policy_spec.h"

namespace rc {

struct FlagBit {
  rc_flags bit;
};

// A key whose value is a number or a boolean.
struct PlainField {
  const char* key;      // as describe() writes it: Megatron's name
  const char* c_field;  // as create_policy() names it in an error
  std::variant<uint32_t PolicySpec::*, uint64_t PolicySpec::*, double PolicySpec::*, FlagBit>
      target;
  uint32_t least = 0;  // smallest number allowed
};
const std::vector<PlainField>& plain_fields();

// Keys with a reader of their own.
const std::vector<std::string_view>& special_keys();

// The key in the form of describe() for any accepted spelling: dashes, a leading "--", and the
// names other generations and NeMo use. Empty where the key is not known.
std::string canonical_key(std::string_view key);
// Every accepted spelling, for "did you mean".
std::vector<std::string_view> known_keys();

// The bits of graph_scopes by name.
struct ScopeName {
  const char* name;
  rc_flags bit;
};
const std::vector<ScopeName>& scope_names();

}  // namespace rc
