// src/device/page_ranges_test.cc: pages that go from blocks of one size to blocks of another, under
// random use.
#include "src/device/page_ranges.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "src/device/poison.h"
#include "src/device/resident.h"

namespace rc {
namespace {

constexpr size_t MiB = size_t{1} << 20;

class PageRangesMove : public testing::Test {
 protected:
  void SetUp() override {
    if (probed_parking() != Parking::kMove) {
      GTEST_SKIP() << "this kernel (or valgrind) refuses MREMAP_DONTUNMAP";
    }
  }
  char* take(size_t bytes, char mark) {
    char* block = ranges_.allocate(bytes);
    EXPECT_NE(block, nullptr);
    unpoison_range(block, bytes);
    std::memset(block, mark, bytes);
    return block;
  }
  static bool holds(const char* block, size_t bytes, char mark) {
    for (size_t i = 0; i < bytes; i += 1021) {
      if (block[i] != mark) return false;
    }
    return block[bytes - 1] == mark;
  }
  PageRanges ranges_{Parking::kMove, mapping_limit()};
};

TEST_F(PageRangesMove, PagesOfALargeBlockServeSmallerOnes) {
  ranges_.free(take(16 * MiB, 1), 16 * MiB);
  const uint64_t fresh = ranges_.fresh();
  std::vector<char*> blocks;
  for (char i = 0; i < 4; ++i) blocks.push_back(take(4 * MiB, i));
  EXPECT_EQ(ranges_.backed_bytes(), 16 * MiB);
  EXPECT_EQ(ranges_.fresh(), fresh);
  for (char i = 0; i < 4; ++i) EXPECT_TRUE(holds(blocks[static_cast<size_t>(i)], 4 * MiB, i));
}

TEST_F(PageRangesMove, PagesOfSmallBlocksServeALargerOneThatParksLikeAnyOther) {
  std::vector<char*> blocks;
  for (int i = 0; i < 5; ++i) blocks.push_back(take(4 * MiB, 1));
  for (size_t i = 0; i < 4; ++i) ranges_.free(blocks[i], 4 * MiB);
  char* large = take(16 * MiB, 2);
  EXPECT_EQ(ranges_.backed_bytes(), 20 * MiB);
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(ranges_.park(large, 16 * MiB));  // four kernel mappings
    char* other = take(16 * MiB, 3);
    EXPECT_EQ(ranges_.backed_bytes(), 20 * MiB);
    EXPECT_TRUE(holds(other, 16 * MiB, 3));
    ranges_.free(other, 16 * MiB);
    ASSERT_TRUE(ranges_.unpark(large, 16 * MiB));
    EXPECT_EQ(ranges_.backed_bytes(), 20 * MiB);
    std::memset(large, 4, 16 * MiB);
    EXPECT_TRUE(holds(blocks[4], 4 * MiB, 1));
  }
}

TEST_F(PageRangesMove, TakesFromTheSystemOnlyWhatIsMissing) {
  ranges_.free(take(4 * MiB, 1), 4 * MiB);
  char* block = take(10 * MiB, 2);
  EXPECT_EQ(ranges_.backed_bytes(), 10 * MiB);
  EXPECT_TRUE(holds(block, 10 * MiB, 2));
}

TEST_F(PageRangesMove, AParkedBlockComesBackOnPagesOfOtherSizes) {
  char* block = take(8 * MiB, 1);
  ASSERT_TRUE(ranges_.park(block, 8 * MiB));
  char* small = take(2 * MiB, 2);  // on pages of the parked block
  EXPECT_EQ(ranges_.backed_bytes(), 8 * MiB);
  ASSERT_TRUE(ranges_.unpark(block, 8 * MiB));
  EXPECT_EQ(ranges_.backed_bytes(), 10 * MiB);
  std::memset(block, 3, 8 * MiB);
  EXPECT_TRUE(holds(small, 2 * MiB, 2));
}

TEST_F(PageRangesMove, AlternatingPhasesOfOtherSizesTakeNothingNewFromTheSystem) {
  const auto phase = [&](size_t bytes, int count) {
    std::vector<char*> blocks;
    for (int i = 0; i < count; ++i) blocks.push_back(take(bytes, static_cast<char>(i)));
    for (int i = 0; i < count; ++i) {
      ASSERT_TRUE(holds(blocks[static_cast<size_t>(i)], bytes, static_cast<char>(i)));
      ranges_.free(blocks[static_cast<size_t>(i)], bytes);
    }
  };
  for (int step = 0; step < 20; ++step) {
    phase(16 * MiB, 1);
    phase(2 * MiB, 8);
    phase(8 * MiB, 2);
  }
  EXPECT_EQ(ranges_.backed_bytes(), 16 * MiB);
  EXPECT_EQ(ranges_.fresh(), 1u);
}

TEST_F(PageRangesMove, WhereMappingsRunOutIdleRangesGo) {
  PageRanges few(Parking::kMove, 6);
  for (size_t mib = 2; mib < 40; ++mib) {  // every size is new, and leaves a range behind
    char* block = few.allocate(mib * MiB);
    ASSERT_NE(block, nullptr);
    few.free(block, mib * MiB);
    EXPECT_LE(few.mappings(), 7u);
  }
  char* block = few.allocate(2 * MiB);
  EXPECT_TRUE(few.park(block, 2 * MiB));
  EXPECT_TRUE(few.unpark(block, 2 * MiB));
  few.free(block, 2 * MiB);
}

// Thousands of random operations: every block keeps its content until it is parked or freed, the
// books agree with a simple model, and with the system at the end.
TEST_F(PageRangesMove, RandomUseKeepsContentAndBooks) {
  const std::vector<size_t> sizes = {68 * 1024, 600 * 1024, MiB,         MiB + 4096, 2 * MiB,
                                     3 * MiB,   5 * MiB,    8 * MiB + 8, 12 * MiB};
  struct Block {
    char* address;
    size_t bytes;
    char mark;
    bool parked;
  };
  [[maybe_unused]] const auto before = resident_bytes();
  for (unsigned seed = 0; seed < 4; ++seed) {
    std::mt19937 random(seed);
    PageRanges ranges(Parking::kMove, mapping_limit());
    std::vector<Block> blocks;
    uint64_t parked = 0, in_use = 0;
    const auto rounded = [](size_t bytes) {
      return (bytes + page_bytes() - 1) & ~(page_bytes() - 1);
    };
    for (int i = 0; i < 1500; ++i) {
      const unsigned what = random() % 8;
      if (blocks.size() < 2 || (what < 3 && in_use < 64 * MiB)) {
        const size_t bytes = sizes[random() % sizes.size()];
        char* address = ranges.allocate(bytes);
        ASSERT_NE(address, nullptr);
        unpoison_range(address, bytes);
        const char mark = static_cast<char>(random() % 120 + 1);
        std::memset(address, mark, bytes);
        blocks.push_back({address, bytes, mark, false});
        in_use += rounded(bytes);
        continue;
      }
      const size_t at = random() % blocks.size();
      Block& block = blocks[at];
      ASSERT_TRUE(block.parked || holds(block.address, block.bytes, block.mark))
          << "operation " << i;
      if (what < 5) {
        ASSERT_TRUE(ranges.free(block.address, block.bytes));
        (block.parked ? parked : in_use) -= rounded(block.bytes);
        blocks.erase(blocks.begin() + static_cast<std::ptrdiff_t>(at));
      } else if (!block.parked) {
        ASSERT_TRUE(ranges.park(block.address, block.bytes));
        block.parked = true;
        parked += rounded(block.bytes);
        in_use -= rounded(block.bytes);
      } else {
        ASSERT_TRUE(ranges.unpark(block.address, block.bytes));
        std::memset(block.address, block.mark, block.bytes);
        block.parked = false;
        parked -= rounded(block.bytes);
        in_use += rounded(block.bytes);
      }
      ASSERT_EQ(ranges.parked_bytes(), parked);
      ASSERT_GE(ranges.backed_bytes(), in_use);
    }
    for (const Block& block : blocks) {
      ASSERT_TRUE(block.parked || holds(block.address, block.bytes, block.mark));
    }
    ranges.trim();
    EXPECT_EQ(ranges.backed_bytes(), in_use);
#if !defined(RC_POISON_ASAN) && !defined(__SANITIZE_THREAD__)
    if (const auto after = resident_bytes(); before && after) {
      EXPECT_NEAR(static_cast<double>(*after), static_cast<double>(*before + in_use), 1.0 * MiB);
    }
#endif
    for (const Block& block : blocks) ranges.free(block.address, block.bytes);
  }
}

}  // namespace
}  // namespace rc
