// src/storage/packer_minimalloc_test.cc: the eleven hard public instances of google/minimalloc.
//
// They are read from RCORE_MINIMALLOC_DIR, a folder outside of the project; each has a packing of
// height 1,048,576 (M. Moffitt, "MiniMalloc", ASPLOS 2023, doi 10.1145/3623278.3624752).
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>

#include "src/storage/minimalloc_csv.h"
#include "src/storage/packer.h"
#include "src/storage/validator.h"

namespace rc {
namespace {

constexpr uint64_t kCapacity = 1'048'576;
constexpr double kSecondsForAll = 23;

std::string instance_path(char letter) {
  std::string path = RCORE_MINIMALLOC_DIR "/";
  path += letter;
  path += ".1048576.csv";
  return path;
}

class PackerMinimalloc : public testing::Test {
 protected:
  void SetUp() override {
    if (std::string(RCORE_MINIMALLOC_DIR).empty() || !std::filesystem::exists(instance_path('A'))) {
      GTEST_SKIP() << "no instances in RCORE_MINIMALLOC_DIR='" RCORE_MINIMALLOC_DIR
                      "': configure with the folder of google/minimalloc's challenging benchmarks";
    }
  }
};

TEST_F(PackerMinimalloc, AllElevenFitTheirCapacityInTime) {
  double seconds = 0;
  for (char letter = 'A'; letter <= 'K'; ++letter) {
    MinimallocInstance instance;
    ASSERT_EQ(read_minimalloc_file(instance_path(letter), instance), "");
    PackOptions options;
    options.enough = kCapacity;
    options.time_limit = kSecondsForAll;
    const Packing packing = pack(instance.problem, options);
    seconds += packing.statistics.seconds;
    EXPECT_EQ(packing_violation(instance.problem, packing.offsets, packing.height), "") << letter;
    EXPECT_LE(packing.height, kCapacity) << letter;
    EXPECT_LE(packing.lower_bound, packing.height) << letter;
    std::printf("%c: bound %llu, height %llu, %llu nodes, %.3f s\n", letter,
                static_cast<unsigned long long>(packing.lower_bound),
                static_cast<unsigned long long>(packing.height),
                static_cast<unsigned long long>(packing.statistics.nodes),
                packing.statistics.seconds);
  }
  RecordProperty("seconds", std::to_string(seconds));
  EXPECT_LE(seconds, kSecondsForAll);
}

// Eight of the eleven have full sections: their capacity is their bound.
TEST_F(PackerMinimalloc, ProvesTheOptimumWhereTheCapacityIsTheBound) {
  int proven = 0;
  for (char letter = 'A'; letter <= 'K'; ++letter) {
    MinimallocInstance instance;
    ASSERT_EQ(read_minimalloc_file(instance_path(letter), instance), "");
    if (lower_bound(instance.problem) != kCapacity) continue;
    PackOptions options;
    options.time_limit = kSecondsForAll;
    proven += pack(instance.problem, options).proven_optimal;
  }
  EXPECT_EQ(proven, 8);
}

}  // namespace
}  // namespace rc
