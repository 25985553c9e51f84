// src/plan/check_tree.cc: the proof of a lower bound by branches; see check.h.
//
// Rebuilds from the stage alone what the certificate only names: classes of tensors that take the
// same of the plain rows, and each rounded row from those before it. Then walks the tree, whose two
// branches leave no count out, and evaluates at each end the Lagrangian of its box at the prices
// given: no plan of the box costs less, whatever the prices.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <numeric>
#include <tuple>
#include <utility>
#include <vector>

#include "src/plan/check.h"

namespace rc {
namespace {

using Wide = __int128;
constexpr int kPriceBits = 40;  // of PlanBoundNode::price
// Of weights and capacities; a price times one of them; and members in all.
constexpr Wide kLargest = Wide(1) << 58, kSmallest = Wide(1) << 30;
constexpr double kTooLarge = 0x1p100;
constexpr int64_t kMostMembers = 1 << 16;
constexpr size_t kMostRows = 64;
constexpr int64_t kMostSums = 4'000'000;

struct Way {
  int64_t cost = 0;
  std::vector<int64_t> use;  // [plain row]
  bool operator<(const Way& o) const { return std::tie(cost, use) < std::tie(o.cost, o.use); }
  bool operator==(const Way& o) const { return cost == o.cost && use == o.use; }
  bool beats(const Way& o) const {
    if (cost > o.cost) return false;
    for (size_t r = 0; r < use.size(); ++r)
      if (use[r] > o.use[r]) return false;
    return true;
  }
};
struct Alike {
  std::vector<Way> ways;  // none beaten by another, cheapest first
  int64_t count = 0;
};
struct Row {
  Wide capacity = 0;
  std::vector<std::vector<Wide>> weight;  // [class][way]
};

Wide floor_of(Wide a, Wide d) {
  return a / d - (a % d < 0 ? 1 : 0);
}

class TreeProof {
 public:
  TreeProof(const PlanStage& stage, const PlanCertificate& certificate)
      : stage_(stage), given_(certificate.proof), tree_(certificate.tree) {}

  bool run(int64_t claim, std::string* finding) {
    const bool good = prepare() && set_claim(claim) && walk(0) && next_ == tree_.size();
    if (!good) *finding = finding_.empty() ? "the branches prove less" : finding_;
    return good;
  }

 private:
  bool fail(const char* what) {
    finding_ = what;
    return false;
  }
  const PlanLayerClass& layer_class(size_t c, size_t l) const {
    return stage_.classes[size_t(stage_.chunks[c].layers[l])];
  }
  bool may_move(size_t c, size_t l, const PlanChoice& choice) const {
    const int64_t layers = int64_t(stage_.chunks[c].layers.size());
    const bool tail = c + 1 == stage_.chunks.size() && int64_t(l) >= layers - stage_.tail_margin;
    return !tail && choice.link_bytes >= stage_.min_offload_bytes;
  }

  bool prepare() {
    if (given_.size() > kMostRows) return fail("the proof has too many rows");
    while (plain_ < given_.size() && given_[plain_].kind != PlanBoundRow::kRounded) ++plain_;
    for (size_t r = 0; r < plain_; ++r)
      if (!is_plain_row(given_[r])) return fail("the proof has a row that is none");
    if (!add_classes()) return fail("plans with parts of tensors are not proven by branches");
    for (size_t r = 0; r < given_.size(); ++r) {
      rows_.emplace_back();
      if (r < plain_ ? !add_plain(r) : !add_rounded(given_[r]))
        return fail("the proof has a row that does not follow");
    }
    for (const Alike& alike : classes_) {
      low_.emplace_back(alike.ways.size(), 0);
      high_.emplace_back(alike.ways.size(), alike.count);
    }
    return true;
  }

  bool is_plain_row(const PlanBoundRow& row) const {
    if (row.state < 0 || size_t(row.state) >= stage_.states.size()) return false;
    if (row.kind == PlanBoundRow::kLink) return true;
    if (row.kind == PlanBoundRow::kHost) return stage_.host_bytes >= 0;
    if (row.kind != PlanBoundRow::kMemory) return false;
    const PlanChunk& chunk = stage_.chunks[size_t(stage_.states[size_t(row.state)].chunk)];
    if (row.layer < 0 || size_t(row.layer) >= chunk.layers.size()) return false;
    const PlanLayerClass& own = stage_.classes[size_t(chunk.layers[size_t(row.layer)])];
    return row.moment >= 0 && size_t(row.moment) < own.moments.size();
  }

  int64_t use(const PlanBoundRow& row, size_t c, size_t l, const PlanItem& item,
              const PlanChoice& choice) const {
    if (row.kind == PlanBoundRow::kLink) return choice.link_bytes;
    const PlanState& state = stage_.states[size_t(row.state)];
    if (row.kind == PlanBoundRow::kHost) return choice.link_bytes * state.held[c];
    const bool own = size_t(state.chunk) == c;
    const int64_t times = state.held[c] - (own && l > size_t(row.layer) ? 1 : 0);
    const bool now =
        own && l == size_t(row.layer) && (item.moment < 0 || item.moment == row.moment);
    return times * choice.kept_bytes + (now ? choice.transient_bytes : 0);
  }

  Way way_of(size_t c, size_t l, const PlanItem& item, const PlanChoice& choice) const {
    Way way{choice.cost, {}};
    for (size_t r = 0; r < plain_; ++r) way.use.push_back(use(given_[r], c, l, item, choice));
    return way;
  }

  bool add_classes() {
    std::map<std::vector<Way>, size_t> known;
    int64_t members = 0;
    for (size_t c = 0; c < stage_.chunks.size(); ++c) {
      class_at_.emplace_back();
      for (size_t l = 0; l < stage_.chunks[c].layers.size(); ++l) {
        class_at_.back().emplace_back();
        for (const PlanItem& item : layer_class(c, l).items) {
          if (item.rows > 1 && (item.cut_offload || item.cut_recompute)) return false;
          std::vector<Way> ways = ways_of(c, l, item);
          if (ways.empty() || ++members > kMostMembers) return false;
          const size_t at = known.emplace(ways, classes_.size()).first->second;
          if (at == classes_.size()) classes_.push_back({std::move(ways), 0});
          ++classes_[at].count;
          class_at_.back().back().push_back(at);
        }
      }
    }
    return true;
  }

  // A plan with a way that another one beats is no cheaper than one without.
  std::vector<Way> ways_of(size_t c, size_t l, const PlanItem& item) const {
    std::vector<Way> all, kept;
    for (const PlanChoice& choice : item.choices)
      if (choice.link_bytes == 0 || may_move(c, l, choice))
        all.push_back(way_of(c, l, item, choice));
    std::sort(all.begin(), all.end());
    all.erase(std::unique(all.begin(), all.end()), all.end());
    for (const Way& way : all) {
      const auto beats = [&](const Way& other) { return !(other == way) && other.beats(way); };
      if (std::none_of(all.begin(), all.end(), beats)) kept.push_back(way);
    }
    return kept;
  }

  // What no sum of ways reaches is no room.
  bool add_plain(size_t r) {
    const PlanBoundRow& given = given_[r];
    Row& row = rows_.back();
    if (given.kind == PlanBoundRow::kHost) {
      row.capacity = stage_.host_bytes;
    } else if (given.kind == PlanBoundRow::kLink) {
      int64_t link = stage_.link_bytes;
      if (stage_.host_bytes >= 0 && stage_.chunks.size() == 1)
        for (const PlanState& state : stage_.states)
          link = std::min(link, stage_.host_bytes / std::max(1, state.held[0]));
      row.capacity = link;
    } else {
      const PlanChunk& chunk = stage_.chunks[size_t(stage_.states[size_t(given.state)].chunk)];
      const PlanLayerClass& own = stage_.classes[size_t(chunk.layers[size_t(given.layer)])];
      row.capacity = Wide(stage_.budget) - stage_.fixed_bytes - own.moments[size_t(given.moment)];
    }
    int64_t all = 0;
    Wide first = 0;
    for (const Alike& alike : classes_) {
      first += Wide(alike.ways[0].use[r]) * alike.count;
      row.weight.emplace_back();
      for (const Way& way : alike.ways) {
        all = std::gcd(all, way.use[r] - alike.ways[0].use[r]);
        row.weight.back().push_back(way.use[r]);
      }
    }
    if (all > 1) row.capacity = first + floor_of(row.capacity - first, all) * all;
    return true;
  }

  bool find(const PlanBoundBase& at, size_t* cls, size_t* way) const {
    if (at.chunk < 0 || size_t(at.chunk) >= class_at_.size()) return false;
    const auto& layers = class_at_[size_t(at.chunk)];
    if (at.layer < 0 || size_t(at.layer) >= layers.size()) return false;
    const auto& items = layers[size_t(at.layer)];
    if (at.item < 0 || size_t(at.item) >= items.size()) return false;
    const PlanItem& item = layer_class(size_t(at.chunk), size_t(at.layer)).items[size_t(at.item)];
    if (at.choice < 0 || size_t(at.choice) >= item.choices.size()) return false;
    const Way named =
        way_of(size_t(at.chunk), size_t(at.layer), item, item.choices[size_t(at.choice)]);
    *cls = items[size_t(at.item)];
    const std::vector<Way>& ways = classes_[*cls].ways;
    *way = size_t(std::find(ways.begin(), ways.end(), named) - ways.begin());
    return *way < ways.size();
  }

  static bool small(Wide value) { return value < kLargest && value > -kLargest; }

  // Mixed-integer rounding of a sum of rows: of each class, one way is what the others leave.
  bool add_rounded(const PlanBoundRow& given) {
    Row sum;
    const size_t before = rows_.size() - 1;
    if (given.kind != PlanBoundRow::kRounded || given.factors.size() > before) return false;
    if (given.divisor < 1 || !small(given.divisor)) return false;
    for (size_t k = 0; k < classes_.size(); ++k)
      sum.weight.emplace_back(classes_[k].ways.size(), Wide(0));
    for (size_t r = 0; r < given.factors.size(); ++r) {
      const Wide factor = given.factors[r];
      if (factor < 0 || factor >= Wide(1) << 40) return false;
      sum.capacity += factor * rows_[r].capacity;
      for (size_t k = 0; k < classes_.size(); ++k)
        for (size_t w = 0; w < sum.weight[k].size(); ++w)
          sum.weight[k][w] += factor * rows_[r].weight[k][w];
    }
    std::vector<size_t> bases(classes_.size(), 0);
    for (const PlanBoundBase& base : given.bases) {
      size_t cls = 0, way = 0;
      if (!find(base, &cls, &way)) return false;
      bases[cls] = way;
    }
    for (size_t k = 0; k < classes_.size(); ++k) {
      const Wide base = sum.weight[k][bases[k]];
      if (!small(base)) return false;
      sum.capacity -= base * classes_[k].count;
      for (Wide& weight : sum.weight[k]) {
        weight -= base;
        if (!small(weight)) return false;
      }
    }
    return small(sum.capacity) && round(sum, given.divisor);
  }

  bool round(const Row& sum, Wide divisor) {
    Row& row = rows_.back();
    const Wide whole = floor_of(sum.capacity, divisor), rest = sum.capacity - whole * divisor;
    Wide most = 0;
    int64_t all = 0;
    for (const auto& weights : sum.weight) {
      row.weight.emplace_back();
      for (const Wide weight : weights) {
        const Wide parts = floor_of(weight, divisor), left = weight - parts * divisor;
        const Wide made = (divisor - rest) * parts + std::max<Wide>(0, left - rest);
        if (!small(made)) return false;
        row.weight.back().push_back(made);
        most = std::max(most, made < 0 ? -made : made);
        all = std::gcd(all, int64_t(made));
      }
    }
    if (most == 0) return false;
    Wide times = 1;
    while (most / all * times < kSmallest) times *= 2;
    row.capacity = floor_of((divisor - rest) * whole, all) * times;
    for (auto& weights : row.weight)
      for (Wide& weight : weights) weight = weight / all * times;
    return small(row.capacity);
  }

  // Costs are whole units: what is below the claim is a unit below.
  bool set_claim(int64_t claim) {
    int64_t unit = 0;
    for (const Alike& alike : classes_)
      for (const Way& way : alike.ways) unit = std::gcd(unit, way.cost);
    below_ = claim <= 0 ? -1 : unit > 1 ? (claim - 1) / unit * unit : claim - 1;
    return true;
  }

  bool walk(int depth) {
    if (next_ >= tree_.size()) return fail("the tree ends too soon");
    if (depth > 5000) return fail("the tree is too deep");
    const PlanBoundNode& node = tree_[next_++];
    if (node.at.chunk < 0 && node.filled >= 0) return depth == 0 && sums_excluded(node);
    if (node.at.chunk < 0) return excluded(node.price);
    size_t cls = 0, way = 0;
    if (!find(node.at, &cls, &way)) return fail("the tree names a choice that is none");
    const int64_t low = low_[cls][way], high = high_[cls][way];
    high_[cls][way] = std::min(high, node.most);
    if (!walk(depth + 1)) return false;
    high_[cls][way] = high;
    low_[cls][way] = std::max(low, node.most + 1);
    if (!walk(depth + 1)) return false;
    low_[cls][way] = low;
    return true;
  }

  // What all ways cost at least, priced, less what the rows are worth; false: numbers too large.
  bool priced_ways(const std::vector<int64_t>& prices, std::vector<std::vector<Wide>>* priced,
                   Wide* bound) const {
    if (prices.size() > rows_.size()) return false;
    *bound = 0;
    for (size_t r = 0; r < prices.size(); ++r) {
      if (prices[r] < 0) return false;
      if (double(prices[r]) * std::abs(double(rows_[r].capacity)) > kTooLarge) return false;
      *bound -= prices[r] * rows_[r].capacity;
    }
    for (size_t k = 0; k < classes_.size(); ++k) {
      priced->emplace_back();
      for (size_t w = 0; w < classes_[k].ways.size(); ++w) {
        Wide each = Wide(classes_[k].ways[w].cost) << kPriceBits;
        for (size_t r = 0; r < prices.size(); ++r) {
          if (double(prices[r]) * std::abs(double(rows_[r].weight[k][w])) > kTooLarge) return false;
          each += prices[r] * rows_[r].weight[k][w];
        }
        priced->back().push_back(each);
      }
      const Wide least = *std::min_element(priced->back().begin(), priced->back().end());
      *bound += least * classes_[k].count;
      for (Wide& each : priced->back()) each -= least;
    }
    return true;
  }

  // A plan below the claim leaves little of the row, at its price, and takes no way that is dearer
  // by more than that: none of the sums of the others is so near.
  bool sums_excluded(const PlanBoundNode& node) const {
    const size_t r = size_t(node.filled);
    std::vector<std::vector<Wide>> more;
    Wide bound = 0;
    if (r >= node.price.size() || !priced_ways(node.price, &more, &bound)) return false;
    const Wide gap = (Wide(below_) << kPriceBits) - bound;
    if (gap < 0) return true;
    if (node.price[r] <= 0) return false;
    std::vector<std::vector<int64_t>> parts(classes_.size());
    Wide least = 0, span = 0;
    int64_t unit = 0;
    for (size_t k = 0; k < classes_.size(); ++k) {
      const std::vector<Wide>& weight = rows_[r].weight[k];
      Wide low = kLargest, high = -kLargest;
      for (size_t w = 0; w < weight.size(); ++w)
        if (more[k][w] <= gap) low = std::min(low, weight[w]), high = std::max(high, weight[w]);
      if (!small(low) || !small(high)) return false;
      for (size_t w = 0; w < weight.size(); ++w) {
        if (more[k][w] > gap || weight[w] == low) continue;
        parts[k].push_back(int64_t(weight[w] - low));
        unit = std::gcd(unit, parts[k].back());
      }
      least += low * classes_[k].count;
      span += (high - low) * classes_[k].count;
    }
    if (unit == 0) unit = 1;
    if (span / unit > kMostSums) return false;
    // One bit for each sum.
    std::vector<uint64_t> sums(size_t(span / unit / 64 + 2), 0), next;
    sums[0] = 1;
    for (size_t k = 0; k < classes_.size(); ++k) {
      for (int64_t n = 0; n < (parts[k].empty() ? 0 : classes_[k].count); ++n) {
        next = sums;
        for (const int64_t part : parts[k]) {
          const size_t words = size_t(part / unit / 64), bits = size_t(part / unit % 64);
          for (size_t i = words; i < sums.size(); ++i) {
            next[i] |= sums[i - words] << bits;
            if (bits > 0 && i > words) next[i] |= sums[i - words - 1] >> (64 - bits);
          }
        }
        sums.swap(next);
      }
    }
    const Wide top = rows_[r].capacity - least, low = top - gap / node.price[r];
    for (size_t i = 0; i < sums.size(); ++i) {
      if (sums[i] == 0) continue;
      for (size_t b = 0; b < 64; ++b) {
        const Wide sum = (Wide(i) * 64 + b) * unit;
        if ((sums[i] >> b & 1) != 0 && sum >= low && sum <= top) return false;
      }
    }
    return true;
  }

  // No counts in the box cost less than the claim.
  bool excluded(const std::vector<int64_t>& prices) {
    if (prices.size() > rows_.size()) return false;
    Wide bound = 0;
    for (size_t r = 0; r < prices.size(); ++r) {
      if (prices[r] < 0) return false;
      if (double(prices[r]) * std::abs(double(rows_[r].capacity)) > kTooLarge) return false;
      bound -= prices[r] * rows_[r].capacity;
    }
    std::vector<std::pair<Wide, size_t>> priced;
    for (size_t k = 0; k < classes_.size(); ++k) {
      priced.clear();
      int64_t left = classes_[k].count;
      for (size_t w = 0; w < classes_[k].ways.size(); ++w) {
        Wide each = Wide(classes_[k].ways[w].cost) << kPriceBits;
        for (size_t r = 0; r < prices.size(); ++r) {
          if (double(prices[r]) * std::abs(double(rows_[r].weight[k][w])) > kTooLarge) return false;
          each += prices[r] * rows_[r].weight[k][w];
        }
        if (low_[k][w] > high_[k][w]) return true;
        bound += each * low_[k][w];
        left -= low_[k][w];
        priced.push_back({each, w});
      }
      if (left < 0) return true;
      std::sort(priced.begin(), priced.end());
      for (const auto& [each, w] : priced) {
        const int64_t more = std::min(left, high_[k][w] - low_[k][w]);
        bound += each * more;
        left -= more;
      }
      if (left > 0) return true;
    }
    return bound > Wide(below_) << kPriceBits;
  }

  const PlanStage& stage_;
  const std::vector<PlanBoundRow>& given_;
  const std::vector<PlanBoundNode>& tree_;
  size_t plain_ = 0;
  std::vector<Alike> classes_;
  std::vector<std::vector<std::vector<size_t>>> class_at_;  // [chunk][layer][item]
  std::vector<Row> rows_;
  std::vector<std::vector<int64_t>> low_, high_;  // [class][way]
  int64_t below_ = 0;
  size_t next_ = 0;
  std::string finding_;
};

}  // namespace

bool prove_bound_by_branches(const PlanStage& stage, const StagePlan& plan, int64_t claim,
                             std::string* finding) {
  return TreeProof(stage, plan.certificate).run(claim, finding);
}

}  // namespace rc
