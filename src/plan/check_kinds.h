// src/plan/check_kinds.h: for the proof of check_shared.cc: what tensors may do, and what sets of
// them cost at least.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <vector>

namespace rc {

using ProofWide = __int128;
inline constexpr ProofWide kProofFar = ProofWide(1) << 120;

struct ProofWay {
  int64_t weight = 0, cost = 0;
  bool operator<(const ProofWay& o) const {
    return std::tie(weight, cost) < std::tie(o.weight, o.cost);
  }
};
// Tensors of one kind: what each may do, the kept one first (where it may be kept).
struct ProofKind {
  std::vector<ProofWay> ways;
  int64_t link = 0;      // that a kept one may take instead; 0: none
  int64_t rows = 1;      // of one that may be cut between device and host
  int64_t cut_rows = 0;  // of one that may be cut between keep and ways[replay]
  size_t replay = 0;
  bool late = false;

  // One of which so many rows are kept.
  ProofWay part(int64_t kept) const {
    const ProofWay &keep = ways[0], &other = ways[replay];
    const int64_t rest = cut_rows - kept;
    const auto share = [&](int64_t cost, int64_t part) {
      return int64_t((ProofWide(cost) * part + cut_rows - 1) / cut_rows);
    };
    return {keep.weight / cut_rows * kept + other.weight / cut_rows * rest,
            share(keep.cost, kept) + share(other.cost, rest)};
  }
  bool operator<(const ProofKind& o) const {
    return std::tie(late, ways, link, rows, cut_rows, replay) <
           std::tie(o.late, o.ways, o.link, o.rows, o.cut_rows, o.replay);
  }
};

// One tensor of a kind (none: past the last), of which so many rows are kept.
struct ProofParts {
  size_t kind = 0;
  int64_t first = 0, last = 0;
};

struct ProofPoint {
  int64_t weight;
  ProofWide cost;
};

// What weighs less than the floor weighs as much.
inline void raise(std::vector<ProofPoint>& front, int64_t floor) {
  std::vector<ProofPoint> out;
  for (const ProofPoint& point : front) {
    if (point.weight <= floor) out.clear();
    out.push_back({std::max(point.weight, floor), point.cost});
  }
  front.swap(out);
}

// Least costs of the kinds from one on, by weight.
struct ProofFront {
  std::vector<ProofPoint> points;
  std::vector<ProofWide> tree;  // minima of cost + slope * weight over halves, quarters, ...

  void plant(ProofWide slope) {
    const size_t n = points.size();
    tree.assign(2 * n, 0);
    for (size_t i = 0; i < n; ++i) tree[n + i] = points[i].cost + slope * points[i].weight;
    for (size_t i = n; i-- > 1;) tree[i] = std::min(tree[2 * i], tree[2 * i + 1]);
  }
  size_t within(int64_t weight) const {
    return size_t(std::upper_bound(points.begin(), points.end(), weight,
                                   [](int64_t w, const ProofPoint& p) { return w < p.weight; }) -
                  points.begin());
  }
  // Beyond `free` at least `jump` is paid for.
  ProofWide least(int64_t free, int64_t jump, int64_t room, ProofWide slope) const {
    const size_t none = within(free), first = within(std::min(room, free + jump));
    const size_t last = within(room), n = points.size();
    ProofWide best = none > 0 ? points[none - 1].cost : kProofFar;
    if (first > none) best = std::min(best, points[first - 1].cost + slope * jump);
    for (size_t l = first + n, r = last + n; l < r; l /= 2, r /= 2) {
      if (l % 2 == 1) best = std::min(best, tree[l++] - slope * free);
      if (r % 2 == 1) best = std::min(best, tree[--r] - slope * free);
    }
    return best;
  }
};

}  // namespace rc
