// src/plan/oracle_test.cc: plans against CBC and GLPK on exported integer programs.
//
// Two solvers, since each was seen to call a worse plan optimal somewhere; none may find a better
// one than the planner. Skipped where a solver is not installed.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>

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
    for (const char* file : {"/stage.lp", "/cbc.txt", "/glpk.txt"}) {
      std::remove((path_ + file).c_str());
    }
    rmdir(path_.c_str());
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
                              " -sec 1 -ratioGap 0 -allowableGap 0 -solve -solu " +
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

template <typename Oracle>
void compare(const char* command, Oracle oracle) {
  if (!installed(command)) GTEST_SKIP() << command << " is not installed";
  const Folder folder;
  int finished = 0, solved = 0;
  for (uint64_t seed = 0; seed < 10; ++seed) {
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
    std::ofstream(folder / "stage.lp") << LpExport(stage).text();
    const std::optional<double> best = oracle(folder);
    if (!best) continue;
    ++finished;
    StagePlan plan;
    ASSERT_TRUE(solve_stage(stage, {}, &plan).ok());
    ASSERT_NE(plan.verdict, PlanVerdict::kUnknown) << seed;
    EXPECT_EQ(plan.verdict == PlanVerdict::kSolved, *best >= 0) << command << " " << seed;
    if (plan.verdict != PlanVerdict::kSolved || *best < 0) continue;
    ++solved;
    EXPECT_TRUE(plan.certificate.optimal) << seed;
    // Their tolerances are those of doubles; within them a solver was seen to call a dearer plan
    // optimal, which a plan refutes that the checker finds legal and proves optimal.
    const double objective = double(plan.certificate.objective), tolerance = 1e-6 * *best + 0.5;
    EXPECT_LE(objective, *best + tolerance) << command << " " << seed;
    const PlanCheck check = check_plan(stage, plan);
    EXPECT_TRUE(check.fits) << seed;
    if (objective < *best - tolerance) {
      EXPECT_TRUE(check.bound_proven) << seed;
    }
  }
  if (finished < 3 || solved < 2)
    GTEST_SKIP() << command << " finished " << finished << " of 10 in its time";
}

TEST(Oracle, CbcFindsTheSameOptima) {
  compare("cbc", cbc);
}
TEST(Oracle, GlpkFindsTheSameOptima) {
  compare("glpsol", glpk);
}

}  // namespace
}  // namespace rc
