// src/region/region_stream_test.cc: work on several streams of the fake device is ordered wherever
// memory is shared.
#include "src/region/testing_model.h"

namespace rc::testing {
namespace {

using Execution = FakeDevice::Execution;

constexpr uint64_t kBytes = 4096;

Stream stream(uintptr_t n) {
  return FakeDevice::stream(n);
}

struct RegionStream : ::testing::TestWithParam<Execution> {
  RegionStream() : host(GetParam()) {}
  void expect_no_violations() {
    for (const std::string& sentence : host.log->violations()) ADD_FAILURE() << sentence;
  }
  void write(Stream s, char* p, uint64_t bytes, int seed) {
    host.fake->launch(s, {{p, bytes, true}}, [=] { fill(p, bytes, seed); });
  }
  void read(Stream s, const char* p, uint64_t bytes, int seed) {
    host.fake->launch(s, {{p, bytes, false}}, [=, this] { wrong += !filled(p, bytes, seed); });
  }
  int wrong = 0;
  Host host;
};

TEST_P(RegionStream, AReaderOnAnotherStreamWaitsForTheWriterAndHoldsUpTheDrop) {
  host.recompute({"layernorm"});
  TestModule& norm = host.module("layernorm", 0, {out("y")}, [&](const rc_replay_args* args) {
    write(args->stream, alloc(args->region, 0, kBytes, args->stream), kBytes, 1);
    return RC_OK;
  });
  rc_region* r = host.begin(norm, {.stream = stream(1)});
  write(stream(1), alloc(r, 0, kBytes, stream(1)), kBytes, 1);
  ASSERT_EQ(rc_region_end(r, stream(1)), RC_OK);
  read(stream(2), view(r, 0, stream(2)), kBytes, 1);
  read(stream(3), view(r, 0, stream(3)), kBytes, 1);
  ASSERT_EQ(rc_region_discard(r, stream(1)), RC_OK);
  ASSERT_EQ(replay(r, stream(4)), RC_OK);
  read(stream(2), view(r, 0, stream(2)), kBytes, 1);
  EXPECT_EQ(rc_region_done(r, 0, stream(5)), RC_OK);
  rc_region_release(r, stream(6));
  host.close();
  EXPECT_EQ(wrong, 0);
  expect_no_violations();
}

TEST_P(RegionStream, MoreReadersThanAreRemembered) {
  TestModule& m = host.module("core_attn", 0, {saved("p")});
  rc_region* r = host.begin(m, {.stream = stream(1)});
  write(stream(1), alloc(r, 0, kBytes, stream(1)), kBytes, 1);
  for (uintptr_t s = 2; s < 12; ++s) read(stream(s), view(r, 0, stream(s)), kBytes, 1);
  ASSERT_EQ(rc_region_end(r, stream(1)), RC_OK);
  rc_region_release(r, stream(20));
  rc_region* next = host.begin(m, {.stream = stream(21)});
  write(stream(21), alloc(next, 0, kBytes, stream(21)), kBytes, 2);
  rc_region_release(next, stream(21));
  host.close();
  EXPECT_EQ(wrong, 0);
  expect_no_violations();
}

TEST_P(RegionStream, ADroppedBlockReleasedOnAnotherStreamIsFreedInOrder) {
  host.recompute({"mlp"});
  for (bool parkable : {true, false}) {
    host.fake->set_parkable(parkable);
    TestModule& m = host.module("mlp", 0, {saved("h")});
    rc_region* r = host.begin(m, {.stream = stream(1)});
    write(stream(1), alloc(r, 0, kBytes, stream(1)), kBytes, 1);
    ASSERT_EQ(rc_region_end(r, stream(1)), RC_OK);
    rc_region_release(r, stream(2));
  }
  host.close();
  expect_no_violations();
}

TEST_P(RegionStream, StepsOnChangingStreamsShareTheArena) {
  host.recompute({"layernorm", "core_attn", "mlp"});
  Model model(host, 3);
  for (uintptr_t s = 1; s <= 5; ++s) {
    rc_step* step = host.step();
    // Microbatches on two streams of their own; backward on others.
    model.forward(step, 0, 1, stream(2 * s));
    model.forward(step, 1, 2, stream(2 * s + 1));
    model.backward(1, stream(2 * s));
    model.backward(0, stream(3 * s));
    const rc_step_report report = host.end_step(step, stream(s));
    if (s > 1) EXPECT_GT(report.arena_bytes, 0u);
  }
  EXPECT_EQ(host.live(), 0u);
  host.close();
  expect_no_violations();
}

TEST_P(RegionStream, GapsOfTheArenaAreReusedInOrder) {
  host.recompute({"layernorm"});
  TestModule& norm = host.module("layernorm", 0, {out("y")}, [&](const rc_replay_args* args) {
    write(args->stream, alloc(args->region, 0, kBytes, args->stream), kBytes, 1);
    return RC_OK;
  });
  TestModule& other = host.module("core_attn", 0, {saved("p")});
  char* places[2] = {};
  for (uintptr_t i = 0; i < 4; ++i) {
    const Stream a = stream(10 + i), b = stream(20 + i), c = stream(30 + i);
    rc_step* step = host.step();
    rc_region* r = host.begin(norm, {.step = step, .stream = a});
    write(a, places[0] = alloc(r, 0, kBytes, a), kBytes, 1);
    ASSERT_EQ(rc_region_end(r, a), RC_OK);
    read(b, view(r, 0, b), kBytes, 1);
    ASSERT_EQ(rc_region_discard(r, a), RC_OK);
    rc_region* gap = host.begin(other, {.step = step, .stream = c});
    write(c, places[1] = alloc(gap, 0, kBytes, c), kBytes, 2);
    if (i > 0) EXPECT_EQ(places[0], places[1]);
    read(b, view(gap, 0, b), kBytes, 2);
    rc_region_release(gap, c);
    ASSERT_EQ(replay(r, b), RC_OK);
    read(c, view(r, 0, c), kBytes, 1);
    rc_region_release(r, a);
    host.end_step(step, a);
  }
  host.close();
  EXPECT_EQ(wrong, 0);
  expect_no_violations();
}

TEST_P(RegionStream, AReplanFreesTheOldArenaAfterItsLastUse) {
  TestModule& m = host.module("core_attn", 0, {saved("p")});
  for (uintptr_t i = 0; i < 8; ++i) {
    if (i == 4) ASSERT_EQ(rc_context_configure(host.context, nullptr), RC_OK);
    rc_step* step = host.step();
    rc_region* r = host.begin(m, {.step = step, .stream = stream(1 + i)});
    write(stream(1 + i), alloc(r, 0, kBytes * (1 + i / 3), stream(1 + i)), kBytes, 1);
    rc_region_release(r, stream(1 + i));
    host.end_step(step, stream(40));
  }
  host.close();
  expect_no_violations();
}

TEST_P(RegionStream, LinksAndBorrowedViewsKeepTheOrder) {
  host.recompute({"layernorm", "mlp"});
  TestModule& norm =
      host.module("layernorm", 0, {in("x"), out("y")}, [&](const rc_replay_args* args) {
        write(args->stream, alloc(args->region, 1, kBytes, args->stream), kBytes, 1);
        return RC_OK;
      });
  TestModule& keep = host.module("core_attn", 0, {in("x"), saved("s")});
  std::vector<char> mine(kBytes);
  host.fake->adopt(mine.data(), kBytes);
  write(stream(1), mine.data(), kBytes, 3);
  rc_region* a = host.begin(norm, {.stream = stream(1)});
  ASSERT_EQ(save_bytes(a, 0, mine.data(), kBytes, stream(1)), RC_OK);
  host.fake->disown(mine.data(), stream(1));
  write(stream(1), alloc(a, 1, kBytes, stream(1)), kBytes, 1);
  ASSERT_EQ(rc_region_end(a, stream(1)), RC_OK);
  rc_region* b = host.begin(keep, {.stream = stream(2)});
  ASSERT_EQ(save_link(b, 0, a, 1), RC_OK);
  read(stream(2), view(b, 0, stream(2)), kBytes, 1);
  ASSERT_EQ(rc_region_end(b, stream(2)), RC_OK);
  ASSERT_EQ(rc_region_discard(a, stream(2)), RC_OK);
  ASSERT_EQ(replay(b, stream(3)), RC_OK) << last_message();
  read(stream(4), view(b, 0, stream(4)), kBytes, 1);
  read(stream(5), view(a, 0, stream(5)), kBytes, 3);
  rc_tensor* exported = nullptr;
  ASSERT_EQ(rc_region_tensor(b, 0, stream(6), &exported), RC_OK);
  rc_region_release(a, stream(3));
  rc_region_release(b, stream(4));
  rc_tensor_spec got = rc_tensor_spec_init();
  ASSERT_EQ(rc_tensor_view(exported, &got), RC_OK);
  read(stream(6), static_cast<char*>(got.data), kBytes, 1);
  rc_tensor_release(exported);
  host.close();
  EXPECT_EQ(wrong, 0);
  expect_no_violations();
}

// The checker sees what the tests above would have to see.
TEST_P(RegionStream, AReadWithoutAViewOnItsStreamIsReported) {
  TestModule& m = host.module("core_attn", 0, {saved("p")});
  rc_region* r = host.begin(m, {.stream = stream(1)});
  char* p = alloc(r, 0, kBytes, stream(1));
  write(stream(1), p, kBytes, 1);
  read(stream(2), p, kBytes, 1);  // no rc_region_view on stream 2
  EXPECT_FALSE(host.log->violations().empty());
  rc_region_release(r, stream(1));
}

TEST_P(RegionStream, AUseAfterTheReleaseIsReported) {
  TestModule& m = host.module("core_attn", 0, {saved("p")});
  rc_region* r = host.begin(m, {.stream = stream(1)});
  char* p = alloc(r, 0, kBytes, stream(1));
  write(stream(1), p, kBytes, 1);
  rc_region_release(r, stream(1));
  EXPECT_TRUE(host.log->violations().empty());
  read(stream(1), p, kBytes, 1);
  EXPECT_FALSE(host.log->violations().empty());
}

// Every call of the device that can fail, failing: nothing leaks and the retry works.
TEST_P(RegionStream, DeviceFailuresLeaveTheRegionRetryable) {
  host.recompute({"mlp"});
  TestModule& m = host.module("mlp", 0, {in("x"), saved("h")}, [&](const rc_replay_args* args) {
    Bytes want(kBytes);
    rc_tensor_spec got = rc_tensor_spec_init();
    const rc_status status = rc_region_alloc(args->region, 1, &want.spec, args->stream, &got);
    if (status >= 0) write(args->stream, static_cast<char*>(got.data), kBytes, 1);
    return status < 0 ? status : RC_OK;
  });
  std::vector<char> mine(kBytes);
  rc_region* r = host.begin(m, {.stream = stream(1)});
  host.fake->fail_allocate(1);
  EXPECT_EQ(save_bytes(r, 0, mine.data(), kBytes, stream(1)), RC_E_MEMORY);
  EXPECT_EQ(host.live(), 0u);
  host.fake->fail_copy(1);
  EXPECT_EQ(save_bytes(r, 0, mine.data(), kBytes, stream(1)), RC_E_DEVICE);
  EXPECT_EQ(host.live(), 0u);
  EXPECT_EQ(save_bytes(r, 0, mine.data(), kBytes, stream(1)), RC_OK);
  write(stream(1), alloc(r, 1, kBytes, stream(1)), kBytes, 1);
  ASSERT_EQ(rc_region_end(r, stream(1)), RC_OK);
  host.fake->fail_unpark(1);
  EXPECT_EQ(replay(r, stream(2)), RC_E_MEMORY);
  EXPECT_EQ(host.live(), kBytes);
  host.fake->fail_record(1);
  EXPECT_EQ(replay(r, stream(3)), RC_E_DEVICE);
  EXPECT_EQ(host.live(), kBytes);
  EXPECT_EQ(replay(r, stream(3)), RC_OK) << last_message();
  rc_region_release(r, stream(3));
  (void)host.fake->synchronize(stream(1)).ok();
  host.close();
  expect_no_violations();
}

INSTANTIATE_TEST_SUITE_P(Executions, RegionStream,
                         ::testing::Values(Execution::kEager, Execution::kDelayed));

}  // namespace
}  // namespace rc::testing
