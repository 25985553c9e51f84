// src/storage/minimalloc_csv_test.cc: the CSV form of packing problems, gaps and error lines.
#include "src/storage/minimalloc_csv.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>

namespace rc {
namespace {

std::string error_of(const std::string& text) {
  MinimallocInstance instance;
  return parse_minimalloc_csv(text, "x.csv", instance);
}

MinimallocInstance parsed(const std::string& text) {
  MinimallocInstance instance;
  EXPECT_EQ(parse_minimalloc_csv(text, "x.csv", instance), "");
  return instance;
}

void expect_live(const PackingBuffer& buffer, const std::vector<LiveInterval>& expected) {
  ASSERT_EQ(buffer.live.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(buffer.live[i].begin, expected[i].begin);
    EXPECT_EQ(buffer.live[i].end, expected[i].end);
  }
}

TEST(MinimallocCsv, ReadsTheFourColumnsWithAlignmentOne) {
  const MinimallocInstance instance = parsed("id,lower,upper,size\nb1,0,3,4\nb2,3,9,5\n");
  ASSERT_EQ(instance.problem.buffers.size(), 2u);
  EXPECT_EQ(instance.ids, (std::vector<std::string>{"b1", "b2"}));
  EXPECT_EQ(instance.problem.buffers[1].size, 5u);
  EXPECT_EQ(instance.problem.buffers[1].alignment, 1u);
  expect_live(instance.problem.buffers[1], {{3, 9}});
  EXPECT_TRUE(instance.offsets.empty());
}

TEST(MinimallocCsv, FindsColumnsByNameInAnyOrder) {
  const MinimallocInstance instance =
      parsed("size,hint,upper,alignment,id,lower\n7,-1,20,64,a,-5\n");
  EXPECT_EQ(instance.problem.buffers[0].size, 7u);
  EXPECT_EQ(instance.problem.buffers[0].alignment, 64u);
  expect_live(instance.problem.buffers[0], {{-5, 20}});
}

TEST(MinimallocCsv, CutsGapsOutOfTheLife) {
  const MinimallocInstance instance = parsed(
      "id,lower,upper,size,gaps\na,0,10,1,2-4 6-7\nb,0,10,1,\nc,0,10,1,0-3\nd,0,10,1,8-10\n"
      "e,0,10,1,0-10\nf,-9,10,1,-5--2\n");
  const auto& buffers = instance.problem.buffers;
  expect_live(buffers[0], {{0, 2}, {4, 6}, {7, 10}});
  expect_live(buffers[1], {{0, 10}});
  expect_live(buffers[2], {{3, 10}});
  expect_live(buffers[3], {{0, 8}});
  expect_live(buffers[4], {});
  expect_live(buffers[5], {{-9, -5}, {-2, 10}});
}

TEST(MinimallocCsv, AcceptsWindowsLineEndsBlankLinesAndNoFinalNewline) {
  EXPECT_EQ(parsed("id,lower,upper,size\r\n\r\na,0,1,2\r\n\nb,0,1,3").problem.buffers.size(), 2u);
}

TEST(MinimallocCsv, WritesWhatItReadWithTheOffsetsAtTheEnd) {
  const MinimallocInstance instance = parsed("id,lower,upper,size,gaps\na,0,10,1,2-4\nb,0,10,2,\n");
  const std::string text = format_minimalloc_csv(instance, {2, 0});
  EXPECT_EQ(text, "id,lower,upper,size,gaps,offset\na,0,10,1,2-4,2\nb,0,10,2,,0\n");
  const MinimallocInstance again = parsed(text);
  EXPECT_EQ(again.offsets, (std::vector<uint64_t>{2, 0}));
  EXPECT_EQ(format_minimalloc_csv(again, {7, 8}),
            "id,lower,upper,size,gaps,offset\na,0,10,1,2-4,7\nb,0,10,2,,8\n");
}

TEST(MinimallocCsv, ReplacesAnOffsetColumnInTheMiddle) {
  const MinimallocInstance instance = parsed("offset,id,lower,upper,size\n5,a,0,1,2\n");
  EXPECT_EQ(format_minimalloc_csv(instance, {0}), "id,lower,upper,size,offset\na,0,1,2,0\n");
}

TEST(MinimallocCsv, NamesFileLineColumnAndValueOfABadNumber) {
  EXPECT_EQ(error_of("id,lower,upper,size\na,0,1,2\nb,0,x1,2\n"),
            "x.csv:3: column upper is 'x1', expected an integer of 64 bits");
  EXPECT_EQ(error_of("id,lower,upper,size\na,0,1,-2\n"),
            "x.csv:2: column size is '-2', expected a non-negative integer of 64 bits");
  EXPECT_EQ(error_of("id,lower,upper,size\na,0,1,18446744073709551616\n"),
            "x.csv:2: column size is '18446744073709551616', expected a non-negative integer of 64 "
            "bits");
  EXPECT_EQ(error_of("id,lower,upper,size\na,,1,2\n"),
            "x.csv:2: column lower is '', expected an integer of 64 bits");
  EXPECT_EQ(error_of("id,lower,upper,size\na,0, 1,2\n"),
            "x.csv:2: column upper is ' 1', expected an integer of 64 bits");
}

TEST(MinimallocCsv, RefusesABadHeader) {
  EXPECT_EQ(error_of(""), "x.csv:1: the header is missing, expected columns id,lower,upper,size");
  EXPECT_EQ(error_of("id,lower,upper\n"), "x.csv:1: column size is missing");
  EXPECT_EQ(error_of("id,lower,upper,size,size\n"), "x.csv:1: column size is there twice");
  EXPECT_EQ(error_of("id,lower,upper,size,start\n"),
            "x.csv:1: unknown column 'start', known are id, lower, upper, size, alignment, gaps, "
            "hint, offset");
}

TEST(MinimallocCsv, RefusesRowsThatContradictThemselves) {
  EXPECT_EQ(error_of("id,lower,upper,size\na,0,1\n"),
            "x.csv:2: there are 3 fields, the header has 4");
  EXPECT_EQ(error_of("id,lower,upper,size\na,5,4,1\n"),
            "x.csv:2: column upper is '4', below the column lower, 5");
  EXPECT_EQ(error_of("id,lower,upper,size,alignment\na,0,4,1,0\n"),
            "x.csv:2: column alignment is '0', expected at least 1");
  EXPECT_EQ(error_of("id,lower,upper,size\na,0,4,9000000000000000000\n"),
            "x.csv: buffers[0].size is 9000000000000000000: the sum of all sizes and alignments "
            "exceeds 4611686018427387904");
}

TEST(MinimallocCsv, RefusesBadGaps) {
  const std::string header = "id,lower,upper,size,gaps\n";
  EXPECT_EQ(error_of(header + "a,0,9,1,3\n"), "x.csv:2: column gaps is '3', expected begin-end");
  EXPECT_EQ(error_of(header + "a,0,9,1,5-3\n"),
            "x.csv:2: column gaps is '5-3', expected begin-end");
  EXPECT_EQ(error_of(header + "a,0,9,1,3-10\n"),
            "x.csv:2: column gaps is '3-10', outside of 0-9 or not after the gap before it");
  EXPECT_EQ(error_of(header + "a,0,9,1,4-6 5-7\n"),
            "x.csv:2: column gaps is '5-7', outside of 6-9 or not after the gap before it");
  EXPECT_EQ(error_of(header + "a,0,9,1,4-6@0:1\n"),
            "x.csv:2: column gaps is '4-6@0:1', a gap with a window is not supported");
}

TEST(MinimallocCsv, SurvivesAnyPrefixAndAnyByteFlip) {
  const std::string text =
      "id,lower,upper,size,alignment,gaps\na,0,10,100,4,2-4 6-7\nb,-3,9,5,1,\n";
  MinimallocInstance instance;
  for (size_t n = 0; n < text.size(); ++n) {
    (void)parse_minimalloc_csv(text.substr(0, n), "x.csv", instance);
    for (const char c : {'\0', '-', ',', '\n', '9', '@', '\xff'}) {
      std::string flipped = text;
      flipped[n] = c;
      const std::string error = parse_minimalloc_csv(flipped, "x.csv", instance);
      if (error.empty()) {
        EXPECT_EQ(problem_defect(instance.problem), "");
        EXPECT_EQ(instance.rows.size(), instance.problem.buffers.size());
      } else {
        EXPECT_EQ(error.rfind("x.csv:", 0), 0u) << error;
      }
    }
  }
}

TEST(MinimallocCsv, ReadsAFileAndNamesOneThatIsNotThere) {
  const std::string path = testing::TempDir() + "rcore_minimalloc_csv_test.csv";
  std::ofstream(path) << "id,lower,upper,size\na,0,1,2\n";
  MinimallocInstance instance;
  EXPECT_EQ(read_minimalloc_file(path, instance), "");
  EXPECT_EQ(instance.name, path);
  std::remove(path.c_str());
  EXPECT_EQ(read_minimalloc_file(path, instance), path + ": cannot be read or is empty");
}

}  // namespace
}  // namespace rc
