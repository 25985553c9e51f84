// src/storage/pack_main_test.cc: rcore-pack as a command: table, output file, exit codes.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace {

namespace fs = std::filesystem;

struct Result {
  int code;
  std::string text;  // both streams
};

Result run_pack(const std::string& arguments) {
  const std::string command = std::string(RCORE_PACK_COMMAND) + " " + arguments + " 2>&1";
  Result run{-1, ""};
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return run;
  char buffer[4096];
  for (size_t n; (n = fread(buffer, 1, sizeof buffer, pipe)) > 0;) run.text.append(buffer, n);
  const int status = pclose(pipe);
  run.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return run;
}

class PackCommand : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) /
              ("rcore_pack_" + std::to_string(::testing::UnitTest::GetInstance()->random_seed()) +
               testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name) << text;
    return (folder_ / name).string();
  }
  fs::path folder_;
};

// The example of the MiniMalloc readme: five buffers that fit into 12.
constexpr char kExample[] =
    "id,lower,upper,size\nb1,0,3,4\nb2,3,9,4\nb3,0,9,4\nb4,9,21,4\nb5,0,21,4\n";

TEST_F(PackCommand, PrintsHeightBoundAndVerdict) {
  const Result run = run_pack(write("input.csv", kExample));
  EXPECT_EQ(run.code, 0) << run.text;
  std::istringstream lines(run.text);
  std::string header, name, buffers, bound, height, ratio, proven, nodes, seconds, verdict;
  std::getline(lines, header);
  lines >> name >> buffers >> bound >> height >> ratio >> proven >> nodes >> seconds >> verdict;
  EXPECT_EQ(name, "input.csv");
  EXPECT_EQ(buffers, "5");
  EXPECT_EQ(bound, "12");
  EXPECT_EQ(height, "12");
  EXPECT_EQ(ratio, "1.00000");
  EXPECT_EQ(proven, "yes");
  EXPECT_EQ(verdict, "legal");
}

TEST_F(PackCommand, PacksEveryCsvOfAFolder) {
  write("b.csv", kExample);
  write("a.csv", kExample);
  write("notes.txt", "not an instance");
  const Result run = run_pack(folder_.string());
  EXPECT_EQ(run.code, 0) << run.text;
  EXPECT_NE(run.text.find("2 instances"), std::string::npos);
  EXPECT_LT(run.text.find("a.csv"), run.text.find("b.csv"));
}

TEST_F(PackCommand, WritesTheSolution) {
  const std::string output = (folder_ / "out.csv").string();
  const Result run = run_pack(write("input.csv", kExample) + " --output " + output);
  EXPECT_EQ(run.code, 0) << run.text;
  std::ifstream file(output);
  std::string header;
  std::getline(file, header);
  EXPECT_EQ(header, "id,lower,upper,size,offset");
  EXPECT_EQ(run_pack(output).code, 0);
}

TEST_F(PackCommand, AnswersBadInputWithOneLineAndCodeTwo) {
  const std::string bad = write("bad.csv", "id,lower,upper,size\na,0,x,4\n");
  const std::string good = write("good.csv", kExample);
  fs::create_directories(folder_ / "empty");
  const std::string bad_lines[] = {
      bad,
      good + " " + bad,
      (folder_ / "missing.csv").string(),
      (folder_ / "empty").string(),
      "",
      good + " --time-limit soon",
      good + " --time-limit -1",
      good + " --unknown",
      good + " " + good + " --output " + (folder_ / "out.csv").string(),
      good + " --output " + (folder_ / "no" / "out.csv").string(),
  };
  for (const std::string& arguments : bad_lines) {
    const Result run = run_pack(arguments);
    EXPECT_EQ(run.code, 2) << arguments << "\n" << run.text;
    EXPECT_NE(run.text.find("rcore-pack: "), std::string::npos) << arguments;
  }
  EXPECT_EQ(run_pack(bad).text,
            "rcore-pack: " + bad + ":2: column upper is 'x', expected an integer of 64 bits\n");
}

TEST_F(PackCommand, ExplainsItself) {
  const Result run = run_pack("--help");
  EXPECT_EQ(run.code, 0);
  EXPECT_NE(run.text.find("--time-limit"), std::string::npos);
}

}  // namespace
