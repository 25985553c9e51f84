// src/plan/object_reader.cc: see object_reader.h.
#include "src/plan/object_reader.h"

#include <algorithm>

#include "src/policy/json_text.h"
#include "src/policy/json_values.h"
#include "src/policy/nearest_name.h"

namespace rc::plan {

ObjectReader::ObjectReader(const nlohmann::json& object, std::string at)
    : object_(object), at_(std::move(at)) {
  if (!object.is_object()) status_ = argument_error(at_, show(object) + ", must be an object");
}

const nlohmann::json* ObjectReader::find(const char* key) {
  known_.push_back(key);
  if (!status_.ok()) return nullptr;
  const auto found = object_.find(key);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

void ObjectReader::fail(Status status) {
  if (status_.ok()) status_ = std::move(status);
}

void ObjectReader::read(const char* key, bool* out) {
  if (const auto* value = find(key)) fail(read_bool(*value, pointer(key), out));
}

void ObjectReader::read(const char* key, uint32_t* out, uint32_t least) {
  const auto* value = find(key);
  if (value == nullptr) return;
  uint64_t number = 0;
  Status status = read_count(*value, pointer(key), least, UINT32_MAX, &number);
  if (status.ok()) *out = static_cast<uint32_t>(number);
  fail(std::move(status));
}

void ObjectReader::read(const char* key, uint64_t* out) {
  if (const auto* value = find(key)) fail(read_count(*value, pointer(key), 0, INT64_MAX, out));
}

void ObjectReader::read(const char* key, int64_t* out) {
  const auto* value = find(key);
  if (value == nullptr) return;
  uint64_t number = 0;
  Status status = read_count(*value, pointer(key), 0, INT64_MAX, &number);
  if (status.ok()) *out = static_cast<int64_t>(number);
  fail(std::move(status));
}

void ObjectReader::read(const char* key, double* out) {
  if (const auto* value = find(key)) fail(read_real(*value, pointer(key), out));
}

void ObjectReader::read(const char* key, std::string* out) {
  if (const auto* value = find(key)) fail(read_name(*value, pointer(key), out));
}

void ObjectReader::choose(const char* key, const std::vector<std::string_view>& names, int* out) {
  const auto* value = find(key);
  if (value == nullptr) return;
  std::string name;
  Status status = read_choice(*value, pointer(key), names, "", &name);
  if (status.ok())
    *out = static_cast<int>(std::find(names.begin(), names.end(), name) - names.begin());
  fail(std::move(status));
}

Status ObjectReader::finish() {
  if (!status_.ok()) return std::move(status_);
  for (const auto& [key, unused] : object_.items()) {
    if (std::find(known_.begin(), known_.end(), key) != known_.end()) continue;
    return argument_error(
        at_ + pointer_token(key),
        format("unknown key %s%s", in_quotes(key).c_str(), did_you_mean(key, known_).c_str()));
  }
  return ok_status();
}

}  // namespace rc::plan
