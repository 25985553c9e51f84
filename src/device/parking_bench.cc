// src/device/parking_bench.cc: the price of emptying a block and refilling it at the same address,
// four ways.
//
// Every row fills the block once (one streaming pass over its bytes, what a replay kernel does at
// least), so the first benchmark is the floor; `over_fill` is a row's extra time in units of it,
// measured in the same run, and `us_per_pair` is that time in microseconds.
#include <benchmark/benchmark.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "src/device/device_cpu.h"

namespace rc {
namespace {

using Clock = std::chrono::steady_clock;

double seconds(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

// Alternates the floor with the way under test, so that a slow moment of the machine hits both.
template <class Way>
void compare(benchmark::State& state, char* block, size_t bytes, Way&& empty_and_restore) {
  std::vector<double> fill, extra;
  std::memset(block, 1, bytes);
  empty_and_restore();
  for (auto _ : state) {
    const auto a = Clock::now();
    empty_and_restore();
    std::memset(block, 2, bytes);
    const auto b = Clock::now();
    std::memset(block, 3, bytes);
    const auto c = Clock::now();
    state.SetIterationTime(seconds(a, b));
    fill.push_back(seconds(b, c));
    extra.push_back(seconds(a, b) - seconds(b, c));
  }
  const auto middle = [](std::vector<double>& v) {
    std::nth_element(v.begin(), v.begin() + v.size() / 2, v.end());
    return v[v.size() / 2];
  };
  const double floor = middle(fill), over = middle(extra);
  state.counters["us_per_pair"] = over * 1e6;
  state.counters["us_per_MiB"] = over * 1e6 / (static_cast<double>(bytes) / (1 << 20));
  state.counters["over_fill"] = over / floor;
}

void park_and_unpark(benchmark::State& state) {
  const size_t bytes = static_cast<size_t>(state.range(0));
  CpuDeviceOptions options;
  options.park_bytes_min = 1;
  auto device = make_cpu_device(options);
  void* block = nullptr;
  if (!device->allocate(bytes, nullptr, &block).ok()) return state.SkipWithError("no memory");
  compare(state, static_cast<char*>(block), bytes, [&] {
    if (!device->park(block, bytes, nullptr)) state.SkipWithError("parking refused");
    if (!device->unpark(block, bytes, nullptr).ok()) state.SkipWithError("unpark failed");
  });
  device->free(block, bytes, nullptr);
}

// Another thread of the process runs on another core, so every move interrupts it to flush its TLB.
void park_and_unpark_beside_a_busy_thread(benchmark::State& state) {
  std::atomic<bool> stop = false;
  std::thread busy([&] {
    std::vector<char> own(1 << 20);
    for (size_t i = 0; !stop.load(std::memory_order_relaxed); i += 4096) own[i % own.size()] += 1;
  });
  park_and_unpark(state);
  stop = true;
  busy.join();
}

// The unsafe original: the hole in between is free for any thread's mmap. The floor of what a move
// costs.
void plain_mremap_out_and_back(benchmark::State& state) {
  const size_t bytes = static_cast<size_t>(state.range(0));
  char* home = map_pages(bytes, true);
  char* away = map_pages(bytes, true);
  compare(state, home, bytes, [&] {
    const int flags = MREMAP_MAYMOVE | MREMAP_FIXED;
    if (mremap(home, bytes, bytes, flags, away) == MAP_FAILED) state.SkipWithError("mremap");
    if (mremap(away, bytes, bytes, flags, home) == MAP_FAILED) state.SkipWithError("mremap");
  });
  unmap_pages(home, bytes);
}

void drop_and_refault(benchmark::State& state, bool huge) {
  const size_t bytes = static_cast<size_t>(state.range(0));
  char* block = map_pages(bytes, huge);
  if (!huge) (void)madvise(block, bytes, MADV_NOHUGEPAGE);
  compare(state, block, bytes, [&] { drop_pages(block, bytes); });
  unmap_pages(block, bytes);
}
void dontneed_huge_pages(benchmark::State& state) {
  drop_and_refault(state, true);
}
void dontneed_small_pages(benchmark::State& state) {
  drop_and_refault(state, false);
}

// What alignment to 2 MiB and huge pages buy for a move.
void move_small_pages(benchmark::State& state, size_t offset) {
  const size_t bytes = static_cast<size_t>(state.range(0));
  char* home = map_aligned(bytes, kHugePage);
  char* around = map_aligned(bytes + kHugePage, kHugePage);
  char* away = around + offset;
  (void)madvise(home, bytes, MADV_NOHUGEPAGE);
  (void)madvise(around, bytes + kHugePage, MADV_NOHUGEPAGE);
  bool lost = false;
  compare(state, home, bytes, [&] {
    if (!move_pages(away, home, bytes, &lost)) state.SkipWithError("mremap");
    if (!move_pages(home, away, bytes, &lost)) state.SkipWithError("mremap");
  });
  unmap_pages(home, bytes);
  unmap_pages(around, bytes + kHugePage);
}
void move_small_pages_aligned(benchmark::State& state) {
  move_small_pages(state, 0);
}
void move_small_pages_misaligned(benchmark::State& state) {
  move_small_pages(state, page_bytes());
}

void sizes(benchmark::internal::Benchmark* bench) {
  for (int64_t kib : {68, 128, 256, 512, 1024, 2048, 4096, 16384, 65536, 262144})
    bench->Arg(kib << 10);
  bench->UseManualTime()->Unit(benchmark::kMicrosecond)->MinTime(0.05);
}
BENCHMARK(park_and_unpark)->Apply(sizes);
BENCHMARK(park_and_unpark_beside_a_busy_thread)->Apply(sizes);
BENCHMARK(plain_mremap_out_and_back)->Apply(sizes);
BENCHMARK(move_small_pages_aligned)->Apply(sizes);
BENCHMARK(move_small_pages_misaligned)->Apply(sizes);
BENCHMARK(dontneed_huge_pages)->Apply(sizes);
BENCHMARK(dontneed_small_pages)->Apply(sizes);

}  // namespace
}  // namespace rc

BENCHMARK_MAIN();
