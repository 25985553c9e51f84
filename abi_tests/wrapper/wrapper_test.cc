// abi_tests/wrapper/wrapper_test.cc: rcore.hpp owns handles, throws statuses, and lets no exception
// cross.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <rcore/rcore.hpp>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace {

constexpr int kN = 256;
const std::int64_t kShape[1] = {kN};

static_assert(!std::is_copy_constructible_v<rcore::context> &&
              std::is_nothrow_move_constructible_v<rcore::context>);
static_assert(!std::is_copy_constructible_v<rcore::region> &&
              std::is_nothrow_move_constructible_v<rcore::region>);
static_assert(!std::is_copy_constructible_v<rcore::step> &&
              std::is_nothrow_move_constructible_v<rcore::step>);

rcore::policy recompute_layernorm() {
  rc_policy_rule rule = rc_policy_rule_init();
  rule.kind = "layernorm";
  rule.action = RC_ACTION_RECOMPUTE;
  rc_policy_desc desc = rc_policy_desc_init();
  desc.num_layers = 1;
  desc.rules = &rule;
  desc.n_rules = 1;
  desc.rule_stride = sizeof rule;
  return rcore::policy::create(desc);
}

class Wrapper : public ::testing::Test {
 protected:
  Wrapper() {
    context_.configure(recompute_layernorm());
    for (int i = 0; i < kN; ++i) x_[i] = static_cast<float>(i);
  }
  // y = 3x, through the core's memory.
  static void compute(rcore::region_ref region) {
    const rc_tensor_spec x = region.view(0);
    const rc_tensor_spec y = region.alloc(1, rcore::spec(nullptr, kShape, 1));
    if (y.data == nullptr) return;
    for (int i = 0; i < kN; ++i)
      static_cast<float*>(y.data)[i] = 3 * static_cast<const float*>(x.data)[i];
  }
  rcore::submodule module(std::function<void(const rc_replay_args&)> replay,
                          std::vector<rcore::side_state> states = {}) {
    const rc_slot_desc slots[2] = {rcore::slot("x", RC_ROLE_INPUT),
                                   rcore::slot("y", RC_ROLE_OUTPUT)};
    rc_module_desc desc = rc_module_desc_init();
    desc.kind = "layernorm";
    desc.slots = slots;
    desc.n_slots = 2;
    desc.slot_stride = sizeof slots[0];
    return rcore::submodule::add(context_, desc, {std::move(replay), {}, {}}, std::move(states));
  }
  rcore::region discarded(const rcore::submodule& m, rc_step* step = nullptr) {
    rc_region_desc desc = rc_region_desc_init();
    desc.module = m.get();
    desc.step = step;
    rcore::region r = rcore::region::begin(context_, desc);
    r.save(0, rcore::spec(x_, kShape, 1));
    compute(r);
    r.end();
    r.discard();
    return r;
  }
  rcore::context context_ = rcore::context::create();
  float x_[kN];
};

TEST_F(Wrapper, RunsARegionThroughLambdas) {
  int replays = 0;
  const rcore::submodule m = module([&](const rc_replay_args& args) {
    ++replays;
    EXPECT_EQ(1u, args.n_missing);
    compute(rcore::region_ref(args.region));
  });
  rcore::region r = discarded(m);
  EXPECT_EQ(std::vector<std::uint32_t>{1}, r.missing());
  EXPECT_EQ(RC_REGION_EMPTY, r.query().state);
  EXPECT_STREQ("y", r.query(1).name);
  r.replay();
  EXPECT_EQ(1, replays);
  EXPECT_EQ(3.0f * 7, static_cast<const float*>(r.view(1).data)[7]);
  rcore::region again = rcore::region::find(context_, r.query().id);
  EXPECT_EQ(r.get(), again.get());
  rcore::region shared = r.share();
  r.release();
  again.release();
  EXPECT_EQ(1u, context_.stats().regions_live);
  shared.release();
  EXPECT_EQ(0u, context_.stats().regions_live);
}

TEST_F(Wrapper, TurnsAFailureIntoAnExceptionWithItsParts) {
  rc_policy_desc desc = rc_policy_desc_init();
  desc.granularity = RC_GRANULARITY_FULL;  // and no method
  try {
    rcore::policy::create(desc);
    FAIL() << "no exception";
  } catch (const rcore::error& e) {
    EXPECT_EQ(RC_E_ARGUMENT, e.code());
    EXPECT_STREQ("rc_policy_create", e.info().call);
    EXPECT_NE('\0', e.message()[0]);
    EXPECT_NE(std::string::npos, std::string(e.what()).find(e.field()));
  }
  EXPECT_THROW(rcore::policy::from_json("{"), rcore::error);
}

TEST_F(Wrapper, AnExceptionInAReplayBecomesAStatusWithItsText) {
  bool broken = true;
  const rcore::submodule m = module([&](const rc_replay_args& args) {
    if (broken) throw std::runtime_error("the GPU is on fire");
    compute(rcore::region_ref(args.region));
  });
  rcore::region r = discarded(m);
  try {
    r.replay();
    FAIL() << "no exception";
  } catch (const rcore::error& e) {
    EXPECT_EQ(RC_E_HOST, e.code());
    EXPECT_NE(std::string::npos, std::string(e.what()).find("the GPU is on fire")) << e.what();
    EXPECT_EQ(r.query().id, e.info().region_id);
  }
  broken = false;  // the region is EMPTY and can be retried
  EXPECT_EQ(RC_REGION_EMPTY, r.query().state);
  r.replay();
  EXPECT_EQ(0, std::memcmp(r.view(0).data, x_, sizeof x_));
}

TEST_F(Wrapper, AnRcoreErrorInACallbackKeepsItsStatus) {
  const rcore::submodule m =
      module([](const rc_replay_args& args) { rcore::region_ref(args.region).view(55); });
  rcore::region r = discarded(m);
  try {
    r.replay();
    FAIL() << "no exception";
  } catch (const rcore::error& e) {
    EXPECT_EQ(RC_E_ARGUMENT, e.code()) << e.what();
  }
}

TEST_F(Wrapper, AnythingThrownIsContained) {
  const rcore::submodule m = module([](const rc_replay_args&) { throw 42; });
  rcore::region r = discarded(m);
  try {
    r.replay();
    FAIL() << "no exception";
  } catch (const rcore::error& e) {
    EXPECT_EQ(RC_E_HOST, e.code());
  }
}

TEST_F(Wrapper, SideStateIsSeenAsTheForwardSawIt) {
  struct Counted {
    explicit Counted(int v, int* n) : value(v), live(n) { ++*live; }
    Counted(const Counted& o) : value(o.value), live(o.live) { ++*live; }
    ~Counted() { --*live; }
    int value;
    int* live;
  };
  int current = 1, live = 0, seen = 0;
  std::vector<rcore::side_state> states;
  states.push_back(rcore::side_state::of<Counted>([&] { return Counted(current, &live); },
                                                  [&](const Counted& install) {
                                                    Counted previous(current, &live);
                                                    current = install.value;
                                                    return previous;
                                                  }));
  {
    const rcore::submodule m = module(
        [&](const rc_replay_args& args) {
          seen = current;
          compute(rcore::region_ref(args.region));
        },
        std::move(states));
    rcore::region r = discarded(m);
    current = 2;
    r.replay();
    EXPECT_EQ(1, seen);
    EXPECT_EQ(2, current);
  }
  EXPECT_EQ(0, live) << "every token was dropped";
}

TEST_F(Wrapper, RegionDataLivesAsLongAsTheRegion) {
  const rcore::submodule m = module([](const rc_replay_args& args) {
    EXPECT_EQ(17, **static_cast<std::shared_ptr<int>*>(args.region_data));
    compute(rcore::region_ref(args.region));
  });
  auto value = std::make_shared<int>(17);
  rc_region_desc desc = rc_region_desc_init();
  desc.module = m.get();
  rcore::region r =
      rcore::region::begin(context_, desc, std::make_unique<std::shared_ptr<int>>(value));
  EXPECT_EQ(2, value.use_count());
  r.save(0, rcore::spec(x_, kShape, 1));
  compute(r);
  r.end();
  r.discard();
  r.replay();
  r.release();
  EXPECT_EQ(1, value.use_count());
  rc_region_desc wrong = rc_region_desc_init();  // no module: the data is destroyed here
  EXPECT_THROW(rcore::region::begin(context_, wrong, std::make_unique<std::shared_ptr<int>>(value)),
               rcore::error);
  EXPECT_EQ(1, value.use_count());
}

TEST_F(Wrapper, OwnedTensorsAreReleasedOnce) {
  int released = 0;
  rcore::tensor t = rcore::tensor::wrap(rcore::spec(x_, kShape, 1), [&] { ++released; });
  EXPECT_EQ(kN, t.view().shape[0]);
  const rcore::submodule m = module([](const rc_replay_args&) {});
  {
    rc_region_desc desc = rc_region_desc_init();
    desc.module = m.get();
    rcore::region r = rcore::region::begin(context_, desc);
    EXPECT_THROW(r.save(9, std::move(t)), rcore::error);
    EXPECT_TRUE(t) << "not consumed";
    r.save(0, std::move(t));
    EXPECT_FALSE(t);
    r.end();
  }
  EXPECT_EQ(1, released);
}

TEST_F(Wrapper, AnEmptyRegionTakesNothingAndAsksForNothing) {
  int released = 0;
  rcore::tensor t = rcore::tensor::wrap(rcore::spec(x_, kShape, 1), [&] { ++released; });
  rcore::region_ref none;
  EXPECT_EQ(RC_PASS, none.save(0, std::move(t)));
  ASSERT_TRUE(t) << "still the caller's";
  EXPECT_EQ(0, released);
  t.reset();
  EXPECT_EQ(1, released);
  EXPECT_EQ(nullptr, none.alloc(0, rcore::spec(nullptr, kShape, 1)).data);
  EXPECT_EQ(nullptr, none.view(0).data);
  EXPECT_FALSE(none.take(0));
  EXPECT_TRUE(none.wants(0));
  EXPECT_TRUE(none.missing().empty());
  EXPECT_EQ(0u, none.query().id);
  rc_rng record;
  EXPECT_FALSE(none.rng_record(0, &record));
  EXPECT_FALSE(rcore::region().share());
}

TEST_F(Wrapper, HooksAreOwnedByTheContext) {
  int blocks = 0, events = 0;
  auto token = std::make_shared<int>(0);
  {
    rcore::hooks h;
    h.allocator = std::make_unique<rcore::allocator>();
    h.allocator->alloc = [&blocks, token](const rc_alloc_request& r) {
      ++blocks;
      return std::aligned_alloc(r.alignment,
                                (r.bytes + r.alignment - 1) / r.alignment * r.alignment);
    };
    h.allocator->free = [&blocks](const rc_alloc_request&, void* p) {
      --blocks;
      std::free(p);
    };
    h.sink = std::make_unique<rcore::sink>();
    h.sink->trace_mask = ~rc_flags{0};
    h.sink->trace = [&](const rc_trace_event&) {
      ++events;
      throw std::runtime_error("a sink may throw; nobody minds");
    };
    h.parallel = std::make_unique<rcore::parallel>();
    h.parallel->run = [](std::int64_t n, const std::function<void(std::int64_t)>& task) {
      for (std::int64_t i = 0; i < n; ++i) task(i);
    };
    context_ = rcore::context::create(rc_context_desc_init(), std::move(h));
    context_.configure(recompute_layernorm());
    const rcore::submodule m =
        module([](const rc_replay_args& args) { compute(rcore::region_ref(args.region)); });
    discarded(m).replay();
    EXPECT_GT(events, 3);
  }
  EXPECT_GT(token.use_count(), 1);
  context_.reset();
  EXPECT_EQ(0, blocks);
  EXPECT_EQ(1, token.use_count()) << "destroyed with the context";
  rcore::hooks h;
  h.sink = std::make_unique<rcore::sink>();
  h.sink->log = [token](rc_level, const char*, const char*) {};
  rc_context_desc bad = rc_context_desc_init();
  bad.target_version = 4000000000u;
  EXPECT_THROW(rcore::context::create(bad, std::move(h)), rcore::error);
  h = {};
  EXPECT_EQ(1, token.use_count()) << "destroyed here where the context was not made";
}

TEST_F(Wrapper, AnAllocatorThatThrowsFailsTheCall) {
  rcore::hooks h;
  h.allocator = std::make_unique<rcore::allocator>();
  h.allocator->alloc = [](const rc_alloc_request&) -> void* { throw std::bad_alloc(); };
  h.allocator->free = [](const rc_alloc_request&, void*) {};
  context_ = rcore::context::create(rc_context_desc_init(), std::move(h));
  context_.configure(recompute_layernorm());
  const rcore::submodule m = module([](const rc_replay_args&) {});
  try {
    discarded(m);
    FAIL() << "no exception";
  } catch (const rcore::error& e) {
    EXPECT_EQ(RC_E_MEMORY, e.code()) << e.what();
  }
}

TEST_F(Wrapper, FencesTellTheirResult) {
  rcore::fence f = rcore::fence::create(context_);
  rc_status told = RC_PENDING;
  f.on_done([&](rc_status s) { told = s; });
  EXPECT_FALSE(f.test());
  EXPECT_FALSE(f.wait(1000));
  f.signal();
  EXPECT_TRUE(f.test() && f.wait());
  EXPECT_EQ(RC_OK, told);
  rcore::fence dropped = rcore::fence::create(context_);
  dropped.on_done([&](rc_status s) { told = s; });
  dropped.reset();
  EXPECT_EQ(RC_E_STATE, told);
}

TEST_F(Wrapper, PlansFromAMeasuredStep) {
  rc_plan_budget budget = rc_plan_budget_init();
  budget.fraction = 1;
  try {
    rcore::plan::measured(context_, budget);
    FAIL() << "no exception";
  } catch (const rcore::error& e) {
    EXPECT_EQ(RC_E_STATE, e.code()) << e.what();
  }
  context_.configure(rcore::policy());
  const rcore::submodule m =
      module([](const rc_replay_args& args) { compute(rcore::region_ref(args.region)); });
  rc_step_desc profiled = rc_step_desc_init();
  profiled.flags = RC_STEP_PROFILE;
  rcore::step step = rcore::step::begin(context_, profiled);
  rcore::region r = discarded(m, step.get());
  r.replay();
  r.release();
  step.end();
  const rcore::plan plan = rcore::plan::measured(context_, budget);
  EXPECT_EQ('{', plan.report().front());
  context_.configure(plan.policy());
}

TEST_F(Wrapper, TextsAndStepsAndProcs) {
  const std::string json = recompute_layernorm().describe();
  EXPECT_EQ(json, rcore::policy::from_json(json).describe());
  EXPECT_EQ('{', context_.report().front());
  rcore::step s = rcore::step::begin(context_);
  EXPECT_EQ(0u, s.end().regions_begun);
  EXPECT_EQ(nullptr, s.get());
  EXPECT_EQ(rcore::version(), rcore::proc<decltype(&rc_version)>("rc_version")());
  EXPECT_EQ(RC_PASS, rcore::region_ref().end());
  EXPECT_EQ(RC_PASS, rcore::replay({nullptr, nullptr}));
  EXPECT_TRUE(recompute_layernorm().notes().empty());
  rcore::comm group = rcore::comm::create(
      context_, "tp", 0, 1,
      [](const void* send, void* recv, std::uint64_t n, rc_stream) { std::memcpy(recv, send, n); });
  EXPECT_TRUE(group);
}

}  // namespace
