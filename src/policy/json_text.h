// src/policy/json_text.h: JSON text to a tree, with limits, duplicate keys refused, and positions.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "src/status.h"

namespace rc {

// The text of a policy may be at most this long and this deeply nested.
inline constexpr size_t kMaxJsonBytes = size_t{16} << 20;
inline constexpr int kMaxJsonDepth = 16;

// A syntax error has line and column (both from 1, column in bytes) in its message and an empty
// field; a duplicate key has its pointer.
Status parse_json(std::string_view text, nlohmann::json* out);

// One reference token of an RFC 6901 pointer, "/" included.
std::string pointer_token(std::string_view key);

}  // namespace rc
