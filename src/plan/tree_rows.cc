// src/plan/tree_rows.cc: see tree_rows.h.
#include "src/plan/tree_rows.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <utility>

namespace rc {
namespace {

using Wide = __int128;
constexpr Wide kLargest = Wide(1) << 58, kSmallest = Wide(1) << 30;

int64_t floor_of(int64_t a, int64_t d) {
  return a / d - (a % d < 0 ? 1 : 0);
}

}  // namespace

std::vector<TreeClass> classes_of(const CountProblem& problem) {
  using Key = std::vector<std::pair<int64_t, std::vector<int64_t>>>;
  std::map<Key, size_t> known;
  std::vector<TreeClass> classes;
  for (size_t g = 0; g < problem.groups.size(); ++g) {
    const CountGroup& group = problem.groups[g];
    if (group.places.empty()) continue;
    std::vector<size_t> order(group.options.size());
    std::iota(order.begin(), order.end(), size_t(0));
    const auto key_of = [&](size_t o) {
      return std::make_pair(group.options[o].cost, group.options[o].use);
    };
    std::sort(order.begin(), order.end(),
              [&](size_t a, size_t b) { return key_of(a) < key_of(b); });
    Key key;
    for (const size_t o : order) key.push_back(key_of(o));
    const auto [at, fresh] = known.emplace(key, classes.size());
    if (fresh) {
      classes.emplace_back();
      for (const auto& [cost, use] : key) classes.back().options.push_back({cost, use});
    }
    TreeClass& cls = classes[at->second];
    cls.count += int32_t(group.places.size());
    cls.groups.push_back(g);
    cls.option.push_back(order);
  }
  return classes;
}

TreeRow plain_row(const CountProblem& problem, const std::vector<TreeClass>& classes, size_t row) {
  TreeRow made;
  made.capacity = problem.capacity[row];
  for (const TreeClass& cls : classes) {
    made.weight.emplace_back();
    for (const TreeOption& option : cls.options) made.weight.back().push_back(option.use[row]);
  }
  return made;
}

bool add_rows(const std::vector<TreeRow>& rows, const std::vector<int64_t>& factors, TreeRow* sum) {
  *sum = {};
  sum->factors = factors;
  sum->weight.resize(rows[0].weight.size());
  Wide most = 0, capacity = 0;
  const auto absolute = [](Wide a) { return a < 0 ? -a : a; };
  for (size_t r = 0; r < factors.size(); ++r) capacity += Wide(factors[r]) * rows[r].capacity;
  for (size_t k = 0; k < sum->weight.size(); ++k) {
    for (size_t o = 0; o < rows[0].weight[k].size(); ++o) {
      Wide weight = 0;
      for (size_t r = 0; r < factors.size(); ++r) weight += Wide(factors[r]) * rows[r].weight[k][o];
      most = std::max(most, absolute(weight));
      sum->weight[k].push_back(int64_t(weight));
    }
  }
  sum->capacity = int64_t(capacity);
  return std::max(most, absolute(capacity)) < kLargest;
}

bool round_row(const std::vector<TreeClass>& classes, const TreeRow& sum, int64_t divisor,
               const std::vector<size_t>& bases, TreeRow* rounded) {
  *rounded = {};
  rounded->factors = sum.factors;
  rounded->divisor = divisor;
  rounded->bases = bases;
  Wide right = sum.capacity;
  for (size_t k = 0; k < classes.size(); ++k)
    right -= Wide(sum.weight[k][bases[k]]) * classes[k].count;
  if (right > kLargest || right < -kLargest) return false;
  const int64_t whole = floor_of(int64_t(right), divisor);
  const int64_t rest = int64_t(right) - whole * divisor;
  const Wide capacity = Wide(divisor - rest) * whole;
  Wide most = 0;
  int64_t all = 0;
  for (size_t k = 0; k < classes.size(); ++k) {
    rounded->weight.emplace_back();
    for (const int64_t weight : sum.weight[k]) {
      const int64_t beyond = weight - sum.weight[k][bases[k]];
      const int64_t parts = floor_of(beyond, divisor), left = beyond - parts * divisor;
      const Wide made = Wide(divisor - rest) * parts + std::max<int64_t>(0, left - rest);
      most = std::max(most, made < 0 ? -made : made);
      rounded->weight.back().push_back(int64_t(made));
      all = std::gcd(all, int64_t(made));
    }
  }
  if (most == 0 || most >= kLargest || capacity >= kLargest || capacity <= -kLargest) return false;
  int64_t times = 1;
  while (most / all * times < kSmallest) times *= 2;
  rounded->capacity = floor_of(int64_t(capacity), all) * times;
  for (auto& weights : rounded->weight)
    for (int64_t& weight : weights) weight = weight / all * times;
  return true;
}

}  // namespace rc
