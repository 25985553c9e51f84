// src/plan/row_pair.cc: see row_pair.h.
#include "src/plan/row_pair.h"

namespace rc {
namespace {

// Whether a group asks as much of both rows, but for a constant, or (late) just that of the inner.
std::optional<bool> is_late(const CountGroup& group, size_t outer, size_t inner) {
  const CountOption& one = group.options[0];
  bool early = true, late = true;
  for (const CountOption& option : group.options) {
    late = late && option.use[inner] == one.use[inner];
    early = early && option.use[outer] - option.use[inner] == one.use[outer] - one.use[inner];
  }
  if (group.shared_option >= 0) {
    late = late && group.relief[inner] == 0;
    early = early && group.relief[inner] == group.relief[outer];
  }
  if (early) return false;
  return late ? std::optional<bool>(true) : std::nullopt;
}

std::optional<RowPair> ordered(const CountProblem& problem, size_t outer, size_t inner) {
  RowPair rows{outer, inner, {}, problem.capacity[outer] - problem.capacity[inner]};
  for (const CountGroup& group : problem.groups) {
    const std::optional<bool> late = is_late(group, outer, inner);
    if (!late) return std::nullopt;
    rows.late.push_back(*late);
    const CountOption& one = group.options[0];
    const int64_t more = *late ? one.use[inner] : one.use[inner] - one.use[outer];
    rows.floor += more * int64_t(group.places.size());
  }
  return rows;
}

}  // namespace

bool is_movable(const CountGroup& group, size_t row) {
  return group.shared_option >= 0 && group.link_bytes > 0 && group.relief[row] > 0;
}

std::optional<RowPair> row_pair(const CountProblem& problem) {
  if (problem.rows.size() == 1)
    return RowPair{0, 0, std::vector<bool>(problem.groups.size(), false), 0};
  if (problem.rows.size() != 2) return std::nullopt;
  std::optional<RowPair> rows = ordered(problem, 0, 1);
  return rows ? rows : ordered(problem, 1, 0);
}

bool shares_one_link(const CountProblem& problem) {
  if (!problem.shared_link) return false;
  for (const PlanRow& row : problem.rows)
    if (row.kind != RowKind::kMemory) return false;
  const std::optional<RowPair> rows = row_pair(problem);
  if (!rows) return false;
  const size_t row = rows->outer;
  const CountGroup* first = nullptr;
  for (const CountGroup& group : problem.groups) {
    if (!is_movable(group, row)) continue;
    if (first == nullptr) first = &group;
    if (group.relief[row] % group.link_bytes != 0) return false;
    if (group.relief[row] / group.link_bytes != first->relief[row] / first->link_bytes)
      return false;
    if (group.options[size_t(group.shared_option)].use[row] < group.relief[row]) return false;
  }
  return true;
}

}  // namespace rc
