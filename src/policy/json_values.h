// src/policy/json_values.h: typed reading of JSON values, with the pointer of what does not fit.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "src/policy/policy.h"

namespace rc {

// The value for a message: short, printable.
std::string show(const nlohmann::json& value);

Status read_bool(const nlohmann::json& value, const std::string& at, bool* out);
Status read_count(const nlohmann::json& value, const std::string& at, uint64_t least, uint64_t most,
                  uint64_t* out);
Status read_real(const nlohmann::json& value, const std::string& at, double* out);
Status read_name(const nlohmann::json& value, const std::string& at, std::string* out);
// An array of names, or one name.
Status read_names(const nlohmann::json& value, const std::string& at,
                  std::vector<std::string>* out);
// An array within the limit of entries.
Status check_array(const nlohmann::json& value, const std::string& at,
                   uint32_t most = kMaxListEntries);
// One of the names; `rule` (a Megatron rule's id, or empty) ends the message.
Status read_choice(const nlohmann::json& value, const std::string& at,
                   const std::vector<std::string_view>& choices, std::string_view rule,
                   std::string* out);
Status read_kind(const nlohmann::json& value, const std::string& at, KindSpec* out);
Status read_rule(const nlohmann::json& value, const std::string& at, RuleSpec* out);

// An enumerator by the name that name_of gives it; `n` enumerators from 0 on.
template <typename E>
Status read_enum(const nlohmann::json& value, const std::string& at, int n, E* out,
                 const char* rule) {
  std::vector<std::string_view> names;
  for (int i = 0; i < n; ++i) names.push_back(name_of(static_cast<E>(i)));
  std::string name;
  RC_TRY(read_choice(value, at, names, rule == nullptr ? "" : rule, &name));
  for (int i = 0; i < n; ++i) {
    if (name == names[static_cast<size_t>(i)]) *out = static_cast<E>(i);
  }
  return ok_status();
}

}  // namespace rc
