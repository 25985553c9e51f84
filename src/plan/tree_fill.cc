// src/plan/tree_fill.cc: see tree_fill.h.
#include "src/plan/tree_fill.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <numeric>
#include <utility>

namespace rc {
namespace {

constexpr int64_t kMostSums = 8'000'000;
constexpr size_t kMostMoves = 400;

// Sums of whole parts below a limit, one bit each.
class Sums {
 public:
  explicit Sums(int64_t most) : bits_(size_t(most / 64 + 1), 0), most_(most) { bits_[0] = 1; }
  void add(int64_t part) {
    const size_t words = size_t(part / 64), shift = size_t(part % 64);
    for (size_t i = bits_.size(); i-- > words;) {
      uint64_t moved = bits_[i - words] << shift;
      if (shift > 0 && i > words) moved |= bits_[i - words - 1] >> (64 - shift);
      bits_[i] |= moved;
    }
  }
  // Beside its own, those of another with one part more.
  void add_from(const Sums& other, int64_t part) {
    const size_t words = size_t(part / 64), shift = size_t(part % 64);
    for (size_t i = words; i < bits_.size(); ++i) {
      bits_[i] |= other.bits_[i - words] << shift;
      if (shift > 0 && i > words) bits_[i] |= other.bits_[i - words - 1] >> (64 - shift);
    }
  }
  bool has(int64_t sum) const {
    return sum >= 0 && sum <= most_ && (bits_[size_t(sum / 64)] >> (sum % 64) & 1) != 0;
  }
  // The largest one that is no larger; -1: none.
  int64_t below(int64_t sum) const {
    sum = std::min(sum, most_);
    if (sum < 0) return -1;
    uint64_t word = bits_[size_t(sum / 64)] << (63 - sum % 64) >> (63 - sum % 64);
    for (size_t i = size_t(sum / 64);; word = bits_[--i]) {
      if (word != 0) return int64_t(i) * 64 + 63 - std::countl_zero(word);
      if (i == 0) return -1;
    }
  }

 private:
  std::vector<uint64_t> bits_;
  int64_t most_;
};

class Filling {
 public:
  Filling(const CountProblem& problem, const TreeModel& model, const BoundedLp& lp)
      : problem_(problem), model_(model), counts_(model.counts_of(lp)) {}

  bool run(const BoundedLp& lp) { return find_row(lp) && sort_classes() && add_sums() && search(); }
  std::vector<std::vector<int32_t>> take() { return std::move(counts_); }

 private:
  // A member of a class that takes another option.
  struct Move {
    size_t cls = 0, from = 0, to = 0;
    double loss = 0;     // beyond what its weight is worth
    int64_t weight = 0;  // more
  };
  // Parts of one class, whose members take `heavy` or `light`.
  struct Part {
    size_t cls = 0;
    int64_t members = 0, weight = 0;
  };

  int64_t use(size_t k, size_t o) const { return model_.classes()[k].options[o].use[row_]; }
  double priced(size_t k, size_t o) const {
    return double(model_.classes()[k].options[o].cost) + price_ * double(use(k, o));
  }

  bool find_row(const BoundedLp& lp) {
    int tight = 0;
    for (size_t r = 0; r < problem_.rows.size(); ++r) {
      if (model_.price(lp, r) <= 0) continue;
      ++tight;
      row_ = r;
      price_ = model_.true_price(lp, r);
    }
    return tight == 1;
  }

  // Free classes and the moves of all; the free ones at their lightest.
  bool sort_classes() {
    room_ = problem_.capacity[row_];
    for (size_t k = 0; k < model_.classes().size(); ++k) {
      const TreeClass& cls = model_.classes()[k];
      size_t best = 0, second = 0;
      for (size_t o = 1; o < cls.options.size(); ++o)
        if (priced(k, o) < priced(k, best)) best = o;
      double least = 0;
      for (size_t o = 0; o < cls.options.size(); ++o) {
        if (o == best || use(k, o) == use(k, best)) continue;
        const double more = priced(k, o) - priced(k, best);
        if (second == best || least == 0 || more < least) second = o, least = more;
      }
      const double scale = std::abs(price_ * double(use(k, second) - use(k, best)));
      const bool free = second != best && use(k, second) != use(k, best) && least <= 1e-9 * scale;
      if (free) {
        if (use(k, best) < use(k, second)) std::swap(best, second);
        heavy_.push_back(best);
        light_.push_back(second);
        free_.push_back(k);
        best = second;
      }
      // A whole number of members in one option, but where that is free.
      if (free) counts_[k].assign(cls.options.size(), 0), counts_[k][best] = cls.count;
      for (size_t o = 0; o < cls.options.size(); ++o) {
        room_ -= counts_[k][o] * use(k, o);
        if (free || counts_[k][o] == 0) continue;
        for (size_t p = 0; p < cls.options.size(); ++p)
          if (p != o)
            moves_.push_back({k, o, p, priced(k, p) - priced(k, o), use(k, p) - use(k, o)});
      }
    }
    std::sort(moves_.begin(), moves_.end(),
              [](const Move& a, const Move& b) { return a.loss < b.loss; });
    if (moves_.size() > kMostMoves) moves_.resize(kMostMoves);
    return !free_.empty();
  }

  bool add_sums() {
    unit_ = 0;
    int64_t all = 0;
    for (size_t i = 0; i < free_.size(); ++i) {
      const int64_t each = use(free_[i], heavy_[i]) - use(free_[i], light_[i]);
      unit_ = std::gcd(unit_, each);
      all += each * model_.classes()[free_[i]].count;
    }
    if (unit_ == 0 || all / unit_ > kMostSums) return false;
    sums_.assign(1, Sums(all / unit_));
    for (size_t i = 0; i < free_.size(); ++i) {
      const int64_t each = (use(free_[i], heavy_[i]) - use(free_[i], light_[i])) / unit_;
      int64_t left = model_.classes()[free_[i]].count;
      // With parts of 1, 2, 4, ... members every number of them comes up.
      for (int64_t members = 1; left > 0; members *= 2) {
        members = std::min(members, left);
        left -= members;
        parts_.push_back({i, members, each * members});
        sums_.push_back(sums_.back());
        sums_.back().add(each * members);
      }
    }
    return true;
  }

  // What is left of the room at best, at its price; none fits where it is negative.
  double rest(int64_t room, int64_t* sum) const {
    if (room < 0) return -1;
    *sum = sums_.back().below(room / unit_);
    return *sum < 0 ? -1 : price_ * double(room - *sum * unit_);
  }

  bool search() {
    double best = -1;
    int64_t best_sum = 0, sum = 0;
    size_t first = moves_.size(), second = moves_.size();
    const auto look = [&](size_t a, size_t b) {
      double loss = 0;
      int64_t room = room_;
      for (const size_t m : {a, b}) {
        if (m == moves_.size()) continue;
        loss += moves_[m].loss;
        room -= moves_[m].weight;
      }
      if (best >= 0 && loss >= best) return false;
      const double left = rest(room, &sum);
      if (left >= 0 && (best < 0 || loss + left < best))
        best = loss + left, best_sum = sum, first = a, second = b;
      return true;
    };
    const size_t none = moves_.size();
    look(none, none);
    for (size_t a = 0; a < none; ++a)
      if (!look(a, none)) break;
    for (size_t a = 0; a < none; ++a) {
      for (size_t b = 0; b < a; ++b) {
        const bool apart = moves_[a].cls != moves_[b].cls;
        if (apart && !look(a, b)) break;
      }
    }
    if (best < 0) return false;
    for (const size_t m : {first, second}) {
      if (m == none) continue;
      --counts_[moves_[m].cls][moves_[m].from];
      ++counts_[moves_[m].cls][moves_[m].to];
    }
    for (size_t p = parts_.size(); p-- > 0;) {
      if (sums_[p].has(best_sum)) continue;
      const size_t i = parts_[p].cls;
      best_sum -= parts_[p].weight;
      counts_[free_[i]][light_[i]] -= int32_t(parts_[p].members);
      counts_[free_[i]][heavy_[i]] += int32_t(parts_[p].members);
    }
    return true;
  }

  const CountProblem& problem_;
  const TreeModel& model_;
  std::vector<std::vector<int32_t>> counts_;
  size_t row_ = 0;
  double price_ = 0;
  int64_t room_ = 0, unit_ = 1;
  std::vector<size_t> free_, heavy_, light_;  // classes, and options of each
  std::vector<Move> moves_;
  std::vector<Part> parts_;
  std::vector<Sums> sums_;  // [part] of the parts before it
};

}  // namespace

bool fill_row(const CountProblem& problem, const TreeModel& model, const BoundedLp& lp,
              std::vector<std::vector<int32_t>>* counts) {
  Filling filling(problem, model, lp);
  if (!filling.run(lp)) return false;
  *counts = filling.take();
  return true;
}

bool no_sum_fills(const TreeModel& model, const std::vector<int64_t>& prices, size_t row,
                  int64_t below) {
  TreeWide bound = 0;
  if (!model.bound(model.whole(), prices, &bound)) return true;
  const TreeWide gap = (TreeWide(below) << kPriceBits) - bound;
  if (gap < 0) return true;
  if (prices[row] <= 0) return false;
  const TreeRow& of = model.rows()[row];
  std::vector<std::vector<int64_t>> parts;
  TreeWide room = of.capacity, all = 0;
  int64_t unit = 0;
  for (size_t k = 0; k < model.classes().size(); ++k) {
    const TreeClass& cls = model.classes()[k];
    std::vector<TreeWide> priced;
    for (size_t o = 0; o < cls.options.size(); ++o) {
      priced.push_back(TreeWide(cls.options[o].cost) << kPriceBits);
      for (size_t r = 0; r < prices.size(); ++r)
        priced.back() += TreeWide(prices[r]) * model.rows()[r].weight[k][o];
    }
    const TreeWide least = *std::min_element(priced.begin(), priced.end());
    std::vector<int64_t> weights;
    for (size_t o = 0; o < priced.size(); ++o)
      if (priced[o] - least <= gap) weights.push_back(of.weight[k][o]);
    std::sort(weights.begin(), weights.end());
    room -= TreeWide(weights[0]) * cls.count;
    all += TreeWide(weights.back() - weights[0]) * cls.count;
    parts.emplace_back();
    for (const int64_t weight : weights) {
      if (weight == weights[0]) continue;
      parts.back().push_back(weight - weights[0]);
      unit = std::gcd(unit, weight - weights[0]);
    }
  }
  if (unit == 0) unit = 1;
  if (all / unit > kMostSums / 2) return false;
  Sums sums(int64_t(all / unit));
  for (size_t k = 0; k < parts.size(); ++k) {
    for (int32_t n = 0; n < (parts[k].empty() ? 0 : model.classes()[k].count); ++n) {
      const Sums before = sums;
      for (const int64_t part : parts[k]) sums.add_from(before, part / unit);
    }
  }
  const TreeWide near = gap / prices[row];
  const int64_t sum = room < 0 ? -1 : sums.below(int64_t(std::min(room, all) / unit));
  return sum < 0 || TreeWide(sum) * unit < room - near;
}

}  // namespace rc
