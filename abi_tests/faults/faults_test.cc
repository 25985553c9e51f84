// abi_tests/faults/faults_test.cc: every host callback, and the heap, fails at its k-th call, for
// every k.
//
// A failed call changed nothing: out handles are NULL, the host's code arrives unchanged, the same
// call succeeds when it is made again, and whichever way the host goes on from there (again, or
// giving up) every block, token, tensor and destructor is accounted for at the end.
#include <functional>
#include <new>
#include <ostream>
#include <string>

#include "host.h"

// The heap as a fault: librcore.so resolves operator new to this one.
namespace {
thread_local int heap_countdown = 0;  // 0 = off
thread_local bool heap_fired = false;

void* heap_block(std::size_t n, std::size_t alignment) {
  if (heap_countdown > 0 && --heap_countdown == 0) {
    heap_fired = true;
    return nullptr;
  }
  n = n == 0 ? 1 : n;
  return alignment <= alignof(std::max_align_t)
             ? std::malloc(n)
             : std::aligned_alloc(alignment, (n + alignment - 1) / alignment * alignment);
}
void* heap_block_or_throw(std::size_t n, std::size_t alignment) {
  void* p = heap_block(n, alignment);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}
}  // namespace

void* operator new(std::size_t n) {
  return heap_block_or_throw(n, 1);
}
void* operator new[](std::size_t n) {
  return heap_block_or_throw(n, 1);
}
void* operator new(std::size_t n, const std::nothrow_t&) noexcept {
  return heap_block(n, 1);
}
void* operator new[](std::size_t n, const std::nothrow_t&) noexcept {
  return heap_block(n, 1);
}
void* operator new(std::size_t n, std::align_val_t a) {
  return heap_block_or_throw(n, static_cast<std::size_t>(a));
}
void* operator new[](std::size_t n, std::align_val_t a) {
  return heap_block_or_throw(n, static_cast<std::size_t>(a));
}
void operator delete(void* p) noexcept {
  std::free(p);
}
void operator delete[](void* p) noexcept {
  std::free(p);
}
void operator delete(void* p, std::size_t) noexcept {
  std::free(p);
}
void operator delete[](void* p, std::size_t) noexcept {
  std::free(p);
}
void operator delete(void* p, std::align_val_t) noexcept {
  std::free(p);
}
void operator delete[](void* p, std::align_val_t) noexcept {
  std::free(p);
}
void operator delete(void* p, std::size_t, std::align_val_t) noexcept {
  std::free(p);
}
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept {
  std::free(p);
}

namespace abi_tests {
namespace {

enum class After { kRetry, kGiveUp };

// One training step; every call goes through `call`, which sees the failure and goes on as `after`
// says.
class TrainingStep {
 public:
  TrainingStep(Host& host, After after) : host_(host), after_(after) {}

  void go() {
    rc_context* context = nullptr;
    rc_policy* policy = nullptr;
    rc_module* module = nullptr;
    rc_step* step = nullptr;
    rc_region* region = nullptr;
    rc_tensor* tensor = nullptr;
    call("context", [&](rc_status* s) { return context = host_.make_context(s); }) &&
        call("policy", [&](rc_status* s) { return policy = recompute_layernorm(s); }) &&
        call("configure", [&] { return rc_context_configure(context, policy); }) &&
        call("module", [&](rc_status* s) { return module = host_.make_module(context, s); }) &&
        call("step", [&](rc_status* s) { return step = begin_step(context, s); }) &&
        call("begin", [&](rc_status* s) { return region = begin(context, module, step, s); }) &&
        call("wrap", [&](rc_status* s) { return tensor = wrap(s); }) && save(region, tensor) &&
        forward(region) && backward(region);
    leave(region, tensor, module, step, policy, context);
  }

 private:
  // `f` fills a status and returns the handle it made.
  template <class F, class = decltype(std::declval<F>()(static_cast<rc_status*>(nullptr)))>
  bool call(const char* what, F f) {
    return call(what, [&] {
      rc_status status = RC_OK;
      auto* handle = f(&status);
      EXPECT_EQ(status == RC_OK, handle != nullptr) << what;
      return status;
    });
  }
  bool call(const char* what, const std::function<rc_status()>& f) {
    const bool fired_before = fired();
    if (host_.fault == Fault::kHeap) heap_countdown = host_.countdown;
    rc_status status = f();
    if (host_.fault == Fault::kHeap) {
      host_.countdown = heap_countdown;
      heap_countdown = 0;
    }
    if (status >= RC_OK) return true;
    EXPECT_TRUE(fired() && !fired_before) << what << " fails without a fault: " << last_error();
    EXPECT_EQ(host_.fault == Fault::kHeap ? RC_E_MEMORY : kHostFailure, status)
        << what << ": " << last_error();
    if (after_ == After::kGiveUp) return false;
    status = f();
    EXPECT_LE(RC_OK, status) << what << " fails again: " << last_error();
    return status >= RC_OK;
  }
  bool fired() const { return host_.fired || heap_fired; }
  static std::string last_error() {
    rc_error_info info = rc_error_info_init();
    if (rc_error_last(&info) != RC_OK) return "no record";
    return std::string(info.call) + " " + info.field + " " + info.message;
  }

  static rc_step* begin_step(rc_context* context, rc_status* status) {
    const rc_step_desc d = rc_step_desc_init();
    rc_step* out = nullptr;
    *status = rc_step_begin(context, &d, &out);
    return out;
  }
  rc_region* begin(rc_context* context, rc_module* module, rc_step* step, rc_status* status) {
    rc_region_desc d = rc_region_desc_init();
    d.module = module;
    d.step = step;
    d.user_data = &host_;
    d.destroy = [](void* p) { ++Host::of(p)->region_gone; };
    rc_region* out = nullptr;
    *status = rc_region_begin(context, &d, &out);
    host_.begun += *status == RC_OK;
    return out;
  }
  rc_tensor* wrap(rc_status* status) {
    static float x[kN];
    for (int i = 0; i < kN; ++i) x[i] = static_cast<float>(i);
    const rc_tensor_spec s = floats(x);
    rc_tensor* out = nullptr;
    *status = rc_tensor_wrap(&s, Host::tensor_gone, &host_, &out);
    host_.tensors += *status == RC_OK;
    return out;
  }
  bool save(rc_region* region, rc_tensor*& tensor) {
    rc_save item = rc_save_init();
    item.tensor = tensor;
    const bool good = call(
        "save", [&] { return rc_region_save(region, &item, 1, sizeof item, nullptr, nullptr); });
    if (good) tensor = nullptr;  // consumed
    return good;
  }
  bool forward(rc_region* region) {
    const rc_tensor_spec y = floats(host_.y);
    return call("output",
                [&] { return rc_region_output(region, 2, RC_OUTPUT_HOST, &y, nullptr); }) &&
           call("compute", [&] { return host_.compute(region); }) &&
           call("end", [&] { return rc_region_end(region, nullptr); }) &&
           call("discard", [&] { return rc_region_discard(region, nullptr); });
  }
  bool backward(rc_region* region) {
    EXPECT_FALSE(host_.y_there);
    host_.installed = 99;  // replay must see the forward's 1 and leave this one behind
    const bool good = call("replay", [&] { return rc_backward_replay(&region, 1, nullptr); });
    // Where the host itself refuses to go back, it stays in the forward's state; everywhere else it
    // must be back.
    const bool refused_to_go_back =
        host_.fault == Fault::kSwap && host_.fired && host_.installed == 1;
    if (!refused_to_go_back) {
      EXPECT_EQ(99, host_.installed) << "the state of before the replay";
    }
    if (!good) return false;
    EXPECT_TRUE(host_.y_there);
    for (int i = 0; i < kN; ++i) {
      if (host_.y[i] != 2.0f * static_cast<float>(i) + 1) {
        ADD_FAILURE() << "y[" << i << "] is " << host_.y[i];
        break;
      }
    }
    rc_tensor_spec h = rc_tensor_spec_init();
    return call("view", [&] { return rc_region_view(region, 1, nullptr, &h); }) &&
           call("done", [&] { return rc_region_done(region, 1, nullptr); });
  }
  void leave(rc_region* region, rc_tensor* tensor, rc_module* module, rc_step* step,
             rc_policy* policy, rc_context* context) {
    rc_tensor_release(tensor);
    rc_region_release(region, nullptr);
    rc_step_report report = rc_step_report_init();
    if (step != nullptr) {
      EXPECT_LE(RC_OK, rc_step_end(step, nullptr, &report)) << last_error();
    }
    rc_module_release(module);
    rc_policy_release(policy);
    if (context == nullptr) return;
    rc_stats stats = rc_stats_init();
    EXPECT_EQ(RC_OK, rc_stats_get(context, &stats));
    EXPECT_EQ(0u, stats.regions_live);
    EXPECT_EQ(0u, stats.live_bytes);
    rc_context_release(context);
    EXPECT_EQ(1, host_.allocator_gone);
    EXPECT_EQ(1, host_.sink_gone);
    EXPECT_EQ(module != nullptr, host_.module_gone == 1);
    EXPECT_EQ(module != nullptr, host_.state_gone == 1);
  }

  Host& host_;
  After after_;
};

void expect_balance(const Host& host) {
  EXPECT_EQ(0, host.blocks) << "blocks of the host's allocator";
  EXPECT_EQ(0u, host.bytes);
  EXPECT_EQ(0, host.tokens) << "tokens of the side state";
  EXPECT_EQ(0, host.tensors) << "deleters";
  EXPECT_EQ(host.begun, host.region_gone) << "destroys of region data";
}

struct Case {
  Fault fault;
  After after;
  const char* name;
};
std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.name;
}

class Faults : public ::testing::TestWithParam<Case> {};

TEST_P(Faults, LeaveNothingBehindAtAnyCall) {
  int k = 1;
  for (; k < 2000; ++k) {
    SCOPED_TRACE("failing call " + std::to_string(k));
    auto host = std::make_unique<Host>(GetParam().fault, k);
    heap_fired = false;
    TrainingStep(*host, GetParam().after).go();
    expect_balance(*host);
    if (!host->fired && !heap_fired) break;
    if (HasFailure()) break;  // one k is enough to see it
  }
  EXPECT_GT(k, 1) << "the fault never fired";
  EXPECT_LT(k, 2000);
  RecordProperty("calls", k - 1);
}

INSTANTIATE_TEST_SUITE_P(EveryCallback, Faults,
                         ::testing::Values(Case{Fault::kAlloc, After::kRetry, "AllocRetry"},
                                           Case{Fault::kAlloc, After::kGiveUp, "AllocGiveUp"},
                                           Case{Fault::kCapture, After::kRetry, "CaptureRetry"},
                                           Case{Fault::kCapture, After::kGiveUp, "CaptureGiveUp"},
                                           Case{Fault::kSwap, After::kRetry, "SwapRetry"},
                                           Case{Fault::kSwap, After::kGiveUp, "SwapGiveUp"},
                                           Case{Fault::kReplay, After::kRetry, "ReplayRetry"},
                                           Case{Fault::kReplay, After::kGiveUp, "ReplayGiveUp"},
                                           Case{Fault::kDrop, After::kRetry, "DropRetry"},
                                           Case{Fault::kDrop, After::kGiveUp, "DropGiveUp"},
                                           Case{Fault::kRefill, After::kRetry, "RefillRetry"},
                                           Case{Fault::kRefill, After::kGiveUp, "RefillGiveUp"},
                                           Case{Fault::kHeap, After::kRetry, "HeapRetry"},
                                           Case{Fault::kHeap, After::kGiveUp, "HeapGiveUp"}),
                         [](const auto& i) { return std::string(i.param.name); });

TEST(FaultFree, ARunWithoutFaultsIsBalancedToo) {
  auto host = std::make_unique<Host>(Fault::kNone, 0);
  TrainingStep(*host, After::kGiveUp).go();
  expect_balance(*host);
  EXPECT_EQ(1, host->replays);
}

}  // namespace
}  // namespace abi_tests
