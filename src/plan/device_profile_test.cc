// src/plan/device_profile_test.cc: times of a layer's tensors on an H100 against hand figures.
#include "src/plan/device_profile.h"

#include <gtest/gtest.h>

namespace rc::plan {
namespace {

struct Row {
  const char* tensor;
  double ns, kb_per_us;
};

DeviceProfile h100() {
  DeviceProfile d;
  EXPECT_TRUE(find_device("h100", &d));
  d.launch_seconds = 0;  // rates per token, launches apart
  return d;
}

void expect_rows(const char* model, uint32_t seq, bool moe, std::initializer_list<Row> rows) {
  Architecture m;
  ASSERT_TRUE(find_preset(model, &m));
  const LayerInventory layer = make_inventory(m, {.seq = seq}, moe);
  for (const Row& row : rows) {
    const SavedTensor* t = layer.find(row.tensor);
    ASSERT_NE(t, nullptr) << row.tensor;
    const double ns = seconds(t->regenerate, h100()) / seq * 1e9;
    if (row.ns > 0) {
      EXPECT_NEAR(ns, row.ns, 0.02 * row.ns) << model << " " << row.tensor;
    }
    const double bytes = double(t->bytes) / seq;
    EXPECT_NEAR(bytes / ns, row.kb_per_us, 0.03 * row.kb_per_us) << model << " " << row.tensor;
  }
}

TEST(DeviceProfile, Llama8bAt8192) {
  expect_rows("llama3-8b", 8192, false,
              {{"ln1", 5.8, 1424},
               {"ln2", 5.8, 1424},
               {"act", 30, 949},
               {"fc1", 339, 169},
               {"qkv", 80, 154},
               {"x_mid", 54, 151},
               {"attn_out", 113, 73}});
}

TEST(DeviceProfile, Llama70bAt8192) {
  expect_rows("llama3-70b", 8192, false,
              {{"ln1", 0, 1424},
               {"act", 0, 949},
               {"fc1", 0, 84.5},
               {"qkv", 0, 80},
               {"x_mid", 0, 80},
               {"attn_out", 0, 73}});
}

TEST(DeviceProfile, DeepSeekAt4096) {
  expect_rows("deepseek-v3", 4096, true,
              {{"ln1", 0, 1424},
               {"expert_act", 0, 949},
               {"qkv", 192, 683},
               {"latents", 43.7, 96.7},
               {"latents_norm", 0, 1424},
               {"attn_out", 0, 116},
               {"expert_fc1", 0, 97},
               {"x_mid", 0, 41}});
}

TEST(DeviceProfile, ForwardOfALayer) {
  Architecture m;
  const struct {
    const char* model;
    double mflop, ns;
  } rows[] = {{"llama3-8b", 503, 804}, {"llama3-70b", 1845, 2817}};
  for (const auto& row : rows) {
    ASSERT_TRUE(find_preset(row.model, &m));
    const Work w = make_inventory(m, {.seq = 8192}, false).forward();
    EXPECT_NEAR((w.gemm_flops + w.attention_flops) / 8192 / 1e6, row.mflop, 0.01 * row.mflop);
    EXPECT_NEAR(seconds(w, h100()) / 8192 * 1e9, row.ns, 0.01 * row.ns);
  }
}

// Everything but the last GEMM: 26.1 and 25.2 percent of forward and backward.
TEST(DeviceProfile, FloorOfFullReplay) {
  for (const auto& [model, percent] : {std::pair{"llama3-8b", 26.1}, {"llama3-70b", 25.2}}) {
    Architecture m;
    ASSERT_TRUE(find_preset(model, &m));
    const LayerInventory layer = make_inventory(m, {.seq = 8192}, false);
    double floor = 0;
    for (const SavedTensor& t : layer.tensors) floor += seconds(t.regenerate, h100());
    EXPECT_NEAR(100 * floor / (3 * seconds(layer.forward(), h100())), percent, 0.3);
  }
}

TEST(DeviceProfile, EveryDeviceIsWholeAndSpoiledOnesAreRefused) {
  for (const std::string_view name : device_names()) {
    DeviceProfile d;
    ASSERT_TRUE(find_device(name, &d));
    EXPECT_TRUE(check(d).ok()) << name;
    d.hbm_rate = 0;
    EXPECT_EQ(check(d).field(), "hbm_rate");
    ASSERT_TRUE(find_device(name, &d));
    d.gemm_share = 1.5;
    EXPECT_EQ(check(d).field(), "gemm_share");
  }
  DeviceProfile d;
  EXPECT_FALSE(find_device("h1000", &d));
}

}  // namespace
}  // namespace rc::plan
