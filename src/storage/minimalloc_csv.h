// src/storage/minimalloc_csv.h: packing problems in the CSV form of google/minimalloc.
//
// A header line names the columns, in any order: id, lower, upper, size, and optionally alignment
// (1 where absent), gaps (`a-b c-d`: times in [lower, upper) at which the buffer is not live), hint
// (ignored) and offset (a solution). Times and sizes are integers. A gap with a window (`a-b@c:d`)
// is refused: a buffer here is live or it is not.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/storage/packing.h"

namespace rc {

struct MinimallocInstance {
  std::string name;  // for messages: the path, or what the caller says
  PackingProblem problem;
  std::vector<std::string> ids;
  std::vector<uint64_t> offsets;  // of the column offset; empty where there is none
  // The text as read, for the writer: header and one row per buffer, without any offset column.
  std::string header;
  std::vector<std::string> rows;
};

// Both return an empty string, or one line: name, line number, column, value and what was expected.
std::string parse_minimalloc_csv(const std::string& text, const std::string& name,
                                 MinimallocInstance& instance);
std::string read_minimalloc_file(const std::string& path, MinimallocInstance& instance);

// The instance as it was read, with the column offset at the end. One offset per buffer.
std::string format_minimalloc_csv(const MinimallocInstance& instance,
                                  const std::vector<uint64_t>& offsets);

}  // namespace rc
