// src/policy/nearest_name_test.cc: distances, hints, and quoting of hostile text.
#include "src/policy/nearest_name.h"

#include <gtest/gtest.h>

namespace rc {
namespace {

TEST(NearestName, CountsEditsAndNeighbouringSwaps) {
  EXPECT_EQ(edit_distance("", ""), 0u);
  EXPECT_EQ(edit_distance("", "abc"), 3u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
  EXPECT_EQ(edit_distance("ab", "ba"), 1u);
  EXPECT_EQ(edit_distance("layernrom", "layernorm"), 1u);
  EXPECT_EQ(edit_distance(std::string(1000, 'a'), std::string(1000, 'b')), 64u);
  EXPECT_EQ(edit_distance("flaw", "lawn"), edit_distance("lawn", "flaw"));
}

TEST(NearestName, IsEmptyWhereNothingIsNear) {
  EXPECT_EQ(nearest_name("zzzz", {"mlp", "moe"}), "");
  EXPECT_EQ(nearest_name("", {"mlp", "moe"}), "");
  EXPECT_EQ(nearest_name("mpl", {"moe", "mlp"}), "mlp");
  EXPECT_EQ(did_you_mean("mpl", {"mlp"}), ", did you mean \"mlp\"?");
  EXPECT_EQ(did_you_mean("zzzz", {"mlp"}), "");
}

TEST(NearestName, QuotesOnlyWhatPrints) {
  EXPECT_EQ(in_quotes("a\nb\x01\xff"), "\"a?b??\"");
  EXPECT_EQ(in_quotes(std::string(100, 'x')), "\"" + std::string(48, 'x') + "...\"");
}

}  // namespace
}  // namespace rc
