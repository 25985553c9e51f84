// src/plan/oracle_test.cc: plans against CBC, GLPK and HiGHS on exported integer programs.
//
// All must agree. CBC runs without its preprocessing: that of 2.10.8 reduces some of these programs
// (coefficients below 100, right-hand sides between two integers) to others whose optimum is
// dearer. A solver that is not installed is a skip.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <system_error>
#include <vector>

#include "src/plan/check.h"
#include "src/plan/lp_export.h"
#include "src/plan/plan_instances.h"
#include "src/plan/random_stage.h"
#include "src/plan/solve.h"

namespace rc {
namespace {

bool installed(const std::string& command) {
  return std::system(("command -v " + command + " > /dev/null 2>&1").c_str()) == 0;
}

class Folder {
 public:
  Folder() {
    const char* base = std::getenv("TMPDIR");
    path_ = std::string(base != nullptr ? base : "/tmp") + "/plan_oracle_XXXXXX";
    if (mkdtemp(path_.data()) == nullptr) path_.clear();
  }
  ~Folder() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  std::string operator/(const std::string& file) const { return path_ + "/" + file; }

 private:
  std::string path_;
};

std::string read(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

// The number after `mark` in text.
std::optional<double> number_after(const std::string& text, const std::string& mark) {
  const size_t at = text.find(mark);
  if (at == std::string::npos) return std::nullopt;
  return std::strtod(text.c_str() + at + mark.size(), nullptr);
}

// The optimum, -1 for infeasible, nothing where the solver did not finish.
std::optional<double> cbc(const Folder& folder) {
  const std::string command = "cbc " + (folder / "stage.lp") +
                              " -sec 1 -preprocess off -ratioGap 0 -allowableGap 0 -solve -solu " +
                              (folder / "cbc.txt") + " > /dev/null 2>&1";
  if (std::system(command.c_str()) != 0) return std::nullopt;
  const std::string text = read(folder / "cbc.txt");
  if (text.rfind("Infeasible", 0) == 0 || text.rfind("Integer infeasible", 0) == 0) return -1;
  if (text.rfind("Optimal", 0) != 0) return std::nullopt;
  return number_after(text, "objective value");
}
std::optional<double> glpk(const Folder& folder) {
  const std::string command = "glpsol --lp " + (folder / "stage.lp") + " --tmlim 1 -o " +
                              (folder / "glpk.txt") + " > /dev/null 2>&1";
  if (std::system(command.c_str()) != 0) return std::nullopt;
  const std::string text = read(folder / "glpk.txt");
  if (text.find("INTEGER OPTIMAL") != std::string::npos) return number_after(text, "cost = ");
  if (text.find("INTEGER EMPTY") != std::string::npos ||
      text.find("INTEGER UNDEFINED") != std::string::npos) {
    return -1;
  }
  return std::nullopt;
}

// Ten small programs, and two (72, 92) of which CBC's preprocessing makes others.
std::vector<uint64_t> small_seeds() {
  return {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 72, 92};
}

PlanStage stage_of(uint64_t seed) {
  RandomStage shape;
  shape.layers = int(2 + seed % 4);
  shape.items = int(2 + seed % 3);
  shape.shard = seed % 3 == 0;
  shape.cut_offload = false;
  shape.free_offload = seed % 2 == 0;
  shape.stages = int(1 + seed % 4);
  shape.chunks = seed % 5 == 0 ? 2 : 1;
  shape.budget = 0.3 + 0.02 * double(seed % 20);
  PlanStage stage = random_stage(shape, seed);
  stage.allow_units = false;
  return stage;
}

// best: the other solver's optimum, -1 for infeasible. True where there is one.
bool expect_same(const std::string& solver, uint64_t seed, double best) {
  const PlanStage stage = stage_of(seed);
  StagePlan plan;
  EXPECT_TRUE(solve_stage(stage, {}, &plan).ok());
  EXPECT_NE(plan.verdict, PlanVerdict::kUnknown) << seed;
  EXPECT_EQ(plan.verdict == PlanVerdict::kSolved, best >= 0) << solver << " " << seed;
  if (plan.verdict != PlanVerdict::kSolved || best < 0) return false;
  EXPECT_TRUE(plan.certificate.optimal) << seed;
  EXPECT_NEAR(double(plan.certificate.objective), best, 0.5) << solver << " " << seed;
  const PlanCheck check = check_plan(stage, plan);
  EXPECT_TRUE(check.fits && check.bound_proven) << seed << ": " << check.finding;
  return true;
}

template <typename Oracle>
void compare(const char* command, Oracle oracle) {
  if (!installed(command)) GTEST_SKIP() << command << " is not installed";
  const Folder folder;
  int finished = 0, solved = 0;
  for (const uint64_t seed : small_seeds()) {
    std::ofstream(folder / "stage.lp") << LpExport(stage_of(seed)).text();
    const std::optional<double> best = oracle(folder);
    if (!best) continue;
    ++finished;
    solved += expect_same(command, seed, *best);
  }
  if (finished < 3 || solved < 2)
    GTEST_SKIP() << command << " finished " << finished << " of 12 in its time";
}

TEST(Oracle, CbcFindsTheSameOptima) {
  compare("cbc", cbc);
}
TEST(Oracle, GlpkFindsTheSameOptima) {
  compare("glpsol", glpk);
}

// One process for all programs: starting it takes longer than solving them.
constexpr const char* kHighs = R"(
import sys, highspy
for name in sys.argv[1:]:
    highs = highspy.Highs()
    highs.setOptionValue('output_flag', False)
    highs.setOptionValue('mip_rel_gap', 0.0)
    highs.setOptionValue('time_limit', 5.0)
    highs.readModel(name)
    highs.run()
    status = highs.modelStatusToString(highs.getModelStatus())
    value = highs.getInfo().objective_function_value
    print(value if status == 'Optimal' else -1 if status == 'Infeasible' else 'unfinished')
)";

TEST(Oracle, HighsFindsTheSameOptima) {
  if (std::system("python3 -c 'import highspy' > /dev/null 2>&1") != 0)
    GTEST_SKIP() << "python3 has no highspy (HiGHS, from PyPI)";
  constexpr uint64_t kPrograms = 100;
  const Folder folder;
  std::ofstream(folder / "highs.py") << kHighs;
  std::string command = "python3 " + (folder / "highs.py");
  for (uint64_t seed = 0; seed < kPrograms; ++seed) {
    const std::string file = folder / ("stage" + std::to_string(seed) + ".lp");
    std::ofstream(file) << LpExport(stage_of(seed)).text();
    command += " ";
    command += file;
  }
  command += " > ";
  command += folder / "highs.txt";
  ASSERT_EQ(std::system(command.c_str()), 0);
  std::istringstream answers(read(folder / "highs.txt"));
  int solved = 0;
  for (uint64_t seed = 0; seed < kPrograms; ++seed) {
    std::string answer;
    ASSERT_TRUE(answers >> answer) << seed;
    if (answer != "unfinished") solved += expect_same("highs", seed, std::stod(answer));
  }
  EXPECT_GT(solved, 50);
}

}  // namespace
}  // namespace rc
