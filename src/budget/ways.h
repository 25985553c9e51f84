// src/budget/ways.h: what a profiled step says can be done with each layer, and what that frees and
// costs.
//
// The regions of a step fall into groups: the layers, and what stands beside them (an embedding, a
// head). A way treats one group, or a unit of several layers: nothing, any set of kinds or slots
// made again, or the layer as a whole. Each is measured by a forecast in which all else is kept, so
// that what is nested, linked or shared in it is counted as it happens. Groups that are alike share
// the figures of one of them.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "src/budget/row_path.h"
#include "src/policy/policy_spec.h"
#include "src/region/predict.h"
#include "src/region/profile.h"

namespace rc::budget {

using Clock = std::chrono::steady_clock;

// What was measured, and what policies are made from.
struct Measured {
  std::shared_ptr<const CallLog> log;
  std::shared_ptr<const Profile> profile;
  rc_flags flags = 0;  // of the context
  PolicySpec base;     // what the host says of itself: sizes and kinds, no recomputation
  Clock::time_point deadline;

  Status forecast_of(const PolicySpec& spec, ForecastDetail detail, Forecast* out) const;
  bool late() const { return Clock::now() > deadline; }
};

// The settings of a policy that do not say what is recomputed or stored.
PolicySpec base_of(const Policy* policy, const CallLog& log);

// Says to make `kind` again, or one slot of it. An empty list of them keeps everything.
struct Again {
  std::string kind, slot;
  bool operator==(const Again&) const = default;
};

// One way to treat a group, or as many layers as the unit has.
struct Way {
  std::vector<Again> again;
  bool whole_layer = false;
  uint32_t layers = 1;
  int64_t freed = 0;      // bytes of one microbatch
  int64_t transient = 0;  // see PathWay; of the group that was measured, at its place
  int64_t added = 0;      // transient beyond that of keeping everything
  int64_t cost = 0;       // nanoseconds of a step
};

struct Group {
  std::string name;  // "layer", or a kind beside the layers
  uint32_t layer = 0, chunk = 0;
  bool is_layer = false;
  bool has_whole = false;  // regions of kind `layer`
  uint64_t likeness = 0;
  std::vector<std::string> kinds;  // but for `layer`
  // Calls of its backward: the first microbatch's; with virtual chunks, the one of most bytes.
  size_t window_begin = 0, window_end = 0;
  int64_t held = 1;            // microbatches of it when the first backward of all begins
  int64_t base_transient = 0;  // where everything is kept
  std::vector<Way> ways;       // alone; the first keeps everything
  std::vector<Way> units;      // that begin here
};

struct Ways {
  std::vector<Group> groups;  // in forward order
  int64_t held = 1;           // microbatches when backward begins
  uint64_t keep_all_peak = 0;
  size_t first_replay = 0;  // call
  uint64_t forecasts = 0;
  bool complete = true;  // no way was left out for want of time
  bool chunked = false;  // several virtual chunks: rows() is the model, not path()
  RowPath row_frame;     // where chunked: rows() without its ways

  LayerPath path() const;
  RowPath rows() const;
  const Way& way_of(const PathStep& step) const;
};

Status find_ways(const Measured& measured, Ways* out);
// The table that a path writes.
PolicySpec policy_of(const Measured& measured, const Ways& ways,
                     const std::vector<PathStep>& steps);

}  // namespace rc::budget
