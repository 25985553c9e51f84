// src/region/side_state_test.cc: tokens of side state: each ends once, whatever fails.
#include <map>

#include "src/region/testing_host.h"

namespace rc::testing {
namespace {

// Host state with a value; tokens are copies of it, and every one must be dropped exactly once.
struct State {
  State() {
    table = rc_side_state_init();
    table.user_data = this;
    table.destroy = [](void* s) { ++static_cast<State*>(s)->destroyed; };
    table.capture = [](void* s, rc_context*, rc_region*, void*, rc_stream, void** token) {
      State& self = *static_cast<State*>(s);
      if (self.fails()) return static_cast<rc_status>(-1100);
      *token = self.make(self.value);
      return RC_OK;
    };
    table.swap = [](void* s, rc_context*, rc_region*, void*, rc_stream, void* install,
                    void** previous) {
      State& self = *static_cast<State*>(s);
      if (self.fails()) return static_cast<rc_status>(-1100);
      *previous = self.make(self.value);
      self.value = self.tokens.at(install);
      return RC_OK;
    };
    table.drop = [](void* s, void* token) {
      State& self = *static_cast<State*>(s);
      self.dropped_twice += self.tokens.erase(token) == 0;
    };
  }
  void* make(int v) {
    void* token = reinterpret_cast<void*>(++last);
    tokens[token] = v;
    return token;
  }
  bool fails() { return fail_at > 0 && ++calls == fail_at; }

  rc_side_state table;
  int value = 0;
  uintptr_t last = 0;
  std::map<void*, int> tokens;
  int dropped_twice = 0, destroyed = 0;
  int calls = 0, fail_at = 0;
};

struct SideState : ::testing::Test {
  SideState() { host.recompute({"mlp"}); }
  TestModule& module_with(std::vector<const rc_side_state*> states) {
    return host.module("mlp", 0, {saved("h")},
                       [this](const rc_replay_args* args) {
                         for (State* s : watched) seen.push_back(s->value);
                         for (State* s : watched) s->value += 1000;  // what a replay leaves behind
                         if (callback_fails) return static_cast<rc_status>(-1200);
                         alloc(args->region, 0, 64);
                         return RC_OK;
                       },
                       {.states = std::move(states)});
  }
  State a, b;  // outlive the host, whose end destroys their tables
  Host host;
  std::vector<State*> watched;
  std::vector<int> seen;
  bool callback_fails = false;
};

TEST_F(SideState, ReplaySeesWhatForwardSawAndLeavesNoTrace) {
  watched = {&a, &b};
  TestModule& m = module_with({&a.table, &b.table});
  a.value = 1;
  b.value = 2;
  rc_region* r = host.begin(m);
  alloc(r, 0, 64);
  ASSERT_EQ(rc_region_end(r, nullptr), RC_OK);
  a.value = 11;
  b.value = 12;
  EXPECT_EQ(replay(r), RC_OK);
  EXPECT_EQ(seen, (std::vector<int>{1, 2}));
  EXPECT_EQ(a.value, 11);
  EXPECT_EQ(b.value, 12);
  EXPECT_EQ(a.tokens.size(), 1u);  // the region's own, for another replay
  rc_region_release(r, nullptr);
  EXPECT_TRUE(a.tokens.empty());
  EXPECT_TRUE(b.tokens.empty());
  EXPECT_EQ(a.dropped_twice + b.dropped_twice, 0);
  host.close();
  EXPECT_EQ(a.destroyed, 1);
  EXPECT_EQ(b.destroyed, 1);
}

// Calls of all three states in order: 3 captures, 3 installs, 3 restores.
TEST_F(SideState, TokensBalanceWhicheverCallFails) {
  for (bool callback : {false, true}) {
    for (int fail_at = 1; fail_at <= 9; ++fail_at) {
      SCOPED_TRACE(format("call %d, callback fails: %d", fail_at, callback));
      State states[3];
      int calls = 0;
      Host local;
      local.recompute({"mlp"});
      // State k fails at its own first, second or third call; restores come in reverse order.
      State& failing = states[fail_at <= 3   ? fail_at - 1
                              : fail_at <= 6 ? fail_at - 4
                                             : 9 - fail_at];
      failing.fail_at = fail_at <= 3 ? 1 : fail_at <= 6 ? 2 : 3;
      TestModule& m =
          local.module("mlp", 0, {saved("h")},
                       [&](const rc_replay_args* args) {
                         ++calls;
                         for (State& s : states) s.value += 1000;
                         if (callback) return static_cast<rc_status>(-1200);
                         alloc(args->region, 0, 64);
                         return RC_OK;
                       },
                       {.states = {&states[0].table, &states[1].table, &states[2].table}});
      for (int i = 0; i < 3; ++i) states[i].value = i;
      int destroyed = 0;
      const BeginOptions options = {.user_data = &destroyed,
                                    .destroy = [](void* n) { ++*static_cast<int*>(n); }};
      rc_region* r = nullptr;
      const rc_status begun = local.try_begin(m, options, &r);
      if (fail_at <= 3) {
        EXPECT_EQ(static_cast<int>(begun), -1100);
        EXPECT_EQ(r, nullptr);
        EXPECT_EQ(destroyed, 0);  // not taken over
        EXPECT_EQ(local.stats().regions_live, 0u);
        EXPECT_EQ(local.stats().regions_begun, 0u);
        r = local.begin(m, options);
        EXPECT_EQ(info(r).occurrence, 1u);  // the failed one does not count
      } else {
        EXPECT_EQ(begun, RC_OK);
      }
      alloc(r, 0, 64);
      EXPECT_EQ(rc_region_end(r, nullptr), RC_OK);
      for (int i = 0; i < 3; ++i) states[i].value = 10 + i;
      const rc_status status = replay(r);
      if (fail_at > 3) EXPECT_LT(status, 0);
      if (callback && (fail_at <= 3 || fail_at > 6)) EXPECT_EQ(static_cast<int>(status), -1200);
      EXPECT_EQ(calls, fail_at > 3 && fail_at <= 6 ? 0 : 1);
      for (int i = 0; i < 3; ++i) {  // all are back but the one whose restore failed
        if (fail_at > 6 && &states[i] == &failing) continue;
        EXPECT_EQ(states[i].value, 10 + i);
      }
      for (State& s : states) EXPECT_EQ(s.tokens.size(), 1u);
      rc_region_release(r, nullptr);
      EXPECT_EQ(destroyed, 1);
      for (State& s : states) {
        EXPECT_TRUE(s.tokens.empty());
        EXPECT_EQ(s.dropped_twice, 0);
      }
      local.close();
      for (State& s : states) EXPECT_EQ(s.destroyed, 1);
    }
  }
}

TEST_F(SideState, CancelDropsTheTokens) {
  TestModule& m = module_with({&a.table});
  rc_region* r = host.begin(m);
  EXPECT_EQ(a.tokens.size(), 1u);
  ASSERT_EQ(rc_region_cancel(r, nullptr), RC_OK);
  EXPECT_TRUE(a.tokens.empty());
  rc_region_release(r, nullptr);
  EXPECT_EQ(a.dropped_twice, 0);
}

// A begin that is capturing is known to its callbacks alone.
struct Capture : ::testing::Test {
  Capture() {
    table.user_data = this;
    table.capture = [](void* self, rc_context*, rc_region* r, void*, rc_stream, void** token) {
      Capture* t = static_cast<Capture*>(self);
      ++t->tokens;
      *token = token;
      if (t->meanwhile) std::exchange(t->meanwhile, nullptr)(r);
      return std::exchange(t->result, RC_OK);
    };
    table.swap = [](void*, rc_context*, rc_region*, void*, rc_stream, void*, void**) {
      return RC_OK;
    };
    table.drop = [](void* self, void*) { --static_cast<Capture*>(self)->tokens; };
    module = &host.module("mlp", 0, {saved("h")}, nullptr, {.states = {&table, &table, &table}});
  }
  ~Capture() override { EXPECT_EQ(tokens, 0); }
  rc_side_state table = rc_side_state_init();
  std::function<void(rc_region*)> meanwhile;
  rc_status result = RC_OK;
  int tokens = 0;
  Host host;
  TestModule* module;
};

TEST_F(Capture, ACancelMeanwhileDropsEveryToken) {
  meanwhile = [](rc_region* r) {
    EXPECT_EQ(rc_region_end(r, nullptr), RC_E_STATE);
    EXPECT_EQ(rc_region_cancel(r, nullptr), RC_OK);
  };
  rc_region* r = host.begin(*module);
  EXPECT_EQ(state(r), RC_REGION_CANCELLED);
  EXPECT_EQ(tokens, 0);
  rc_region_release(r, nullptr);
}

TEST_F(Capture, SoDoesTheEndOfItsStep) {
  rc_step* step = host.step();
  meanwhile = [&](rc_region*) { EXPECT_EQ(host.end_step(step).regions_purged, 1u); };
  rc_region* r = host.begin(*module, {.step = step});
  EXPECT_EQ(state(r), RC_REGION_CANCELLED);
  rc_region_release(r, nullptr);
}

TEST_F(Capture, NobodyFindsTheRegionBeforeItsBeginReturns) {
  rc_region_key key = rc_region_key_init();
  key.module = *module;
  rc_region* found = nullptr;
  uint64_t id = 0;
  meanwhile = [&](rc_region* r) {
    id = info(r).id;
    EXPECT_EQ(rc_region_find(host.context, id, &found), RC_PASS);
    EXPECT_EQ(rc_region_lookup(host.context, &key, &found), RC_PASS);
  };
  rc_region* r = host.begin(*module);
  EXPECT_EQ(rc_region_find(host.context, id, &found), RC_OK);
  rc_region_release(found, nullptr);
  EXPECT_EQ(rc_region_lookup(host.context, &key, &found), RC_OK);
  rc_region_release(found, nullptr);
  rc_region_release(r, nullptr);
}

TEST_F(Capture, AFailureDoesNotGiveOutAnothersOccurrenceAgain) {
  rc_region *r = nullptr, *second = nullptr;
  meanwhile = [&](rc_region*) {
    second = host.begin(*module);
    result = static_cast<rc_status>(-1100);
  };
  EXPECT_EQ(static_cast<int>(host.try_begin(*module, {}, &r)), -1100);
  --tokens;  // the one that failed made none
  rc_region* third = host.begin(*module);
  EXPECT_EQ(info(second).occurrence, 2u);
  EXPECT_EQ(info(third).occurrence, 3u);
  rc_region_release(second, nullptr);
  rc_region_release(third, nullptr);
}

TEST_F(SideState, ASiteWithStatesIsNeverPassed) {
  TestModule& m = host.module("core_attn", 0, {saved("p")}, nullptr, {.states = {&a.table}});
  rc_region* r = nullptr;
  EXPECT_EQ(host.try_begin(m, {.flags = RC_REGION_MAY_PASS}, &r), RC_OK);
  rc_region_release(r, nullptr);
}

TEST_F(SideState, AModuleIsDestroyedOnceAfterItsLastRegion) {
  TestModule& m = module_with({&a.table});
  rc_region* r = host.begin(m);
  host.close();
  EXPECT_EQ(a.destroyed, 0);  // live regions keep the module and the context
  EXPECT_EQ(state(r), RC_REGION_OPEN);
  rc_region_release(r, nullptr);
  EXPECT_EQ(a.destroyed, 1);
}

}  // namespace
}  // namespace rc::testing
