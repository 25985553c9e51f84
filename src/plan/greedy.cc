// src/plan/greedy.cc: see greedy.h.
#include "src/plan/greedy.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace rc {
namespace {

struct Move {
  size_t group = 0, from = 0, to = 0;
  int32_t members = 0;
  double rank = 0;
};

class Greedy {
 public:
  Greedy(const CountProblem& problem, const std::vector<double>& prices, CountResult& result)
      : problem_(problem), result_(result), left_(problem.capacity) {
    result_.counts.assign(problem.groups.size(), {});
    result_.cost = 0;
    for (size_t g = 0; g < problem.groups.size(); ++g) {
      const CountGroup& group = problem.groups[g];
      size_t best = 0;
      for (size_t o = 1; o < group.options.size(); ++o) {
        if (priced(group.options[o], prices) < priced(group.options[best], prices)) best = o;
      }
      const int32_t all = int32_t(group.places.size());
      result_.counts[g][best] = all;
      result_.cost += all * group.options[best].cost;
      for (size_t r = 0; r < left_.size(); ++r) left_[r] -= all * group.options[best].use[r];
    }
  }

  bool run() {
    // Each move lowers the excess or the cost; the limits only bound the work.
    for (int step = 0; excess() > 0; ++step) {
      Move move;
      if (step > kMostSteps || !best_repair(move)) return false;
      apply(move);
    }
    Move move;
    for (int step = 0; step < kMostSteps && best_gain(move); ++step) apply(move);
    result_.found = true;
    return true;
  }

 private:
  static constexpr int kMostSteps = 2000;

  static double priced(const CountOption& option, const std::vector<double>& prices) {
    double sum = double(option.cost);
    for (size_t r = 0; r < prices.size(); ++r) sum += prices[r] * double(option.use[r]);
    return sum;
  }

  // Of all rows, as shares of their capacities.
  double share(size_t r, int64_t over) const {
    return over <= 0 ? 0 : double(over) / double(std::max<int64_t>(1, problem_.capacity[r]));
  }
  double excess() const {
    double sum = 0;
    for (size_t r = 0; r < left_.size(); ++r) sum += share(r, -left_[r]);
    return sum;
  }

  template <typename Visit>
  void each_move(Visit visit) const {
    for (size_t g = 0; g < problem_.groups.size(); ++g) {
      const size_t options = problem_.groups[g].options.size();
      for (size_t from = 0; from < options; ++from) {
        if (result_.counts[g][from] == 0) continue;
        for (size_t to = 0; to < options; ++to) {
          if (to != from) visit(g, from, to);
        }
      }
    }
  }

  // The least cost per share of excess that goes, one member at a time or as many as it takes.
  bool best_repair(Move& best) const {
    bool found = false;
    const double before = excess();
    each_move([&](size_t g, size_t from, size_t to) {
      const CountOption &a = problem_.groups[g].options[from], &b = problem_.groups[g].options[to];
      double after = 0;
      int64_t enough = 1;
      for (size_t r = 0; r < left_.size(); ++r) {
        const int64_t gain = a.use[r] - b.use[r];
        after += share(r, -(left_[r] + gain));
        if (left_[r] < 0 && gain > 0) enough = std::max(enough, -left_[r] / gain);
      }
      if (after >= before) return;
      const double rank = double(b.cost - a.cost) / (before - after);
      if (found && rank >= best.rank) return;
      found = true;
      // Where the move fills another row, it does so member by member.
      bool alone = true;
      for (size_t r = 0; r < left_.size(); ++r) alone = alone && b.use[r] <= a.use[r];
      const int32_t most = alone ? int32_t(std::min<int64_t>(enough, result_.counts[g][from])) : 1;
      best = {g, from, to, most, rank};
    });
    return found;
  }

  // The most that one kind of move saves within the room that is left.
  bool best_gain(Move& best) const {
    bool found = false;
    each_move([&](size_t g, size_t from, size_t to) {
      const CountOption &a = problem_.groups[g].options[from], &b = problem_.groups[g].options[to];
      if (b.cost >= a.cost) return;
      int64_t most = result_.counts[g][from];
      for (size_t r = 0; r < left_.size(); ++r) {
        const int64_t more = b.use[r] - a.use[r];
        if (more > 0) most = std::min(most, left_[r] / more);
      }
      const double rank = double(most) * double(a.cost - b.cost);
      if (most < 1 || (found && rank <= best.rank)) return;
      found = true;
      best = {g, from, to, int32_t(most), rank};
    });
    return found;
  }

  void apply(const Move& move) {
    const CountOption& a = problem_.groups[move.group].options[move.from];
    const CountOption& b = problem_.groups[move.group].options[move.to];
    result_.counts[move.group][move.from] -= move.members;
    result_.counts[move.group][move.to] += move.members;
    result_.cost += move.members * (b.cost - a.cost);
    for (size_t r = 0; r < left_.size(); ++r) left_[r] += move.members * (a.use[r] - b.use[r]);
  }

  const CountProblem& problem_;
  CountResult& result_;
  std::vector<int64_t> left_;
};

}  // namespace

bool greedy_counts(const CountProblem& problem, const std::vector<double>& prices,
                   CountResult& result) {
  return !problem.shared_link && Greedy(problem, prices, result).run();
}

}  // namespace rc
