// src/policy/stage_layout_test.cc: layers of virtual stages, even, uneven and listed.
#include "src/policy/stage_layout.h"

#include <gtest/gtest.h>

namespace rc {
namespace {

PolicySpec shape(uint32_t layers, uint32_t pp, uint32_t vpp) {
  PolicySpec spec;
  spec.num_layers = layers;
  spec.pp_size = pp;
  spec.vpp_size = vpp;
  return spec;
}

StageLayout made(const PolicySpec& spec) {
  StageLayout layout;
  const Status status = StageLayout::make(spec, &layout);
  EXPECT_TRUE(status.ok()) << status.message();
  return layout;
}

void expect_refused(const PolicySpec& spec, const char* field) {
  StageLayout layout;
  const Status status = StageLayout::make(spec, &layout);
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(status.field(), field) << status.message();
}

TEST(StageLayout, WithoutLayersIsOneStageWithoutAnEnd) {
  const StageLayout layout = made(PolicySpec());
  EXPECT_FALSE(layout.known());
  EXPECT_EQ(layout.stage_of(12345).first, 0u);
}

TEST(StageLayout, ChunksGoRoundOverTheRanks) {
  const StageLayout layout = made(shape(16, 4, 2));
  for (uint32_t layer = 0; layer < 16; ++layer) {
    const Stage stage = layout.stage_of(layer);
    EXPECT_EQ(stage.first, layer / 2 * 2);
    EXPECT_EQ(stage.n, 2u);
    EXPECT_EQ(stage.rank, layer / 2 % 4);
    EXPECT_EQ(stage.chunk, layer / 8);
  }
}

// Offsets as get_transformer_layer_offset has them for uneven stages with virtual chunks.
TEST(StageLayout, UnevenStagesKeepTheirShareInEveryChunk) {
  PolicySpec spec = shape(2 * (1 + 3 + 3 + 2), 4, 2);
  spec.num_layers_in_first_pipeline_stage = 2;
  spec.num_layers_in_last_pipeline_stage = 4;
  const StageLayout layout = made(spec);
  ASSERT_EQ(layout.stages().size(), 8u);
  const uint32_t per_chunk = 9, offset[] = {0, 1, 4, 7}, n[] = {1, 3, 3, 2};
  for (uint32_t chunk = 0; chunk < 2; ++chunk) {
    for (uint32_t rank = 0; rank < 4; ++rank) {
      const Stage& stage = layout.stages()[chunk * 4 + rank];
      EXPECT_EQ(stage.first, chunk * per_chunk + offset[rank]);
      EXPECT_EQ(stage.n, n[rank]);
    }
  }
  EXPECT_EQ(layout.largest(), 3u);
  EXPECT_EQ(layout.smallest(), 1u);
}

TEST(StageLayout, OnlyFirstAndLastStagesMayFillThePipeline) {
  PolicySpec spec = shape(7, 2, 1);
  spec.num_layers_in_first_pipeline_stage = 3;
  spec.num_layers_in_last_pipeline_stage = 4;
  EXPECT_EQ(made(spec).stage_of(3).first, 3u);
  spec.num_layers = 8;
  expect_refused(spec, "num_layers");
}

TEST(StageLayout, ListedStagesMayBeEmpty) {
  PolicySpec spec = shape(5, 2, 2);
  spec.layers_per_virtual_stage = {0, 2, 0, 3};
  const StageLayout layout = made(spec);
  EXPECT_EQ(layout.stage_of(0).rank, 1u);
  EXPECT_EQ(layout.stage_of(1).first, 0u);
  EXPECT_EQ(layout.stage_of(2).chunk, 1u);
  EXPECT_EQ(layout.stage_of(4).first, 2u);
  EXPECT_EQ(layout.smallest(), 2u);
}

TEST(StageLayout, RefusesWhatDoesNotAddUp) {
  expect_refused(shape(10, 4, 1), "num_layers");
  expect_refused(shape(12, 4, 2), "vpp_size");
  expect_refused(shape(12, 1, 2), "vpp_size");
  expect_refused(shape(0, 2, 1), "num_layers");
  PolicySpec uneven = shape(9, 3, 2);
  uneven.num_layers_in_first_pipeline_stage = 1;
  expect_refused(uneven, "num_layers_in_first_pipeline_stage");
  uneven.num_layers_in_first_pipeline_stage = 10;
  expect_refused(uneven, "num_layers_in_first_pipeline_stage");
  PolicySpec no_pipeline = shape(9, 1, 1);
  no_pipeline.num_layers_in_last_pipeline_stage = 3;
  expect_refused(no_pipeline, "num_layers_in_last_pipeline_stage");
  PolicySpec listed = shape(5, 2, 1);
  listed.layers_per_virtual_stage = {2, 2};
  expect_refused(listed, "layers_per_virtual_stage");
  listed.layers_per_virtual_stage = {2, 4};
  expect_refused(listed, "layers_per_virtual_stage[1]");
  listed.layers_per_virtual_stage = {5};
  expect_refused(listed, "layers_per_virtual_stage");
  listed.layers_per_virtual_stage = {2, 3};
  listed.num_layers_in_first_pipeline_stage = 2;
  expect_refused(listed, "layers_per_virtual_stage");
}

}  // namespace
}  // namespace rc
