// src/testing/random_threads.cc: threads that share regions and do random things to them at once.
//
// usage: random_threads ROUNDS [FIRST]    round FIRST alone is what a failure names
//
// What each thread does follows from the round's number; how the threads interleave does not, so
// that a failure may need several runs of its round.
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstring>
#include <thread>

#include "src/testing/effort.h"
#include "src/testing/shared_world.h"

namespace rc::testing {

void World::forward_nested(Handle* handle, Random* random) {
  const uint32_t n = random->below(3);
  for (uint32_t i = 1; i <= n; ++i) {
    rc_region_desc desc = rc_region_desc_init();
    desc.module = modules[i % 2];
    desc.parent = handle->region;
    rc_region* child = nullptr;
    RC_CHECK(rc_region_begin(context, &desc, &child) == RC_OK, "%s", last_error().c_str());
    rc_rng rng = rc_rng_init();
    RC_CHECK(rc_region_rng(child, 2, &rng) == RC_OK, "%s", last_error().c_str());
    handle->work->draws.push_back(rng.offset);
    RC_CHECK(rc_region_end(child, nullptr) >= 0, "%s", last_error().c_str());
    rc_region_release(child, nullptr);
  }
}

void World::save_input(Handle* handle, Random* random) {
  Work* const work = handle->work.get();
  const std::vector<unsigned char>& content = work->content[kX];
  rc_save item = rc_save_init();
  if (const Shared from = random->one_in(3) ? nullptr : pick(random)) {
    item.source = from->region;
    item.source_slot = random->one_in(4) ? kX : kY;
    if (rc_region_save(handle->region, &item, 1, sizeof item, nullptr, nullptr) >= 0) {
      work->source_slot = item.source_slot;
      work->source = from->work;
      return;
    }
    item.source = nullptr;
  }
  const Bytes copy(content.size(), content.data());
  if (random->one_in(2)) {
    item.view = copy.get();
    while (rc_region_save(handle->region, &item, 1, sizeof item, nullptr, nullptr) < 0)
      RC_CHECK(refuses, "%s", last_error().c_str());
    return;
  }
  auto* held = new std::pair<World*, std::vector<unsigned char>>(this, content);
  const Bytes spec(held->second.size(), held->second.data());
  const auto gone = [](void* p) {
    auto* back = static_cast<std::pair<World*, std::vector<unsigned char>>*>(p);
    --back->first->tensors;
    std::memset(back->second.data(), 0xcc, back->second.size());
    delete back;
  };
  RC_CHECK(rc_tensor_wrap(spec.get(), gone, held, &item.tensor) == RC_OK, "%s",
           last_error().c_str());
  ++tensors;
  if (random->one_in(3)) {
    RC_CHECK(rc_fence_create(context, &item.fence) == RC_OK, "%s", last_error().c_str());
    std::lock_guard lock(mutex);
    fences.push_back(item.fence);
  }
  RC_CHECK(rc_region_save(handle->region, &item, 1, sizeof item, nullptr, nullptr) >= 0, "%s",
           last_error().c_str());
}

void World::forward(Handle* handle, Random* random) {
  Work* const work = handle->work.get();
  save_input(handle, random);
  for (uint32_t slot : {kS, kY}) {
    const std::vector<unsigned char>& content = work->content[slot];
    if (slot == kY && work->host_output) {
      work->host = content;
      const Bytes spec(content.size(), work->host.data());
      RC_CHECK(rc_region_output(handle->region, kY, RC_OUTPUT_HOST, spec.get(), nullptr) >= 0, "%s",
               last_error().c_str());
      continue;
    }
    const Bytes like(content.size());
    rc_tensor_spec memory = rc_tensor_spec_init();
    while (rc_region_alloc(handle->region, slot, like.get(), nullptr, &memory) < 0)
      RC_CHECK(refuses, "%s", last_error().c_str());
    std::memcpy(memory.data, content.data(), content.size());
  }
  rc_rng rng = rc_rng_init();
  RC_CHECK(rc_region_rng(handle->region, 1, &rng) == RC_OK, "%s", last_error().c_str());
  work->draws = {rng.offset};
  const Bytes choice(8, work->content[kChoice].data());
  while (rc_region_decide(handle->region, kChoice, choice.get(), nullptr) < 0)
    RC_CHECK(refuses, "%s", last_error().c_str());
  forward_nested(handle, random);
  RC_CHECK(rc_region_end(handle->region, nullptr) >= 0, "%s", last_error().c_str());
}

namespace {

// Copied rather than computed: sanitizers look at every byte that is written alone.
std::vector<unsigned char> bytes_of(uint64_t number, uint32_t slot, size_t n) {
  constexpr size_t kPeriod = 97;
  std::vector<unsigned char> bytes(n);
  for (size_t i = 0; i < std::min(n, kPeriod); ++i)
    bytes[i] = static_cast<unsigned char>(number * 31 + slot * 7 + i);
  for (size_t i = kPeriod; i < n; i += kPeriod)
    std::memcpy(&bytes[i], bytes.data(), std::min(kPeriod, n - i));
  return bytes;
}

}  // namespace

// Nobody else knows the region before it has ended.
void World::create(Random* random, int index) {
  static constexpr uint32_t kSizes[] = {40, 1000, 1000, 5000, 9000, 70000};
  auto handle = std::make_shared<Handle>();
  auto work = handle->work = std::make_shared<Work>();
  work->world = this;
  work->number = numbers++;
  work->module = random->below(static_cast<uint32_t>(modules.size()));
  work->host_output = work->module == 0 && random->one_in(2);
  for (uint32_t slot = 0; slot < kSlots; ++slot)
    work->content[slot] =
        bytes_of(work->number, slot, slot == kChoice ? 8 : kSizes[random->below(6)]);
  rc_region_desc desc = rc_region_desc_init();
  desc.module = modules[work->module];
  desc.step = random->one_in(2) ? steps[static_cast<size_t>(index)] : nullptr;
  desc.microbatch = random->below(3);
  desc.user_data = new WorkRef(work);
  ++regions;
  desc.destroy = [](void* p) {
    WorkRef* held = static_cast<WorkRef*>(p);
    --(*held)->world->regions;
    delete held;
  };
  RC_CHECK(rc_region_begin(context, &desc, &handle->region) == RC_OK, "%s", last_error().c_str());
  if (desc.step) in_step[static_cast<size_t>(index)].push_back(work);
  rc_region_info info = rc_region_info_init();
  RC_CHECK(rc_region_query(handle->region, &info) == RC_OK, "%s", last_error().c_str());
  work->id = info.id;
  forward(handle.get(), random);
  std::lock_guard lock(mutex);
  shared[random->below(kShared)].swap(handle);  // the old one goes after the lock
}

void World::restore(const Shared& handle, uint32_t slot, bool must) {
  const Work& work = *handle->work;
  const std::vector<unsigned char>& content = work.bytes_of(slot);
  std::vector<unsigned char> got(content.size());
  const Bytes to(got.size(), got.data());
  const rc_status status = rc_region_restore(handle->region, slot, nullptr, to.get());
  RC_CHECK(status == RC_OK || status == RC_E_STATE, "%d %s", status, last_error().c_str());
  RC_CHECK(status == RC_OK || !must || work.cancelled || work.given_up(slot),
           "slot %u of region %d after its replay: %s", slot, int(work.number),
           last_error().c_str());
  RC_CHECK(status < 0 || got == content, "slot %u of region %d has other bytes", slot,
           int(work.number));
}

void World::export_one(const Shared& handle, uint32_t slot, Random* random) {
  Export e = {handle->work, slot, nullptr};
  if (rc_region_tensor(handle->region, slot, nullptr, &e.tensor) < 0) return;
  rc_tensor_spec view = rc_tensor_spec_init();
  RC_CHECK(rc_tensor_view(e.tensor, &view) == RC_OK, "%s", last_error().c_str());
  const std::vector<unsigned char>& content = e.work->bytes_of(slot);
  RC_CHECK(!std::memcmp(view.data, content.data(), content.size()),
           "the export of slot %u of region %d has other bytes", slot, int(e.work->number));
  std::lock_guard lock(mutex);
  exports.push_back(e);
  std::swap(exports.back(), exports[random->below(static_cast<uint32_t>(exports.size()))]);
}

void World::replay_some(Random* random) {
  const uint32_t n = random->one_in(4) ? 3 : 1;
  Shared handles[3];
  rc_region* list[3] = {};
  for (uint32_t i = 0; i < n; ++i) {
    handles[i] = pick(random);
    list[i] = handles[i] ? handles[i]->region : nullptr;
  }
  const rc_status status = rc_backward_replay(list, n, nullptr);
  bool excused = nests_replays;
  for (const Shared& h : handles) excused = excused || (h && h->work->may_be_refused());
  RC_CHECK(status >= 0 || status == kRefused || (status == RC_E_MEMORY && refuses) ||
               (status == RC_E_STATE && excused),
           "a replay: %d %s", status, last_error().c_str());
  for (const Shared& h : handles) {
    if (!h) continue;
    restore(h, kX, status >= 0);
    restore(h, kS, status >= 0);
    if (!h->work->host_output) restore(h, kY, false);
    if (random->one_in(4)) export_one(h, random->one_in(2) ? kX : kS, random);
  }
}

void World::ask(const Shared& handle, Random* random) {
  rc_region_info info = rc_region_info_init();
  RC_CHECK(rc_region_query(handle->region, &info) == RC_OK && info.id == handle->work->id, "%s",
           last_error().c_str());
  for (uint32_t slot = 0; slot < kSlots; ++slot) {
    rc_slot_info of = rc_slot_info_init();
    RC_CHECK(rc_region_slot_query(handle->region, slot, &of) == RC_OK, "%s", last_error().c_str());
  }
  uint32_t missing[kSlots], n = 0;
  RC_CHECK(rc_region_missing(handle->region, missing, kSlots, &n) == RC_OK && n <= kSlots, "%s",
           last_error().c_str());
  rc_region* found = nullptr;
  rc_region_key key = rc_region_key_init();
  key.module = modules[random->below(static_cast<uint32_t>(modules.size()))];
  key.microbatch = random->below(3);
  const rc_status status = random->one_in(2) ? rc_region_find(context, info.id, &found)
                                             : rc_region_lookup(context, &key, &found);
  RC_CHECK(status == RC_OK || status == RC_PASS, "%s", last_error().c_str());
  if (found)
    RC_CHECK(rc_region_query(found, &info) == RC_OK && info.id, "%s", last_error().c_str());
  rc_region_release(found, nullptr);
  rc_stats stats = rc_stats_init();
  RC_CHECK(rc_stats_get(context, &stats) == RC_OK, "%s", last_error().c_str());
  RC_CHECK(stats.live_bytes <= stats.peak_bytes, "more is live than ever was");
  if (!random->one_in(6)) return;
  char text[64];
  uint64_t needed = 0;
  RC_CHECK(rc_report(context, text, sizeof text, &needed) == RC_OK, "%s", last_error().c_str());
  rc_prediction prediction = rc_prediction_init();
  const rc_status predicted = rc_predict(context, policies[0], &prediction);
  RC_CHECK(predicted == RC_OK || predicted == RC_E_STATE, "%s", last_error().c_str());
}

void World::end_step(int index) {
  const size_t i = static_cast<size_t>(index);
  for (const WorkRef& work : in_step[i]) work->cancelled = true;
  rc_step_report report = rc_step_report_init();
  const rc_status status = rc_step_end(steps[i], nullptr, &report);
  RC_CHECK(status == RC_OK || status == RC_E_STATE, "%s", last_error().c_str());
  if (status < 0) return;  // one of its regions is being replayed
  steps[i] = nullptr;
  in_step[i].clear();
}

void World::operate(Random* random, int index) {
  rc_step*& step = steps[static_cast<size_t>(index)];
  const Shared handle = pick(random);
  const uint32_t what = random->below(100);
  if (what < 22 || !handle) return create(random, index);
  if (what < 52) return replay_some(random);
  if (what < 62) {
    const rc_status status = rc_region_discard(handle->region, nullptr);
    RC_CHECK(status >= 0, "%s", last_error().c_str());
  } else if (what < 66) {
    const uint32_t slot = random->below(3);
    handle->work->done[slot] = true;
    const rc_status status = rc_region_done(handle->region, slot, nullptr);
    RC_CHECK(status >= 0 || status == RC_E_STATE, "%s", last_error().c_str());
  } else if (what < 69) {
    handle->work->cancelled = true;
    RC_CHECK(rc_region_cancel(handle->region, nullptr) >= 0, "%s", last_error().c_str());
  } else if (what < 76) {
    Shared none;
    std::lock_guard lock(mutex);
    shared[random->below(kShared)].swap(none);
  } else if (what < 84) {
    ask(handle, random);
  } else if (what < 88) {
    const uint32_t choice = random->below(3);
    RC_CHECK(rc_context_configure(context, choice < 2 ? policies[choice] : nullptr) == RC_OK, "%s",
             last_error().c_str());
  } else if (what < 92 && step) {
    end_step(index);
  } else if (what < 92) {
    rc_step_desc desc = rc_step_desc_init();
    if (random->one_in(3)) desc.flags = RC_STEP_LOG;
    RC_CHECK(rc_step_begin(context, &desc, &step) == RC_OK, "%s", last_error().c_str());
  } else if (what < 96) {
    export_one(handle, random->below(3), random);
  } else {
    Export e = {nullptr, 0, nullptr};
    rc_tensor* leftover = nullptr;
    {
      std::lock_guard lock(mutex);
      if (!exports.empty()) {
        e = exports.back();
        exports.pop_back();
      }
      if (!leftovers.empty()) {
        leftover = leftovers.back();
        leftovers.pop_back();
      }
    }
    rc_tensor_release(leftover);
    if (!e.tensor) return;
    rc_tensor_spec view = rc_tensor_spec_init();
    RC_CHECK(rc_tensor_view(e.tensor, &view) == RC_OK, "%s", last_error().c_str());
    const std::vector<unsigned char>& content = e.work->bytes_of(e.slot);
    RC_CHECK(!std::memcmp(view.data, content.data(), content.size()),
             "the export of slot %u of region %d has changed", e.slot, int(e.work->number));
    rc_tensor_release(e.tensor);
  }
}
// Regions wait for these in their replays.
void World::signal_fences() {
  std::vector<rc_fence*> due;
  {
    std::lock_guard lock(mutex);
    due.assign(fences.begin() + static_cast<long>(signalled), fences.end());
    signalled = fences.size();
  }
  for (rc_fence* fence : due)
    RC_CHECK(rc_fence_signal(fence, RC_OK) == RC_OK, "%s", last_error().c_str());
}

void World::thread(int index, int operations) {
  Random random(seed * kThreads + static_cast<uint64_t>(index));
  for (int i = 0; i < operations; ++i) operate(&random, index);
  --running;
}

// Of what is left, by several threads at once, to nothing.
void World::let_go() {
  for (size_t i = 0;; ++i) {
    Shared handle;
    rc_tensor *exported = nullptr, *leftover = nullptr;
    {
      std::lock_guard lock(mutex);
      if (i >= kShared && exports.empty() && leftovers.empty()) return;
      if (i < kShared) shared[i].swap(handle);
      if (!exports.empty()) {
        exported = exports.back().tensor;
        exports.pop_back();
      }
      if (!leftovers.empty()) {
        leftover = leftovers.back();
        leftovers.pop_back();
      }
    }
    rc_tensor_release(exported);
    rc_tensor_release(leftover);
  }
}

void World::run(int operations) {
  std::vector<std::thread> threads;
  running = kThreads;
  for (int i = 0; i < kThreads; ++i) threads.emplace_back([=, this] { thread(i, operations); });
  while (running > 0) {
    signal_fences();
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  for (std::thread& t : threads) t.join();
  for (int i = 0; i < kThreads; ++i)
    if (steps[static_cast<size_t>(i)]) end_step(i);
  signal_fences();
  for (rc_module* module : modules) rc_module_release(module);
  const bool context_goes_first = seed % 2 == 0;
  if (context_goes_first) rc_context_release(context);
  threads.clear();
  for (int i = 0; i < kThreads; ++i) threads.emplace_back([this] { let_go(); });
  for (std::thread& t : threads) t.join();
  if (context_goes_first) return;
  rc_stats stats = rc_stats_init();
  RC_CHECK(rc_stats_get(context, &stats) == RC_OK, "%s", last_error().c_str());
  RC_CHECK(stats.regions_live == 0 && stats.live_bytes == 0, "left: %d regions, %d B",
           int(stats.regions_live), int(stats.live_bytes));
  rc_context_release(context);
}

namespace {

volatile std::sig_atomic_t current = 0;

}  // namespace
}  // namespace rc::testing

int main(int argc, char** argv) {
  using namespace rc::testing;
  constexpr int kOperations = 90;
  std::signal(SIGABRT, [](int) { std::fprintf(stderr, "round %d\n", int(current)); });
  const int n = argc > 1 ? rounds(std::atoi(argv[1])) : 1;
  const int first = argc > 2 ? std::atoi(argv[2]) : 1;
  for (int i = first; i < first + n; ++i) {
    current = i;
    World(static_cast<uint64_t>(i)).run(kOperations);
  }
  std::printf("%d rounds\n", n);
  return n > 0 ? 0 : 1;
}
