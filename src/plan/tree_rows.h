// src/plan/tree_rows.h: classes of equal tensors, the rows that bind their counts, and rows made of
// those by rounding.
//
// For a row sum a x <= b of whole x >= 0, a divisor d and the remainder r of b,
//   sum ((d - r) floor(a / d) + max(0, (a mod d) - r)) x <= (d - r) floor(b / d)
// holds for the same x (mixed-integer rounding: G. Nemhauser, L. Wolsey, "A recursive procedure to
// generate all cuts for 0-1 mixed integer programs", 1990). One option of each class is what the
// others leave of its members, so a row has a form for every choice of these bases; with those that
// a program's solution has most members in, the rounded row cuts that solution off if any does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "src/plan/counts.h"

namespace rc {

struct TreeOption {
  int64_t cost = 0;
  std::vector<int64_t> use;  // [row of the problem]
};
// Tensors that take the same, of all groups that hold such: the cheapest option first.
struct TreeClass {
  int32_t count = 0;
  std::vector<TreeOption> options;
  std::vector<size_t> groups;               // of the problem
  std::vector<std::vector<size_t>> option;  // [group of these][option]: in the group
};
std::vector<TreeClass> classes_of(const CountProblem& problem);

struct TreeRow {
  int64_t capacity = 0;
  std::vector<std::vector<int64_t>> weight;  // [class][option]
  // Of a rounded one: what it was made of.
  std::vector<int64_t> factors;  // of the rows before it
  int64_t divisor = 0;
  std::vector<size_t> bases;  // [class]
};
TreeRow plain_row(const CountProblem& problem, const std::vector<TreeClass>& classes, size_t row);

// The sum of rows times factors; false: numbers grow too large.
bool add_rows(const std::vector<TreeRow>& rows, const std::vector<int64_t>& factors, TreeRow* sum);
// That sum in the form of these bases, rounded; divided by what its weights share and doubled until
// one of them is 2^30, so that a price in 2^-40 is fine enough. False: it binds nothing, or numbers
// grow too large.
bool round_row(const std::vector<TreeClass>& classes, const TreeRow& sum, int64_t divisor,
               const std::vector<size_t>& bases, TreeRow* rounded);

}  // namespace rc
