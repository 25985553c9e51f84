// src/plan/shared_search_test.cc: links of one price: every plan of small stages, all committed
// instances, and certificates that are not true.
#include "src/plan/shared_search.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "src/plan/brute_force.h"
#include "src/plan/check.h"
#include "src/plan/plan_instances.h"
#include "src/plan/random_stage.h"
#include "src/plan/solve.h"
#include "src/testing/effort.h"

namespace rc {
namespace {

StagePlan solved(const PlanStage& stage) {
  StagePlan plan;
  EXPECT_TRUE(solve_stage(stage, {}, &plan).ok());
  return plan;
}

// What both kinds of small stages draw alike.
template <class Below>
void draw_choices(const Below& below, bool cuts, RandomStage* s) {
  s->shard = below(4) == 0;
  s->compress = below(3) == 0;
  s->price = cuts ? 0 : below(3) * 7;
  s->cut_offload = s->cut_recompute = cuts;
  s->unit = below(2) == 0 ? 256 : 1;
  s->most_units = below(2) == 0 ? 60 : 8;
}

// Plans against every plan there is.
struct Comparison {
  int solved = 0, optimal = 0;

  // True if the stage has a plan; `best` and `check` are then filled.
  bool add(uint64_t seed, const PlanStage& stage, const StagePlan& plan, bool cuts,
           BruteForce* best, PlanCheck* check) {
    *best = brute_force(stage, cuts && link_is_shared(stage), cuts);
    EXPECT_EQ(plan.verdict == PlanVerdict::kSolved, best->feasible) << seed;
    if (!best->feasible || plan.verdict != PlanVerdict::kSolved) return false;
    *check = check_plan(stage, plan);
    EXPECT_TRUE(check->fits) << seed << ": " << check->finding;
    EXPECT_LE(plan.certificate.lower_bound, best->cost) << seed;
    EXPECT_GE(plan.certificate.objective, best->cost) << seed;
    ++solved;
    optimal += plan.certificate.optimal;
    return true;
  }
};

// The checker proves the bound, and for a cost above the best nothing.
void expect_exact_proof(uint64_t seed, const PlanStage& stage, const StagePlan& plan,
                        const BruteForce& best, const PlanCheck& check) {
  EXPECT_TRUE(check.bound_proven) << seed << ": " << check.finding;
  std::string finding;
  EXPECT_FALSE(prove_bound(stage, plan, best.cost + 1, 4'000'000, &finding)) << seed;
}

bool is_held(const PlanBoundRow& row) {
  return row.kind == PlanBoundRow::kMemory;
}

// Rows of memory and link together; none where the certificate is another search's.
int64_t shared_rows(const std::vector<PlanBoundRow>& rows) {
  if (rows.empty() || rows[0].kind != PlanBoundRow::kMemoryAndLink) return 0;
  return int64_t(rows.size()) - std::count_if(rows.begin(), rows.end(), is_held);
}

PlanStage small_stage(uint64_t seed, bool cuts) {
  std::mt19937_64 random(seed * 104729 + 3);
  const auto below = [&](int n) { return int(random() % uint64_t(n)); };
  RandomStage s;
  s.classes = 1 + below(2);
  s.items = 1 + below(4);
  s.stages = 1 + below(3);
  s.microbatches = 1 + below(4);
  draw_choices(below, cuts, &s);
  s.budget = 0.1 + 0.05 * below(16);
  s.link = 0.05 * below(10);
  s.layers = std::max(1, std::min(6, (cuts ? 5 : 8) / s.items));
  PlanStage stage = random_stage(s, seed);
  stage.allow_units = false;
  stage.tail_margin = 1;
  if (below(4) == 0) stage.host_bytes = stage.link_bytes * (1 + below(3));
  return stage;
}

TEST(SharedSearch, EqualsEveryPlanOnSmallStages) {
  Comparison all;
  int one_price = 0, with_held = 0;
  for (uint64_t seed = 0; seed < uint64_t(testing::rounds(3000)); ++seed) {
    const bool cuts = seed % 3 == 0;
    const PlanStage stage = small_stage(seed, cuts);
    const StagePlan plan = solved(stage);
    BruteForce best;
    PlanCheck check;
    if (!all.add(seed, stage, plan, cuts, &best, &check)) continue;
    const std::vector<PlanBoundRow>& rows = plan.certificate.proof;
    if (shared_rows(rows) != 1) continue;
    ++one_price;
    EXPECT_TRUE(plan.certificate.optimal) << seed;
    expect_exact_proof(seed, stage, plan, best, check);
    if (rows.size() == 1) continue;
    ++with_held;
    StagePlan wrong = plan;
    wrong.certificate.proof.back().price = -1;
    EXPECT_FALSE(check_plan(stage, wrong).bound_proven) << seed;
  }
  EXPECT_GT(with_held, testing::rounds(50));
  RecordProperty("with_held", with_held);
  EXPECT_GT(one_price, testing::rounds(800));
  EXPECT_GE(all.optimal, all.solved * 98 / 100);
}

// Wide layers before narrow ones: memory is fullest in either's backward.
PlanStage two_row_stage(uint64_t seed, bool cuts) {
  std::mt19937_64 random(seed * 7919 + 11);
  const auto below = [&](int n) { return int(random() % uint64_t(n)); };
  RandomStage s;
  s.classes = 2 + below(2);
  s.items = 1 + below(cuts ? 2 : 3);
  s.stages = s.microbatches = 1;
  draw_choices(below, cuts, &s);
  s.budget = 0.3 + 0.05 * below(12);
  s.link = 0.05 * below(10);
  s.layers = (cuts ? 4 : 7) / s.items;
  PlanStage stage = random_stage(s, seed);
  stage.allow_units = false;
  stage.tail_margin = below(2);
  std::vector<int32_t>& layers = stage.chunks[0].layers;
  std::sort(layers.begin(), layers.end());
  int64_t all = 0, late = 0;
  for (const int32_t k : layers) {
    int64_t own = 0;
    for (const PlanItem& item : stage.classes[size_t(k)].items) own += item.choices[0].kept_bytes;
    all += own;
    if (k != layers[0]) late += own;
  }
  for (PlanLayerClass& k : stage.classes) k.moments[0] = 0;
  stage.classes[size_t(layers[0])].moments[0] = late * below(100) / 100;
  stage.budget = stage.fixed_bytes + all * (20 + below(70)) / 100;
  return stage;
}

TEST(SharedSearch, EqualsEveryPlanWhereTwoLayersAreFullest) {
  Comparison all;
  int two_rows = 0, with_link = 0;
  for (uint64_t seed = 0; seed < uint64_t(testing::rounds(15000)); ++seed) {
    const bool cuts = seed % 2 == 0;
    const PlanStage stage = two_row_stage(seed, cuts);
    const StagePlan plan = solved(stage);
    // One row is the test above.
    const std::vector<PlanBoundRow>& rows = plan.certificate.proof;
    if (plan.verdict == PlanVerdict::kSolved && shared_rows(rows) == 1) continue;
    BruteForce best;
    PlanCheck check;
    if (!all.add(seed, stage, plan, cuts, &best, &check)) continue;
    if (shared_rows(rows) != 2) continue;
    ++two_rows;
    with_link += plan.certificate.link > 0;
    expect_exact_proof(seed, stage, plan, best, check);
  }
  EXPECT_GT(two_rows, testing::rounds(300));
  EXPECT_GT(with_link, testing::rounds(100));
  EXPECT_GE(all.optimal, all.solved * 98 / 100);
  RecordProperty("two_rows", two_rows);
}

struct Set {
  int64_t family, mode;
};

class CommittedInstances : public ::testing::TestWithParam<Set> {};

// The set of the benchmark (plan_bench.cc): nothing in it is left unproven.
TEST_P(CommittedInstances, AreAllProvenOptimal) {
  int solved_ones = 0;
  const std::vector<PlanStage> all = plan_instances(GetParam().family, GetParam().mode);
  const int tried = testing::rounds(int(all.size()));
  for (int i = 0; i < tried; ++i) {
    const size_t number = all.size() - 1 - size_t(i) * all.size() / size_t(tried);
    SCOPED_TRACE(number);
    const PlanStage& stage = all[number];
    const StagePlan plan = solved(stage);
    ASSERT_NE(plan.verdict, PlanVerdict::kUnknown);
    if (plan.verdict == PlanVerdict::kInfeasible) {
      EXPECT_NE(plan.minimum_budget, 0);
      continue;
    }
    ++solved_ones;
    EXPECT_TRUE(plan.certificate.optimal)
        << plan.certificate.objective << " " << plan.certificate.lower_bound;
    const bool mixed = GetParam().family == kMixed || GetParam().family == kMixedOdd;
    if (mixed && (GetParam().mode == kRecompute || GetParam().mode == kCut)) continue;
    const PlanCheck check = check_plan(stage, plan);
    EXPECT_TRUE(check.fits && check.bound_proven) << check.finding;
  }
  EXPECT_GE(solved_ones, testing::rounds(30));
}

std::string name_of(const ::testing::TestParamInfo<Set>& info) {
  static const char* const kFamilies[] = {"DeepSeek", "Llama80", "Llama8", "Mixed", "MixedOdd"};
  static const char* const kModes[] = {"Recompute", "Cut", "Whole", "Priced", "CutBoth"};
  return std::string(kFamilies[info.param.family]) + kModes[info.param.mode];
}

std::vector<Set> committed() {
  std::vector<Set> all;
  for (const int64_t family : {kDeepSeek, kLlama80, kLlama8, kMixed, kMixedOdd})
    for (const int64_t mode : {kRecompute, kCut, kWhole, kPriced, kCutBoth})
      all.push_back({family, mode});
  return all;
}
INSTANTIATE_TEST_SUITE_P(Plan, CommittedInstances, ::testing::ValuesIn(committed()), name_of);

TEST(SharedSearch, ACertificateThatIsNotTrueIsRefused) {
  for (const int64_t mode : {kWhole, kPriced, kCutBoth}) {
    SCOPED_TRACE(mode);
    const PlanStage stage = plan_instance(kDeepSeek, mode, 1, 0.3, 0.1);
    const StagePlan plan = solved(stage);
    ASSERT_TRUE(check_plan(stage, plan).bound_proven);
    const auto proven = [&](const PlanStage& s, const StagePlan& p) {
      std::string finding;
      return prove_bound(s, p, p.certificate.lower_bound, 4'000'000, &finding);
    };
    StagePlan wrong = plan;
    wrong.certificate.lower_bound += 1;
    EXPECT_FALSE(proven(stage, wrong));
    wrong = plan;
    wrong.certificate.proof[0].layer = 500;
    EXPECT_FALSE(proven(stage, wrong));
    wrong = plan;
    wrong.certificate.proof[0].price = -1;
    EXPECT_FALSE(proven(stage, wrong));
    PlanStage wider = stage;
    wider.link_bytes += int64_t{1} << 30;
    EXPECT_FALSE(proven(wider, plan));
    wider = stage;
    wider.budget += int64_t{1} << 30;
    EXPECT_FALSE(proven(wider, plan));
    // A price that prunes less proves the same, if the limit allows.
    wrong = plan;
    wrong.certificate.proof[0].price = wrong.certificate.proof[0].price * 999 / 1000;
    EXPECT_TRUE(proven(stage, wrong));
  }
}

TEST(SharedSearch, ACertificateOfTwoRowsThatIsNotTrueIsRefused) {
  for (const int64_t mode : {kWhole, kPriced, kCutBoth}) {
    SCOPED_TRACE(mode);
    const PlanStage stage = plan_instances(kMixed, mode)[21];
    const StagePlan plan = solved(stage);
    ASSERT_EQ(plan.certificate.proof.size(), size_t(2));
    ASSERT_TRUE(check_plan(stage, plan).bound_proven);
    const auto proven = [&](const PlanStage& s, const StagePlan& p) {
      std::string finding;
      return prove_bound(s, p, p.certificate.lower_bound, 400'000, &finding);
    };
    StagePlan wrong = plan;
    wrong.certificate.lower_bound += 1;
    EXPECT_FALSE(proven(stage, wrong));
    // One row alone does not prove it.
    for (const size_t row : {0, 1}) {
      wrong = plan;
      wrong.certificate.proof.erase(wrong.certificate.proof.begin() + int64_t(row));
      EXPECT_FALSE(proven(stage, wrong));
    }
    wrong = plan;
    wrong.certificate.proof[1] = wrong.certificate.proof[0];
    EXPECT_FALSE(proven(stage, wrong));
    wrong = plan;
    wrong.certificate.proof[1].layer = 500;
    EXPECT_FALSE(proven(stage, wrong));
    PlanStage wider = stage;
    wider.budget += int64_t{1} << 30;
    EXPECT_FALSE(proven(wider, plan));
    wider = stage;
    wider.link_bytes += int64_t{1} << 30;
    EXPECT_FALSE(proven(wider, plan));
    // The order of the rows is nothing to the proof.
    wrong = plan;
    std::swap(wrong.certificate.proof[0], wrong.certificate.proof[1]);
    EXPECT_TRUE(proven(stage, wrong));
  }
}

}  // namespace
}  // namespace rc
