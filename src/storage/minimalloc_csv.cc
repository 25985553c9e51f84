// src/storage/minimalloc_csv.cc: reader and writer of google/minimalloc's CSV form.
#include "src/storage/minimalloc_csv.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>
#include <string_view>

namespace rc {
namespace {

constexpr std::string_view kColumns[] = {"id",        "lower", "upper", "size",
                                         "alignment", "gaps",  "hint",  "offset"};
enum Column : size_t {
  kId,
  kLower,
  kUpper,
  kSize,
  kAlignment,
  kGaps,
  kHint,
  kOffset,
  kColumnCount
};
constexpr size_t kRequiredColumns = 4;
constexpr size_t kAbsent = size_t(-1);

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (size_t at = 0;;) {
    const size_t next = text.find(separator, at);
    parts.push_back(text.substr(at, next - at));
    if (next == std::string_view::npos) return parts;
    at = next + 1;
  }
}

template <typename Integer>
bool to_integer(std::string_view text, Integer& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

// One parse of one text; every method returns false once error_ is set.
class Reader {
 public:
  Reader(const std::string& name, MinimallocInstance& instance) : instance_(instance) {
    instance = MinimallocInstance();
    instance.name = name;
  }

  std::string read(std::string_view text) {
    for (std::string_view line : split(text, '\n')) {
      ++line_;
      if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
      if (line.empty()) continue;
      if (!(instance_.header.empty() ? read_header(line) : read_row(line))) return error_;
    }
    if (instance_.header.empty()) {
      fail("the header is missing, expected columns id,lower,upper,size");
      return error_;
    }
    const std::string defect = problem_defect(instance_.problem);
    if (!defect.empty()) return instance_.name + ": " + defect;
    return "";
  }

 private:
  bool fail(const std::string& what) {
    error_ = instance_.name + ":" + std::to_string(line_) + ": " + what;
    return false;
  }
  bool fail_value(Column column, std::string_view value, const std::string& expected) {
    return fail("column " + std::string(kColumns[column]) + " is '" + std::string(value) + "', " +
                expected);
  }

  bool read_header(std::string_view line) {
    std::fill(std::begin(field_of_), std::end(field_of_), kAbsent);
    const auto names = split(line, ',');
    field_count_ = names.size();
    for (size_t f = 0; f < names.size(); ++f) {
      const auto known = std::find(std::begin(kColumns), std::end(kColumns), names[f]);
      if (known == std::end(kColumns)) {
        return fail("unknown column '" + std::string(names[f]) +
                    "', known are id, lower, upper, size, alignment, gaps, hint, offset");
      }
      size_t& field = field_of_[known - std::begin(kColumns)];
      if (field != kAbsent) return fail("column " + std::string(names[f]) + " is there twice");
      field = f;
    }
    for (size_t c = 0; c < kRequiredColumns; ++c) {
      if (field_of_[c] == kAbsent) {
        return fail("column " + std::string(kColumns[c]) + " is missing");
      }
    }
    instance_.header = without_offset(names);
    return true;
  }

  std::string without_offset(const std::vector<std::string_view>& fields) const {
    std::string line;
    for (size_t f = 0; f < fields.size(); ++f) {
      if (f == field_of_[kOffset]) continue;
      if (!line.empty()) line += ',';
      line += fields[f];
    }
    return line;
  }

  template <typename Integer>
  bool read_number(const std::vector<std::string_view>& fields, Column column, Integer& value) {
    const std::string_view text = fields[field_of_[column]];
    if (to_integer(text, value)) return true;
    return fail_value(column, text,
                      std::is_signed_v<Integer> ? "expected an integer of 64 bits"
                                                : "expected a non-negative integer of 64 bits");
  }

  bool read_row(std::string_view line) {
    const auto fields = split(line, ',');
    if (fields.size() != field_count_) {
      return fail("there are " + std::to_string(fields.size()) + " fields, the header has " +
                  std::to_string(field_count_));
    }
    PackingBuffer buffer;
    buffer.alignment = 1;
    LiveInterval life;
    if (!read_number(fields, kLower, life.begin) || !read_number(fields, kUpper, life.end) ||
        !read_number(fields, kSize, buffer.size)) {
      return false;
    }
    if (life.begin > life.end) {
      return fail_value(kUpper, fields[field_of_[kUpper]],
                        "below the column lower, " + std::to_string(life.begin));
    }
    if (field_of_[kAlignment] != kAbsent) {
      if (!read_number(fields, kAlignment, buffer.alignment)) return false;
      if (buffer.alignment == 0) return fail_value(kAlignment, "0", "expected at least 1");
    }
    if (field_of_[kOffset] != kAbsent) {
      uint64_t offset = 0;
      if (!read_number(fields, kOffset, offset)) return false;
      instance_.offsets.push_back(offset);
    }
    const std::string_view gaps =
        field_of_[kGaps] == kAbsent ? std::string_view() : fields[field_of_[kGaps]];
    if (!read_gaps(gaps, life, buffer.live)) return false;
    instance_.problem.buffers.push_back(std::move(buffer));
    instance_.ids.emplace_back(fields[field_of_[kId]]);
    instance_.rows.push_back(without_offset(fields));
    return true;
  }

  // Cuts the gaps out of the life; they must lie inside it, in rising order.
  bool read_gaps(std::string_view text, LiveInterval life, std::vector<LiveInterval>& live) {
    for (const std::string_view gap : split(text, ' ')) {
      if (gap.empty()) continue;
      if (gap.find('@') != std::string_view::npos) {
        return fail_value(kGaps, gap, "a gap with a window is not supported");
      }
      const size_t dash = gap.find('-', 1);  // a leading minus belongs to the first number
      LiveInterval cut;
      if (dash == std::string_view::npos || !to_integer(gap.substr(0, dash), cut.begin) ||
          !to_integer(gap.substr(dash + 1), cut.end) || cut.begin > cut.end) {
        return fail_value(kGaps, gap, "expected begin-end");
      }
      if (cut.begin < life.begin || cut.end > life.end) {
        return fail_value(kGaps, gap,
                          "outside of " + std::to_string(life.begin) + "-" +
                              std::to_string(life.end) + " or not after the gap before it");
      }
      if (cut.begin > life.begin) live.push_back({life.begin, cut.begin});
      life.begin = cut.end;
    }
    if (life.begin < life.end) live.push_back(life);
    return true;
  }

  MinimallocInstance& instance_;
  std::string error_;
  size_t line_ = 0;
  size_t field_of_[kColumnCount] = {};
  size_t field_count_ = 0;
};

}  // namespace

std::string parse_minimalloc_csv(const std::string& text, const std::string& name,
                                 MinimallocInstance& instance) {
  return Reader(name, instance).read(text);
}

std::string read_minimalloc_file(const std::string& path, MinimallocInstance& instance) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf())) return path + ": cannot be read or is empty";
  return parse_minimalloc_csv(text.str(), path, instance);
}

std::string format_minimalloc_csv(const MinimallocInstance& instance,
                                  const std::vector<uint64_t>& offsets) {
  std::string text = instance.header + ",offset\n";
  for (size_t b = 0; b < instance.rows.size(); ++b) {
    text += instance.rows[b] + ',' + std::to_string(offsets[b]) + '\n';
  }
  return text;
}

}  // namespace rc
