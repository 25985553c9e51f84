// src/plan/lp_export.h: a stage as an integer program in LP format, for solvers of others in tests.
//
// Rows are divided by what their coefficients have in common and end half a unit above what is
// allowed: no sum of integers lies between, so that a solver's tolerance decides nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "src/plan/problem.h"

namespace rc {

// Binary variables x<chunk>_<layer>_<item>_<choice>, whole tensors only, every row of every state.
class LpExport {
 public:
  explicit LpExport(const PlanStage& stage) : stage_(stage) {}

  std::string text() {
    std::string objective, once, binaries;
    Row link;
    each([&](size_t c, size_t l, size_t i, size_t o, const PlanChoice& choice) {
      const std::string x = name(c, l, i, o);
      if (choice.cost != 0) objective += " + " + std::to_string(choice.cost) + " " + x;
      if (choice.link_bytes != 0) link.push_back({choice.link_bytes, x});
      if (choice.link_bytes != 0 && !may_move(c, l, choice)) once += " " + x + " = 0\n";
      binaries += " " + x + "\n";
    });
    std::string text =
        "Minimize\n cost: " + (objective.empty() ? "0 " + name(0, 0, 0, 0) : objective);
    text += "\nSubject To\n" + once + one_each();
    text += at_most(link, stage_.link_bytes);
    for (size_t s = 0; s < stage_.states.size(); ++s) text += rows(s);
    return text + "Binary\n" + binaries + "End\n";
  }

 private:
  using Row = std::vector<std::pair<int64_t, std::string>>;

  static std::string at_most(const Row& row, int64_t limit) {
    int64_t unit = 0;
    for (const auto& [bytes, x] : row) unit = std::gcd(unit, bytes);
    if (unit == 0) return "";
    std::string text;
    for (const auto& [bytes, x] : row)
      text += " + " + std::to_string(bytes / unit) + " " + x + "\n";
    const int64_t most = limit / unit - (limit % unit < 0);
    return text + " <= " + std::to_string(double(most) + 0.5) + "\n";
  }
  static std::string name(size_t c, size_t l, size_t i, size_t o) {
    return "x" + std::to_string(c) + "_" + std::to_string(l) + "_" + std::to_string(i) + "_" +
           std::to_string(o);
  }
  template <typename Visit>
  void each(Visit visit) const {
    for (size_t c = 0; c < stage_.chunks.size(); ++c) {
      for (size_t l = 0; l < stage_.chunks[c].layers.size(); ++l) {
        const auto& items = stage_.classes[size_t(stage_.chunks[c].layers[l])].items;
        for (size_t i = 0; i < items.size(); ++i) {
          for (size_t o = 0; o < items[i].choices.size(); ++o) {
            visit(c, l, i, o, items[i].choices[o]);
          }
        }
      }
    }
  }
  bool may_move(size_t c, size_t l, const PlanChoice& choice) const {
    const size_t layers = stage_.chunks[c].layers.size();
    return choice.link_bytes >= stage_.min_offload_bytes &&
           (c + 1 < stage_.chunks.size() || l + size_t(stage_.tail_margin) < layers);
  }
  std::string one_each() const {
    std::string text;
    each([&](size_t c, size_t l, size_t i, size_t o, const PlanChoice&) {
      const auto& item = stage_.classes[size_t(stage_.chunks[c].layers[l])].items[i];
      text += " + " + name(c, l, i, o);
      if (o + 1 == item.choices.size()) text += " = 1\n";
    });
    return text;
  }
  // One row per layer and moment of the chunk in backward.
  std::string rows(size_t s) const {
    const PlanState& state = stage_.states[s];
    const std::vector<int32_t>& own = stage_.chunks[size_t(state.chunk)].layers;
    std::string text;
    for (size_t at = 0; at < own.size(); ++at) {
      const PlanLayerClass& k = stage_.classes[size_t(own[at])];
      for (size_t m = 0; m < k.moments.size(); ++m) {
        Row row;
        each([&](size_t c, size_t l, size_t i, size_t o, const PlanChoice& choice) {
          const bool mine = c == size_t(state.chunk);
          int64_t bytes = choice.kept_bytes * (state.held[c] - (mine && l > at ? 1 : 0));
          const int32_t moment = stage_.classes[size_t(stage_.chunks[c].layers[l])].items[i].moment;
          if (mine && l == at && (moment < 0 || size_t(moment) == m))
            bytes += choice.transient_bytes;
          if (bytes != 0) row.push_back({bytes, name(c, l, i, o)});
        });
        text += at_most(row, stage_.budget - stage_.fixed_bytes - k.moments[m]);
      }
    }
    return text;
  }

  const PlanStage& stage_;
};

}  // namespace rc
