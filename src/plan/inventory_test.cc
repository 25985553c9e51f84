// src/plan/inventory_test.cc: the inventory against published formulas and figures.
#include "src/plan/inventory.h"

#include <gtest/gtest.h>

#include "src/plan/schedule.h"

namespace rc::plan {
namespace {

Architecture preset(const char* name) {
  Architecture m;
  EXPECT_TRUE(find_preset(name, &m)) << name;
  EXPECT_TRUE(check(m).ok()) << check(m).message();
  return m;
}

double per_token(const LayerInventory& layer, const Layout& l) {
  return double(layer.published_bytes()) / (double(l.seq) * l.mbs);
}

double dropped(const LayerInventory& layer, const char* inside) {
  uint64_t bytes = 0;
  for (const SavedTensor& t : layer.tensors)
    if (!t.statistic && (t.inside == inside || (inside[0] == '*' && t.name != "x_in")))
      bytes += t.bytes;
  return double(bytes);
}

// Table 2 of arXiv 2205.05198 and its equations 1 to 6, to the byte.
struct Gpt {
  const char* name;
  double a, h, layers, t, p;
};
class Korthikanti : public testing::TestWithParam<Gpt> {
 protected:
  static constexpr double kSeq = 2048, kBatch = 4;
  LayerInventory layer(uint32_t tp, bool sp) const {
    const Layout l{.tp = tp, .sp = sp, .seq = uint32_t(kSeq), .mbs = uint32_t(kBatch)};
    const Architecture m = preset(GetParam().name);
    EXPECT_TRUE(check(l, m).ok()) << check(l, m).message();
    return make_inventory(m, l, false);
  }
};

TEST_P(Korthikanti, SixFormulasHoldToTheByte) {
  const Gpt& g = GetParam();
  const double sbh = kSeq * kBatch * g.h, scores = 5 * g.a * kSeq / g.h, t = g.t;
  const LayerInventory alone = layer(1, false), tp = layer(uint32_t(t), false),
                       sp = layer(uint32_t(t), true);
  EXPECT_DOUBLE_EQ(double(alone.published_bytes()), sbh * (34 + scores));
  EXPECT_DOUBLE_EQ(double(tp.published_bytes()), sbh * (10 + 24 / t + scores / t));
  EXPECT_DOUBLE_EQ(double(sp.published_bytes()), sbh / t * (34 + scores));
  EXPECT_DOUBLE_EQ(double(tp.published_bytes()) - dropped(tp, "core_attn"), sbh * (10 + 24 / t));
  EXPECT_DOUBLE_EQ(double(sp.published_bytes()) - dropped(sp, "core_attn"), 34 * sbh / t);
  EXPECT_DOUBLE_EQ(double(tp.published_bytes()) - dropped(tp, "*"), 2 * sbh);
  EXPECT_DOUBLE_EQ(double(sp.published_bytes()) - dropped(sp, "*"), 2 * sbh / t);
}

TEST_P(Korthikanti, StatisticsAreListedBesideThem) {
  const LayerInventory l = layer(1, false);
  EXPECT_EQ(l.total_bytes() - l.published_bytes(), uint64_t(kSeq * kBatch * 2 * 8));
}

INSTANTIATE_TEST_SUITE_P(Table3, Korthikanti,
                         testing::Values(Gpt{"gpt-22b", 64, 6144, 48, 8, 1},
                                         Gpt{"gpt-175b", 96, 12288, 96, 8, 8},
                                         Gpt{"gpt-530b", 128, 20480, 105, 8, 35},
                                         Gpt{"gpt-1t", 160, 25600, 128, 8, 64}),
                         [](const auto& one) {
                           std::string name = one.param.name;
                           std::erase(name, '-');
                           return name;
                         });

// Figure 7: what is left of the tensor-parallel baseline, in percent.
TEST(Inventory, PercentagesOfTheTensorParallelBaseline) {
  const struct {
    const char* name;
    double sp, selective, both, full;
  } rows[] = {{"gpt-22b", 67, 49, 16, 7.6},
              {"gpt-175b", 62, 57, 18.5, 8.7},
              {"gpt-530b", 58, 62, 20, 9.5},
              {"gpt-1t", 58, 62, 20, 9.5}};
  for (const auto& row : rows) {
    const Architecture m = preset(row.name);
    const LayerInventory tp = make_inventory(m, {.tp = 8, .seq = 2048}, false);
    const LayerInventory sp = make_inventory(m, {.tp = 8, .sp = true, .seq = 2048}, false);
    const double base = double(tp.published_bytes()) / 100;
    EXPECT_NEAR(double(sp.published_bytes()) / base, row.sp, 0.5) << row.name;
    EXPECT_NEAR((double(tp.published_bytes()) - dropped(tp, "core_attn")) / base, row.selective,
                0.6)
        << row.name;
    EXPECT_NEAR((double(sp.published_bytes()) - dropped(sp, "core_attn")) / base, row.both, 0.5)
        << row.name;
    EXPECT_NEAR((double(tp.published_bytes()) - dropped(tp, "*")) / base, row.full, 0.1)
        << row.name;
  }
}

TEST(Inventory, SelectiveFreesSeventyAndSixtyFivePercent) {
  for (const auto& [name, percent] : {std::pair{"gpt-175b", 70.2}, std::pair{"gpt-530b", 65.3}}) {
    const LayerInventory l =
        make_inventory(preset(name), {.tp = 8, .sp = true, .seq = 2048}, false);
    EXPECT_NEAR(100 * dropped(l, "core_attn") / double(l.published_bytes()), percent, 0.05) << name;
  }
}

TEST(Inventory, BytesPerTokenOfModernLayers) {
  const Layout l{.seq = 4096};
  EXPECT_EQ(per_token(make_inventory(preset("llama3-8b"), l, false), l), 139264);
  EXPECT_EQ(per_token(make_inventory(preset("llama3-70b"), l, false), l), 274432);
  EXPECT_EQ(per_token(make_inventory(preset("mixtral-8x7b"), l, true), l), 241664);
  EXPECT_EQ(per_token(make_inventory(preset("deepseek-v3"), l, true), l), 454912);
}

TEST(Inventory, RowsOfTheLlamaTable) {
  const Layout l{.seq = 8192};
  const LayerInventory layer = make_inventory(preset("llama3-8b"), l, false);
  const std::pair<const char*, uint64_t> rows[] = {
      {"x_in", 8192},  {"ln1", 8192}, {"qkv", 12288}, {"attn_out", 8192}, {"lse", 128},
      {"x_mid", 8192}, {"ln2", 8192}, {"fc1", 57344}, {"act", 28672},     {"ln1_stats", 4}};
  for (const auto& [name, bytes] : rows) {
    const SavedTensor* t = layer.find(name);
    ASSERT_NE(t, nullptr) << name;
    EXPECT_EQ(t->bytes, bytes * 8192) << name;
  }
}

TEST(Inventory, RowsOfTheDeepSeekTable) {
  const Layout l{.seq = 4096};
  const LayerInventory layer = make_inventory(preset("deepseek-v3"), l, true);
  const std::pair<const char*, uint64_t> rows[] = {
      {"x_in", 14336},      {"latents", 4224},      {"latents_norm", 4224}, {"qkv", 131072},
      {"attn_out", 32768},  {"dispatched", 114688}, {"expert_fc1", 65536},  {"expert_act", 32768},
      {"shared_fc1", 8192}, {"shared_act", 4096}};
  for (const auto& [name, bytes] : rows) {
    const SavedTensor* t = layer.find(name);
    ASSERT_NE(t, nullptr) << name;
    EXPECT_EQ(t->bytes, bytes * 4096) << name;
  }
}

TEST(Inventory, WeightsAfterTheSecondGemmSaveItsOutput) {
  Architecture m = preset("deepseek-v3");
  const uint64_t before = make_inventory(m, {.seq = 4096}, true).published_bytes();
  m.experts.weights_after_fc2 = true;
  EXPECT_EQ(make_inventory(m, {.seq = 4096}, true).published_bytes() - before, 4096u * 114688);
}

// arXiv 2603.07685: pipeline 4, virtual pipeline 4, experts over 64, 4096 tokens: 131.0 GB.
TEST(Inventory, DeepSeekActivationsOfTheFirstStage) {
  const Architecture m = preset("deepseek-v3");
  const Layout l{.ep = 64, .pp = 4, .vpp = 4, .seq = 4096};
  const double moe = double(make_inventory(m, l, true).published_bytes());
  const double dense = double(make_inventory(m, l, false).published_bytes());
  const double factor = most_in_flight(4, 0, 4, 64) / 16.0;
  EXPECT_DOUBLE_EQ(factor, 1.1875);
  const double total = (58 * moe + 3 * dense) * factor / 1e9;
  EXPECT_NEAR(total, 132.7, 0.7);
  EXPECT_NEAR(total, 131.0, 0.02 * 131.0);
  const LayerInventory layer = make_inventory(m, l, true);
  const double norms = double(layer.find("ln1")->bytes + layer.find("ln2")->bytes);
  EXPECT_NEAR(norms * 61 * factor / 1e9, 8.5, 0.05);
  EXPECT_NEAR(norms * 61 * factor / 1e9, 8.2, 0.05 * 8.2);
}

// The same with the layers where they are: 4 + 14 x 4 + 1 over 16 virtual stages, the three dense
// ones in the first, whose chunk is held more often than the others.
TEST(Inventory, DeepSeekByTheChunksOfTheFirstRank) {
  const Architecture m = preset("deepseek-v3");
  const Layout l{.ep = 64, .pp = 4, .vpp = 4, .seq = 4096};
  const double moe = double(make_inventory(m, l, true).published_bytes());
  const double dense = double(make_inventory(m, l, false).published_bytes());
  const double chunks[4] = {3 * dense + moe, 4 * moe, 4 * moe, 4 * moe};
  double peak = 0;
  for (const PlanState& state : peak_states(pipeline_passes(4, 0, 4, 64), 4)) {
    double sum = 0;
    for (int c = 0; c < 4; ++c) sum += chunks[c] * state.held[size_t(c)];
    peak = std::max(peak, sum);
  }
  EXPECT_NEAR(peak / 1e9, 131.0, 0.01 * 131.0);
}

TEST(Inventory, EveryTensorOfALayerIsSplitByTensorAndSequenceParallelism) {
  for (const char* name : {"llama3-8b", "mixtral-8x7b", "deepseek-v3", "gpt-175b-fused"}) {
    const Architecture m = preset(name);
    const bool moe = m.any_moe();
    const LayerInventory whole = make_inventory(m, {.seq = 4096}, moe);
    const LayerInventory split =
        make_inventory(m, {.tp = 4, .etp = 1, .sp = true, .seq = 4096}, moe);
    for (const SavedTensor& t : split.tensors)
      EXPECT_EQ(t.bytes * 4, whole.find(t.name)->bytes) << name << " " << t.name;
  }
}

TEST(Inventory, ContextParallelismDividesAllButUnfusedScoresTwice) {
  const LayerInventory whole = make_inventory(preset("llama3-8b"), {.seq = 8192}, false);
  const LayerInventory split = make_inventory(preset("llama3-8b"), {.cp = 2, .seq = 8192}, false);
  EXPECT_EQ(split.total_bytes() * 2, whole.total_bytes());
}

TEST(Inventory, ExpertTensorParallelismRepeatsTheDispatchedTokens) {
  const Architecture m = preset("mixtral-8x7b");
  const LayerInventory l = make_inventory(m, {.tp = 4, .sp = true, .seq = 4096}, true);
  EXPECT_EQ(l.find("dispatched")->bytes, 2u * 4096 * 4096 * 2);
  EXPECT_EQ(l.find("expert_fc1")->bytes, 2u * 4096 * 2 * 14336 / 4 * 2);
}

TEST(Inventory, EightBitLinearsHalveTheirInputsAndNothingElse) {
  const Architecture m = preset("deepseek-v3");
  const Layout plain{.seq = 4096}, fp8{.seq = 4096, .fp8 = RC_FP8_TENSORWISE};
  const LayerInventory a = make_inventory(m, plain, true), b = make_inventory(m, fp8, true);
  for (const SavedTensor& t : b.tensors) {
    const uint64_t before = a.find(t.name)->bytes;
    if (t.name == "attn_out")
      EXPECT_EQ(t.bytes, before / 2 * 3);  // flash attention's backward reads the original
    else
      EXPECT_EQ(t.bytes, t.linear_input ? before / 2 : before) << t.name;
  }
  // Published for the whole rank: about 16 GB, with norms, SwiGLU and MLA already recomputed.
  const double dispatched = double(a.find("dispatched")->bytes) / 2;
  EXPECT_NEAR(dispatched * 58 * 1.1875 / 1e9, 16, 0.5);
}

TEST(Inventory, BlockScalesAreCounted) {
  const Architecture m = preset("llama3-8b");
  const uint64_t elements = 4096u * 4096;
  const LayerInventory block = make_inventory(m, {.seq = 4096, .fp8 = RC_FP8_BLOCKWISE}, false);
  EXPECT_EQ(block.find("ln1")->bytes, elements + elements / 32);
  const LayerInventory mx = make_inventory(m, {.seq = 4096, .fp8 = RC_FP8_MXFP8}, false);
  EXPECT_EQ(mx.find("ln1")->bytes, elements + elements / 32);
}

TEST(Inventory, NamesAreUniqueAndOwnersExist) {
  for (const std::string_view name : preset_names()) {
    const Architecture m = preset(std::string(name).c_str());
    for (const bool moe : {false, true}) {
      if (moe && !m.any_moe()) continue;
      const LayerInventory l = make_inventory(m, {.seq = 64}, moe);
      for (size_t i = 0; i < l.tensors.size(); ++i) {
        EXPECT_EQ(l.find(l.tensors[i].name), &l.tensors[i]) << name;
        if (!l.tensors[i].owner.empty()) {
          EXPECT_NE(l.find(l.tensors[i].owner), nullptr) << name;
        }
        EXPECT_GT(l.tensors[i].bytes, 0u) << name;
      }
    }
  }
}

TEST(Inventory, OutputSideOfTheLastStage) {
  // 4sbh (1 + v/h) at t = 1 (section 4.3).
  const Architecture m = preset("gpt-22b");
  const double sbh = 2048.0 * 6144;
  EXPECT_EQ(double(head_bytes(m, {.seq = 2048})), 4 * sbh * (1 + 51200.0 / 6144));
  EXPECT_EQ(double(embedding_bytes(m, {.seq = 2048})), sbh);
}

}  // namespace
}  // namespace rc::plan
