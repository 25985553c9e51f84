// src/policy/rule_table.cc: the ids and verdicts of the rules in POLICY_RULES.md.
#include "src/policy/validate.h"

namespace rc {

const std::vector<MegatronRule>& megatron_rules() {
  using enum Verdict;
  static const auto* const rules = new std::vector<MegatronRule>{
      // The configuration object.
      {"TC1884", kRelaxed},        {"TC1891", kRelaxed},       {"TC1896", kRelaxed},
      {"TC1902", kSame},           {"TC1909", kSame},          {"TC1913", kSame},
      {"TC1919", kSame},           {"TC1926", kSame},          {"TC1934", kSame},
      {"TC1958", kRelaxed},        {"TC1964", kSame},          {"TC1969", kSame},
      {"TC1975", kSame},           {"TC1983", kSame},          {"TC1991", kSame},
      {"TC2002", kSame},           {"TC2007", kNotApplicable}, {"TC2014a", kSame},
      {"TC2014b", kSame},          {"TC2028", kSame},          {"TC2031", kSame},
      {"TC2036", kSame},           {"TC2045", kRelaxed},       {"TC2053", kSame},
      {"TC2063", kRelaxed},        {"TC2069", kRelaxed},       {"TC2092", kRelaxed},
      {"TC2128", kSame},           {"TC2131", kSame},          {"TC2143", kRelaxed},
      {"TC2148", kSame},           {"TC2154", kSame},          {"TC2165", kSame},
      {"TC2176a", kSame},          {"TC2176b", kSame},         {"TC2176c", kNotApplicable},
      {"TC2186a", kSame},          {"TC2186b", kSame},         {"TC2197", kNotApplicable},
      {"TC2210a", kSame},          {"TC2210b", kNotApplicable}, {"TC2210c", kSame},
      {"TC2800", kSame},           {"TC2855", kSame},          {"TC2862", kSame},
      {"TC2878", kRelaxed},        {"TC2886", kRelaxed},       {"TC2900", kRelaxed},
      {"TC2908", kNotApplicable},  {"TC2931a", kSame},         {"TC2931b", kSame},
      {"TC2931c", kSame},          {"TC2960", kSame},          {"TC2963", kNotApplicable},
      {"TC2967", kRelaxed},        {"TC3021a", kSame},         {"TC3021b", kSame},
      {"TC3021c", kSame},          {"TC3021d", kSame},         {"TC3054", kNotApplicable},
      // The command line.
      {"ARG601", kSame},           {"ARG1410a", kSame},        {"ARG1410b", kRelaxed},
      {"ARG1410c", kSame},         {"ARG1410d", kNotApplicable}, {"ARG1425", kSame},
      {"ARG1935", kNotApplicable},
      // While the model runs.
      {"REC183", kSame},           {"RND639", kNotApplicable}, {"TL481", kRelaxed},
      {"TB643", kSame},            {"MTP1621a", kSame},        {"MTP1621b", kSame},
      {"MTP1621c", kSame},         {"TEX3682", kNotApplicable}, {"TEL326", kNotApplicable},
      {"CMB344", kSame},
  };
  return *rules;
}

}  // namespace rc
