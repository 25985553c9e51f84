// src/policy/json_text.cc: the guarded JSON parser.
#include "src/policy/json_text.h"

#include <new>
#include <set>
#include <vector>

#include "src/policy/nearest_name.h"

namespace rc {
namespace {

using nlohmann::json;

std::string position(std::string_view text, size_t byte) {
  size_t line = 1, column = 1;
  for (size_t i = 0; i < byte && i < text.size(); ++i) {
    ++column;
    if (text[i] == '\n') {
      ++line;
      column = 1;
    }
  }
  return format("line %zu, column %zu", line, column);
}

// Runs before the parser, so that no tree deeper than the limit is ever built, copied or destroyed.
Status check_depth(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
      continue;
    }
    if (c == '"') in_string = true;
    if (c == '{' || c == '[') ++depth;
    if (c == '}' || c == ']') --depth;
    if (depth > kMaxJsonDepth) {
      return argument_error(
          "", format("%s: nested deeper than %d levels", position(text, i).c_str(), kMaxJsonDepth));
    }
  }
  return ok_status();
}

// Follows the parser's events and remembers the pointer of the first key that an object has twice.
class DuplicateKeys {
 public:
  void on_event(json::parse_event_t event, const json& parsed) {
    switch (event) {
      case json::parse_event_t::object_start:
      case json::parse_event_t::array_start:
        open_.push_back({event == json::parse_event_t::object_start, 0, {}, {}});
        break;
      case json::parse_event_t::object_end:
      case json::parse_event_t::array_end:
        open_.pop_back();
        if (!open_.empty()) ++open_.back().index;
        break;
      case json::parse_event_t::value:
        if (!open_.empty()) ++open_.back().index;
        break;
      case json::parse_event_t::key:
        open_.back().key = parsed.get<std::string>();
        if (!open_.back().keys.insert(open_.back().key).second && first_.empty()) {
          first_ = pointer();
        }
        break;
    }
  }
  const std::string& first() const { return first_; }

 private:
  struct Level {
    bool object;
    size_t index;  // of the next value
    std::string key;
    std::set<std::string> keys;
  };
  std::string pointer() const {
    std::string path;
    for (const Level& level : open_) {
      path += level.object ? pointer_token(level.key) : format("/%zu", level.index);
    }
    return path;
  }
  std::vector<Level> open_;
  std::string first_;
};

// "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error ..." -> "syntax
// error ...".
std::string reason_of(const std::string& what) {
  const size_t colon = what.find(": ");
  std::string reason = colon == std::string::npos ? what : what.substr(colon + 2);
  for (char& c : reason) {
    if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) > 0x7e) c = '?';
  }
  return reason.substr(0, 200);
}

}  // namespace

std::string pointer_token(std::string_view key) {
  std::string token = "/";
  for (const char c : key) {
    if (c == '~') {
      token += "~0";
    } else if (c == '/') {
      token += "~1";
    } else {
      token += c;
    }
  }
  return token;
}

Status parse_json(std::string_view text, json* out) {
  if (text.size() > kMaxJsonBytes) {
    return argument_error("", format("%zu bytes, the limit is %zu", text.size(), kMaxJsonBytes));
  }
  RC_TRY(check_depth(text));
  try {
    DuplicateKeys duplicates;
    *out = json::parse(text.begin(), text.end(), [&](int, json::parse_event_t event, json& parsed) {
      duplicates.on_event(event, parsed);
      return true;
    });
    if (duplicates.first().empty()) return ok_status();
    return argument_error(duplicates.first(), "the object has this key twice");
  } catch (const json::parse_error& error) {
    // `byte` counts what was read, the offending one included.
    const size_t byte = error.byte == 0 ? 0 : error.byte - 1;
    return argument_error("", position(text, byte) + ": " + reason_of(error.what()));
  } catch (const json::exception& error) {
    return argument_error("", reason_of(error.what()));
  } catch (const std::bad_alloc&) {
    return Status(RC_E_MEMORY, "", "no memory for the JSON tree");
  }
}

}  // namespace rc
