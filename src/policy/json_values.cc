// src/policy/json_values.cc: JSON values to numbers, names, kinds and rules.
#include "src/policy/json_values.h"

#include <algorithm>

#include "src/policy/json_text.h"
#include "src/policy/nearest_name.h"

namespace rc {

using nlohmann::json;

std::string show(const json& value) {
  if (value.is_string()) return in_quotes(value.get_ref<const std::string&>());
  if (value.is_structured()) return value.is_array() ? "an array" : "an object";
  return value.dump();
}

namespace {

Status wrong_type(const json& value, const std::string& at, const char* wanted) {
  return argument_error(at, show(value) + ", must be " + wanted);
}

// The keys of a rule, in the order of rc_policy_rule.
const std::vector<std::string_view>& rule_keys() {
  static const auto* const keys = new std::vector<std::string_view>{"kind",
                                                                    "slot",
                                                                    "role",
                                                                    "first_layer",
                                                                    "n_layers",
                                                                    "chunk",
                                                                    "first_microbatch",
                                                                    "n_microbatches",
                                                                    "action",
                                                                    "tier",
                                                                    "codec",
                                                                    "group_layers",
                                                                    "group"};
  return *keys;
}

Status check_keys(const json& value, const std::string& at,
                  const std::vector<std::string_view>& known) {
  if (!value.is_object()) return wrong_type(value, at, "an object");
  for (const auto& [key, unused] : value.items()) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    return argument_error(
        at + pointer_token(key),
        format("unknown key %s%s", in_quotes(key).c_str(), did_you_mean(key, known).c_str()));
  }
  return ok_status();
}

// NULL where the key is absent or null.
const json* member(const json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

Status read_member(const json& object, const std::string& at, const char* key, uint64_t least,
                   uint32_t* out) {
  const json* value = member(object, key);
  if (value == nullptr) return ok_status();
  uint64_t number = 0;
  RC_TRY(read_count(*value, at + "/" + key, least, UINT32_MAX, &number));
  *out = static_cast<uint32_t>(number);
  return ok_status();
}

Status read_member(const json& object, const std::string& at, const char* key, std::string* out) {
  const json* value = member(object, key);
  return value == nullptr ? ok_status() : read_name(*value, at + "/" + key, out);
}

template <typename E>
Status read_enum_member(const json& object, const std::string& at, const char* key, int n, E* out) {
  const json* value = member(object, key);
  return value == nullptr ? ok_status() : read_enum(*value, at + "/" + key, n, out, nullptr);
}

}  // namespace

Status read_bool(const json& value, const std::string& at, bool* out) {
  if (!value.is_boolean()) return wrong_type(value, at, "true or false");
  *out = value.get<bool>();
  return ok_status();
}

Status read_count(const json& value, const std::string& at, uint64_t least, uint64_t most,
                  uint64_t* out) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    if (number >= least && number <= most) {
      *out = number;
      return ok_status();
    }
  }
  return wrong_type(value, at,
                    format("an integer from %llu to %llu", static_cast<unsigned long long>(least),
                           static_cast<unsigned long long>(most))
                        .c_str());
}

Status read_real(const json& value, const std::string& at, double* out) {
  if (!value.is_number()) return wrong_type(value, at, "a number");
  *out = value.get<double>();
  return ok_status();
}

Status read_name(const json& value, const std::string& at, std::string* out) {
  if (!value.is_string()) return wrong_type(value, at, "a string");
  *out = value.get<std::string>();
  return out->empty() ? wrong_type(value, at, "a name; null means \"not set\"") : ok_status();
}

Status check_array(const json& value, const std::string& at, uint32_t most) {
  if (!value.is_array()) return wrong_type(value, at, "an array");
  if (value.size() <= most) return ok_status();
  return argument_error(at, format("%zu entries, the limit is %u", value.size(), most));
}

Status read_names(const json& value, const std::string& at, std::vector<std::string>* out) {
  if (value.is_string()) return read_name(value, at, &out->emplace_back());
  RC_TRY(check_array(value, at));
  for (size_t i = 0; i < value.size(); ++i) {
    RC_TRY(read_name(value[i], at + format("/%zu", i), &out->emplace_back()));
  }
  return ok_status();
}

Status read_choice(const json& value, const std::string& at,
                   const std::vector<std::string_view>& choices, std::string_view rule,
                   std::string* out) {
  if (value.is_string()) {
    *out = value.get<std::string>();
    if (std::find(choices.begin(), choices.end(), *out) != choices.end()) return ok_status();
  }
  std::string message = show(value) + ", must be one of";
  for (const std::string_view choice : choices) message.append(" ").append(choice);
  if (value.is_string()) message += did_you_mean(*out, choices);
  if (!rule.empty()) message += " [" + std::string(rule) + "]";
  return argument_error(at, message);
}

Status read_kind(const json& value, const std::string& at, KindSpec* out) {
  if (value.is_string()) return read_name(value, at, &out->name);
  RC_TRY(check_keys(value, at, {"name", "discards_output"}));
  if (member(value, "name") == nullptr) return argument_error(at + "/name", "missing");
  RC_TRY(read_member(value, at, "name", &out->name));
  const json* discards = member(value, "discards_output");
  return discards == nullptr ? ok_status()
                             : read_bool(*discards, at + "/discards_output", &out->discards_output);
}

Status read_rule(const json& value, const std::string& at, RuleSpec* out) {
  RC_TRY(check_keys(value, at, rule_keys()));
  RC_TRY(read_member(value, at, "kind", &out->kind));
  RC_TRY(read_member(value, at, "slot", &out->slot));
  RC_TRY(read_enum_member(value, at, "role", 6, &out->role));
  RC_TRY(read_member(value, at, "first_layer", 0, &out->first_layer));
  RC_TRY(read_member(value, at, "n_layers", 1, &out->n_layers));
  if (member(value, "chunk") != nullptr) {
    RC_TRY(read_member(value, at, "chunk", 0, &out->chunk.emplace()));
  }
  out->by_microbatch = member(value, "first_microbatch") || member(value, "n_microbatches");
  RC_TRY(read_member(value, at, "first_microbatch", 0, &out->first_microbatch));
  RC_TRY(read_member(value, at, "n_microbatches", 1, &out->n_microbatches));
  if (member(value, "action") == nullptr) return argument_error(at + "/action", "missing");
  RC_TRY(read_enum_member(value, at, "action", 3, &out->action));
  RC_TRY(read_enum_member(value, at, "tier", 3, &out->tier));
  RC_TRY(read_enum_member(value, at, "codec", 3, &out->codec));
  RC_TRY(read_member(value, at, "group_layers", 1, &out->group_layers));
  return read_member(value, at, "group", &out->group);
}

}  // namespace rc
