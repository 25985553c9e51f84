// src/policy/kind_table_test.cc: built-in kinds, families, and what may be declared.
#include "src/policy/kind_table.h"

#include <gtest/gtest.h>

namespace rc {
namespace {

TEST(KindTable, HasMegatronsNames) {
  const KindTable table;
  for (const char* name : {"core_attn", "mlp", "moe", "shared_experts", "layernorm", "moe_act",
                           "mla_up_proj", "gdn_norm_out", "gdp_in_proj", "gdp_qkv", "mhc"}) {
    EXPECT_GE(table.find(name), 0) << name;
    EXPECT_TRUE(is_megatron_recompute_module(name));
  }
  for (const char* name : {"attn_norm", "qkv_linear", "core_attn", "attn_proj", "mlp_norm",
                           "expert_fc1", "moe_act", "fused_group_mlp", "gdp_qkv"}) {
    EXPECT_GE(table.find(name), 0) << name;
    EXPECT_TRUE(is_megatron_offload_module(name));
  }
  EXPECT_FALSE(is_megatron_recompute_module("layer"));
  EXPECT_EQ(table.at(table.layer()).name, "layer");
}

TEST(KindTable, FamilySpeaksForItsMembersAndNotTheReverse) {
  const KindTable table;
  const int family = table.find("layernorm"), member = table.find("mlp_norm");
  EXPECT_TRUE(table.speaks_for(family, member));
  EXPECT_FALSE(table.speaks_for(member, family));
  EXPECT_FALSE(table.speaks_for(-1, table.find("mlp")));
}

TEST(KindTable, RefusesMalformedAndKnownNames) {
  KindTable table;
  EXPECT_TRUE(table.add({"rope_2", true}, "kinds[0].name").ok());
  EXPECT_TRUE(table.add({std::string(47, 'a'), false}, "f").ok());
  for (const std::string& name :
       {std::string(), std::string("Rope"), std::string("a-b"), std::string("a b"),
        std::string("\xc3\xa9"), std::string(48, 'a'), std::string("a\0b", 3)}) {
    const Status status = table.add({name, false}, "kinds[1].name");
    EXPECT_EQ(status.code(), RC_E_ARGUMENT) << name;
    EXPECT_EQ(status.field(), "kinds[1].name");
  }
  EXPECT_NE(table.add({"rope_2", true}, "f").message().find("already declared"), std::string::npos);
  EXPECT_NE(table.add({"mlp", true}, "f").message().find("already built in"), std::string::npos);
}

TEST(KindTable, NamesTheNearestKind) {
  KindTable table;
  ASSERT_TRUE(table.add({"rotary", false}, "f").ok());
  int kind = 0;
  for (const auto& [wrong, right] :
       {std::pair("core_attention", "core_attn"), std::pair("layer_norm", "layernorm"),
        std::pair("rotray", "rotary"), std::pair("MLP", ""), std::pair("embedding", "")}) {
    const Status status = table.resolve(wrong, "x", &kind);
    EXPECT_EQ(kind, -1);
    const bool hint = status.message().find("did you mean") != std::string::npos;
    EXPECT_EQ(hint, *right != '\0') << status.message();
    EXPECT_NE(status.message().find(right), std::string::npos) << status.message();
  }
}

}  // namespace
}  // namespace rc
