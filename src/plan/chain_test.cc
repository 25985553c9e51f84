// src/plan/chain_test.cc: chains of layers against exhaustive search and closed forms.
#include "src/plan/chain.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <queue>
#include <random>
#include <tuple>
#include <vector>

#include "src/plan/check.h"
#include "src/plan/counts.h"
#include "src/plan/knapsack.h"
#include "src/plan/plan_instances.h"
#include "src/plan/simulate.h"
#include "src/plan/solve.h"

namespace rc {
namespace {

// A class with an input and some tensors that can be recomputed.
PlanLayerClass chain_class(int64_t input, int64_t forward,
                           const std::vector<std::pair<int64_t, int64_t>>& tensors,
                           int64_t gradients = 0) {
  PlanLayerClass made;
  made.moments = {gradients};
  made.forward_cost = forward;
  made.input_item = 0;
  PlanItem first;
  first.choices = {{PlanOption::kKeep, input, 0, 0, 0}};
  made.items.push_back(first);
  for (const auto& [bytes, cost] : tensors) {
    PlanItem item;
    item.choices = {{PlanOption::kKeep, bytes, 0, 0, 0},
                    {PlanOption::kRecompute, 0, 0, bytes, cost}};
    made.items.push_back(item);
  }
  return made;
}

PlanStage chain_stage(std::vector<PlanLayerClass> classes, std::vector<int32_t> layers,
                      int64_t budget, int32_t held = 1) {
  PlanStage stage;
  stage.classes = std::move(classes);
  stage.chunks = {{std::move(layers)}};
  stage.states = {{{held}, 0}};
  stage.budget = budget;
  return stage;
}

// Shortest path over everything a persistent schedule can do: run a layer forward from an input at
// hand keeping nothing, its input or all of it in one of its ways, or run its backward.
class Exhaustive {
 public:
  explicit Exhaustive(const PlanStage& stage) : stage_(stage), count_(layers().size()) {}

  int64_t least_cost() {
    State start{std::vector<int>(count_, 0), 0, int(count_)};
    std::priority_queue<Entry, std::vector<Entry>, std::greater<>> queue;
    std::map<State, int64_t> seen;
    queue.push({0, start});
    int64_t forward = 0;
    for (const int32_t k : layers()) forward += stage_.classes[size_t(k)].forward_cost;
    while (!queue.empty()) {
      const auto [cost, state] = queue.top();
      queue.pop();
      const auto [at, added] = seen.emplace(state, cost);
      if (!added) continue;
      if (std::get<2>(state) == 0) return cost - forward;
      expand(cost, state, queue);
    }
    return kNoCost;
  }

 private:
  // Of each layer: 0 nothing, 1 its input, 2 + w saved in way w (a bit set of recomputed items);
  // the layer whose input is fresh (-1: none); the layers below this one still want backward.
  using State = std::tuple<std::vector<int>, int, int>;
  using Entry = std::pair<int64_t, State>;

  const std::vector<int32_t>& layers() const { return stage_.chunks[0].layers; }
  const PlanLayerClass& layer(size_t l) const { return stage_.classes[size_t(layers()[l])]; }
  int64_t bytes(size_t l, int status) const {
    if (status == 0) return 0;
    if (status == 1) return layer(l).items[0].choices[0].kept_bytes;
    int64_t sum = 0;
    for (size_t i = 0; i < layer(l).items.size(); ++i) {
      if (!((status - 2) >> i & 1)) sum += layer(l).items[i].choices[0].kept_bytes;
    }
    return sum;
  }
  int64_t live(const std::vector<int>& status) const {
    int64_t sum = 0;
    for (size_t l = 0; l < count_; ++l) sum += bytes(l, status[l]);
    return sum;
  }

  template <typename Queue>
  void expand(int64_t cost, const State& state, Queue& queue) {
    // No structured binding: a lambda below captures these, which clang 14 refuses.
    const std::vector<int>& status = std::get<0>(state);
    const int fresh = std::get<1>(state), next = std::get<2>(state);
    if (next > 0 && status[size_t(next - 1)] >= 2) {
      const size_t l = size_t(next - 1);
      int64_t need = live(status) + layer(l).moments[0];
      for (size_t i = 0; i < layer(l).items.size(); ++i) {
        if ((status[l] - 2) >> i & 1) need += layer(l).items[i].choices[1].transient_bytes;
      }
      if (need <= stage_.budget) {
        std::vector<int> after = status;
        after[l] = 0;
        queue.push({cost, {after, -1, next - 1}});
      }
    }
    for (size_t l = 0; l < size_t(next); ++l) {
      if (fresh != int(l) && status[l] != 1) continue;
      if (status[l] >= 2) continue;
      const int64_t forward = cost + layer(l).forward_cost;
      const auto go = [&](int into, int64_t extra) {
        std::vector<int> after = status;
        after[l] = into;
        if (live(after) <= stage_.budget) queue.push({forward + extra, {after, int(l) + 1, next}});
      };
      go(status[l], 0);
      go(1, 0);
      for (int way = 0; way < 1 << layer(l).items.size(); way += 2) {
        int64_t extra = 0;
        for (size_t i = 1; i < layer(l).items.size(); ++i) {
          if (way >> i & 1) extra += layer(l).items[i].choices[1].cost;
        }
        go(2 + way, extra);
      }
    }
  }

  const PlanStage& stage_;
  const size_t count_;
};

TEST(Chain, EqualsExhaustiveSearchOnShortChains) {
  int solved = 0;
  for (uint64_t seed = 0; seed < 150; ++seed) {
    std::mt19937_64 random(seed);
    const auto below = [&](int n) { return int64_t(random() % uint64_t(n)); };
    std::vector<PlanLayerClass> classes;
    for (int k = 0; k < 3; ++k) {
      std::vector<std::pair<int64_t, int64_t>> tensors;
      for (int64_t t = below(3); t > 0; --t) tensors.push_back({1 + below(9), 1 + below(12)});
      classes.push_back(chain_class(1 + below(5), 5 + below(20), tensors, below(4)));
    }
    std::vector<int32_t> layers(size_t(2 + below(seed % 10 == 0 ? 5 : 3)));
    for (int32_t& k : layers) k = int32_t(below(3));
    const PlanStage stage = chain_stage(classes, layers, 6 + below(28));
    const int64_t best = Exhaustive(stage).least_cost();
    StagePlan plan;
    int64_t minimum = 0;
    ASSERT_EQ(solve_chain(stage, &plan, &minimum), best < kNoCost) << seed;
    if (best == kNoCost) {
      EXPECT_GT(minimum, stage.budget) << seed;
      PlanStage enough = stage;
      enough.budget = minimum;
      EXPECT_TRUE(solve_chain(enough, &plan, &minimum)) << seed;
      enough.budget -= 1;
      EXPECT_EQ(Exhaustive(enough).least_cost(), kNoCost) << seed;
      continue;
    }
    ++solved;
    EXPECT_EQ(plan.certificate.objective, best) << seed;
    EXPECT_EQ(plan.certificate.lower_bound, best) << seed;
    std::string finding;
    EXPECT_TRUE(check_chain(stage, plan, &finding)) << seed << ": " << finding;
    plan.verdict = PlanVerdict::kSolved;
    const PlanRun run = simulate_plan(stage, plan, pipeline_passes(1, 0, 1, 3));
    EXPECT_EQ(run.peak, plan.certificate.peak) << seed;
    EXPECT_EQ(run.cost, 3 * best) << seed;
    EXPECT_EQ(run.left, 0) << seed;
  }
  EXPECT_GT(solved, 60);
}

// Griewank and Walther, "Algorithm 799: revolve", 2000: with s checkpoints beside the running step
// a chain of l equal steps takes r l - binomial(s + r, r - 1) forward steps beside the l taped
// ones, where r is the least number with binomial(s + r, s) >= l.
int64_t binomial(int64_t n, int64_t k) {
  int64_t value = 1;
  for (int64_t i = 1; i <= k; ++i) value = value * (n - k + i) / i;
  return value;
}
TEST(Chain, EqualLayersThatSaveTheirInputsOnlyTakeBinomialSchedules) {
  for (const int64_t slots : {2, 3, 4, 6}) {
    for (const int64_t length : {2, 5, 10, 21, 40}) {
      // What a taped step saves leaves no room for a second one.
      PlanLayerClass step = chain_class(1, 10, {{100, 0}});
      step.items[1].choices.pop_back();
      const PlanStage stage =
          chain_stage({step}, std::vector<int32_t>(size_t(length), 0), slots + 100);
      StagePlan plan;
      int64_t minimum = 0;
      ASSERT_TRUE(solve_chain(stage, &plan, &minimum));
      const int64_t s = slots - 1;  // one holds the input of the taped step
      int64_t r = 0;
      while (binomial(s + r, s) < length) ++r;
      const int64_t steps = r * length - binomial(s + r, r - 1);
      EXPECT_EQ(plan.certificate.objective, 10 * steps) << slots << " " << length;
    }
  }
}

// Chen et al., arXiv 1604.06174: 2 sqrt(n) units of memory hold a chain of n layers at the price of
// one more forward.
TEST(Chain, TwiceTheSquareRootOfMemoryTakesAtMostOneMoreForward) {
  for (const int64_t root : {3, 5, 8, 9}) {
    const int64_t length = root * root;
    const PlanStage stage =
        chain_stage({chain_class(1, 10, {})}, std::vector<int32_t>(size_t(length), 0), 2 * root);
    StagePlan plan;
    int64_t minimum = 0;
    ASSERT_TRUE(solve_chain(stage, &plan, &minimum));
    EXPECT_LE(plan.certificate.objective, 10 * length);
    PlanStage less = stage;
    less.budget = root;
    ASSERT_TRUE(solve_chain(less, &plan, &minimum));
    EXPECT_GT(plan.certificate.objective, 10 * (length - root));
  }
}

TEST(Chain, TakesOverBelowTheSumOfTheInputs) {
  InstanceOptions options;
  options.offload = false;
  PlanStage stage = llama_stage(16, 0.02, 0, options);
  StagePlan plan;
  ASSERT_TRUE(solve_stage(stage, {}, &plan).ok());
  ASSERT_EQ(plan.verdict, PlanVerdict::kSolved);
  EXPECT_FALSE(plan.chain.empty());
  EXPECT_TRUE(plan.certificate.optimal);
  EXPECT_TRUE(check_plan(stage, plan).fits);
  stage.allow_chain = false;
  ASSERT_TRUE(solve_stage(stage, {}, &plan).ok());
  EXPECT_EQ(plan.verdict, PlanVerdict::kInfeasible);
  EXPECT_GT(plan.minimum_budget, stage.budget);
}

TEST(Chain, SeveralMicrobatchesHoldWhatTheTurnHolds) {
  const std::vector<PlanLayerClass> classes = {chain_class(2, 10, {{3, 4}, {4, 2}}, 1)};
  for (int64_t budget = 30; budget < 90; budget += 5) {
    const PlanStage stage = chain_stage(classes, std::vector<int32_t>(8, 0), budget, 3);
    StagePlan plan;
    int64_t minimum = 0;
    if (!solve_chain(stage, &plan, &minimum)) {
      PlanStage enough = stage;
      enough.budget = minimum;
      EXPECT_TRUE(solve_chain(enough, &plan, &minimum)) << budget;
      continue;
    }
    EXPECT_LE(plan.certificate.lower_bound, plan.certificate.objective);
    std::string finding;
    EXPECT_TRUE(check_chain(stage, plan, &finding)) << finding;
    const PlanRun run = simulate_plan(stage, plan, pipeline_passes(3, 0, 1, 6));
    EXPECT_EQ(run.peak, plan.certificate.peak) << budget;
  }
}

}  // namespace
}  // namespace rc
