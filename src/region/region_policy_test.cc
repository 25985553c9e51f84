// src/region/region_policy_test.cc: what each policy makes of the marks: bytes against hand counts,
// replays, content.
#include <algorithm>
#include <thread>

#include "src/region/testing_model.h"

namespace rc::testing {
namespace {

constexpr ModelSizes kSizes = {};
// What a layer keeps where nothing is recomputed, its input left out.
constexpr uint64_t kLayerBytes = kSizes.norm + kSizes.probs + kSizes.attention + kSizes.hidden +
                                 kSizes.x + kSizes.choice + kSizes.x;

struct RegionPolicy : ::testing::Test {
  Host host;
  // Runs `microbatches` forwards, checks what is held, then all backwards; returns the replays.
  uint64_t run(Model& model, uint64_t held_per_microbatch, std::vector<uint32_t> order = {0}) {
    rc_step* step = host.step();
    for (uint32_t mb = 0; mb < order.size(); ++mb) {
      model.forward(step, mb, static_cast<int>(mb) + 1);
      EXPECT_EQ(host.live(), (mb + 1) * held_per_microbatch);
    }
    for (uint32_t mb : order) model.backward(mb);
    EXPECT_EQ(host.live(), 0u);
    EXPECT_GT(model.checked, 0u);
    const rc_step_report report = host.end_step(step);
    EXPECT_EQ(report.regions_purged, 0u);
    EXPECT_EQ(host.stats().regions_live, 0u);
    return report.replays;
  }
};

TEST_F(RegionPolicy, NoneKeepsAllAndReplaysNothing) {
  Model model(host, 3);
  EXPECT_EQ(run(model, kSizes.x + 3 * kLayerBytes), 0u);
  rc_policy_desc none = rc_policy_desc_init();
  host.configure(none);
  EXPECT_EQ(run(model, kSizes.x + 3 * kLayerBytes), 0u);
}

TEST_F(RegionPolicy, SelectiveDropsTheScoresOfEveryLayer) {
  host.recompute({"core_attn"});
  Model model(host, 3);
  EXPECT_EQ(run(model, kSizes.x + 3 * (kLayerBytes - kSizes.probs)), 3u);
  EXPECT_EQ(model.replays(Model::kAttention), 3);
  EXPECT_EQ(model.replays(Model::kMlp), 0);
}

TEST_F(RegionPolicy, AnOutputDiscardingKindFreesItsOutput) {
  host.recompute({"layernorm"});
  Model model(host, 3);
  EXPECT_EQ(run(model, kSizes.x + 3 * (kLayerBytes - kSizes.norm)), 3u);
  EXPECT_EQ(model.replays(Model::kNorm), 3);
}

TEST_F(RegionPolicy, SelectiveKindsAddUpAndEachSiteReplaysOnce) {
  host.recompute({"layernorm", "core_attn", "mlp"});
  Model model(host, 3);
  EXPECT_EQ(run(model, kSizes.x + 3 * (kLayerBytes - kSizes.norm - kSizes.probs - kSizes.hidden)),
            9u);
  for (Model::Kind kind : {Model::kNorm, Model::kAttention, Model::kMlp})
    EXPECT_EQ(model.replays(kind), 3);
  EXPECT_EQ(model.replays(Model::kLayer), 0);
}

TEST_F(RegionPolicy, FullByLayersKeepsInputsAndDecisions) {
  host.full(RC_METHOD_UNIFORM, 1, 4);
  Model model(host, 4);
  EXPECT_EQ(run(model, 4 * (kSizes.x + kSizes.choice)), 4u);
  EXPECT_EQ(model.replays(Model::kLayer), 4);
  for (Model::Kind kind : {Model::kNorm, Model::kAttention, Model::kMlp})
    EXPECT_EQ(model.replays(kind), 0);
}

TEST_F(RegionPolicy, UniformChunksKeepTheInputOfEachChunkTheLastOneClamped) {
  for (uint32_t n : {2u, 3u, 4u, 5u}) {
    SCOPED_TRACE(n);
    host.full(RC_METHOD_UNIFORM, n, 5);
    Model model(host, 5);
    const uint64_t chunks = (5 + n - 1) / n;
    EXPECT_EQ(run(model, chunks * kSizes.x + 5 * kSizes.choice), 5u);
    EXPECT_EQ(model.replays(Model::kLayer), 5);
  }
}

TEST_F(RegionPolicy, BlockRecomputesTheFirstLayersOnly) {
  host.full(RC_METHOD_BLOCK, 2, 5);
  Model model(host, 5);
  EXPECT_EQ(run(model, 3 * kSizes.x + 2 * kSizes.choice + 3 * kLayerBytes), 2u);
  EXPECT_EQ(model.replays(Model::kLayer), 2);
}

TEST_F(RegionPolicy, MicrobatchesInFlightComeBackInAnyOrder) {
  std::vector<uint32_t> order = {2, 0, 3, 1};
  host.full(RC_METHOD_UNIFORM, 2, 3);
  Model chunks(host, 3);
  EXPECT_EQ(run(chunks, 2 * kSizes.x + 3 * kSizes.choice, order), 12u);
  host.recompute({"layernorm", "core_attn"});
  Model selective(host, 2);
  EXPECT_EQ(run(selective, kSizes.x + 2 * (kLayerBytes - kSizes.norm - kSizes.probs), order), 16u);
}

TEST_F(RegionPolicy, ABackwardOnAnotherThreadIsTheSame) {
  host.full(RC_METHOD_UNIFORM, 2, 4);
  Model model(host, 4);
  rc_step* step = host.step();
  model.forward(step, 0, 1);
  std::thread([&] { model.backward(0); }).join();
  EXPECT_EQ(host.end_step(step).replays, 4u);
  EXPECT_EQ(host.live(), 0u);
}

TEST_F(RegionPolicy, ConfiguringMidStepLeavesLiveRegionsTheirDecisions) {
  host.full(RC_METHOD_UNIFORM, 2, 3);
  Model model(host, 3);
  rc_step* step = host.step();
  model.forward(step, 0, 1);
  host.recompute({"core_attn"});
  model.forward(step, 1, 2);
  ASSERT_EQ(rc_context_configure(host.context, nullptr), RC_OK);
  model.backward(0);
  model.backward(1);
  EXPECT_EQ(host.end_step(step).replays, 6u);
  EXPECT_EQ(model.replays(Model::kLayer), 3);
  EXPECT_EQ(model.replays(Model::kAttention), 3);
}

// An mlp that is recomputed, with a core_attn in it that is recomputed too.
struct Nested : RegionPolicy {
  explicit Nested() {
    inner = &host.module("core_attn", 0, {saved("p")}, [](const rc_replay_args* args) {
      fill(alloc(args->region, 0, 100), 100, 1);
      return RC_OK;
    });
    outer = &host.module("mlp", 0, {saved("h")}, [this](const rc_replay_args* args) {
      body(args->region);
      return RC_OK;
    });
  }
  void body(rc_region* r) {
    if (char* h = alloc(r, 0, 1000)) fill(h, 1000, 2);
    rc_region_release(child, nullptr);
    child = host.begin(*inner, {.parent = r, .flags = flags});
    alloc(child, 0, 100);
    EXPECT_EQ(rc_region_end(child, nullptr), RC_OK);
  }
  rc_region* forward() {
    rc_region* r = host.begin(*outer);
    body(r);
    EXPECT_EQ(rc_region_end(r, nullptr), RC_OK);
    return r;
  }
  TestModule *inner, *outer;
  rc_region* child = nullptr;
  rc_flags flags = 0;
};

TEST_F(Nested, APolicyReplaysEachSiteOnce) {
  host.recompute({"mlp", "core_attn"});
  rc_region* r = forward();
  EXPECT_EQ(host.live(), 0u);
  EXPECT_EQ(replay(child), RC_E_STATE);  // this instance is begun anew by its parent
  EXPECT_EQ(replay(r), RC_OK);
  EXPECT_EQ(rc_region_phase(child), RC_PHASE_REPLAY);
  EXPECT_EQ(host.live(), 1100u);
  EXPECT_EQ(state(child), RC_REGION_SEALED);
  EXPECT_EQ(replay(child), RC_OK);
  EXPECT_EQ(outer->calls, 1);
  EXPECT_EQ(inner->calls, 0);
  rc_region_release(child, nullptr);
  rc_region_release(r, nullptr);
  EXPECT_EQ(host.live(), 0u);
}

TEST_F(Nested, OnlyTheInnerOneRecomputedReplaysOnlyIt) {
  host.recompute({"core_attn"});
  rc_region* r = forward();
  EXPECT_EQ(host.live(), 1000u);
  EXPECT_EQ(replay(r), RC_OK);
  EXPECT_EQ(outer->calls, 0);
  EXPECT_EQ(replay(child), RC_OK);
  EXPECT_EQ(inner->calls, 1);
  rc_region_release(child, nullptr);
  rc_region_release(r, nullptr);
}

TEST_F(Nested, AnExplicitOneRecomputesAgainAsInTheFramework) {
  host.recompute({"mlp", "core_attn"});
  flags = RC_REGION_EXPLICIT;
  rc_region* r = forward();
  EXPECT_EQ(host.live(), 0u);
  EXPECT_EQ(replay(r), RC_OK);
  EXPECT_EQ(host.live(), 1000u);  // dropped once more: that bounds the transient
  EXPECT_EQ(state(child), RC_REGION_EMPTY);
  EXPECT_EQ(replay(child), RC_OK) << last_message();
  EXPECT_TRUE(filled(view(child, 0), 100, 1));
  EXPECT_EQ(outer->calls, 1);
  EXPECT_EQ(inner->calls, 1);
  rc_region_release(child, nullptr);
  rc_region_release(r, nullptr);
}

TEST_F(Nested, WhatForwardDidNotPassReplayDoesNotPass) {
  host.recompute({"mlp"});
  flags = RC_REGION_MAY_PASS;
  rc_region* r = forward();
  rc_region* first = child;
  EXPECT_NE(first, nullptr);
  EXPECT_EQ(replay(r), RC_OK);
  EXPECT_NE(child, nullptr);
  rc_region_release(child, nullptr);
  rc_region_release(r, nullptr);
}

TEST_F(RegionPolicy, MissingIsACountedListOfAnyLength) {
  host.recompute({"mlp"});
  std::vector<std::string> names;
  for (int i = 0; i < 200; ++i) names.push_back(format("s%d", i));
  std::vector<rc_slot_desc> slots;
  for (const std::string& name : names) slots.push_back(saved(name.c_str()));
  std::vector<uint32_t> told;
  TestModule& m = host.module("mlp", 0, slots, [&](const rc_replay_args* args) {
    told.assign(args->missing, args->missing + args->n_missing);
    for (uint32_t s : told) alloc(args->region, s, 64);
    return RC_OK;
  });
  rc_region* r = host.begin(m);
  for (uint32_t s = 0; s < 200; s += 2) alloc(r, s, 64);  // the others stay empty
  EXPECT_EQ(rc_region_end(r, nullptr), RC_OK);
  EXPECT_EQ(rc_region_done(r, 4, nullptr), RC_OK);  // never needed
  uint32_t n = 0, some[3] = {};
  EXPECT_EQ(rc_region_missing(r, some, 3, &n), RC_OK);
  EXPECT_EQ(n, 99u);
  EXPECT_EQ(some[2], 6u);
  EXPECT_EQ(replay(r), RC_OK) << last_message();
  EXPECT_EQ(told.size(), 99u);
  EXPECT_TRUE(std::is_sorted(told.begin(), told.end()));
  EXPECT_TRUE(missing(r).empty());
  rc_region_release(r, nullptr);
}

TEST_F(RegionPolicy, EvaluationNestsAndKeepsNothing) {
  host.full(RC_METHOD_UNIFORM, 1, 3);
  Model model(host, 3);
  rc_step* step = host.step(RC_PHASE_EVALUATION);
  model.forward(step, 0, 1);
  EXPECT_EQ(host.live(), 0u);
  model.abandon(0);
  host.end_step(step);
  EXPECT_EQ(host.stats().regions_live, 0u);
}

TEST_F(RegionPolicy, ARuleBySlotNameReachesSlotsAddedWhileItRuns) {
  host.rules({{.kind = "mlp", .slot = "scores", .action = RC_ACTION_RECOMPUTE},
              {.kind = "mlp", .slot = "never", .action = RC_ACTION_RECOMPUTE}});
  TestModule& m = host.module("mlp", 0, {saved("declared")}, [](const rc_replay_args* args) {
    EXPECT_EQ(args->n_missing, 1u);
    alloc(args->region, 2, 4096);
    return RC_OK;
  });
  rc_region* r = host.begin(m, {.flags = RC_REGION_MAY_PASS});
  ASSERT_NE(r, nullptr);  // a rule may yet speak about a slot of it
  uint32_t other = 0, scores = 0;
  rc_slot_desc desc = saved("other");
  ASSERT_EQ(rc_region_slot_add(r, &desc, &other), RC_OK);
  desc = saved("scores");
  ASSERT_EQ(rc_region_slot_add(r, &desc, &scores), RC_OK);
  EXPECT_EQ(scores, 2u);
  for (uint32_t s : {0u, other, scores}) alloc(r, s, 4096);
  ASSERT_EQ(rc_region_end(r, nullptr), RC_OK);
  EXPECT_EQ(host.live(), 2u * 4096);
  EXPECT_EQ(missing(r), std::vector<uint32_t>{scores});
  EXPECT_EQ(replay(r), RC_OK) << last_message();
  const std::string report = host.report();
  rc_region_release(r, nullptr);
  // The rule that found its slot is alive, the other is dead.
  EXPECT_EQ(report.find("\"rule\": 0"), std::string::npos) << report;
  EXPECT_NE(report.find("never"), std::string::npos) << report;
}

}  // namespace
}  // namespace rc::testing
