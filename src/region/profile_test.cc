// src/region/profile_test.cc: a profiled step gives what any step gives, and knows what replays
// take.
#include "src/region/profile.h"

#include "src/region/testing_model.h"

namespace rc::testing {
namespace {

void busy_ns(uint64_t ns) {
  const uint64_t end = now_ns() + ns;
  while (now_ns() < end) continue;
}

rc_step_report profiled(Host& host, Model& model, rc_flags flags = RC_STEP_PROFILE) {
  rc_step* step = host.step(RC_PHASE_FORWARD, flags);
  for (uint32_t mb = 0; mb < 2; ++mb) model.forward(step, mb, static_cast<int>(mb));
  for (uint32_t mb : {1u, 0u}) model.backward(mb);
  return host.end_step(step);
}

rc_prediction predicted(Host& host, rc_policy* policy) {
  rc_prediction p = rc_prediction_init();
  EXPECT_EQ(rc_predict(host.context, policy, &p), RC_OK) << last_message();
  return p;
}

rc_policy* selective(std::vector<const char*> kinds) {
  rc_policy_desc desc = rc_policy_desc_init();
  desc.granularity = RC_GRANULARITY_SELECTIVE;
  desc.recompute_modules = kinds.data();
  desc.n_recompute_modules = static_cast<uint32_t>(kinds.size());
  return Host::make_policy(desc);
}

rc_policy* uniform(uint32_t layers) {
  rc_policy_desc desc = rc_policy_desc_init();
  desc.granularity = RC_GRANULARITY_FULL;
  desc.method = RC_METHOD_UNIFORM;
  desc.recompute_num_layers = layers;
  desc.num_layers = 4;
  return Host::make_policy(desc);
}

class ProfiledStep : public ::testing::TestWithParam<int> {
 protected:
  // Under keep-everything, and under two policies: memory may not allow the first.
  void configure(Host& host) {
    if (GetParam() == 1) host.full(RC_METHOD_UNIFORM, 1, 4);
    if (GetParam() == 2) host.recompute({"layernorm", "mlp"});
  }
};

TEST_P(ProfiledStep, LeavesEveryByteDrawAndDecisionAsItIs) {
  for (const rc_flags verify : {rc_flags{0}, RC_CONTEXT_VERIFY}) {
    Host plain, host(verify);
    configure(plain);
    configure(host);
    Model a(plain, 4), b(host, 4);
    for (int i = 0; i < 3; ++i) {
      const rc_step_report expected = profiled(plain, a, 0);
      const rc_step_report got = profiled(host, b, i == 1 ? RC_STEP_PROFILE : 0);
      if (i == 1) continue;
      EXPECT_EQ(got.replays, expected.replays);
      EXPECT_EQ(got.peak_bytes, expected.peak_bytes);
      EXPECT_EQ(host.live(), 0u);
    }
    EXPECT_EQ(a.draws, b.draws);
    EXPECT_EQ(a.checked, b.checked);  // each of them compared with its forward
    EXPECT_LE(host.stats().replays, plain.stats().replays);  // trials have made some unnecessary
  }
}

TEST_P(ProfiledStep, PredictsWhatALoggedStepPredicts) {
  Host logged, host;
  configure(logged);
  configure(host);
  Model a(logged, 4), b(host, 4);
  profiled(logged, a, RC_STEP_LOG);
  profiled(host, b);
  for (rc_policy* policy : {selective({"core_attn"}), selective({"layernorm", "core_attn", "mlp"}),
                            uniform(1), uniform(3)}) {
    const rc_prediction x = predicted(logged, policy), y = predicted(host, policy);
    EXPECT_EQ(x.peak_bytes, y.peak_bytes);
    EXPECT_EQ(x.replays, y.replays);
    EXPECT_EQ(x.dropped_bytes, y.dropped_bytes);
    EXPECT_EQ(x.arena_bytes, y.arena_bytes);
    EXPECT_EQ(x.replay_ns, 0u);
    EXPECT_EQ(x.step_ns, 0u);
    EXPECT_GT(y.replay_ns, 0u);
    EXPECT_GT(y.step_ns, y.replay_ns);
    rc_policy_release(policy);
  }
  EXPECT_EQ(predicted(host, nullptr).replay_ns, 0u);
}
INSTANTIATE_TEST_SUITE_P(Policies, ProfiledStep, ::testing::Values(0, 1, 2));

TEST(ProfiledStepOnStreams, IsOrderedLikeAnyOther) {
  Host host(FakeDevice::Execution::kEager);
  Model model(host, 3);
  const rc_stream stream = FakeDevice::stream(1);
  rc_step* step = host.step(RC_PHASE_FORWARD, RC_STEP_PROFILE);
  model.forward(step, 0, 1, stream);
  model.backward(0, stream);
  host.end_step(step, stream);
  EXPECT_GT(model.checked, 0u);
}

// A module whose slots take known times: a 4 ms, b 1 ms, c next to nothing.
struct Timed {
  explicit Timed(Host& host, const char* kind = "core_attn", uint32_t layer = 0)
      : module(host.module(kind, layer, {in("x"), saved("a"), saved("b"), saved("c")},
                           [this](const rc_replay_args* args) { return run(args->region); })) {}
  rc_status run(rc_region* r) {
    ++runs;
    if (alloc(r, 1, 40000)) busy_ns(4'000'000);
    if (alloc(r, 2, 40000)) busy_ns(1'000'000);
    alloc(r, 3, 16);
    return RC_OK;
  }
  rc_region* forward(Host& host, rc_step* step, uint32_t microbatch) {
    rc_region* r = host.begin(module, {.step = step, .microbatch = microbatch});
    char x[8] = {};
    EXPECT_EQ(save_bytes(r, 0, x, sizeof x), RC_OK);
    run(r);
    EXPECT_EQ(rc_region_end(r, nullptr), RC_OK);
    return r;
  }
  int runs = 0;
  TestModule& module;
};

rc_policy* rules(std::vector<const char*> slots) {
  std::vector<rc_policy_rule> lines;
  for (const char* name : slots) {
    lines.push_back(rc_policy_rule_init());
    lines.back().kind = "core_attn";
    lines.back().slot = name;
    lines.back().action = RC_ACTION_RECOMPUTE;
  }
  rc_policy_desc desc = rc_policy_desc_init();
  desc.rules = lines.data();
  desc.n_rules = static_cast<uint32_t>(lines.size());
  desc.rule_stride = sizeof(rc_policy_rule);
  return Host::make_policy(desc);
}

TEST(Profile, MeasuresEachLargeSlotAloneAndAllTogether) {
  Host host;
  Timed timed(host);
  rc_step* step = host.step(RC_PHASE_FORWARD, RC_STEP_PROFILE);
  rc_region* r = timed.forward(host, step, 0);
  EXPECT_EQ(replay(r), RC_OK);
  const int runs = timed.runs;
  EXPECT_EQ(runs, 1 + 3 * 2);  // the forward; all, a, b: twice each
  EXPECT_EQ(replay(r), RC_OK);
  EXPECT_EQ(timed.runs, runs);  // once a region
  rc_region_release(r, nullptr);
  EXPECT_EQ(host.end_step(step).replays, 0u);
  const auto ms = [&](std::vector<const char*> slots) {
    rc_policy* policy = rules(slots);
    const rc_prediction p = predicted(host, policy);
    rc_policy_release(policy);
    EXPECT_EQ(p.replays, 1u);
    return double(p.replay_ns) * 1e-6;
  };
  // What was busy for so long took no less, however busy the machine is.
  EXPECT_GE(ms({"a", "b", "c"}), 5.0);
  EXPECT_GE(ms({"a"}), 4.0);
  EXPECT_GE(ms({"b"}), 1.0);
  EXPECT_NE(ms({"a"}), ms({"a", "b", "c"}));
  EXPECT_EQ(ms({"c"}), ms({"a", "b", "c"}));  // goes with the rest: no run made it alone
  EXPECT_EQ(ms({"a", "c"}), ms({"a", "b", "c"}));
}

TEST(Profile, TriesTwoRegionsOfAModuleAndTakesWhatIsTypical) {
  Host host;
  Timed timed(host);
  rc_step* step = host.step(RC_PHASE_FORWARD, RC_STEP_PROFILE);
  std::vector<rc_region*> regions;
  for (uint32_t mb = 0; mb < 4; ++mb) regions.push_back(timed.forward(host, step, mb));
  for (rc_region* r : regions) {
    EXPECT_EQ(replay(r), RC_OK);
    rc_region_release(r, nullptr);
  }
  EXPECT_EQ(timed.runs, 4 + 2 * 6);
  host.end_step(step);
  rc_policy* policy = rules({"a", "b", "c"});
  const rc_prediction p = predicted(host, policy);
  EXPECT_GE(p.replay_ns, 4u * 5'000'000u);
  EXPECT_EQ(p.replay_ns % 4, 0u);  // all four cost the same
  rc_policy_release(policy);
}

// Its memory is written over by the trial, and held by the reader.
TEST(Profile, WhatAFailingTrialHasSpoiltIsMadeAgainForItsReadersToo) {
  constexpr uint64_t kBytes = 1000;
  Host host;
  bool fails = true;
  TestModule& m =
      host.module("mlp", 0, {in("x"), saved("s"), saved("view")}, [&](const rc_replay_args* args) {
        char* data = nullptr;
        for (uint32_t i = 0; i < args->n_missing; ++i) {
          if (args->missing[i] == 1) data = alloc(args->region, 1, kBytes);
          if (args->missing[i] == 2) EXPECT_EQ(save_bytes(args->region, 2, data, kBytes), RC_OK);
        }
        if (data) fill(data, kBytes, fails ? 77 : 2);
        return fails ? static_cast<rc_status>(-1234) : RC_OK;
      });
  rc_step* step = host.step(RC_PHASE_FORWARD, RC_STEP_PROFILE);
  rc_region* r = host.begin(m, {.step = step});
  char* data = alloc(r, 1, kBytes);
  fill(data, kBytes, 2);
  EXPECT_EQ(save_bytes(r, 2, data, kBytes), RC_OK);
  ASSERT_EQ(rc_region_end(r, nullptr), RC_OK);
  rc_region* reader = host.begin(m, {.step = step});
  EXPECT_EQ(save_link(reader, 0, r, 1), RC_OK);
  ASSERT_EQ(rc_region_end(reader, nullptr), RC_OK);
  EXPECT_EQ(static_cast<int>(replay(r)), -1234);
  EXPECT_EQ(try_view(r, 1), RC_E_STATE);
  EXPECT_EQ(try_view(reader, 0), RC_E_STATE);
  fails = false;
  EXPECT_EQ(replay(r), RC_OK) << last_message();
  for (uint32_t slot : {1u, 2u}) EXPECT_TRUE(filled(view(r, slot), kBytes, 2));
  EXPECT_EQ(replay(reader), RC_OK) << last_message();
  EXPECT_TRUE(filled(view(reader, 0), kBytes, 2));
  EXPECT_EQ(host.live(), kBytes);
  rc_region_release(r, nullptr);
  rc_region_release(reader, nullptr);
  host.end_step(step);
  EXPECT_EQ(host.live(), 0u);
}

TEST(Profile, AFailingTrialIsAFailingReplay) {
  Host host;
  bool fail = false;
  TestModule& m = host.module("mlp", 0, {in("x"), saved("h")}, [&](const rc_replay_args* args) {
    char* to = alloc(args->region, 1, 100);
    if (to) fill(to, 100, fail ? 4 : 3);
    return fail ? RC_E_HOST : RC_OK;
  });
  rc_step* step = host.step(RC_PHASE_FORWARD, RC_STEP_PROFILE);
  rc_region* r = host.begin(m, {.step = step});
  char x[8] = {};
  EXPECT_EQ(save_bytes(r, 0, x, sizeof x), RC_OK);
  fill(alloc(r, 1, 100), 100, 3);
  EXPECT_EQ(rc_region_end(r, nullptr), RC_OK);
  fail = true;
  EXPECT_EQ(replay(r), RC_E_HOST);
  EXPECT_EQ(state(r), RC_REGION_EMPTY);  // what it left is not to be trusted
  fail = false;
  EXPECT_EQ(replay(r), RC_OK);
  EXPECT_TRUE(filled(view(r, 1), 100, 3));
  rc_region_release(r, nullptr);
  host.end_step(step);
  EXPECT_EQ(host.live(), 0u);
}

TEST(Profile, OutputsInTheHostsMemoryAreEmptiedAndRefilled) {
  Host host;
  host.recompute({});  // moe_act discards its output, nothing is asked
  int drops = 0, refills = 0, replays = 0;
  TestModule& m = host.module("moe_act", 0, {in("x"), out("y")},
                              [&](const rc_replay_args*) {
                                ++replays;
                                return RC_OK;
                              },
                              {.host_slots = true});
  m.drop = [&](const rc_slot_args*) {
    ++drops;
    return RC_OK;
  };
  m.refill = [&](const rc_slot_args*) {
    ++refills;
    return RC_OK;
  };
  char memory[64] = {};
  rc_step* step = host.step(RC_PHASE_FORWARD, RC_STEP_PROFILE);
  rc_region* r = host.begin(m, {.step = step});
  EXPECT_EQ(save_bytes(r, 0, memory, sizeof memory), RC_OK);
  EXPECT_EQ(rc_region_output(r, 1, RC_OUTPUT_HOST, Bytes(64, memory).get(), nullptr), RC_OK);
  EXPECT_EQ(rc_region_end(r, nullptr), RC_OK);
  EXPECT_GE(rc_region_discard(r, nullptr), 0);
  EXPECT_EQ(replay(r), RC_OK);
  EXPECT_EQ(replays, 2);
  EXPECT_EQ(drops, 2);
  EXPECT_EQ(refills, 2);
  EXPECT_EQ(slot_info(r, 1).present, 1u);
  rc_region_release(r, nullptr);
  host.end_step(step);
}

TEST(Profile, AStepWithoutItForgetsTheOneBefore) {
  Host host;
  Model model(host, 2);
  profiled(host, model);
  rc_policy* policy = selective({"core_attn"});
  EXPECT_GT(predicted(host, policy).replay_ns, 0u);
  profiled(host, model, RC_STEP_LOG);
  EXPECT_EQ(predicted(host, policy).replay_ns, 0u);
  rc_policy_release(policy);
}

}  // namespace
}  // namespace rc::testing
