// src/testing/device_faults_test.cc: each allocation, unpark and copy of the device fails in turn
// over a loop of several steps; what follows works, and nothing is left.
#include <set>

#include "src/device/device_cpu.h"
#include "src/device/forwarding_device.h"
#include "src/region/testing_host.h"

namespace rc::testing {
namespace {

// Counts the calls that can fail, refuses the one that it is told to, and knows what is handed out.
class FailingDevice final : public ForwardingDevice {
 public:
  struct Log {
    int calls = 0, fail_at = 0;
    std::set<void*> blocks, parked;
    bool wrong = false;
    bool fails() { return ++calls == fail_at; }
  };
  explicit FailingDevice(std::shared_ptr<Log> log)
      : ForwardingDevice(make_cpu_device(0)), log_(std::move(log)) {}

  Status allocate(size_t bytes, Stream stream, void** out) override {
    if (log_->fails()) return refusal();
    RC_TRY(inner_->allocate(bytes, stream, out));
    log_->wrong |= !log_->blocks.insert(*out).second;
    return ok_status();
  }
  void free(void* pointer, size_t bytes, Stream stream) override {
    log_->wrong |= log_->blocks.erase(pointer) == 0;
    log_->parked.erase(pointer);
    inner_->free(pointer, bytes, stream);
  }
  bool park(void* pointer, size_t bytes, Stream stream) override {
    const bool parked = inner_->park(pointer, bytes, stream);
    if (parked) log_->wrong |= !log_->parked.insert(pointer).second;
    return parked;
  }
  Status unpark(void* pointer, size_t bytes, Stream stream) override {
    if (log_->fails()) return refusal();
    log_->wrong |= log_->parked.erase(pointer) == 0;
    return inner_->unpark(pointer, bytes, stream);
  }
  Status copy(void* to, const void* from, size_t bytes, Stream stream) override {
    if (log_->fails()) return refusal();
    return inner_->copy(to, from, bytes, stream);
  }

 private:
  static Status refusal() { return Status(RC_E_MEMORY, "", "refused by the test"); }
  std::shared_ptr<Log> log_;
};

constexpr uint64_t kSmall = 5000, kLarge = 300 * 1024;  // large enough to park
constexpr int kLayers = 2, kMicrobatches = 2;

// A host that stops at the first refusal and gives up the whole step, as a trainer would.
class Loop {
 public:
  explicit Loop(int fail_at) : log(std::make_shared<FailingDevice::Log>()) {
    log->fail_at = fail_at;
    host = std::make_unique<Host>(std::make_unique<FailingDevice>(log));
    host->recompute({"layernorm", "mlp"});
    for (uint32_t l = 0; l < kLayers; ++l) {
      norms_.push_back(&host->module("layernorm", l, {in("x"), out("y")}, refill(kSmall)));
      mlps_.push_back(
          &host->module("mlp", l, {in("x"), saved("h"), decision("choice")}, refill(kLarge)));
    }
  }

  // Steps with an arena and, every third, dynamic regions of no step. True if nothing was refused.
  bool step(int index) {
    rc_step* step = index % 3 == 2 ? nullptr : host->step();
    bool good = true;
    for (uint32_t mb = 0; mb < kMicrobatches && good; ++mb) good = forward(step, mb);
    for (auto r = regions_.rbegin(); r != regions_.rend() && good; ++r) good = backward(*r);
    for (rc_region* r : regions_) rc_region_release(r, nullptr);
    regions_.clear();
    if (step) EXPECT_EQ(host->end_step(step).regions_purged, 0u);
    EXPECT_EQ(host->live(), 0u);
    return good;
  }

  std::shared_ptr<FailingDevice::Log> log;
  std::unique_ptr<Host> host;

 private:
  static bool fill_slot(rc_region* r, uint32_t slot, uint64_t bytes, int seed) {
    Bytes want(bytes);
    rc_tensor_spec got = rc_tensor_spec_init();
    if (rc_region_alloc(r, slot, &want.spec, nullptr, &got) < 0) return false;
    fill(static_cast<char*>(got.data), bytes, seed);
    return true;
  }
  ReplayFunction refill(uint64_t bytes) {
    return [bytes](const rc_replay_args* args) {
      char choice[16] = {};
      const int seed = *static_cast<int*>(args->region_data);
      if (bytes == kLarge) {
        Bytes value(sizeof choice, choice);
        if (rc_status s = rc_region_decide(args->region, 2, &value.spec, nullptr); s < 0) return s;
        EXPECT_TRUE(filled(choice, sizeof choice, seed));
      }
      return fill_slot(args->region, 1, bytes, seed) ? RC_OK : RC_E_MEMORY;
    };
  }
  rc_region* begin(TestModule* module, rc_step* step, uint32_t mb, int* seed) {
    return regions_.emplace_back(
        host->begin(*module, {.step = step, .microbatch = mb, .user_data = seed}));
  }

  bool forward(rc_step* step, uint32_t mb) {
    char x[kSmall], choice[16];
    for (int l = 0; l < kLayers; ++l) {
      int* seed = &seeds_[mb][l];
      *seed = static_cast<int>(mb) * 7 + l + 1;
      fill(x, kSmall, *seed);
      fill(choice, sizeof choice, *seed);
      rc_region* norm = begin(norms_[l], step, mb, seed);
      if (save_bytes(norm, 0, x, kSmall) < 0 || !fill_slot(norm, 1, kSmall, *seed)) return false;
      EXPECT_EQ(rc_region_end(norm, nullptr), RC_OK);
      rc_region* mlp = begin(mlps_[l], step, mb, seed);
      EXPECT_EQ(save_link(mlp, 0, norm, 1), RC_OK);
      Bytes value(sizeof choice, choice);
      if (rc_region_decide(mlp, 2, &value.spec, nullptr) < 0) return false;
      if (!fill_slot(mlp, 1, kLarge, *seed)) return false;
      EXPECT_EQ(rc_region_end(mlp, nullptr), RC_OK);
      EXPECT_EQ(rc_region_discard(norm, nullptr), RC_OK);
    }
    return true;
  }
  bool backward(rc_region* r) {
    if (replay(r) < 0) return false;
    const bool norm = info(r).n_slots == 2;
    const uint64_t bytes = norm ? kSmall : kLarge;
    const int seed = *static_cast<int*>(info(r).user_data);
    if (!norm) EXPECT_TRUE(filled(view(r, 0), kSmall, seed));
    EXPECT_TRUE(filled(view(r, norm ? 0 : 1), bytes, seed));
    return true;
  }

  std::vector<TestModule*> norms_, mlps_;
  std::vector<rc_region*> regions_;
  int seeds_[kMicrobatches][kLayers] = {};
};

constexpr int kSteps = 4;

TEST(DeviceFaults, EachRefusalCostsItsStepAndNothingElse) {
  int calls = 0;
  {
    Loop loop(0);
    for (int i = 0; i < kSteps; ++i) EXPECT_TRUE(loop.step(i));
    calls = loop.log->calls;
  }
  ASSERT_GT(calls, 50);
  for (int fail_at = 1; fail_at <= calls; ++fail_at) {
    SCOPED_TRACE(format("call %d of %d", fail_at, calls));
    auto loop = std::make_unique<Loop>(fail_at);
    int failed = 0;
    for (int i = 0; i < kSteps; ++i) failed += !loop->step(i);
    // The arena's own memory is an aid: without it the steps are dynamic, and none fails.
    EXPECT_LE(failed, 1);
    EXPECT_TRUE(loop->step(0)) << "what follows works";
    const auto log = loop->log;
    loop.reset();
    EXPECT_TRUE(log->blocks.empty()) << log->blocks.size() << " blocks were never freed";
    EXPECT_FALSE(log->wrong) << "a block was freed, parked or brought back twice";
    if (::testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace rc::testing
