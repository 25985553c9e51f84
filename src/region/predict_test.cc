// src/region/predict_test.cc: what rc_predict says of a step is what the step then measures, to the
// byte.
#include "src/region/testing_model.h"

namespace rc::testing {
namespace {

struct Case {
  const char* name;
  std::function<void(rc_policy_desc*)> write;
};

const char* const kScores[] = {"core_attn"};
const char* const kNorms[] = {"layernorm"};
const char* const kThree[] = {"layernorm", "core_attn", "mlp"};
const char* const kAct[] = {"moe_act"};

void selective(rc_policy_desc* d, const char* const* kinds, uint32_t n) {
  d->granularity = RC_GRANULARITY_SELECTIVE;
  d->recompute_modules = kinds;
  d->n_recompute_modules = n;
  d->flags = RC_POLICY_MOE_GROUPED_GEMM;  // moe_act needs it
}
void full(rc_policy_desc* d, rc_method method, uint32_t n) {
  d->granularity = RC_GRANULARITY_FULL;
  d->method = method;
  d->recompute_num_layers = n;
  d->num_layers = 5;
}

std::vector<Case> cases() {
  return {{"none", [](rc_policy_desc*) {}},
          {"scores", [](rc_policy_desc* d) { selective(d, kScores, 1); }},
          {"norms", [](rc_policy_desc* d) { selective(d, kNorms, 1); }},
          {"three", [](rc_policy_desc* d) { selective(d, kThree, 3); }},
          {"act", [](rc_policy_desc* d) { selective(d, kAct, 1); }},
          {"uniform1", [](rc_policy_desc* d) { full(d, RC_METHOD_UNIFORM, 1); }},
          {"uniform2", [](rc_policy_desc* d) { full(d, RC_METHOD_UNIFORM, 2); }},
          {"uniform5", [](rc_policy_desc* d) { full(d, RC_METHOD_UNIFORM, 5); }},
          {"block2", [](rc_policy_desc* d) { full(d, RC_METHOD_BLOCK, 2); }}};
}

rc_policy* make(const Case& c) {
  rc_policy_desc desc = rc_policy_desc_init();
  c.write(&desc);
  return Host::make_policy(desc);
}

// The model, and beside it a module with owned tensors and an output in the host's memory.
struct Job {
  explicit Job(Host& h) : host(h), model(h, 5) {
    act = &host.module("moe_act", 0, {in("x"), saved("s"), out("y")},
                       [this](const rc_replay_args* args) {
                         for (uint32_t i = 0; i < args->n_missing; ++i)
                           if (args->missing[i] == 1)
                             EXPECT_EQ(save_tensor(args->region, 1, wrap(memory, 700, nullptr)),
                                       RC_OK);
                         return RC_OK;
                       },
                       {.host_slots = true});
  }
  rc_step_report step(rc_flags flags) {
    rc_step* step = host.step(RC_PHASE_FORWARD, flags);
    rc_region* acts[2];
    for (uint32_t mb = 0; mb < 2; ++mb) {
      model.forward(step, mb, static_cast<int>(mb));
      rc_region* r = acts[mb] = host.begin(*act, {.step = step, .microbatch = mb});
      EXPECT_EQ(save_tensor(r, 0, wrap(memory, 900, nullptr)), RC_OK);
      EXPECT_EQ(save_tensor(r, 1, wrap(memory, 700, nullptr)), RC_OK);
      EXPECT_EQ(rc_region_output(r, 2, RC_OUTPUT_HOST, Bytes(500, memory).get(), nullptr), RC_OK);
      EXPECT_EQ(rc_region_end(r, nullptr), RC_OK);
      EXPECT_GE(rc_region_discard(r, nullptr), 0);
    }
    for (uint32_t mb : {1u, 0u}) {
      EXPECT_EQ(replay(acts[mb]), RC_OK) << last_message();
      rc_region_release(acts[mb], nullptr);
      model.backward(mb);
    }
    return host.end_step(step);
  }
  Host& host;
  Model model;
  TestModule* act;
  char memory[1000] = {};
};

void compare(const Case& log_under, const Case& c) {
  SCOPED_TRACE(std::string(log_under.name) + " -> " + c.name);
  rc_prediction predicted = rc_prediction_init();
  {
    Host host;
    rc_policy* first = make(log_under);
    ASSERT_EQ(rc_context_configure(host.context, first), RC_OK);
    rc_policy_release(first);
    Job job(host);
    job.step(RC_STEP_LOG);
    rc_policy* policy = make(c);
    ASSERT_EQ(rc_predict(host.context, policy, &predicted), RC_OK) << last_message();
    rc_policy_release(policy);
    EXPECT_EQ(host.live(), 0u);
  }
  Host host;
  rc_policy* policy = make(c);
  ASSERT_EQ(rc_context_configure(host.context, policy), RC_OK);
  rc_policy_release(policy);
  Job job(host);
  const rc_step_report first = job.step(0);
  EXPECT_EQ(predicted.peak_bytes, first.peak_bytes);
  EXPECT_EQ(predicted.replays, first.replays);
  EXPECT_EQ(predicted.dropped_bytes, host.stats().dropped_bytes);
  const rc_step_report second = job.step(0);
  EXPECT_EQ(second.peak_bytes, first.peak_bytes);
  EXPECT_EQ(second.replays, first.replays);
  EXPECT_EQ(host.stats().dropped_bytes, 2 * predicted.dropped_bytes);
  EXPECT_EQ(predicted.arena_bytes, second.arena_bytes);
}

TEST(Predict, EveryPolicyFromALogUnderNone) {
  const std::vector<Case> all = cases();
  for (const Case& c : all) compare(all[0], c);
}

TEST(Predict, FromALogUnderAnyOtherPolicy) {
  const std::vector<Case> all = cases();
  for (const Case& log_under : all) compare(log_under, all[6]);
  compare(all[6], all[0]);
  compare(all[8], all[3]);
}

TEST(Predict, NeedsAFinishedLog) {
  Host host;
  Job job(host);
  rc_prediction p = rc_prediction_init();
  job.step(0);
  EXPECT_EQ(rc_predict(host.context, nullptr, &p), RC_E_STATE);
  rc_step* open = host.step(RC_PHASE_FORWARD, RC_STEP_LOG);
  EXPECT_EQ(rc_predict(host.context, nullptr, &p), RC_E_STATE);
  host.end_step(open);
  EXPECT_EQ(rc_predict(host.context, nullptr, &p), RC_OK) << last_message();
  EXPECT_EQ(p.peak_bytes, 0u);
}

// A region of an earlier step has the key of one of this step; they are not the same.
TEST(Predict, ASourceInAnotherStepIsThereAndNotCounted) {
  Host host;
  char memory[400] = {};
  TestModule& m =
      host.module("mlp", 0, {in("x"), saved("s")}, [](const rc_replay_args*) { return RC_OK; });
  rc_step* before = host.step(RC_PHASE_FORWARD, 0);
  rc_region* source = host.begin(m, {.step = before});
  ASSERT_EQ(save_bytes(source, 0, memory, 300), RC_OK);
  ASSERT_EQ(rc_region_end(source, nullptr), RC_OK);
  rc_step* logged = host.step(RC_PHASE_FORWARD, RC_STEP_LOG);
  rc_region* r = host.begin(m, {.step = logged});
  ASSERT_EQ(save_link(r, 0, source, 0), RC_OK) << last_message();
  ASSERT_EQ(save_tensor(r, 1, wrap(memory, 40, nullptr)), RC_OK);
  ASSERT_EQ(rc_region_end(r, nullptr), RC_OK);
  rc_region_release(r, nullptr);
  host.end_step(logged);
  rc_prediction p = rc_prediction_init();
  ASSERT_EQ(rc_predict(host.context, nullptr, &p), RC_OK) << last_message();
  EXPECT_EQ(p.peak_bytes, 40u);
  rc_region_release(source, nullptr);
  host.end_step(before);
}

TEST(Predict, LeavesTheContextAsItIs) {
  Host host;
  Job job(host);
  job.step(RC_STEP_LOG);
  const rc_stats before = host.stats();
  rc_policy* policy = make(cases()[6]);
  rc_prediction a = rc_prediction_init(), b = rc_prediction_init();
  ASSERT_EQ(rc_predict(host.context, policy, &a), RC_OK);
  ASSERT_EQ(rc_predict(host.context, policy, &b), RC_OK);
  rc_policy_release(policy);
  EXPECT_EQ(a.peak_bytes, b.peak_bytes);
  EXPECT_EQ(a.arena_bytes, b.arena_bytes);
  const rc_stats after = host.stats();
  EXPECT_EQ(std::memcmp(&before, &after, sizeof after), 0);
}

}  // namespace
}  // namespace rc::testing
