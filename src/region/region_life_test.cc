// src/region/region_life_test.cc: every call in every state of a region, and who keeps it alive.
#include "src/region/testing_host.h"

namespace rc::testing {
namespace {

constexpr uint64_t kBytes = 4096;

// One module of a recomputed kind: x -> saved h -> y.
struct RegionLife : ::testing::Test {
  RegionLife() {
    host.recompute({"mlp"});
    mlp =
        &host.module("mlp", 3, {in("x"), saved("h"), out("y")}, [this](const rc_replay_args* args) {
          missing_seen.assign(args->missing, args->missing + args->n_missing);
          for (uint32_t i = 0; i < args->n_missing; ++i)
            fill(alloc(args->region, args->missing[i], kBytes), kBytes, 1);
          return RC_OK;
        });
  }
  rc_region* open() {
    rc_region* r = host.begin(*mlp);
    EXPECT_EQ(save_bytes(r, 0, input, kBytes), RC_OK);
    fill(alloc(r, 1, kBytes), kBytes, 1);
    alloc(r, 2, kBytes);
    return r;
  }
  rc_region* empty() {
    rc_region* r = open();
    EXPECT_EQ(rc_region_end(r, nullptr), RC_OK);
    return r;
  }
  rc_region* ready() {
    rc_region* r = empty();
    EXPECT_EQ(replay(r), RC_OK) << last_message();
    return r;
  }
  rc_region* cancelled() {
    rc_region* r = empty();
    EXPECT_EQ(rc_region_cancel(r, nullptr), RC_OK);
    return r;
  }
  // A call that fails must leave this as it is.
  std::string picture(rc_region* r) {
    const rc_region_info i = info(r);
    std::string text = format("%d %u %llu %llu %llu live %llu:", i.state, i.n_slots,
                              static_cast<unsigned long long>(i.held_bytes),
                              static_cast<unsigned long long>(i.dropped_bytes),
                              static_cast<unsigned long long>(i.replays),
                              static_cast<unsigned long long>(host.live()));
    for (uint32_t k = 0; k < i.n_slots; ++k) {
      const rc_slot_info s = slot_info(r, k);
      text += format(" %s %u %u %llu", s.name, s.present, s.linked,
                     static_cast<unsigned long long>(s.bytes));
    }
    return text;
  }
  void refuses(rc_region* r, rc_status expected, rc_status status) {
    EXPECT_EQ(status, expected) << last_message();
    EXPECT_EQ(picture(r), before);
    EXPECT_EQ(last_error().region_id, info(r).id);
  }
  void remember(rc_region* r) { before = picture(r); }

  Host host;
  TestModule* mlp;
  char input[kBytes] = {};
  std::vector<uint32_t> missing_seen;
  std::string before;
};

TEST_F(RegionLife, GoesFromOpenOverEmptyToReady) {
  rc_region* r = open();
  EXPECT_EQ(state(r), RC_REGION_OPEN);
  EXPECT_EQ(host.live(), 3 * kBytes);
  EXPECT_EQ(rc_region_end(r, nullptr), RC_OK);
  EXPECT_EQ(state(r), RC_REGION_EMPTY);
  EXPECT_EQ(host.live(), 2 * kBytes);
  EXPECT_EQ(info(r).held_bytes, 2 * kBytes);
  EXPECT_EQ(info(r).dropped_bytes, kBytes);
  EXPECT_EQ(rc_region_discard(r, nullptr), RC_PASS);  // a normal kind keeps its output
  EXPECT_EQ(missing(r), std::vector<uint32_t>{1});
  EXPECT_EQ(replay(r), RC_OK);
  EXPECT_EQ(missing_seen, std::vector<uint32_t>{1});
  EXPECT_EQ(state(r), RC_REGION_READY);
  EXPECT_TRUE(filled(view(r, 1), kBytes, 1));
  EXPECT_EQ(info(r).dropped_bytes, 0u);
  EXPECT_EQ(replay(r), RC_OK);
  EXPECT_EQ(mlp->calls, 1);
  rc_region_release(r, nullptr);
  EXPECT_EQ(host.live(), 0u);
  EXPECT_EQ(host.stats().regions_live, 0u);
}

TEST_F(RegionLife, IsSealedWhereNothingIsDropped) {
  ASSERT_EQ(rc_context_configure(host.context, nullptr), RC_OK);
  rc_region* r = empty();
  EXPECT_EQ(state(r), RC_REGION_SEALED);
  EXPECT_EQ(host.live(), 3 * kBytes);
  EXPECT_TRUE(missing(r).empty());
  EXPECT_EQ(replay(r), RC_OK);
  EXPECT_EQ(mlp->calls, 0);
  EXPECT_EQ(state(r), RC_REGION_SEALED);
  rc_region_release(r, nullptr);
}

TEST_F(RegionLife, OpenRefusesWhatComesAfterItsEnd) {
  rc_region* r = open();
  remember(r);
  refuses(r, RC_E_STATE, rc_region_discard(r, nullptr));
  refuses(r, RC_E_STATE, rc_region_prefetch(r, nullptr));
  refuses(r, RC_E_STATE, rc_region_done(r, 1, nullptr));
  refuses(r, RC_E_STATE, replay(r));
  refuses(r, RC_E_STATE, save_bytes(r, 0, input, kBytes));  // has content
  refuses(r, RC_E_STATE, try_alloc(r, 1, kBytes));
  refuses(r, RC_E_ARGUMENT, try_alloc(r, 3, kBytes));
  refuses(r, RC_E_UNSUPPORTED, rc_region_forward(r, nullptr));
  rc_region_release(r, nullptr);
}

TEST_F(RegionLife, EndedRefusesNewContent) {
  for (rc_region* r : {empty(), ready(), cancelled()}) {
    remember(r);
    uint32_t added = 9;
    const rc_slot_desc extra = saved("extra");
    Bytes spec(16, input);
    rc_rng rng = rc_rng_init();
    refuses(r, RC_E_STATE, save_bytes(r, 0, input, kBytes));
    refuses(r, RC_E_STATE, try_alloc(r, 1, kBytes));
    refuses(r, RC_E_STATE, rc_region_output(r, 2, RC_OUTPUT_KEEP, &spec.spec, nullptr));
    refuses(r, RC_E_STATE, rc_region_slot_add(r, &extra, &added));
    refuses(r, RC_E_STATE, rc_region_end(r, nullptr));
    refuses(r, RC_E_STATE, rc_region_rng(r, 1, &rng));
    rc_region* nested = reinterpret_cast<rc_region*>(&added);
    EXPECT_EQ(host.try_begin(*mlp, {.parent = r}, &nested), RC_E_STATE);
    EXPECT_EQ(nested, nullptr);
    rc_region_release(r, nullptr);
  }
  EXPECT_EQ(host.live(), 0u);
}

TEST_F(RegionLife, EmptyRefusesToShowWhatIsMissing) {
  rc_region* r = empty();
  remember(r);
  char target[kBytes];
  rc_tensor* tensor = reinterpret_cast<rc_tensor*>(target);
  refuses(r, RC_E_STATE, try_view(r, 1));
  refuses(r, RC_E_STATE, rc_region_tensor(r, 1, nullptr, &tensor));
  EXPECT_EQ(tensor, nullptr);
  refuses(r, RC_E_STATE, rc_region_restore(r, 1, nullptr, Bytes(kBytes, target).get()));
  EXPECT_EQ(try_view(r, 0), RC_OK);
  rc_region_release(r, nullptr);
  EXPECT_EQ(host.stats().regions_abandoned, 1u);
}

TEST_F(RegionLife, CancelledHoldsNothingAndIsNeverReplayed) {
  for (int i = 0; i < 3; ++i) {
    rc_region* r = i == 0 ? open() : i == 1 ? empty() : ready();
    EXPECT_EQ(rc_region_cancel(r, nullptr), RC_OK);
    EXPECT_EQ(state(r), RC_REGION_CANCELLED);
    EXPECT_EQ(host.live(), 0u);
    EXPECT_EQ(rc_region_cancel(r, nullptr), RC_PASS);
    remember(r);
    refuses(r, RC_E_STATE, replay(r));
    refuses(r, RC_E_STATE, try_view(r, 1));
    EXPECT_EQ(rc_region_discard(r, nullptr), RC_PASS);
    EXPECT_GE(rc_region_done(r, 1, nullptr), 0);
    rc_region_release(r, nullptr);
  }
  EXPECT_EQ(host.stats().regions_live, 0u);
  EXPECT_EQ(host.stats().regions_cancelled, 3u);
}

TEST_F(RegionLife, ReleaseIsLegalInEveryState) {
  for (rc_region* r : {host.begin(*mlp), open(), empty(), ready(), cancelled()})
    rc_region_release(r, nullptr);
  EXPECT_EQ(host.live(), 0u);
  EXPECT_EQ(host.stats().regions_live, 0u);
}

TEST_F(RegionLife, BeingReplayedRefusesReentryDoneAndEnd) {
  mlp->replay = [&](const rc_replay_args* args) {
    rc_region* r = args->region;
    EXPECT_EQ(info(r).phase, RC_PHASE_REPLAY);
    EXPECT_EQ(rc_region_phase(r), RC_PHASE_REPLAY);
    EXPECT_EQ(replay(r), RC_E_STATE);
    EXPECT_EQ(rc_region_done(r, 0, nullptr), RC_E_STATE);
    EXPECT_EQ(rc_region_end(r, nullptr), RC_E_STATE);
    EXPECT_EQ(rc_region_discard(r, nullptr), RC_PASS);
    EXPECT_EQ(try_view(r, 1), RC_E_STATE);
    EXPECT_EQ(rc_region_wants(r, 0), RC_PASS);
    EXPECT_EQ(rc_region_wants(r, 1), RC_OK);
    EXPECT_EQ(rc_region_wants(r, 2), RC_PASS);
    EXPECT_EQ(missing(r), std::vector<uint32_t>{1});
    EXPECT_EQ(alloc(r, 2, kBytes), nullptr);  // not wanted
    EXPECT_EQ(try_alloc(r, 1, kBytes / 2), RC_E_MISMATCH);
    alloc(r, 1, kBytes);
    EXPECT_EQ(try_alloc(r, 1, kBytes), RC_E_STATE);
    return RC_OK;
  };
  rc_region* r = empty();
  EXPECT_EQ(replay(r), RC_OK) << last_message();
  EXPECT_EQ(rc_region_phase(r), RC_PHASE_FORWARD);
  rc_region_release(r, nullptr);
}

TEST_F(RegionLife, AStepCannotEndWhileItsRegionIsReplayed) {
  rc_step* step = host.step();
  mlp->replay = [&](const rc_replay_args* args) {
    rc_step_report report = rc_step_report_init();
    EXPECT_EQ(rc_step_end(step, nullptr, &report), RC_E_STATE);
    alloc(args->region, 1, kBytes);
    return RC_OK;
  };
  rc_region* r = host.begin(*mlp, {.step = step});
  alloc(r, 1, kBytes);
  ASSERT_EQ(rc_region_end(r, nullptr), RC_OK);
  EXPECT_EQ(replay(r), RC_OK);
  rc_region_release(r, nullptr);
  EXPECT_EQ(host.end_step(step).replays, 1u);
}

TEST_F(RegionLife, NullRegionsPassEverywhere) {
  rc_region* none = nullptr;
  Bytes spec(16, input);
  rc_tensor_spec got = rc_tensor_spec_init();
  rc_tensor* tensor = reinterpret_cast<rc_tensor*>(input);
  rc_rng rng = rc_rng_init();
  rc_slot_desc extra = saved("extra");
  uint32_t n = 7;
  EXPECT_EQ(rc_region_save(none, nullptr, 0, 0, nullptr, nullptr), RC_PASS);
  EXPECT_EQ(rc_region_slot_add(none, &extra, &n), RC_PASS);
  got.data = input;
  EXPECT_EQ(rc_region_alloc(none, 0, &spec.spec, nullptr, &got), RC_PASS);
  EXPECT_EQ(got.data, nullptr);
  EXPECT_EQ(rc_region_output(none, 0, RC_OUTPUT_KEEP, &spec.spec, nullptr), RC_PASS);
  EXPECT_EQ(rc_region_forward(none, nullptr), RC_PASS);
  EXPECT_EQ(rc_region_end(none, nullptr), RC_PASS);
  EXPECT_EQ(rc_region_discard(none, nullptr), RC_PASS);
  EXPECT_EQ(rc_region_prefetch(none, nullptr), RC_PASS);
  EXPECT_EQ(rc_backward_replay(&none, 1, nullptr), RC_PASS);
  EXPECT_EQ(rc_backward_replay(nullptr, 0, nullptr), RC_PASS);
  got.data = input;
  EXPECT_EQ(rc_region_view(none, 0, nullptr, &got), RC_PASS);
  EXPECT_EQ(got.data, nullptr);
  EXPECT_EQ(rc_region_tensor(none, 0, nullptr, &tensor), RC_PASS);
  EXPECT_EQ(tensor, nullptr);
  EXPECT_EQ(rc_region_restore(none, 0, nullptr, &spec.spec), RC_PASS);
  EXPECT_EQ(rc_region_done(none, 0, nullptr), RC_PASS);
  EXPECT_EQ(rc_region_wants(none, 0), RC_OK);  // always in its forward
  n = 7;
  EXPECT_EQ(rc_region_missing(none, nullptr, 0, &n), RC_PASS);
  EXPECT_EQ(n, 0u);
  EXPECT_EQ(rc_region_decide(none, 0, &spec.spec, nullptr), RC_PASS);
  EXPECT_EQ(rc_region_rng(none, 1, &rng), RC_PASS);
  EXPECT_EQ(rc_region_phase(none), RC_PHASE_FORWARD);
  rc_region_info region_info = rc_region_info_init();
  region_info.id = 5;
  EXPECT_EQ(rc_region_query(none, &region_info), RC_PASS);
  EXPECT_EQ(region_info.id, 0u);
  rc_slot_info si = rc_slot_info_init();
  si.bytes = 5;
  EXPECT_EQ(rc_region_slot_query(none, 0, &si), RC_PASS);
  EXPECT_EQ(si.bytes, 0u);
  EXPECT_EQ(rc_region_retain(none), RC_PASS);
  EXPECT_EQ(rc_region_cancel(none, nullptr), RC_PASS);
  rc_region_release(none, nullptr);
}

TEST_F(RegionLife, IdsAreNeverReusedAcrossContexts) {
  Host other;
  TestModule& there = other.module("mlp", 0, {saved("h")});
  std::vector<uint64_t> ids;
  for (int i = 0; i < 20; ++i) {
    rc_region* a = host.begin(*mlp);
    rc_region* b = other.begin(there);
    ids.push_back(info(a).id);
    ids.push_back(info(b).id);
    rc_region_release(a, nullptr);
    rc_region_release(b, nullptr);
  }
  std::sort(ids.begin(), ids.end());
  EXPECT_EQ(std::unique(ids.begin(), ids.end()), ids.end());
  rc_region* found = mlp ? reinterpret_cast<rc_region*>(&ids) : nullptr;
  EXPECT_EQ(rc_region_find(host.context, ids[0], &found), RC_PASS);
  EXPECT_EQ(found, nullptr);
  EXPECT_EQ(rc_region_find(host.context, 0, &found), RC_PASS);
}

TEST_F(RegionLife, FindAndLookupAddACount) {
  rc_step* step = host.step();
  rc_region* first = host.begin(*mlp, {.step = step, .microbatch = 4});
  rc_region* second = host.begin(*mlp, {.step = step, .microbatch = 4});
  rc_region* found = nullptr;
  EXPECT_EQ(rc_region_find(host.context, info(first).id, &found), RC_OK);
  EXPECT_EQ(found, first);
  rc_region_release(first, nullptr);
  EXPECT_EQ(state(found), RC_REGION_OPEN);  // find's count keeps it
  rc_region_key key = rc_region_key_init();
  key.step = step;
  key.module = *mlp;
  key.microbatch = 4;
  rc_region* latest = nullptr;
  EXPECT_EQ(rc_region_lookup(host.context, &key, &latest), RC_OK);
  EXPECT_EQ(latest, second);
  key.occurrence = 1;
  rc_region* by_key = nullptr;
  EXPECT_EQ(rc_region_lookup(host.context, &key, &by_key), RC_OK);
  EXPECT_EQ(by_key, first);
  key.occurrence = 3;
  rc_region* none = first;
  EXPECT_EQ(rc_region_lookup(host.context, &key, &none), RC_PASS);
  EXPECT_EQ(none, nullptr);
  key.occurrence = 0;
  key.step = nullptr;
  EXPECT_EQ(rc_region_lookup(host.context, &key, &none), RC_PASS);
  EXPECT_EQ(rc_region_retain(second), RC_OK);
  for (rc_region* r : {found, by_key, second, latest}) rc_region_release(r, nullptr);
  EXPECT_EQ(host.stats().regions_live, 1u);  // the retained one
  rc_region_release(second, nullptr);
  EXPECT_EQ(host.stats().regions_live, 0u);
  EXPECT_EQ(host.end_step(step).regions_purged, 0u);
}

TEST_F(RegionLife, AStepPurgesWhatIsLeftInItAndCountsIt) {
  rc_step* step = host.step();
  int destroyed = 0;
  const auto count = [](void* n) { ++*static_cast<int*>(n); };
  rc_region* kept = host.begin(*mlp, {.step = step, .user_data = &destroyed, .destroy = count});
  rc_region* gone = host.begin(*mlp, {.step = step, .user_data = &destroyed, .destroy = count});
  alloc(kept, 1, kBytes);
  rc_region_release(gone, nullptr);
  EXPECT_EQ(destroyed, 1);
  const rc_step_report report = host.end_step(step);
  EXPECT_EQ(report.regions_begun, 2u);
  EXPECT_EQ(report.regions_purged, 1u);
  EXPECT_EQ(report.peak_bytes, kBytes);
  EXPECT_EQ(host.live(), 0u);
  EXPECT_EQ(state(kept), RC_REGION_CANCELLED);  // the handle stays valid
  EXPECT_EQ(destroyed, 1);
  rc_region_release(kept, nullptr);
  EXPECT_EQ(destroyed, 2);
}

TEST_F(RegionLife, AddedSlotsAreNumberedOnAndFollowTheRole) {
  rc_region* r = host.begin(*mlp);
  rc_tensor_spec view_of_h = rc_tensor_spec_init();
  EXPECT_EQ(rc_region_alloc(r, 1, Bytes(kBytes).get(), nullptr, &view_of_h), RC_OK);
  for (uint32_t i = 0; i < 40; ++i) {
    const std::string name = format("extra%u", i);
    const rc_slot_desc desc = slot(name.c_str(), i % 2 ? RC_ROLE_SAVED : RC_ROLE_INPUT);
    uint32_t index = 0;
    ASSERT_EQ(rc_region_slot_add(r, &desc, &index), RC_OK);
    EXPECT_EQ(index, 3 + i);
    alloc(r, index, 100);
  }
  EXPECT_EQ(view_of_h.shape[0], static_cast<int64_t>(kBytes));  // valid as long as data is
  const rc_slot_desc again = saved("extra7"), declared = saved("h");
  uint32_t index = 99;
  EXPECT_EQ(rc_region_slot_add(r, &again, &index), RC_E_ARGUMENT);
  EXPECT_EQ(rc_region_slot_add(r, &declared, &index), RC_E_ARGUMENT);
  EXPECT_EQ(info(r).n_slots, 43u);
  EXPECT_EQ(rc_region_end(r, nullptr), RC_OK);
  EXPECT_EQ(host.live(), 20 * 100u);  // SAVED ones are recomputed, INPUT ones kept
  EXPECT_EQ(missing(r).size(), 21u);
  rc_region_release(r, nullptr);
  rc_region* next = host.begin(*mlp);  // the pool must not hand on what was added
  EXPECT_EQ(info(next).n_slots, 3u);
  rc_region_release(next, nullptr);
}

TEST_F(RegionLife, AnotherContextsHandlesAreRefused) {
  Host other;
  TestModule& there = other.module("mlp", 0, {saved("h")});
  rc_region* region = nullptr;
  EXPECT_EQ(host.try_begin(there, {}, &region), RC_E_HANDLE);
  rc_region* mine = host.begin(*mlp);
  rc_region* theirs = other.begin(there);
  alloc(theirs, 0, 16);
  EXPECT_EQ(host.try_begin(*mlp, {.parent = theirs}, &region), RC_E_HANDLE);
  EXPECT_EQ(save_link(mine, 0, theirs, 0), RC_E_HANDLE);
  rc_region* both[] = {mine, theirs};
  EXPECT_EQ(rc_backward_replay(both, 2, nullptr), RC_E_HANDLE);
  rc_step* step = other.step();
  EXPECT_EQ(host.try_begin(*mlp, {.step = step}, &region), RC_E_HANDLE);
  other.end_step(step);
  rc_region_release(mine, nullptr);
  rc_region_release(theirs, nullptr);
}

TEST_F(RegionLife, MayPassWhereNothingIsAskedOfTheSite) {
  TestModule& plain = host.module("core_attn", 0, {saved("p")});
  rc_region* r = reinterpret_cast<rc_region*>(input);
  EXPECT_EQ(host.try_begin(plain, {.flags = RC_REGION_MAY_PASS}, &r), RC_PASS);
  EXPECT_EQ(r, nullptr);
  EXPECT_EQ(host.stats().regions_passed, 1u);
  EXPECT_EQ(host.try_begin(*mlp, {.flags = RC_REGION_MAY_PASS}, &r), RC_OK);
  rc_region_release(r, nullptr);
  Host profiled(RC_CONTEXT_PROFILE);
  TestModule& seen = profiled.module("core_attn", 0, {saved("p")});
  EXPECT_EQ(profiled.try_begin(seen, {.flags = RC_REGION_MAY_PASS}, &r), RC_OK);
  rc_region_release(r, nullptr);
}

TEST_F(RegionLife, EvaluationKeepsNothingAfterItsEnd) {
  TestModule& router = host.module("moe", 0, {in("x"), saved("h"), out("y"), decision("choice")});
  for (rc_policy* policy : {static_cast<rc_policy*>(nullptr)})
    ASSERT_EQ(rc_context_configure(host.context, policy), RC_OK);
  rc_step* step = host.step(RC_PHASE_EVALUATION);
  rc_region* r = host.begin(router, {.step = step});
  EXPECT_EQ(rc_region_phase(r), RC_PHASE_EVALUATION);
  EXPECT_EQ(save_bytes(r, 0, input, kBytes), RC_OK);
  alloc(r, 1, kBytes);
  alloc(r, 2, kBytes);
  EXPECT_EQ(rc_region_decide(r, 3, Bytes(64, input).get(), nullptr), RC_OK);
  EXPECT_EQ(rc_region_end(r, nullptr), RC_OK);
  EXPECT_EQ(host.live(), kBytes);  // the output, which the next module reads
  EXPECT_EQ(rc_region_discard(r, nullptr), RC_OK);
  EXPECT_EQ(host.live(), 0u);
  EXPECT_EQ(replay(r), RC_E_STATE);
  rc_region_release(r, nullptr);
  host.end_step(step);
}

// RC_SLOT_HOST: nothing is allocated, yet replay is asked for the slot, once, in every way of
// running it.
TEST(HostSlot, IsMissingWhereThePolicyDropsItAndBackAfterReplay) {
  Host host;
  host.recompute({"mlp"});
  rc_slot_desc mine = saved("mine");
  mine.flags = RC_SLOT_HOST;
  int calls = 0;
  TestModule& mlp = host.module("mlp", 0, {mine}, [&](const rc_replay_args* args) {
    EXPECT_EQ(args->n_missing, 1u);
    EXPECT_EQ(args->missing[0], 0u);
    return ++calls == 1 ? RC_E_HOST : RC_OK;
  });
  rc_region* r = host.begin(mlp);
  EXPECT_EQ(rc_region_end(r, nullptr), RC_OK);
  EXPECT_EQ(info(r).state, RC_REGION_EMPTY);
  EXPECT_EQ(replay(r), RC_E_HOST);  // and it can be tried again
  EXPECT_EQ(info(r).state, RC_REGION_EMPTY);
  EXPECT_EQ(replay(r), RC_OK) << last_message();
  EXPECT_EQ(replay(r), RC_OK) << last_message();
  EXPECT_EQ(info(r).state, RC_REGION_READY);
  EXPECT_EQ(calls, 2);
  rc_tensor_spec view = rc_tensor_spec_init();
  EXPECT_EQ(rc_region_view(r, 0, nullptr, &view), RC_E_STATE);
  EXPECT_EQ(rc_region_restore(r, 0, nullptr, Bytes(8).get()), RC_E_STATE);
  EXPECT_EQ(save_bytes(r, 0, nullptr, 8), RC_E_STATE);
  EXPECT_EQ(host.live(), 0u);
  rc_region_release(r, nullptr);
}

TEST(HostOutput, CannotBeReadWhereTheCoreWasNotToldItsAddress) {
  Host host;
  TestModule& mlp = host.module("mlp", 0, {out("y"), out("empty")}, nullptr, {.host_slots = true});
  for (const rc_output_mode mode : {RC_OUTPUT_KEEP, RC_OUTPUT_HOST}) {
    rc_region* r = host.begin(mlp);
    EXPECT_EQ(rc_region_output(r, 0, mode, Bytes(8).get(), nullptr), RC_OK) << last_message();
    EXPECT_EQ(rc_region_output(r, 1, mode, Bytes(0).get(), nullptr), RC_OK) << last_message();
    EXPECT_EQ(rc_region_end(r, nullptr), RC_OK);
    char to[8];
    rc_tensor_spec view = rc_tensor_spec_init();
    EXPECT_EQ(rc_region_view(r, 0, nullptr, &view), RC_E_STATE);
    EXPECT_EQ(rc_region_restore(r, 0, nullptr, Bytes(8, to).get()), RC_E_STATE);
    EXPECT_EQ(rc_region_restore(r, 1, nullptr, Bytes(0).get()), RC_OK) << last_message();
    rc_region_release(r, nullptr);
  }
}

TEST(HostSlot, IsKeptWhereNoRuleNamesItAndOnlyASavedSlotCanBeOne) {
  Host host;
  rc_slot_desc mine = saved("mine");
  mine.flags = RC_SLOT_HOST;
  TestModule& mlp = host.module("mlp", 0, {mine}, [](const rc_replay_args*) { return RC_E_HOST; });
  rc_region* r = host.begin(mlp);
  EXPECT_EQ(rc_region_end(r, nullptr), RC_OK);
  EXPECT_EQ(info(r).state, RC_REGION_SEALED);
  EXPECT_EQ(replay(r), RC_OK) << last_message();
  rc_region_release(r, nullptr);

  r = host.begin(mlp);
  mine.name = "another";
  uint32_t slot = 0;
  EXPECT_EQ(rc_region_slot_add(r, &mine, &slot), RC_OK) << last_message();
  mine.name = "output";
  mine.role = RC_ROLE_OUTPUT;
  EXPECT_EQ(rc_region_slot_add(r, &mine, &slot), RC_E_ARGUMENT);
  rc_region_release(r, nullptr);
}

}  // namespace
}  // namespace rc::testing
