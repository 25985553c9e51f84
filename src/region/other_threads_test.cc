// src/region/other_threads_test.cc: what other threads, and the host's own callbacks, may do while
// a call has released the lock in the middle of its work.
#include <atomic>
#include <chrono>
#include <thread>

#include "src/region/testing_host.h"

namespace rc::testing {
namespace {

constexpr uint64_t kBytes = 2048;

// Long enough for a thread that does not wait for us to get far ahead; nothing depends on it.
void give_time() {
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
}

struct OtherThreads : ::testing::Test {
  // mlp: x, h; its h is recomputed. layernorm: x, y; its y is discarded.
  OtherThreads() {
    host.recompute({"mlp", "layernorm"});
    mlp = &host.module("mlp", 0, {in("x"), saved("h")}, produce<1>);
    norm = &host.module("layernorm", 0, {in("x"), out("y")}, produce<1>);
  }
  ~OtherThreads() override {
    EXPECT_EQ(host.live(), 0u);
    EXPECT_EQ(host.stats().regions_live, 0u);
  }
  template <uint32_t slot>
  static rc_status produce(const rc_replay_args* args) {
    fill(alloc(args->region, slot, kBytes), kBytes, 2);
    return RC_OK;
  }
  rc_region* ended(rc_module* module) {
    rc_region* r = host.begin(module);
    EXPECT_EQ(save_bytes(r, 0, input, kBytes), RC_OK);
    fill(alloc(r, 1, kBytes), kBytes, 2);
    EXPECT_EQ(rc_region_end(r, nullptr), RC_OK);
    return r;
  }
  rc_region* reader_of(rc_region* source, rc_module* module) {
    rc_region* r = host.begin(module);
    EXPECT_EQ(save_link(r, 0, source, 1), RC_OK);
    fill(alloc(r, 1, kBytes), kBytes, 2);
    EXPECT_EQ(rc_region_end(r, nullptr), RC_OK);
    return r;
  }

  Host host;
  TestModule *mlp, *norm;
  char input[kBytes] = {};
};

// ---- what a failed replay leaves

TEST_F(OtherThreads, WhatAFailedReplayLeftInAnExportIsNotTheSlotsContent) {
  bool fails = true;
  rc_tensor* exported = nullptr;
  mlp->replay = [&](const rc_replay_args* args) {
    char* data = alloc(args->region, 1, kBytes);
    fill(data, kBytes, fails ? 77 : 2);
    if (!fails) return RC_OK;
    EXPECT_EQ(rc_region_tensor(args->region, 1, nullptr, &exported), RC_OK);  // as a traceback has
    return static_cast<rc_status>(-1007);
  };
  rc_region* r = ended(*mlp);
  rc_region* reader = host.begin(*mlp);  // of h, which it does not hold after its end
  EXPECT_EQ(static_cast<int>(replay(r)), -1007);
  EXPECT_EQ(missing(r), std::vector<uint32_t>{1});
  EXPECT_EQ(try_view(r, 1), RC_E_STATE);
  EXPECT_EQ(save_link(reader, 0, r, 1), RC_E_STATE);
  rc_tensor_spec left = rc_tensor_spec_init();
  ASSERT_EQ(rc_tensor_view(exported, &left), RC_OK);
  EXPECT_EQ(save_view(reader, 0, left), RC_OK);  // a copy: nobody's slot is there
  EXPECT_FALSE(slot_info(reader, 0).linked);
  fails = false;
  EXPECT_GE(replay(r), 0) << last_message();
  EXPECT_EQ(mlp->calls, 2);
  EXPECT_TRUE(filled(view(r, 1), kBytes, 2));
  EXPECT_TRUE(filled(static_cast<char*>(left.data), kBytes, 77))
      << "the export's memory is its own";
  rc_tensor_release(exported);
  EXPECT_TRUE(filled(view(r, 1), kBytes, 2));
  rc_region_release(reader, nullptr);
  rc_region_release(r, nullptr);
}

TEST_F(OtherThreads, WhatAFailedReplayLeftIsRefilledWhereItWasOnceItsExportIsGone) {
  bool fails = true;
  mlp->replay = [&](const rc_replay_args* args) {
    fill(alloc(args->region, 1, kBytes), kBytes, 2);
    if (!fails) return RC_OK;
    rc_tensor* exported = nullptr;
    EXPECT_EQ(rc_region_tensor(args->region, 1, nullptr, &exported), RC_OK);
    rc_tensor_release(exported);
    return static_cast<rc_status>(-1007);
  };
  rc_region* r = ended(*mlp);
  EXPECT_LT(replay(r), 0);
  fails = false;
  EXPECT_EQ(replay(r), RC_OK);
  EXPECT_TRUE(filled(view(r, 1), kBytes, 2));
  rc_region_release(r, nullptr);
}

TEST_F(OtherThreads, AFailedReplayDoesNotTakeMemoryThatItReferredToForContent) {
  bool fails = true;
  rc_region* nested = nullptr;
  // As a layer does whose output is that of the last module in it.
  mlp->replay = [&](const rc_replay_args* args) {
    nested = host.begin(*norm, {.parent = args->region});
    char* data = alloc(nested, 1, kBytes);
    EXPECT_EQ(save_bytes(args->region, 1, data, kBytes), RC_OK);
    fill(data, kBytes, fails ? 77 : 2);
    if (fails) return static_cast<rc_status>(-1007);
    EXPECT_EQ(rc_region_end(nested, nullptr), RC_OK);
    rc_region_release(nested, nullptr);
    return RC_OK;
  };
  rc_region* r = ended(*mlp);
  EXPECT_LT(replay(r), 0);
  EXPECT_EQ(try_view(r, 1), RC_E_STATE);
  EXPECT_EQ(missing(r), std::vector<uint32_t>{1});
  rc_region* left = nested;  // still held, as by an exception's traceback
  fails = false;
  EXPECT_EQ(replay(r), RC_OK) << last_message();
  EXPECT_TRUE(filled(view(r, 1), kBytes, 2));
  rc_region_release(left, nullptr);
  EXPECT_TRUE(filled(view(r, 1), kBytes, 2));
  rc_region_release(r, nullptr);
}

// ---- a slot that is being brought back

TEST_F(OtherThreads, ASlotBeingBroughtBackIsSeenByTheCallbackAlone) {
  rc_region* reader = host.begin(*mlp);
  norm->replay = [&](const rc_replay_args* args) {
    rc_region* r = args->region;
    char* data = alloc(r, 1, kBytes);
    EXPECT_EQ(try_view(r, 1), RC_OK);
    elsewhere([&] {
      rc_tensor* tensor = nullptr;
      char to[kBytes];
      EXPECT_EQ(try_view(r, 1), RC_E_STATE);
      EXPECT_NE(last_message().find("on another thread"), std::string::npos) << last_message();
      EXPECT_EQ(rc_region_tensor(r, 1, nullptr, &tensor), RC_E_STATE);
      EXPECT_EQ(rc_region_restore(r, 1, nullptr, Bytes(kBytes, to).get()), RC_E_STATE);
      EXPECT_EQ(save_link(reader, 0, r, 1), RC_E_STATE);
      EXPECT_FALSE(slot_info(r, 1).present);
      EXPECT_TRUE(slot_info(r, 0).present);
      EXPECT_EQ(try_view(r, 0), RC_OK) << "what was not missing stays as it is";
    });
    fill(data, kBytes, 2);
    return RC_OK;
  };
  rc_region* r = ended(*norm);
  rc_region* kept = reader_of(r, *norm);
  EXPECT_EQ(rc_region_discard(r, nullptr), RC_OK);
  const auto produced = norm->replay;
  norm->replay = [&](const rc_replay_args* args) {
    if (args->region == r) {
      const rc_status status = produced(args);
      elsewhere([&] {
        EXPECT_EQ(try_view(kept, 0), RC_E_STATE) << "a link to it";
        EXPECT_EQ(state(kept), RC_REGION_EMPTY);
      });
      return status;
    }
    return produce<1>(args);
  };
  EXPECT_EQ(replay(r), RC_OK);
  elsewhere([&] {
    EXPECT_TRUE(filled(view(r, 1), kBytes, 2));
    EXPECT_TRUE(filled(view(kept, 0), kBytes, 2));
    EXPECT_EQ(save_link(reader, 0, r, 1), RC_OK);
  });
  for (rc_region* region : {reader, kept, r}) rc_region_release(region, nullptr);
}

TEST_F(OtherThreads, AWorkerOfTheCallbackSeesWhatItWasGiven) {
  mlp->replay = [&](const rc_replay_args* args) {
    elsewhere([&] {
      char* data = alloc(args->region, 1, kBytes);
      EXPECT_EQ(view(args->region, 1), data);
      rc_tensor* tensor = nullptr;  // how another framework writes into it
      EXPECT_EQ(rc_region_tensor(args->region, 1, nullptr, &tensor), RC_OK) << last_message();
      fill(data, kBytes, 2);
      rc_tensor_release(tensor);
    });
    EXPECT_TRUE(filled(view(args->region, 1), kBytes, 2)) << "and so does the callback itself";
    return RC_OK;
  };
  rc_region* r = ended(*mlp);
  EXPECT_EQ(replay(r), RC_OK);
  rc_region_release(r, nullptr);
}

// Gradients may be taken inside a replayed region, by threads of the framework's own.
TEST_F(OtherThreads, RegionsNestedInAReplayAreReplayedOnItsWorkersWithoutAWait) {
  TestModule& outer = host.module("mlp", 1, {saved("h")});
  outer.replay = [&](const rc_replay_args* args) {
    char* data = alloc(args->region, 0, kBytes);
    fill(data, kBytes, 2);
    const BeginOptions nested = {.parent = args->region, .flags = RC_REGION_EXPLICIT};
    rc_region* a = host.begin(*mlp, nested);
    EXPECT_EQ(save_bytes(a, 0, data, kBytes), RC_OK);
    rc_region* b = host.begin(*mlp, nested);
    EXPECT_EQ(save_link(b, 0, a, 0), RC_OK);
    for (rc_region* r : {a, b}) {
      fill(alloc(r, 1, kBytes), kBytes, 2);
      EXPECT_EQ(rc_region_end(r, nullptr), RC_OK);
    }
    elsewhere([&] {
      for (rc_region* r : {b, a}) {
        EXPECT_EQ(replay(r), RC_OK) << last_message();
        EXPECT_TRUE(filled(view(r, 0), kBytes, 2));
        EXPECT_TRUE(filled(view(r, 1), kBytes, 2));
      }
    });
    for (rc_region* r : {b, a}) rc_region_release(r, nullptr);
    return RC_OK;
  };
  rc_region* r = host.begin(outer);
  alloc(r, 0, kBytes);
  EXPECT_EQ(rc_region_end(r, nullptr), RC_OK);
  EXPECT_EQ(replay(r), RC_OK);
  EXPECT_EQ(mlp->calls, 2);
  rc_region_release(r, nullptr);
}

// ---- waits

// The reader's slot shows memory of a region that it has no link to: the wait alone keeps that.
TEST_F(OtherThreads, ARegionReleasedWhileAReaderWaitsForItEnds) {
  std::atomic<bool> writing{false}, released{false};
  TestModule& outer = host.module("moe", 0, {saved("s")});
  host.rules({{"moe", "s", RC_ACTION_RECOMPUTE}, {"layernorm", nullptr, RC_ACTION_RECOMPUTE}});
  rc_region* a = host.begin(outer);
  char* data = alloc(a, 0, kBytes);
  rc_region* x = host.begin(*norm, {.parent = a});
  EXPECT_EQ(save_bytes(x, 1, data, kBytes), RC_OK);
  rc_region* reader = host.begin(*norm);
  EXPECT_EQ(save_link(reader, 0, x, 1), RC_OK);
  for (rc_region* r : {x, reader, a}) EXPECT_EQ(rc_region_end(r, nullptr), RC_OK);
  EXPECT_EQ(rc_region_discard(x, nullptr), RC_OK);
  EXPECT_EQ(host.live(), 0u);
  outer.replay = [&](const rc_replay_args* args) {
    char* memory = alloc(args->region, 0, kBytes);
    writing = true;
    rc_region_release(args->region, nullptr);  // the last count
    give_time();
    fill(memory, kBytes, 2);
    released = true;
    return RC_OK;
  };
  std::thread first([&] { EXPECT_EQ(replay(a), RC_OK); });
  EXPECT_TRUE(eventually([&] { return writing.load(); }));
  (void)replay(reader);  // it waits, and finds its content gone with the region
  EXPECT_TRUE(released);
  first.join();
  rc_region_release(reader, nullptr);
  rc_region_release(x, nullptr);
}

TEST_F(OtherThreads, AReaderGoesOnWhereItsSourceWasCancelledInTheReplay) {
  rc_region* source = ended(*norm);
  rc_region* reader = reader_of(source, *norm);
  EXPECT_EQ(rc_region_discard(source, nullptr), RC_OK);
  norm->replay = [&](const rc_replay_args* args) {
    elsewhere([&] { EXPECT_EQ(rc_region_cancel(source, nullptr), RC_PENDING); });
    return produce<1>(args);
  };
  EXPECT_EQ(replay(reader), RC_OK) << last_message();
  EXPECT_EQ(state(source), RC_REGION_CANCELLED);
  EXPECT_TRUE(filled(view(reader, 0), kBytes, 2));
  rc_region_release(source, nullptr);
  rc_region_release(reader, nullptr);
}

TEST_F(OtherThreads, WhatOnlyAnExportKeptOfACancelledSourceStaysForAReplayedReader) {
  rc_region* source = ended(*norm);
  rc_region* reader = reader_of(source, *norm);
  rc_tensor* exported = nullptr;
  EXPECT_EQ(rc_region_tensor(source, 1, nullptr, &exported), RC_OK);
  EXPECT_EQ(rc_region_discard(source, nullptr), RC_OK);
  EXPECT_EQ(rc_region_cancel(source, nullptr), RC_OK);
  EXPECT_EQ(replay(reader), RC_OK) << last_message();
  rc_tensor_release(exported);
  EXPECT_TRUE(filled(view(reader, 0), kBytes, 2));
  EXPECT_EQ(rc_region_done(reader, 0, nullptr), RC_OK);
  EXPECT_EQ(host.live(), kBytes);  // the reader's own output
  rc_region_release(source, nullptr);
  rc_region_release(reader, nullptr);
}

TEST_F(OtherThreads, ADiscardLeavesWhatAReplayHasCountedOn) {
  rc_region* source = ended(*norm);
  rc_region* reader = reader_of(source, *norm);
  EXPECT_EQ(replay(reader), RC_OK);  // backward has begun where forward is not over
  const char* data = view(reader, 0);
  EXPECT_EQ(rc_region_discard(source, nullptr), RC_PASS);
  EXPECT_TRUE(filled(data, kBytes, 2));
  EXPECT_EQ(view(reader, 0), data);
  EXPECT_EQ(rc_region_done(source, 1, nullptr), RC_OK);
  rc_region_release(reader, nullptr);
  rc_region_release(source, nullptr);
}

// ---- drops of the host's memory

struct RunningDrop : OtherThreads {
  RunningDrop() {
    module = &host.module("layernorm", 3, {in("x"), out("y")}, nullptr, {.host_slots = true});
    module->refill = [this](const rc_slot_args*) {
      ++refills;
      emptied = false;
      return RC_OK;
    };
  }
  rc_region* ended() {
    rc_region* r = host.begin(*module);
    EXPECT_EQ(save_bytes(r, 0, input, kBytes), RC_OK);
    EXPECT_EQ(rc_region_output(r, 1, RC_OUTPUT_HOST, Bytes(kBytes, content).get(), nullptr), RC_OK);
    EXPECT_EQ(rc_region_end(r, nullptr), RC_OK);
    return r;
  }
  TestModule* module;
  char content[kBytes] = {};
  std::atomic<bool> emptied{false};
  std::atomic<int> refills{0};
};

TEST_F(RunningDrop, AReplayWaitsForTheDropThatIsRunning) {
  rc_region* r = ended();
  std::thread other;
  module->drop = [&](const rc_slot_args*) {
    other = std::thread([&] {
      EXPECT_EQ(replay(r), RC_OK);
      EXPECT_FALSE(emptied) << "what a replay has brought back stays";
      EXPECT_TRUE(slot_info(r, 1).present);
    });
    give_time();
    emptied = true;
    return RC_OK;
  };
  EXPECT_EQ(rc_region_discard(r, nullptr), RC_OK);
  other.join();
  EXPECT_EQ(refills, 1);
  EXPECT_FALSE(emptied);
  EXPECT_EQ(state(r), RC_REGION_READY);
  rc_region_release(r, nullptr);
}

TEST_F(RunningDrop, ADropCallbackCannotReplayAndItsCancelComesAfterIt) {
  rc_region* r = ended();
  int drops = 0;
  module->drop = [&](const rc_slot_args* args) {
    ++drops;
    EXPECT_EQ(replay(args->region), RC_E_STATE);
    EXPECT_EQ(rc_region_discard(args->region, nullptr), RC_PASS);
    EXPECT_EQ(rc_region_cancel(args->region, nullptr), RC_PENDING);
    EXPECT_EQ(state(args->region), RC_REGION_SEALED);
    EXPECT_EQ(host.live(), kBytes);
    return RC_OK;
  };
  EXPECT_EQ(rc_region_discard(r, nullptr), RC_OK);
  EXPECT_EQ(drops, 1);
  EXPECT_EQ(state(r), RC_REGION_CANCELLED);
  EXPECT_EQ(host.live(), 0u);
  rc_region_release(r, nullptr);
}

}  // namespace
}  // namespace rc::testing
