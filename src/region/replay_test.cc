// src/region/replay_test.cc: replays that fail, are cancelled, re-entered, shared by threads.
#include <atomic>
#include <chrono>
#include <thread>

#include "src/region/testing_host.h"

namespace rc::testing {
namespace {

constexpr uint64_t kBytes = 2048;

struct Replay : ::testing::Test {
  Replay() {
    host.recompute({"mlp"});
    mlp = &host.module("mlp", 7, {in("x"), saved("h")}, produce);
  }
  static rc_status produce(const rc_replay_args* args) {
    fill(alloc(args->region, 1, kBytes), kBytes, 2);
    return RC_OK;
  }
  rc_region* empty(rc_module* module, void* data = nullptr) {
    rc_region* r = host.begin(module, {.user_data = data});
    EXPECT_EQ(save_bytes(r, 0, input, kBytes), RC_OK);
    alloc(r, 1, kBytes);
    EXPECT_EQ(rc_region_end(r, nullptr), RC_OK);
    return r;
  }
  rc_region* empty() { return empty(*mlp); }

  Host host;
  TestModule* mlp;
  char input[kBytes] = {};
};

TEST_F(Replay, AFailureAtTheThirdOfFiveLeavesEachInItsState) {
  rc_region* r[5];
  for (rc_region*& region : r) region = empty();
  bool fails = true;
  mlp->replay = [&](const rc_replay_args* args) {
    if (args->region == r[2] && fails) {
      fill(alloc(args->region, 1, kBytes), kBytes, 3);  // half done
      rc_error_raise(static_cast<rc_status>(-1007), "the disk is gone");
      return static_cast<rc_status>(-1007);
    }
    return produce(args);
  };
  const uint64_t live = host.live();
  EXPECT_EQ(static_cast<int>(rc_backward_replay(r, 5, nullptr)), -1007);
  const rc_error_info error = last_error();
  EXPECT_EQ(static_cast<int>(error.code), -1007);
  EXPECT_EQ(error.region_id, info(r[2]).id);
  EXPECT_STREQ(error.call, "rc_backward_replay");
  EXPECT_NE(std::string(error.message).find("the disk is gone"), std::string::npos)
      << error.message;
  EXPECT_NE(std::string(error.message).find("layer 7"), std::string::npos) << error.message;
  EXPECT_EQ(state(r[0]), RC_REGION_READY);
  EXPECT_EQ(state(r[1]), RC_REGION_READY);
  EXPECT_EQ(state(r[2]), RC_REGION_EMPTY);
  EXPECT_EQ(state(r[3]), RC_REGION_EMPTY);
  EXPECT_EQ(info(r[2]).dropped_bytes, kBytes);
  EXPECT_EQ(missing(r[2]), std::vector<uint32_t>{1});
  EXPECT_EQ(mlp->calls, 3);
  EXPECT_EQ(host.live(), live + 2 * kBytes);
  EXPECT_EQ(host.stats().replays, 2u);
  fails = false;
  EXPECT_EQ(rc_backward_replay(r, 5, nullptr), RC_OK);
  EXPECT_EQ(mlp->calls, 6);
  for (rc_region* region : r) {
    EXPECT_TRUE(filled(view(region, 1), kBytes, 2));
    rc_region_release(region, nullptr);
  }
  EXPECT_EQ(host.live(), 0u);
}

TEST_F(Replay, AFailedOneCanBeCancelled) {
  mlp->replay = [](const rc_replay_args*) { return static_cast<rc_status>(-1000); };
  rc_region* r = empty();
  EXPECT_EQ(static_cast<int>(replay(r)), -1000);
  EXPECT_EQ(rc_region_cancel(r, nullptr), RC_OK);
  EXPECT_EQ(host.live(), 0u);
  rc_region_release(r, nullptr);
  EXPECT_EQ(host.stats().regions_abandoned, 0u);
}

TEST_F(Replay, NullEntriesAreSkippedAndAReplayIsIdempotent) {
  rc_region* a = empty();
  rc_region* list[] = {nullptr, a, nullptr, a};
  EXPECT_EQ(rc_backward_replay(list, 4, nullptr), RC_OK);
  EXPECT_EQ(mlp->calls, 1);
  EXPECT_EQ(info(a).replays, 1u);
  rc_region_release(a, nullptr);
}

TEST_F(Replay, AnEvaluationNestedInAKeptRegionIsNoReasonToRunOne) {
  TestModule& layer = host.module("layer", 7, {in("x"), saved("h")}, produce);
  rc_region* kept = host.begin(layer);
  alloc(kept, 1, kBytes);
  rc_step* evaluation = host.step(RC_PHASE_EVALUATION);
  rc_region* nested = host.begin(*mlp, {.step = evaluation, .parent = kept});
  alloc(nested, 1, kBytes);
  EXPECT_EQ(rc_region_end(nested, nullptr), RC_OK);
  rc_region_release(nested, nullptr);
  host.end_step(evaluation);
  EXPECT_EQ(rc_region_end(kept, nullptr), RC_OK);
  EXPECT_EQ(state(kept), RC_REGION_SEALED);
  EXPECT_GE(replay(kept), 0);
  EXPECT_EQ(layer.calls, 0);
  rc_region_release(kept, nullptr);
}

TEST_F(Replay, ACallbackThatForgetsASlotFailsAndNamesIt) {
  mlp->replay = [](const rc_replay_args*) { return RC_OK; };
  rc_region* r = empty();
  EXPECT_EQ(replay(r), RC_E_STATE);
  EXPECT_NE(last_message().find("'h'"), std::string::npos) << last_message();
  EXPECT_EQ(state(r), RC_REGION_EMPTY);
  mlp->replay = produce;
  EXPECT_EQ(replay(r), RC_OK);
  rc_region_release(r, nullptr);
}

TEST_F(Replay, ACallbackMayCancelItsOwnRegion) {
  mlp->replay = [](const rc_replay_args* args) {
    EXPECT_EQ(rc_region_cancel(args->region, nullptr), RC_PENDING);
    return produce(args);
  };
  rc_region* r = empty();
  EXPECT_EQ(replay(r), RC_E_STATE);
  EXPECT_EQ(state(r), RC_REGION_CANCELLED);
  EXPECT_EQ(host.live(), 0u);
  rc_region_release(r, nullptr);
  EXPECT_EQ(host.stats().regions_live, 0u);
}

TEST_F(Replay, ACallbackMayReleaseItsOwnRegionAndTheNext) {
  rc_region* r[2] = {};
  int destroyed = 0;
  for (rc_region*& region : r) {
    region = host.begin(
        *mlp, {.user_data = &destroyed, .destroy = [](void* n) { ++*static_cast<int*>(n); }});
    alloc(region, 1, kBytes);
    EXPECT_EQ(rc_region_end(region, nullptr), RC_OK);
  }
  bool first = true;
  mlp->replay = [&](const rc_replay_args* args) {
    if (first)
      for (rc_region* region : r) rc_region_release(region, nullptr);
    first = false;
    EXPECT_EQ(destroyed, 0);
    return produce(args);
  };
  EXPECT_EQ(rc_backward_replay(r, 2, nullptr), RC_OK);
  EXPECT_EQ(destroyed, 2);
  EXPECT_EQ(host.live(), 0u);
  EXPECT_EQ(host.stats().regions_live, 0u);
}

TEST_F(Replay, ACallbackMayReplayOtherRegions) {
  rc_region* other = empty();
  rc_region* r = nullptr;
  mlp->replay = [&](const rc_replay_args* args) {
    if (args->region == r) EXPECT_EQ(replay(other), RC_OK);
    return produce(args);
  };
  r = empty();
  EXPECT_EQ(replay(r), RC_OK);
  EXPECT_EQ(state(other), RC_REGION_READY);
  EXPECT_EQ(mlp->calls, 2);
  rc_region_release(other, nullptr);
  rc_region_release(r, nullptr);
}

TEST_F(Replay, TwoThreadsRunItOnce) {
  std::atomic<int> inside{0};
  std::atomic<bool> go{false};
  mlp->replay = [&](const rc_replay_args* args) {
    ++inside;
    EXPECT_TRUE(eventually([&] { return go.load(); }));
    return produce(args);
  };
  rc_region* r = empty();
  std::vector<std::thread> threads;
  std::atomic<int> ok{0};
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      if (replay(r) == RC_OK && filled(view(r, 1), kBytes, 2)) ++ok;
    });
  EXPECT_TRUE(eventually([&] { return inside == 1; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // the others are waiting now
  go = true;
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(ok, 4);
  EXPECT_EQ(inside, 1);
  rc_region_release(r, nullptr);
}

TEST_F(Replay, TheSecondThreadTriesItselfWhenTheFirstHasFailed) {
  std::atomic<int> calls{0};
  std::atomic<bool> waiting{false};
  mlp->replay = [&](const rc_replay_args* args) {
    if (++calls > 1) return produce(args);
    EXPECT_TRUE(eventually([&] { return waiting.load(); }));
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    return static_cast<rc_status>(-1001);
  };
  rc_region* r = empty();
  int first = 0;
  std::thread t([&] { first = replay(r); });
  EXPECT_TRUE(eventually([&] { return calls == 1; }));
  waiting = true;
  EXPECT_EQ(replay(r), RC_OK);
  t.join();
  EXPECT_EQ(first, -1001);
  EXPECT_EQ(calls, 2);
  rc_region_release(r, nullptr);
}

TEST_F(Replay, AnotherThreadMayCancelAndReleaseMeanwhile) {
  std::atomic<bool> inside{false}, go{false};
  mlp->replay = [&](const rc_replay_args* args) {
    inside = true;
    EXPECT_TRUE(eventually([&] { return go.load(); }));
    return produce(args);
  };
  rc_region* r = empty();
  rc_status result = RC_OK;
  std::thread t([&] { result = replay(r); });
  EXPECT_TRUE(eventually([&] { return inside.load(); }));
  EXPECT_EQ(rc_region_cancel(r, nullptr), RC_PENDING);
  rc_region_release(r, nullptr);
  go = true;
  t.join();
  EXPECT_EQ(result, RC_E_STATE);
  EXPECT_EQ(host.live(), 0u);
  EXPECT_EQ(host.stats().regions_live, 0u);
}

TEST_F(Replay, ACycleOfWaitsIsRefusedNotWaitedFor) {
  rc_region* r[2];
  std::atomic<int> inside{0};
  std::atomic<int> refused{0}, entered[2] = {0, 0};
  mlp->replay = [&](const rc_replay_args* args) {
    // Once one thread has given up, the other one replays its region as well: that goes through.
    if (entered[args->region == r[1]]++ > 0) return produce(args);
    ++inside;
    if (!eventually([&] { return inside >= 2; })) return RC_E_INTERNAL;
    rc_region* other = args->region == r[0] ? r[1] : r[0];
    const rc_status status = replay(other);
    if (status == RC_E_STATE) ++refused;
    return status < 0 ? status : produce(args);
  };
  r[0] = empty();
  r[1] = empty();
  rc_status results[2];
  std::thread t([&] { results[1] = replay(r[1]); });
  results[0] = replay(r[0]);
  t.join();
  EXPECT_EQ(refused, 1);
  EXPECT_NE(results[0] == RC_OK, results[1] == RC_OK);
  for (rc_region* region : r) rc_region_release(region, nullptr);
  EXPECT_EQ(host.live(), 0u);
}

TEST_F(Replay, BegunOnOneThreadReplayedOnAnother) {
  rc_region* r = nullptr;
  std::thread([&] { r = empty(); }).join();
  std::thread([&] { EXPECT_EQ(replay(r), RC_OK); }).join();
  EXPECT_TRUE(filled(view(r, 1), kBytes, 2));
  std::thread([&] { rc_region_release(r, nullptr); }).join();
  EXPECT_EQ(host.live(), 0u);
}

TEST_F(Replay, ManyThreadsAtOnceOnOneContext) {
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) {
        rc_region* r = host.begin(*mlp, {.microbatch = static_cast<uint32_t>(t)});
        alloc(r, 1, kBytes);
        if (rc_region_end(r, nullptr) < 0 || replay(r) < 0 || !filled(view(r, 1), kBytes, 2))
          ++wrong;
        rc_region_release(r, nullptr);
      }
    });
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(host.live(), 0u);
  EXPECT_EQ(host.stats().replays, 800u);
}

TEST_F(Replay, AnInnerFailureIsToldWithTheOuterOne) {
  mlp->replay = [](const rc_replay_args* args) { return try_alloc(args->region, 17, 5); };
  rc_region* r = empty();
  EXPECT_EQ(replay(r), RC_E_ARGUMENT);
  EXPECT_NE(last_message().find("slot 17"), std::string::npos) << last_message();
  rc_region_release(r, nullptr);
}

TEST_F(Replay, WaitsForTheFenceOfAnOwnedInput) {
  rc_fence* fence = nullptr;
  ASSERT_EQ(rc_fence_create(host.context, &fence), RC_OK);
  rc_region* r = host.begin(*mlp);
  rc_save item = rc_save_init();
  item.tensor = wrap(input, kBytes, nullptr);
  item.fence = fence;
  ASSERT_EQ(rc_region_save(r, &item, 1, sizeof item, nullptr, nullptr), RC_OK);
  alloc(r, 1, kBytes);
  ASSERT_EQ(rc_region_end(r, nullptr), RC_OK);
  std::atomic<bool> signalled{false};
  mlp->replay = [&](const rc_replay_args* args) {
    EXPECT_TRUE(signalled);
    return produce(args);
  };
  std::thread t([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    signalled = true;
    EXPECT_EQ(rc_fence_signal(fence, RC_OK), RC_OK);
  });
  EXPECT_EQ(replay(r), RC_OK);
  t.join();
  rc_region_release(r, nullptr);
  rc_fence_release(fence);
}

}  // namespace
}  // namespace rc::testing
