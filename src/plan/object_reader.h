// src/plan/object_reader.h: ObjectReader, one JSON object read member by member, nothing left over.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "src/status.h"

namespace rc::plan {

// The first failure sticks: readers are called one after the other, finish() tells. A member that
// is absent or null leaves its target as it is; a member that nobody read is refused with the
// nearest known key.
class ObjectReader {
 public:
  ObjectReader(const nlohmann::json& object, std::string at);

  const nlohmann::json* find(const char* key);
  void read(const char* key, bool* out);
  void read(const char* key, uint32_t* out, uint32_t least = 0);
  void read(const char* key, uint64_t* out);
  void read(const char* key, int64_t* out);
  void read(const char* key, double* out);
  void read(const char* key, std::string* out);
  // The index of the value in `names`.
  void choose(const char* key, const std::vector<std::string_view>& names, int* out);
  void fail(Status status);
  bool failed() const { return !status_.ok(); }
  std::string pointer(const char* key) const { return at_ + "/" + key; }
  Status finish();

 private:
  const nlohmann::json& object_;
  std::string at_;
  std::vector<std::string_view> known_;
  Status status_;
};

}  // namespace rc::plan
