// src/region/report_test.cc: rc_report names dead rules, sites that freed nothing, inputs kept by
// force.
#include <nlohmann/json.hpp>

#include "src/region/testing_model.h"

namespace rc::testing {
namespace {

using nlohmann::json;

struct Report : ::testing::Test {
  json read() { return json::parse(host.report()); }
  const json* row(const json& report, const std::string& module, uint32_t layer) {
    for (const json& r : report["modules"])
      if (r["module"] == module && r["layer"] == layer) return &r;
    return nullptr;
  }
  void one_region(TestModule& m, const std::function<void(rc_region*)>& body) {
    rc_region* r = host.begin(m);
    body(r);
    ASSERT_EQ(rc_region_end(r, nullptr), RC_OK) << last_message();
    ASSERT_GE(rc_region_discard(r, nullptr), 0);
    ASSERT_EQ(replay(r), RC_OK) << last_message();
    rc_region_release(r, nullptr);
  }
  Host host;
};

TEST_F(Report, CountsPerModule) {
  host.recompute({"core_attn"});
  Model model(host, 2);
  rc_step* step = host.step();
  model.forward(step, 0, 1);
  model.backward(0);
  host.end_step(step);
  const json report = read();
  for (uint32_t l = 0; l < 2; ++l) {
    const json* attention = row(report, "core_attn", l);
    ASSERT_NE(attention, nullptr);
    EXPECT_EQ((*attention)["regions"], 1);
    EXPECT_EQ((*attention)["replays"], 1);
    EXPECT_EQ((*attention)["dropped_bytes"], 5000);
    EXPECT_EQ((*attention)["regenerated_bytes"], 5000);
  }
  EXPECT_EQ(host.stats().dropped_bytes, 10000u);
  EXPECT_EQ(host.stats().regenerated_bytes, 10000u);
  EXPECT_TRUE(report["dead_rules"].empty());
  EXPECT_TRUE(report["freed_nothing"].empty());
  EXPECT_TRUE(report["kept_by_force"].empty());
}

TEST_F(Report, NamesARuleThatMatchedNoSite) {
  rc_policy_rule rules[2] = {rc_policy_rule_init(), rc_policy_rule_init()};
  rules[0].kind = "core_attn";
  rules[0].action = RC_ACTION_RECOMPUTE;
  rules[1].kind = "core_attn";
  rules[1].first_layer = 5;
  rules[1].n_layers = 1;
  rules[1].action = RC_ACTION_RECOMPUTE;
  rc_policy_desc desc = rc_policy_desc_init();
  desc.num_layers = 8;
  desc.rules = rules;
  desc.n_rules = 2;
  desc.rule_stride = sizeof rules[0];
  host.configure(desc);
  TestModule& m = host.module("core_attn", 1, {saved("p")}, [](const rc_replay_args* args) {
    alloc(args->region, 0, 10);
    return RC_OK;
  });
  one_region(m, [](rc_region* r) { alloc(r, 0, 10); });
  const json report = read();
  ASSERT_EQ(report["dead_rules"].size(), 1u) << report.dump();
  EXPECT_EQ(report["dead_rules"][0]["rule"], 1);
  ASSERT_EQ(rc_context_configure(host.context, nullptr), RC_OK);
  EXPECT_TRUE(read()["dead_rules"].empty());
  EXPECT_EQ((*row(read(), "core_attn", 1))["regions"], 0);  // since the last configure
}

TEST_F(Report, NamesASiteThatFreedNothing) {
  host.recompute({"mlp"});
  TestModule& m = host.module("mlp", 2, {in("x"), out("y")});
  one_region(m, [](rc_region* r) { alloc(r, 1, 10); });
  const json report = read();
  ASSERT_EQ(report["freed_nothing"].size(), 1u) << report.dump();
  EXPECT_EQ(report["freed_nothing"][0]["layer"], 2);
}

TEST_F(Report, ASiteWhoseNestedRegionsWentIsNotOneOfThese) {
  host.recompute({"mlp"});
  TestModule& inner = host.module("core_attn", 0, {saved("p")});
  rc_region* child = nullptr;
  const auto body = [&](rc_region* r) {
    rc_region_release(child, nullptr);
    child = host.begin(inner, {.parent = r});
    alloc(child, 0, 10);
    EXPECT_EQ(rc_region_end(child, nullptr), RC_OK);
  };
  TestModule& m = host.module("mlp", 0, {in("x")}, [&](const rc_replay_args* args) {
    body(args->region);
    return RC_OK;
  });
  one_region(m, body);
  rc_region_release(child, nullptr);
  EXPECT_TRUE(read()["freed_nothing"].empty()) << read().dump();
}

TEST_F(Report, NamesAnInputThatWasKeptByForce) {
  host.full(RC_METHOD_UNIFORM, 2, 2);
  TestModule& m = host.module("layer", 1, {in("x"), saved("s")}, [](const rc_replay_args* args) {
    alloc(args->region, 1, 10);
    return RC_OK;
  });
  char input[10] = {};
  one_region(m, [&](rc_region* r) {
    EXPECT_EQ(save_bytes(r, 0, input, 10), RC_OK);  // no layer before it is known
    alloc(r, 1, 10);
  });
  const json report = read();
  ASSERT_EQ(report["kept_by_force"].size(), 1u) << report.dump();
  EXPECT_EQ(report["kept_by_force"][0]["layer"], 1);
}

TEST_F(Report, IsCutAtTheCapacity) {
  uint64_t needed = 0;
  char small[8];
  std::memset(small, 'x', sizeof small);
  EXPECT_EQ(rc_report(host.context, small, 5, &needed), RC_OK);
  EXPECT_EQ(std::strlen(small), 4u);
  EXPECT_EQ(needed, host.report().size() + 1);
  EXPECT_EQ(rc_report(host.context, nullptr, 5, &needed), RC_E_ARGUMENT);
}

}  // namespace
}  // namespace rc::testing
