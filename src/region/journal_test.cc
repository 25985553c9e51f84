// src/region/journal_test.cc: draws, decisions and digests: what forward had is what replay gets.
#include <algorithm>

#include "src/region/testing_model.h"

namespace rc::testing {
namespace {

rc_status draw(rc_region* r, uint64_t blocks, uint64_t* offset) {
  rc_rng rng = rc_rng_init();
  const rc_status status = rc_region_rng(r, blocks, &rng);
  *offset = rng.offset;
  return status;
}

struct JournalTest : ::testing::Test {
  Host host;
  rc_status decide(rc_region* r, uint32_t slot, char* value, uint64_t bytes = 4) {
    Bytes b(bytes, value);
    return rc_region_decide(r, slot, &b.spec, nullptr);
  }
};

TEST_F(JournalTest, ReplayGetsTheDrawsOfForwardCallByCall) {
  host.recompute({"mlp"});
  std::vector<uint64_t> seen;
  uint64_t wanted = 5;
  TestModule& m = host.module("mlp", 0, {saved("h")}, [&](const rc_replay_args* args) {
    uint64_t offset = 0;
    if (rc_status s = draw(args->region, wanted, &offset); s < 0) return s;
    seen.push_back(offset);
    if (rc_status s = draw(args->region, 1, &offset); s < 0) return s;
    seen.push_back(offset);
    alloc(args->region, 0, 64);
    return RC_OK;
  });
  rc_region* a = host.begin(m);
  rc_region* b = host.begin(m);
  uint64_t a0, a1, b0, b1;
  EXPECT_EQ(draw(a, 5, &a0), RC_OK);
  EXPECT_EQ(draw(b, 5, &b0), RC_OK);
  EXPECT_EQ(draw(a, 1, &a1), RC_OK);
  EXPECT_EQ(draw(b, 1, &b1), RC_OK);
  EXPECT_EQ(b0, a0 + 5);
  EXPECT_EQ(a1, b0 + 5);
  for (rc_region* r : {a, b}) {
    alloc(r, 0, 64);
    ASSERT_EQ(rc_region_end(r, nullptr), RC_OK);
  }
  uint64_t none;
  EXPECT_EQ(draw(a, 1, &none), RC_E_STATE);
  wanted = 6;
  EXPECT_EQ(replay(a), RC_E_MISMATCH);
  EXPECT_NE(last_message().find("forward drew 5"), std::string::npos) << last_message();
  wanted = 5;
  EXPECT_EQ(replay(a), RC_OK) << last_message();
  EXPECT_EQ(replay(b), RC_OK);
  EXPECT_EQ(seen, (std::vector<uint64_t>{a0, a1, b0, b1}));
  rc_region_release(a, nullptr);
  rc_region_release(b, nullptr);
}

TEST_F(JournalTest, MoreDrawsThanForwardHadAreAMismatch) {
  host.recompute({"mlp"});
  TestModule& m = host.module("mlp", 0, {saved("h")}, [&](const rc_replay_args* args) {
    uint64_t offset;
    return draw(args->region, 1, &offset);
  });
  rc_region* r = host.begin(m);
  alloc(r, 0, 64);
  ASSERT_EQ(rc_region_end(r, nullptr), RC_OK);
  EXPECT_EQ(replay(r), RC_E_MISMATCH);
  rc_region_release(r, nullptr);
}

TEST_F(JournalTest, DecisionsAreRecordedOnceAndHandedBack) {
  host.recompute({"moe"});
  char in_replay[4] = {};
  rc_status status = RC_OK;
  TestModule& m =
      host.module("moe", 0, {decision("choice"), saved("h")}, [&](const rc_replay_args* args) {
        status = decide(args->region, 0, in_replay);
        alloc(args->region, 1, 64);
        return RC_OK;
      });
  rc_region* r = host.begin(m);
  char choice[] = {4, 3, 2, 1}, other[4] = {9, 9, 9, 9};
  EXPECT_EQ(decide(r, 1, choice), RC_E_ARGUMENT);
  EXPECT_EQ(decide(r, 0, choice), RC_OK);
  EXPECT_EQ(decide(r, 0, other), RC_E_STATE);
  EXPECT_EQ(host.live(), 4u);
  alloc(r, 1, 64);
  ASSERT_EQ(rc_region_end(r, nullptr), RC_OK);
  EXPECT_EQ(host.live(), 4u);  // never dropped
  EXPECT_EQ(replay(r), RC_OK);
  EXPECT_EQ(status, RC_PASS);
  EXPECT_EQ(std::memcmp(in_replay, choice, 4), 0);
  EXPECT_EQ(std::memcmp(view(r, 0), choice, 4), 0);
  rc_region_release(r, nullptr);
  EXPECT_EQ(host.live(), 0u);
}

// The model's bytes depend on every draw and decision, so equal content means equal records.
TEST_F(JournalTest, NestedRegionsOfARecomputedParentGetTheirsBack) {
  host.full(RC_METHOD_UNIFORM, 2, 4);
  Model model(host, 4);
  rc_step* step = host.step();
  for (uint32_t mb = 0; mb < 3; ++mb) model.forward(step, mb, static_cast<int>(mb));
  for (uint32_t mb : {1u, 2u, 0u}) model.backward(mb);
  EXPECT_EQ(host.end_step(step).replays, 12u);
  EXPECT_EQ(host.live(), 0u);
  std::vector<uint64_t> sorted = model.draws;
  std::sort(sorted.begin(), sorted.end());
  EXPECT_EQ(std::unique(sorted.begin(), sorted.end()), sorted.end());
}

// As branches do that threads of the host run at once.
TEST_F(JournalTest, NestedRegionsThatBeginInAnotherOrderGetTheirsBack) {
  host.full(RC_METHOD_UNIFORM, 1, 1);
  TestModule& left = host.module("moe", 0, {saved("h")});
  TestModule& right = host.module("shared_experts", 0, {saved("h")});
  const auto draws_of = [&](rc_region* layer, TestModule& module) {
    rc_region* r = host.begin(module, {.parent = layer});
    uint64_t offset = 0;
    EXPECT_EQ(draw(r, 3, &offset), RC_OK) << last_message();
    EXPECT_EQ(rc_region_end(r, nullptr), RC_OK);
    rc_region_release(r, nullptr);
    return offset;
  };
  uint64_t of_left = 0, of_right = 0, again_left = 0, again_right = 0;
  TestModule& layer = host.module("layer", 0, {saved("s")}, [&](const rc_replay_args* args) {
    again_right = draws_of(args->region, right);
    again_left = draws_of(args->region, left);
    alloc(args->region, 0, 64);
    return RC_OK;
  });
  rc_region* r = host.begin(layer);
  of_left = draws_of(r, left);
  of_right = draws_of(r, right);
  alloc(r, 0, 64);
  ASSERT_EQ(rc_region_end(r, nullptr), RC_OK);
  EXPECT_EQ(replay(r), RC_OK);
  EXPECT_EQ(again_left, of_left);
  EXPECT_EQ(again_right, of_right);
  rc_region_release(r, nullptr);
}

TEST_F(JournalTest, AnEvaluationInBetweenShiftsNothing) {
  host.full(RC_METHOD_UNIFORM, 1, 2);
  Model model(host, 2), evaluated(host, 2);
  rc_step* step = host.step();
  model.forward(step, 0, 1);
  bool once = false;
  model.in_replay = [&] {  // also in the middle of a replay
    if (std::exchange(once, true)) return;
    rc_step* evaluation = host.step(RC_PHASE_EVALUATION);
    evaluated.forward(evaluation, 0, 9);
    evaluated.abandon(0);
    host.end_step(evaluation);
  };
  model.backward(0);
  EXPECT_TRUE(once);
  EXPECT_EQ(host.end_step(step).replays, 2u);
}

TEST_F(JournalTest, ABranchThatReplaySkipsDoesNotShiftTheOthers) {
  host.recompute({"mlp"});
  TestModule& a = host.module("core_attn", 0, {saved("p")});
  TestModule& b = host.module("core_attn", 1, {saved("p")});
  uint64_t offsets[2][3] = {};
  bool skip = false;
  const auto body = [&](rc_region* parent, uint64_t* to) {
    TestModule* order[] = {&a, &b, &a};
    for (int i = skip ? 1 : 0; i < 3; ++i) {
      // Another microbatch tells the two runs of `a` apart.
      rc_region* r =
          host.begin(*order[i], {.parent = parent, .microbatch = static_cast<uint32_t>(i)});
      EXPECT_EQ(draw(r, 10, &to[i]), RC_OK) << last_message();
      EXPECT_EQ(rc_region_end(r, nullptr), RC_OK);
      rc_region_release(r, nullptr);
    }
  };
  TestModule& outer = host.module("mlp", 0, {saved("h")}, [&](const rc_replay_args* args) {
    body(args->region, offsets[1]);
    return RC_OK;
  });
  rc_region* r = host.begin(outer);
  body(r, offsets[0]);
  ASSERT_EQ(rc_region_end(r, nullptr), RC_OK);
  skip = true;
  EXPECT_EQ(replay(r), RC_OK) << last_message();
  EXPECT_EQ(offsets[1][1], offsets[0][1]);
  EXPECT_EQ(offsets[1][2], offsets[0][2]);
  rc_region_release(r, nullptr);
}

// A rule that drops one named slot runs the host's code again as well, and with it what is nested.
TEST_F(JournalTest, AParentThatRecomputesOneSlotHandsNestedDrawsAndDecisionsBack) {
  host.rules({{.kind = "mlp", .slot = "h", .action = RC_ACTION_RECOMPUTE},
              {.kind = "moe", .slot = "z", .action = RC_ACTION_RECOMPUTE}});
  TestModule& inner = host.module("core_attn", 0, {decision("choice"), saved("p")});
  uint64_t offsets[2][2][2] = {};  // [replay][outer, inner][draw]
  char choices[2][4] = {};
  int run = 0;
  const auto body = [&](rc_region* r, TestModule* nested) {
    rc_region* child = host.begin(*nested, {.parent = r, .flags = RC_REGION_MAY_PASS});
    ASSERT_NE(child, nullptr);
    for (uint64_t& offset : offsets[run][1])
      EXPECT_EQ(draw(child, 3, &offset), RC_OK) << last_message();
    char choice[4] = {1, 2, 3, static_cast<char>(run)};
    EXPECT_EQ(decide(child, 0, choice), run == 0 ? RC_OK : RC_PASS) << last_message();
    std::memcpy(choices[run], choice, 4);
    EXPECT_EQ(rc_region_end(child, nullptr), RC_OK);
    rc_region_release(child, nullptr);
    for (uint64_t& offset : offsets[run][0])
      EXPECT_EQ(draw(r, 2, &offset), RC_OK) << last_message();
    if (run == 0) alloc(r, 1, 64);
    alloc(r, 0, 64);
  };
  TestModule& middle = host.module("mlp", 0, {saved("h"), saved("kept")}, nullptr);
  const auto outer_body = [&](rc_region* r) {
    rc_region* child = host.begin(middle, {.parent = r});
    body(child, &inner);
    EXPECT_EQ(rc_region_end(child, nullptr), RC_OK);
    if (run == 0) alloc(r, 0, 64);
    return child;
  };
  middle.replay = [&](const rc_replay_args* args) {
    body(args->region, &inner);
    return RC_OK;
  };
  TestModule& outer = host.module("moe", 0, {saved("z")}, [&](const rc_replay_args* args) {
    alloc(args->region, 0, 64);
    rc_region* again = host.begin(middle, {.parent = args->region});
    body(again, &inner);
    EXPECT_EQ(rc_region_end(again, nullptr), RC_OK);
    rc_region_release(again, nullptr);
    return RC_OK;
  });
  rc_region* r = host.begin(outer);
  rc_region* child = outer_body(r);
  ASSERT_EQ(rc_region_end(r, nullptr), RC_OK);
  uint64_t between;
  rc_region* other = host.begin(inner);
  EXPECT_EQ(draw(other, 1, &between), RC_OK);
  rc_region_release(other, nullptr);
  for (rc_region* again : {r, child}) {  // the outer's replay holds both levels, the inner's one
    run = 1;
    std::memset(offsets[1], 0, sizeof offsets[1]);
    EXPECT_EQ(replay(again), RC_OK) << last_message();
    EXPECT_EQ(std::memcmp(offsets[0], offsets[1], sizeof offsets[0]), 0);
    EXPECT_EQ(std::memcmp(choices[0], choices[1], 4), 0);
  }
  EXPECT_EQ(middle.calls, 1);
  rc_region_release(child, nullptr);
  rc_region_release(r, nullptr);
  EXPECT_EQ(host.live(), 0u);
}

TEST_F(JournalTest, ABeginThatFailsLeavesNoRecordBehind) {
  host.rules({{.kind = "mlp", .slot = "h", .action = RC_ACTION_RECOMPUTE}});
  rc_side_state side = rc_side_state_init();
  bool refuse = true;
  side.user_data = &refuse;
  side.capture = [](void* data, rc_context*, rc_region*, void*, rc_stream, void** token) {
    *token = nullptr;
    return *static_cast<bool*>(data) ? static_cast<rc_status>(-1500) : RC_OK;
  };
  side.swap = [](void*, rc_context*, rc_region*, void*, rc_stream, void*, void** previous) {
    *previous = nullptr;
    return RC_OK;
  };
  TestModule& inner = host.module("core_attn", 0, {saved("p")}, nullptr, {.states = {&side}});
  uint64_t first = 0, again = 0;
  TestModule& outer = host.module("mlp", 0, {saved("h")}, [&](const rc_replay_args* args) {
    rc_region* child = host.begin(inner, {.parent = args->region});
    EXPECT_EQ(draw(child, 2, &again), RC_OK) << last_message();
    EXPECT_EQ(rc_region_end(child, nullptr), RC_OK);
    rc_region_release(child, nullptr);
    alloc(args->region, 0, 64);
    return RC_OK;
  });
  rc_region* r = host.begin(outer);
  rc_region* failed = nullptr;
  EXPECT_EQ(static_cast<int>(host.try_begin(inner, {.parent = r}, &failed)), -1500);
  refuse = false;
  rc_region* child = host.begin(inner, {.parent = r});
  EXPECT_EQ(draw(child, 2, &first), RC_OK);
  EXPECT_EQ(rc_region_end(child, nullptr), RC_OK);
  rc_region_release(child, nullptr);
  alloc(r, 0, 64);
  ASSERT_EQ(rc_region_end(r, nullptr), RC_OK);
  EXPECT_EQ(replay(r), RC_OK) << last_message();
  EXPECT_EQ(again, first);
  rc_region_release(r, nullptr);
}

TEST_F(JournalTest, ARetryAfterAFailedReplayStartsAtTheFirstRecord) {
  host.full(RC_METHOD_UNIFORM, 1, 2);
  Model model(host, 2);
  rc_step* step = host.step();
  model.forward(step, 0, 1);
  auto& layer = *model.modules[1][Model::kLayer];
  const ReplayFunction whole = layer.replay;
  layer.replay = [&](const rc_replay_args* args) {
    (void)whole(args);
    return static_cast<rc_status>(-1500);
  };
  EXPECT_EQ(static_cast<int>(replay(model.regions.at({0, 1, Model::kLayer}))), -1500);
  layer.replay = whole;
  model.backward(0);
  host.end_step(step);
  EXPECT_EQ(host.live(), 0u);
}

struct Verify : JournalTest {
  Verify() : checked(RC_CONTEXT_VERIFY) {}
  Host checked;
};

TEST_F(Verify, AnHonestModelPasses) {
  checked.full(RC_METHOD_UNIFORM, 2, 3);
  Model model(checked, 3);
  rc_step* step = checked.step();
  model.forward(step, 0, 1);
  model.backward(0);
  checked.end_step(step);
}

TEST_F(Verify, OtherBytesNameModuleLayerAndSlot) {
  checked.recompute({"mlp"});
  int seed = 4;
  TestModule& m = checked.module("mlp", 13, {saved("h"), saved("g")},
                                 [&](const rc_replay_args* args) {
                                   fill(alloc(args->region, 0, 64), 64, 4);
                                   fill(alloc(args->region, 1, 64), 64, seed);
                                   return RC_OK;
                                 },
                                 {.name = "my_mlp"});
  rc_region* r = checked.begin(m);
  fill(alloc(r, 0, 64), 64, 4);
  fill(alloc(r, 1, 64), 64, 4);
  ASSERT_EQ(rc_region_end(r, nullptr), RC_OK);
  seed = 5;
  EXPECT_EQ(replay(r), RC_E_MISMATCH);
  for (const char* part : {"my_mlp", "13", "'g'"})
    EXPECT_NE(last_message().find(part), std::string::npos) << last_message();
  EXPECT_EQ(state(r), RC_REGION_EMPTY);
  seed = 4;
  EXPECT_EQ(replay(r), RC_OK);
  rc_region_release(r, nullptr);
}

TEST_F(Verify, OwnedTensorsAreComparedToo) {
  checked.recompute({"mlp"});
  char first[64], second[64];
  fill(first, 64, 1);
  fill(second, 64, 2);
  TestModule& m = checked.module("mlp", 1, {saved("h")}, [&](const rc_replay_args* args) {
    return save_tensor(args->region, 0, wrap(second, 64, nullptr));
  });
  rc_region* r = checked.begin(m);
  ASSERT_EQ(save_tensor(r, 0, wrap(first, 64, nullptr)), RC_OK);
  ASSERT_EQ(rc_region_end(r, nullptr), RC_OK);
  EXPECT_EQ(checked.live(), 0u);
  EXPECT_EQ(replay(r), RC_E_MISMATCH);
  fill(second, 64, 1);
  EXPECT_EQ(replay(r), RC_OK);
  EXPECT_EQ(checked.stats().regenerated_bytes, 128u);
  rc_region_release(r, nullptr);
}

TEST_F(Verify, ANestedSlotOfARecomputedParentIsNamed) {
  checked.recompute({"mlp"});
  TestModule& inner =
      checked.module("core_attn", 21, {saved("probs")}, nullptr, {.name = "attention"});
  int seed = 1;
  const auto body = [&](rc_region* parent) {
    rc_region* child = checked.begin(inner, {.parent = parent});
    fill(alloc(child, 0, 64), 64, seed);
    const rc_status status = rc_region_end(child, nullptr);
    rc_region_release(child, nullptr);
    return status;
  };
  TestModule& outer = checked.module(
      "mlp", 20, {saved("h")}, [&](const rc_replay_args* args) { return body(args->region); });
  rc_region* r = checked.begin(outer);
  ASSERT_EQ(body(r), RC_OK);
  ASSERT_EQ(rc_region_end(r, nullptr), RC_OK);
  seed = 2;
  EXPECT_EQ(replay(r), RC_E_MISMATCH);
  for (const char* part : {"attention", "21", "probs"})
    EXPECT_NE(last_message().find(part), std::string::npos) << last_message();
  seed = 1;
  EXPECT_EQ(replay(r), RC_OK) << last_message();
  rc_region_release(r, nullptr);
  EXPECT_EQ(checked.live(), 0u);
}

}  // namespace
}  // namespace rc::testing
