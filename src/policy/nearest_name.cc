// src/policy/nearest_name.cc: edit distance and the choice of a near name.
#include "src/policy/nearest_name.h"

#include <algorithm>
#include <array>

namespace rc {
namespace {
constexpr size_t kCut = 64;
}

size_t edit_distance(std::string_view a, std::string_view b) {
  a = a.substr(0, kCut);
  b = b.substr(0, kCut);
  std::array<std::array<size_t, kCut + 1>, 3> rows;
  for (size_t j = 0; j <= b.size(); ++j) rows[0][j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    auto& row = rows[i % 3];
    const auto& above = rows[(i - 1) % 3];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t change = a[i - 1] == b[j - 1] ? 0 : 1;
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + change});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], rows[(i - 2) % 3][j - 2] + 1);
      }
    }
  }
  return rows[a.size() % 3][b.size()];
}

std::string nearest_name(std::string_view text, const std::vector<std::string_view>& known) {
  std::string_view best;
  size_t best_distance = kCut + 1;
  for (const std::string_view name : known) {
    const size_t shorter = std::min(text.size(), name.size());
    const bool prefix = shorter >= 3 && text.substr(0, shorter) == name.substr(0, shorter);
    const size_t distance = edit_distance(text, name);
    const size_t limit = (std::max(text.size(), name.size()) + 2) / 3;
    if (distance > limit && !prefix) continue;
    if (distance < best_distance) {
      best = name;
      best_distance = distance;
    }
  }
  return std::string(best);
}

std::string did_you_mean(std::string_view text, const std::vector<std::string_view>& known) {
  const std::string name = nearest_name(text, known);
  return name.empty() ? std::string() : ", did you mean \"" + name + "\"?";
}

std::string in_quotes(std::string_view text) {
  std::string result = "\"";
  for (const char c : text.substr(0, 48)) result += (c >= 0x20 && c < 0x7f) ? c : '?';
  if (text.size() > 48) result += "...";
  return result + "\"";
}

}  // namespace rc
