// src/policy/rule_table_test.cc: POLICY_RULES.md, the rules in the code and the tests' names agree.
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <set>

#include "src/policy/validate.h"

namespace rc {
namespace {

struct Row {
  std::string line, condition, verdict, reason;
};

std::string trimmed(const std::string& text) {
  const size_t first = text.find_first_not_of(' ');
  if (first == std::string::npos) return "";
  return text.substr(first, text.find_last_not_of(' ') - first + 1);
}

// The rows with five cells, by id.
std::map<std::string, Row> table_in_markdown() {
  std::map<std::string, Row> rows;
  std::ifstream file(RC_POLICY_RULES_MD);
  EXPECT_TRUE(file.is_open()) << RC_POLICY_RULES_MD;
  std::string line;
  while (std::getline(file, line)) {
    std::vector<std::string> cells;
    for (size_t from = line.find('|'); from != std::string::npos;) {
      const size_t to = line.find('|', from + 1);
      if (to == std::string::npos) break;
      cells.push_back(trimmed(line.substr(from + 1, to - from - 1)));
      from = to;
    }
    if (cells.size() != 5 || cells[0] == "id" || cells[0] == "---") continue;
    const bool fresh = rows.emplace(cells[0], Row{cells[1], cells[2], cells[3], cells[4]}).second;
    EXPECT_TRUE(fresh) << cells[0] << " stands twice";
  }
  return rows;
}

const char* text_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::kSame:
      return "same";
    case Verdict::kRelaxed:
      return "relaxed";
    case Verdict::kNotApplicable:
      return "not applicable";
  }
  return "?";
}

TEST(RuleTable, EqualsTheTableBesideTheHeader) {
  const auto rows = table_in_markdown();
  std::set<std::string> ids;
  for (const MegatronRule& rule : megatron_rules()) {
    EXPECT_TRUE(ids.insert(rule.id).second) << rule.id;
    const auto row = rows.find(rule.id);
    ASSERT_NE(row, rows.end()) << rule.id;
    EXPECT_EQ(row->second.verdict, text_of(rule.verdict)) << rule.id;
    EXPECT_FALSE(row->second.condition.empty()) << rule.id;
    if (rule.verdict != Verdict::kSame) {
      EXPECT_FALSE(row->second.reason.empty()) << rule.id;
    }
  }
  EXPECT_EQ(rows.size(), ids.size());
  for (const auto& [id, row] : rows) EXPECT_EQ(ids.count(id), 1u) << id;
}

// Ids in the names of the tests of suite PolicyRules, which stand in this program.
TEST(RuleTable, EveryRuleThatAppliesHasItsTest) {
  std::set<std::string> tested;
  const auto* unit_test = testing::UnitTest::GetInstance();
  for (int s = 0; s < unit_test->total_test_suite_count(); ++s) {
    const auto* suite = unit_test->GetTestSuite(s);
    if (std::string(suite->name()) != "PolicyRules") continue;
    for (int t = 0; t < suite->total_test_count(); ++t) {
      const std::string name = suite->GetTestInfo(t)->name();
      tested.insert(name.substr(0, name.find('_')));
    }
  }
  std::set<std::string> applicable;
  for (const MegatronRule& rule : megatron_rules()) {
    if (rule.verdict != Verdict::kNotApplicable) applicable.insert(rule.id);
  }
  EXPECT_EQ(tested, applicable);
}

// No setting of a rule that does not apply is taken and then ignored.
class NotApplicable : public testing::TestWithParam<MegatronRule> {};

const std::map<std::string, std::string>& foreign_settings() {
  static const std::map<std::string, std::string> settings = {
      {"TC2007", "transformer_engine_version"},
      {"TC2176c", "delta_offload_bytes_across_pp_ranks"},
      {"TC2197", "gdp_num_chunk_states_to_recompute"},
      {"TC2210b", "moe_expert_rank_capacity_factor"},
      {"TC2908", "gtp_remat_size"},
      {"TC2963", "cuda_graph_warmup_steps"},
      {"TC3054", "moe_flex_dispatcher_backend"},
      {"ARG1410d", "torch_version"},
      {"ARG1935", "transformer_impl"},
      {"RND639", "use_reentrant"},
      {"TEX3682", "save_original_input"},
      {"TEL326", "fp8_save_original_input"},
  };
  return settings;
}

TEST_P(NotApplicable, ItsSettingIsNoKeyOfTheJsonForm) {
  const auto setting = foreign_settings().find(GetParam().id);
  ASSERT_NE(setting, foreign_settings().end());
  std::shared_ptr<const Policy> policy;
  const Status status =
      create_policy_json("{\"rcore_policy\": 1, \"" + setting->second + "\": 1}", &policy);
  EXPECT_EQ(status.code(), RC_E_ARGUMENT);
  EXPECT_EQ(status.field(), "/" + setting->second);
}

std::vector<MegatronRule> not_applicable() {
  std::vector<MegatronRule> rules;
  for (const MegatronRule& rule : megatron_rules()) {
    if (rule.verdict == Verdict::kNotApplicable) rules.push_back(rule);
  }
  return rules;
}

INSTANTIATE_TEST_SUITE_P(PolicyRules, NotApplicable, testing::ValuesIn(not_applicable()),
                         [](const auto& rule) { return std::string(rule.param.id); });

}  // namespace
}  // namespace rc
