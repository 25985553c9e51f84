// abi_tests/wrapper/example_test.cc: the program at the top of rcore.hpp compiles, runs and does
// what its comments say; lints.py holds the two texts together.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <rcore/rcore.hpp>
#include <utility>
#include <vector>

namespace {

constexpr std::int64_t kN = 1000;

// A stand-in for the consumer's kernels: a norm that halves, and a next layer that reads.
struct Kernels {
  int norms = 0;
  std::vector<float> seen[2];

  void norm(const rc_tensor_spec& in, const rc_tensor_spec& out) {
    ++norms;
    for (std::int64_t i = 0; i < kN; ++i)
      static_cast<float*>(out.data)[i] = static_cast<const float*>(in.data)[i] / 2;
  }
  void read(int pass, const rc_tensor_spec& y) {
    const float* data = static_cast<const float*>(y.data);
    seen[pass].assign(data, data + kN);
  }
};

TEST(WrapperExample, RunsAsTheHeaderShowsIt) {
  const std::int64_t shape[1] = {kN};
  std::vector<float> values(kN);
  for (std::int64_t i = 0; i < kN; ++i) values[static_cast<std::size_t>(i)] = static_cast<float>(i);
  const rc_tensor_spec x = rcore::spec(values.data(), shape, 1);
  Kernels kernels;
  const auto norm = [&](const rc_tensor_spec& in, const rc_tensor_spec& out) {
    kernels.norm(in, out);
  };
  const auto next_layer = [&](const rc_tensor_spec& y) { kernels.read(0, y); };
  const auto next_layer_backward = [&](const rc_tensor_spec& y) { kernels.read(1, y); };

  // rcore.hpp begin
  // Set up: layers' norms are computed again in backward, everything else is kept.
  rcore::context context = rcore::context::create();
  context.configure(rcore::policy::from_json(
      R"({"rcore_policy": 1, "rules": [{"kind": "layernorm", "action": "recompute"}]})"));
  const rc_slot_desc slots[] = {rcore::slot("in", RC_ROLE_INPUT),
                                rcore::slot("out", RC_ROLE_OUTPUT)};
  rc_module_desc desc = rc_module_desc_init();
  desc.kind = "layernorm";
  desc.slots = slots;
  desc.n_slots = 2;
  desc.slot_stride = sizeof slots[0];
  const auto run = [&](rcore::region_ref region) {  // in forward, and again in each replay
    const rc_tensor_spec out = region.alloc(1, rcore::spec(nullptr, shape, 1));
    if (out.data != nullptr) norm(region.view(0), out);  // NULL: a replay has it already
  };
  rcore::replay_ops ops;
  ops.replay = [&](const rc_replay_args& args) { run(rcore::region_ref(args.region)); };
  const rcore::submodule layernorm = rcore::submodule::add(context, desc, std::move(ops));

  // Forward, for each microbatch.
  rcore::step step = rcore::step::begin(context);
  rc_region_desc site = rc_region_desc_init();
  site.module = layernorm.get();
  site.step = step.get();
  rcore::region region = rcore::region::begin(context, site);
  region.save(0, x);  // copies; a tensor that is moved in is not copied
  run(region);
  region.end();
  next_layer(region.view(1));
  region.discard();  // the next layer has read "out": its memory is free again

  // Backward.
  region.replay();  // calls ops.replay, because "out" is missing
  next_layer_backward(region.view(1));
  region.release();
  const rc_step_report report = step.end();  // peak bytes, replays, what was left over
  // rcore.hpp end

  EXPECT_EQ(2, kernels.norms);
  EXPECT_EQ(kN, static_cast<std::int64_t>(kernels.seen[0].size()));
  EXPECT_EQ(kernels.seen[0], kernels.seen[1]);
  EXPECT_EQ(499.5f, kernels.seen[1].back());
  EXPECT_EQ(1u, report.regions_begun);
  EXPECT_EQ(1u, report.replays);
  EXPECT_EQ(0u, report.regions_purged);
  EXPECT_GE(report.peak_bytes, 2 * kN * sizeof(float));
  EXPECT_EQ(0u, context.stats().live_bytes);
}

}  // namespace
