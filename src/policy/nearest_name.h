// src/policy/nearest_name.h: the known name nearest to a mistyped one, for "did you mean ...".
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace rc {

// Levenshtein distance with adjacent transpositions (optimal string alignment). Both texts are cut
// at 64 bytes.
size_t edit_distance(std::string_view a, std::string_view b);

// Empty where nothing is near: the distance must be at most a third of the longer text, rounded up,
// or one text must begin with the other (at least three bytes).
std::string nearest_name(std::string_view text, const std::vector<std::string_view>& known);

// `, did you mean "x"?`, or the empty string.
std::string did_you_mean(std::string_view text, const std::vector<std::string_view>& known);

// The text in quotes, fit for a one-line message: cut at 48 bytes, bytes outside of printable ASCII
// shown as '?'.
std::string in_quotes(std::string_view text);

}  // namespace rc
