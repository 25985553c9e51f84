// src/region/context.cc: pools, the end of a locked call, and the life of a context.
#include "src/region/context.h"

#include <pthread.h>
#include <time.h>

#include <atomic>

#include "src/comm/comm.h"
#include "src/region/call_log.h"
#include "src/region/profile.h"

namespace rc {
namespace {

std::atomic<uint32_t> forks{0};

void count_fork() {
  forks.fetch_add(1, std::memory_order_relaxed);
}

[[maybe_unused]] const int kForkHandler = pthread_atfork(nullptr, nullptr, count_fork);

constexpr uint64_t kIndexBits = 24;

// Of regions, in all contexts of the process: an id names one region for ever.
std::atomic<uint64_t> generation{0};

}  // namespace

uint32_t fork_generation() {
  return forks.load(std::memory_order_relaxed);
}

uint64_t now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(t.tv_nsec);
}

Context::Context(std::unique_ptr<Device> device, rc_flags options, uint64_t seed)
    : storage(std::move(device), (options & RC_CONTEXT_NO_ARENA) == 0),
      flags(options),
      fork_generation(rc::fork_generation()),
      rng_seed(seed) {}

Context::~Context() {
  if (sink.destroy) sink.destroy(sink.user_data);
}

Status Context::configure(Locked&, std::shared_ptr<const Policy> next) {
  policy = std::move(next);
  ++epoch;
  rule_hits.assign(policy ? policy->n_rules() : 0, 0);
  for (Module* module : modules) {
    module->counts = ModuleCounts();
    module->read_kind();
  }
  storage.forget_plan();
  return ok_status();
}

Region* Context::new_region() {
  if (free_regions_.empty()) {
    free_regions_.reserve(pool_.size() + 1);
    pool_.emplace_back();
    pool_.back().index = static_cast<uint32_t>(pool_.size() - 1);
    pool_.back().context = this;
    free_regions_.push_back(&pool_.back());
  }
  Region* region = free_regions_.back();
  free_regions_.pop_back();
  // Nothing below fails.
  ++counts.begun;
  region->id =
      ((generation.fetch_add(1, std::memory_order_relaxed) + 1) << kIndexBits) | region->index;
  ++regions_live;
  ++objects;
  return region;
}

void Context::recycle(Region* region) {
  region->id = 0;
  free_regions_.push_back(region);
  --regions_live;
  --objects;
}

Region* Context::find(uint64_t id) {
  const uint64_t index = id & ((uint64_t{1} << kIndexBits) - 1);
  if (id == 0 || index >= pool_.size() || pool_[index].id != id) return nullptr;
  return pool_[index].beginning ? nullptr : &pool_[index];
}

Step* Context::new_step() {
  if (free_steps_.empty()) {
    all_steps_.push_back(std::make_unique<Step>());
    free_steps_.push_back(all_steps_.back().get());
  }
  Step* step = free_steps_.back();
  free_steps_.pop_back();
  *step = Step();
  step->context = this;
  step->serial = next_serial++;
  steps.push_back(step);
  ++objects;
  return step;
}

void Context::recycle(Step* step) {
  std::erase(steps, step);
  free_steps_.push_back(step);
  --objects;
}

void Context::apply_caps() {
  uint64_t cap = UINT64_MAX;
  for (const Step* step : steps)
    if (step->cap_bytes) cap = std::min(cap, step->cap_bytes);
  storage.stats().cap_bytes = cap;
}

void Context::end_module_if_unused(Module* module) {
  if (module->handles > 0 || module->regions > 0 || module->pins > 0) return;
  std::erase(modules, module);
  settle_deferred(1);
  dead_modules.push_back(module);
}

void Context::expect_deferred(size_t n) {
  deferred.reserve(deferred.size() + expected_deferred + n);
  expected_deferred += n;
}

void Context::defer(void (*run)(void*, void*, void*), void* a, void* b, void* c, Module* of) {
  deferred.push_back({run, a, b, c, of});
  if (of) ++of->pins;
}

void Context::log(rc_level level, const char* where, const std::string& text) {
  if (sink.log && level <= sink.max_level) sink.log(sink.user_data, level, where, text.c_str());
}

bool Locked::traces(rc_event event) const {
  return context_->sink.trace && ((context_->sink.trace_mask >> event) & 1);
}

void Locked::trace(rc_event event, const Region* region, uint64_t bytes, uint64_t begin_ns) {
  if (!traces(event)) return;
  event_ = rc_trace_event_init();
  event_.event = event;
  event_.bytes = bytes;
  event_.live_bytes = context_->storage.stats().live_bytes;
  event_.end_ns = now_ns();
  event_.begin_ns = begin_ns ? begin_ns : event_.end_ns;
  if (region) {
    event_.region_id = region->id;
    event_.layer = region->module->layer;
    event_.chunk = region->chunk;
    event_.microbatch = region->microbatch;
    event_.kind = region->module->kind.c_str();
    event_.module_name = region->module->name.c_str();
    event_.stream = region->stream;
  }
  traced_ = true;
  // Another thread may end the region, and with it the module, before the sink has read the names.
  if (told_of_) --told_of_->pins;
  told_of_ = region ? region->module : nullptr;
  if (told_of_) ++told_of_->pins;
}

void Locked::tell() {
  if (!traced_) return;
  traced_ = false;
  const rc_trace_event told = event_;
  Module* const module = told_of_;
  told_of_ = nullptr;
  lock_.unlock();
  context_->sink.trace(context_->sink.user_data, &told);
  lock_.lock();
  if (!module) return;
  --module->pins;
  context_->end_module_if_unused(module);
}

void Locked::trace_now(rc_event event, const Region* region, uint64_t bytes, uint64_t begin_ns) {
  if (!traces(event)) return;
  trace(event, region, bytes, begin_ns);
  tell();
}

void Locked::trace_live_bytes() {
  if (traced_) event_.live_bytes = context_->storage.stats().live_bytes;
}

void Locked::run_deferred() {
  // In portions on the stack: neither the host's code nor a full list makes this allocate.
  constexpr size_t kPortion = 16;
  auto& frees = context_->storage.pending_frees();
  while (!context_->deferred.empty() || !frees.empty()) {
    Context::Deferred portion[kPortion];
    Storage::PendingFree free_portion[kPortion];
    const size_t n = std::min(kPortion, context_->deferred.size());
    const size_t m = std::min(kPortion, frees.size());
    std::copy_n(context_->deferred.begin(), n, portion);
    context_->deferred.erase(context_->deferred.begin(),
                             context_->deferred.begin() + static_cast<long>(n));
    std::copy_n(frees.begin(), m, free_portion);
    frees.erase(frees.begin(), frees.begin() + static_cast<long>(m));
    lock_.unlock();
    for (size_t i = 0; i < n; ++i) portion[i].run(portion[i].a, portion[i].b, portion[i].c);
    for (size_t i = 0; i < m; ++i)
      context_->storage.device().free(free_portion[i].data, free_portion[i].bytes,
                                      free_portion[i].stream);
    lock_.lock();
    for (size_t i = 0; i < n; ++i) {
      if (!portion[i].of) continue;
      --portion[i].of->pins;
      context_->end_module_if_unused(portion[i].of);
    }
  }
}

bool Locked::has_work() const {
  return traced_ || !context_->deferred.empty() || !context_->storage.pending_frees().empty() ||
         !context_->dead_modules.empty();
}

// With the lock released in between: the context stays until the end of it.
void Locked::do_work() {
  ++context_->objects;
  run_deferred();
  tell();
  while (!context_->dead_modules.empty()) {
    Module* module = context_->dead_modules.back();
    context_->dead_modules.pop_back();
    --context_->objects;
    lock_.unlock();
    delete module;  // runs the destroy functions of its tables
    lock_.lock();
  }
  --context_->objects;
}

void Locked::finish() {
  if (!context_) return;
  if (!lock_.owns_lock()) lock_.lock();
  if (has_work()) do_work();
  const bool over = context_->objects == 0 && context_->handles == 0;
  lock_.unlock();
  if (over) delete context_;
  context_ = nullptr;
}

}  // namespace rc
