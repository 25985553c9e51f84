// kernels/cpu/thread_pool_test.cc: every task once, several callers, nesting, fork, destruction.
#include "kernels/cpu/thread_pool.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

namespace rc {
namespace {

TEST(ThreadPool, RunsEveryTaskExactlyOnce) {
  for (int width : {-1, 1, 2, 5}) {
    ThreadPool pool(width);
    EXPECT_EQ(pool.width(), std::max(width, 1));
    for (int64_t n : {0, 1, 2, 3, 1000}) {
      for (int repeat = 0; repeat < 50; ++repeat) {
        std::vector<std::atomic<int>> hits(static_cast<size_t>(n));
        pool.run(n, [&](int64_t i) { hits[static_cast<size_t>(i)]++; });
        for (auto& h : hits) ASSERT_EQ(h.load(), 1);
      }
    }
  }
}

TEST(ThreadPool, WorkersTakePart) {
  ThreadPool pool(2);
  std::mutex mutex;
  std::set<std::thread::id> ids;
  std::atomic<int> inside{0};
  // Each task waits for the other: only two threads at once can finish it.
  pool.run(2, [&](int64_t) {
    ++inside;
    while (inside.load() < 2) std::this_thread::yield();
    std::lock_guard lock(mutex);
    ids.insert(std::this_thread::get_id());
  });
  EXPECT_EQ(ids.size(), 2u);
}

TEST(ThreadPool, SeveralCallersAndNestedRunsAllFinish) {
  ThreadPool pool(3);
  std::atomic<int64_t> total{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c) {
    callers.emplace_back([&] {
      for (int repeat = 0; repeat < 200; ++repeat) {
        pool.run(7, [&](int64_t) { pool.run(3, [&](int64_t i) { total += i; }); });
      }
    });
  }
  for (auto& t : callers) t.join();
  EXPECT_EQ(total.load(), 4 * 200 * 7 * 3);
}

TEST(ThreadPool, AForkedChildRunsInlineAndDestroysThePool) {
  auto pool = std::make_unique<ThreadPool>(3);
  std::atomic<int> sum{0};
  pool->run(10, [&](int64_t i) { sum += static_cast<int>(i); });
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    int64_t local = 0;
    pool->run(10, [&](int64_t i) { local += i; });  // unsynchronised: inline or wrong
    pool.reset();
    _exit(local == 45 ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  sum = 0;
  pool->run(10, [&](int64_t i) { sum += static_cast<int>(i); });
  EXPECT_EQ(sum.load(), 45);
}

TEST(ThreadPool, IsDestroyedWhileWorkersSleepOrWake) {
  for (int repeat = 0; repeat < 100; ++repeat) {
    ThreadPool pool(4);
    if (repeat % 2) pool.run(2, [](int64_t) {});
  }
}

}  // namespace
}  // namespace rc
