// src/testing/threads_test.cc: two hundred threads on one context: regions, shared replays, cancel
// and release against replay, steps, another policy meanwhile, fences, statistics.
//
// Sized for ThreadSanitizer on two cores; the counts are what makes interleavings, not the work of
// one thread.
#include <gtest/gtest.h>
#include <rcore/rcore.h>

#include <atomic>
#include <barrier>
#include <chrono>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr int kThreads = 200;
constexpr uint64_t kBytes = 3000;
const int64_t kShape[1] = {kBytes};

rc_tensor_spec bytes_at(void* data) {
  rc_tensor_spec s = rc_tensor_spec_init();
  s.data = data;
  s.dtype_code = 1;
  s.dtype_bits = 8;
  s.ndim = 1;
  s.shape = kShape;
  return s;
}

// From Work::in_replay: it has filled the slots itself.
constexpr rc_status kAllFilled = RC_PASS;

// user_data of a region: what its slots contain, and what happened to it.
struct Work {
  unsigned char value = 0;
  std::atomic<int> replays{0}, destroyed{0};
  std::function<rc_status()> in_replay;
};

rc_status fill_slot(rc_region* region, uint32_t slot, unsigned char value) {
  const rc_tensor_spec like = bytes_at(nullptr);
  rc_tensor_spec memory = rc_tensor_spec_init();
  const rc_status status = rc_region_alloc(region, slot, &like, nullptr, &memory);
  if (status >= 0 && memory.data) std::memset(memory.data, value, kBytes);
  return status;
}

rc_status replay(const rc_replay_args* args) {
  Work* work = static_cast<Work*>(args->region_data);
  ++work->replays;
  if (work->in_replay) {
    const rc_status status = work->in_replay();
    if (status < 0) return status;
    if (status == kAllFilled) return RC_OK;
  }
  for (uint32_t i = 0; i < args->n_missing; ++i) {
    const rc_status status = fill_slot(args->region, args->missing[i], work->value);
    if (status < 0) return status;
  }
  return RC_OK;
}

class Threads : public ::testing::Test {
 protected:
  void SetUp() override {
    const rc_context_desc desc = rc_context_desc_init();
    ASSERT_EQ(RC_OK, rc_context_create(&desc, &context_));
    const std::string text =
        R"({"rcore_policy":1,"kinds":[{"name":"mine","discards_output":true}],)"
        R"("rules":[{"kind":"mine","action":"recompute"}]})";
    ASSERT_LE(0, rc_policy_create_json(text.data(), text.size(), &policy_));
    ASSERT_LE(0, rc_context_configure(context_, policy_));
    rc_slot_desc slots[3];
    const char* const names[] = {"x", "s", "y"};
    const rc_role roles[] = {RC_ROLE_INPUT, RC_ROLE_SAVED, RC_ROLE_OUTPUT};
    for (int i = 0; i < 3; ++i) {
      slots[i] = rc_slot_desc_init();
      slots[i].name = names[i];
      slots[i].role = roles[i];
    }
    rc_module_ops ops = rc_module_ops_init();
    ops.replay = replay;
    rc_module_desc module = rc_module_desc_init();
    module.kind = "mine";
    module.slots = slots;
    module.n_slots = 3;
    module.slot_stride = sizeof slots[0];
    module.ops = &ops;
    ASSERT_EQ(RC_OK, rc_module_register(context_, &module, &module_));
  }
  void TearDown() override {
    rc_stats stats = rc_stats_init();
    ASSERT_LE(0, rc_stats_get(context_, &stats));
    EXPECT_EQ(0u, stats.regions_live);
    EXPECT_EQ(0u, stats.live_bytes);
    EXPECT_EQ(0, tensors_.load());
    rc_module_release(module_);
    rc_policy_release(policy_);
    rc_context_release(context_);
  }

  rc_region* begin(Work* work, rc_step* step = nullptr, uint32_t microbatch = 0) {
    rc_region_desc desc = rc_region_desc_init();
    desc.module = module_;
    desc.step = step;
    desc.microbatch = microbatch;
    desc.user_data = work;
    desc.destroy = [](void* p) { ++static_cast<Work*>(p)->destroyed; };
    rc_region* region = nullptr;
    EXPECT_EQ(RC_OK, rc_region_begin(context_, &desc, &region));
    return region;
  }
  // x is an owned tensor, or refers to y of `source`; s and y are the core's.
  void forward(rc_region* region, Work* work, rc_region* source = nullptr,
               rc_fence* fence = nullptr) {
    rc_save item = rc_save_init();
    if (source) {
      item.source = source;
      item.source_slot = 2;
    } else {
      auto* held = new std::pair<Threads*, std::vector<unsigned char>>(this, kBytes);
      const rc_tensor_spec spec = bytes_at(held->second.data());
      const auto gone = [](void* p) {
        auto* back = static_cast<std::pair<Threads*, std::vector<unsigned char>>*>(p);
        --back->first->tensors_;
        delete back;
      };
      ASSERT_EQ(RC_OK, rc_tensor_wrap(&spec, gone, held, &item.tensor));
      ++tensors_;
      item.fence = fence;
    }
    ASSERT_LE(0, rc_region_save(region, &item, 1, sizeof item, nullptr, nullptr));
    ASSERT_LE(0, fill_slot(region, 1, work->value));
    ASSERT_LE(0, fill_slot(region, 2, work->value));
    ASSERT_LE(0, rc_region_end(region, nullptr));
  }
  rc_status run(rc_region* region) { return rc_backward_replay(&region, 1, nullptr); }
  static bool shows(rc_region* region, uint32_t slot, unsigned char value) {
    rc_tensor_spec view = rc_tensor_spec_init();
    if (rc_region_view(region, slot, nullptr, &view) < 0) return false;
    const unsigned char* bytes = static_cast<const unsigned char*>(view.data);
    for (uint64_t i = 0; i < kBytes; ++i)
      if (bytes[i] != value) return false;
    return true;
  }
  // All start at once.
  static void together(int n, const std::function<void(int)>& body) {
    std::barrier start(n);
    std::vector<std::thread> threads;
    for (int i = 0; i < n; ++i)
      threads.emplace_back([&, i] {
        start.arrive_and_wait();
        body(i);
      });
    for (std::thread& t : threads) t.join();
  }

  rc_context* context_ = nullptr;
  rc_policy* policy_ = nullptr;
  rc_module* module_ = nullptr;
  std::atomic<int> tensors_{0};
};

TEST_F(Threads, RunTheirOwnRegionsWhileOthersConfigureAndCount) {
  constexpr int kRounds = 8;
  std::atomic<uint64_t> ids{0};
  together(kThreads, [&](int i) {
    for (int round = 0; round < kRounds; ++round) {
      if (i == 0) {
        EXPECT_LE(0, rc_context_configure(context_, round % 2 ? policy_ : nullptr));
      } else if (i == 1) {
        rc_stats stats = rc_stats_init();
        EXPECT_LE(0, rc_stats_get(context_, &stats));
        EXPECT_LE(stats.live_bytes, stats.peak_bytes);
        EXPECT_LE(stats.live_bytes, uint64_t{kThreads} * 3 * kBytes);
        char text[256];
        uint64_t needed = 0;
        EXPECT_LE(0, rc_report(context_, text, sizeof text, &needed));
        EXPECT_LE(0, rc_context_poll(context_));
      } else {
        Work work;
        work.value = static_cast<unsigned char>(1 + (i + round) % 255);
        rc_region* region = begin(&work, nullptr, static_cast<uint32_t>(i));
        forward(region, &work);
        EXPECT_LE(0, rc_region_discard(region, nullptr));
        EXPECT_LE(0, run(region));
        EXPECT_TRUE(shows(region, 1, work.value));
        EXPECT_LE(0, rc_region_done(region, 1, nullptr));
        rc_region_info info = rc_region_info_init();
        EXPECT_EQ(RC_OK, rc_region_query(region, &info));
        ids += info.id != 0;
        rc_region* found = nullptr;
        EXPECT_EQ(RC_OK, rc_region_find(context_, info.id, &found));
        EXPECT_EQ(region, found);
        rc_region_release(found, nullptr);
        rc_region_release(region, nullptr);
        EXPECT_EQ(1, work.destroyed);
        EXPECT_LE(work.replays, 1);
      }
    }
  });
  EXPECT_EQ(uint64_t{(kThreads - 2) * kRounds}, ids);
}

TEST_F(Threads, ThatReplayOneRegionRunItOnce) {
  constexpr int kRounds = 4;
  for (int round = 0; round < kRounds; ++round) {
    Work work;
    work.value = 77;
    work.in_replay = [] {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      return RC_OK;
    };
    rc_region* region = begin(&work);
    forward(region, &work);
    EXPECT_LE(0, rc_region_discard(region, nullptr));
    together(kThreads, [&](int) {
      EXPECT_LE(0, run(region));
      EXPECT_TRUE(shows(region, 1, 77));
      EXPECT_TRUE(shows(region, 2, 77));
    });
    EXPECT_EQ(1, work.replays);
    rc_region_release(region, nullptr);
  }
}

TEST_F(Threads, AFailedReplayIsRunAgainByOneThatWaited) {
  Work work;
  work.value = 5;
  work.in_replay = [&] { return work.replays < 4 ? static_cast<rc_status>(RC_E_HOST - 3) : RC_OK; };
  rc_region* region = begin(&work);
  forward(region, &work);
  std::atomic<int> failed{0};
  together(kThreads, [&](int) {
    const rc_status status = run(region);
    EXPECT_TRUE(status >= 0 || status == RC_E_HOST - 3) << status;
    failed += status < 0;
    if (status >= 0) {
      EXPECT_TRUE(shows(region, 1, 5));
    }
  });
  EXPECT_EQ(3, failed);
  EXPECT_EQ(4, work.replays);
  rc_region_release(region, nullptr);
}

TEST_F(Threads, ReplayOneProducerOfManyConsumersOnce) {
  Work producer;
  producer.value = 9;
  rc_region* source = begin(&producer);
  forward(source, &producer);
  std::vector<Work> works(kThreads);
  std::vector<rc_region*> consumers(kThreads);
  for (int i = 0; i < kThreads; ++i) {
    works[i].value = static_cast<unsigned char>(i % 200 + 10);
    consumers[i] = begin(&works[i]);
    forward(consumers[i], &works[i], source);
  }
  EXPECT_LE(0, rc_region_discard(source, nullptr));
  rc_region_release(source, nullptr);
  together(kThreads, [&](int i) {
    EXPECT_LE(0, run(consumers[i]));
    EXPECT_TRUE(shows(consumers[i], 0, 9));
    EXPECT_TRUE(shows(consumers[i], 1, works[i].value));
    rc_region_release(consumers[i], nullptr);
  });
  EXPECT_EQ(1, producer.replays);
  EXPECT_EQ(1, producer.destroyed);
}

// The producer has its memory long before it has written it; a first attempt may fail meanwhile.
TEST_F(Threads, AConsumerDoesNotReadWhatItsProducerIsStillWriting) {
  for (const bool fails : {false, true}) {
    Work producer, consumer;
    producer.value = 9;
    consumer.value = 8;
    rc_region* source = begin(&producer);
    forward(source, &producer);
    rc_region* region = begin(&consumer);
    forward(region, &consumer, source);
    EXPECT_LE(0, rc_region_discard(source, nullptr));
    std::atomic<bool> writing{false};
    producer.in_replay = [&] {
      if (producer.replays > 1) return RC_OK;
      const rc_tensor_spec like = bytes_at(nullptr);
      rc_tensor_spec memory = rc_tensor_spec_init();
      EXPECT_LE(0, rc_region_alloc(source, 2, &like, nullptr, &memory));
      std::memset(memory.data, 1, kBytes);
      writing = true;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      std::memset(memory.data, producer.value, kBytes);
      if (fails) return static_cast<rc_status>(RC_E_HOST - 3);
      EXPECT_LE(0, fill_slot(source, 1, producer.value));
      return kAllFilled;
    };
    std::thread first([&] { EXPECT_EQ(fails ? RC_E_HOST - 3 : RC_OK, run(source)); });
    while (!writing) std::this_thread::yield();
    EXPECT_LE(0, run(region));
    EXPECT_TRUE(shows(region, 0, 9));
    EXPECT_TRUE(shows(region, 1, 8));
    first.join();
    EXPECT_EQ(fails ? 2 : 1, producer.replays);
    rc_region_release(source, nullptr);
    rc_region_release(region, nullptr);
  }
}

TEST_F(Threads, CancelAndReleaseWhileOthersReplay) {
  constexpr int kRegions = 40, kEach = 5;  // replay, replay, cancel, release at once, query
  std::vector<Work> works(kRegions);
  std::vector<rc_region*> regions(kRegions);
  for (int i = 0; i < kRegions; ++i) {
    works[i].value = 42;
    regions[i] = begin(&works[i]);
    forward(regions[i], &works[i]);
    EXPECT_LE(0, rc_region_discard(regions[i], nullptr));
    for (int k = 1; k < kEach; ++k) ASSERT_LE(0, rc_region_retain(regions[i]));
  }
  together(kRegions * kEach, [&](int i) {
    rc_region* region = regions[i / kEach];
    rc_region_info info = rc_region_info_init();
    switch (i % kEach) {
      case 0:
      case 1: {
        const rc_status status = run(region);
        EXPECT_TRUE(status >= 0 || status == RC_E_STATE) << status;
        break;
      }
      case 2:
        EXPECT_LE(0, rc_region_cancel(region, nullptr));
        break;
      case 3:
        break;
      default:
        EXPECT_EQ(RC_OK, rc_region_query(region, &info));
        EXPECT_EQ(&works[i / kEach], info.user_data);
    }
    rc_region_release(region, nullptr);
  });
  for (const Work& work : works) {
    EXPECT_EQ(1, work.destroyed);
    EXPECT_LE(work.replays, 1);
  }
}

TEST_F(Threads, ReplaysThatWouldWaitForEachOtherAreRefusedNotHung) {
  for (int round = 0; round < 20; ++round) {
    Work works[2];
    rc_region* regions[2];
    std::atomic<int> inside{0};
    for (int i = 0; i < 2; ++i) {
      works[i].value = 3;
      regions[i] = begin(&works[i]);
      forward(regions[i], &works[i]);
    }
    std::atomic<int> refused{0};
    for (int i = 0; i < 2; ++i)
      works[i].in_replay = [&, i] {
        ++inside;
        for (int spins = 0; inside < 2 && spins < 2000; ++spins) std::this_thread::yield();
        const rc_status status = run(regions[1 - i]);
        EXPECT_TRUE(status >= 0 || status == RC_E_STATE) << status;
        refused += status == RC_E_STATE;
        return RC_OK;
      };
    together(2, [&](int i) { EXPECT_LE(0, run(regions[i])); });
    EXPECT_GE(refused, 1);
    for (int i = 0; i < 2; ++i) {
      EXPECT_TRUE(shows(regions[i], 1, 3));
      rc_region_release(regions[i], nullptr);
    }
  }
}

TEST_F(Threads, OpenAndCloseStepsOfTheirOwn) {
  together(kThreads, [&](int i) {
    for (int round = 0; round < 3; ++round) {
      rc_step_desc desc = rc_step_desc_init();
      desc.phase = i % 5 ? RC_PHASE_FORWARD : RC_PHASE_EVALUATION;
      rc_step* step = nullptr;
      ASSERT_EQ(RC_OK, rc_step_begin(context_, &desc, &step));
      Work left, used;
      left.value = used.value = static_cast<unsigned char>(i);
      rc_region* a = begin(&left, step);
      rc_region* b = begin(&used, step);
      forward(a, &left);
      forward(b, &used);
      EXPECT_LE(0, rc_region_discard(b, nullptr));
      if (i % 5) {
        EXPECT_LE(0, run(b));
        EXPECT_TRUE(shows(b, 1, used.value));
      }
      rc_region_release(b, nullptr);
      rc_step_report report = rc_step_report_init();
      EXPECT_LE(0, rc_step_end(step, nullptr, &report));
      EXPECT_EQ(2u, report.regions_begun);
      EXPECT_EQ(1u, report.regions_purged);
      EXPECT_EQ(RC_E_STATE, run(a));
      rc_region_release(a, nullptr);
      EXPECT_EQ(1, left.destroyed);
    }
  });
}

TEST_F(Threads, FencesCompleteOnceForEveryWaiter) {
  constexpr int kFences = 50;
  std::vector<rc_fence*> fences(kFences);
  std::atomic<int> ran{0}, signalled{0};
  for (rc_fence*& fence : fences) ASSERT_EQ(RC_OK, rc_fence_create(context_, &fence));
  std::vector<Work> works(kFences);
  std::vector<rc_region*> regions(kFences);
  for (int i = 0; i < kFences; ++i) {
    works[i].value = 6;
    regions[i] = begin(&works[i]);
    forward(regions[i], &works[i], nullptr, fences[i]);
  }
  together(kFences * 4, [&](int i) {
    rc_fence* fence = fences[i / 4];
    switch (i % 4) {
      case 0: {
        const rc_status status = rc_fence_signal(fence, RC_OK);
        EXPECT_TRUE(status == RC_OK || status == RC_E_STATE) << status;
        signalled += status == RC_OK;
        break;
      }
      case 1:
        EXPECT_LE(0, run(regions[i / 4]));
        EXPECT_EQ(RC_OK, rc_fence_test(fence)) << "the replay waited for the input";
        break;
      case 2:
        EXPECT_EQ(RC_OK, rc_fence_wait(fence, UINT64_MAX));
        break;
      default:
        EXPECT_EQ(RC_OK, rc_fence_on_done(
                             fence,
                             [](void* p, rc_status result) {
                               *static_cast<std::atomic<int>*>(p) += result == RC_OK;
                             },
                             &ran));
    }
  });
  EXPECT_EQ(kFences, signalled);
  EXPECT_EQ(kFences, ran);
  for (rc_region* region : regions) rc_region_release(region, nullptr);
  for (rc_fence* fence : fences) rc_fence_release(fence);
}

TEST_F(Threads, ExportedTensorsAreReleasedByOtherThreads) {
  Work work;
  work.value = 31;
  rc_region* region = begin(&work);
  forward(region, &work);
  std::vector<rc_tensor*> tensors(kThreads);
  together(kThreads,
           [&](int i) { EXPECT_EQ(RC_OK, rc_region_tensor(region, 2, nullptr, &tensors[i])); });
  rc_region_release(region, nullptr);
  rc_stats stats = rc_stats_init();
  ASSERT_LE(0, rc_stats_get(context_, &stats));
  EXPECT_EQ(kBytes, stats.live_bytes) << "one block, however many hold it";
  together(kThreads, [&](int i) {
    rc_tensor_spec view = rc_tensor_spec_init();
    EXPECT_EQ(RC_OK, rc_tensor_view(tensors[i], &view));
    EXPECT_EQ(31, static_cast<unsigned char*>(view.data)[kBytes - 1]);
    rc_tensor_release(tensors[i]);
  });
}

}  // namespace
