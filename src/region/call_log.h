// src/region/call_log.h: the host's calls of one step, as data, for rc_predict.
//
// Regions are logical here: what a replay begins anew is the same region as the one forward began.
// Calls made inside a replay are not logged; they are the calls between the begin and the end of
// the region it replays.
#pragma once

#include <unordered_map>
#include <vector>

#include "src/region/region.h"

namespace rc {

class CallLog {
 public:
  enum Op : uint8_t {
    kBegin,
    kSlotAdd,
    kSaveTensor,
    kSaveCopy,
    kSaveLink,
    kAlloc,
    kOutput,
    kDecide,
    kEnd,
    kDiscard,
    kReplay,
    kDone,
    kCancel,
    kRelease
  };
  static constexpr uint32_t kNone = UINT32_MAX;

  struct Call {
    Op op;
    rc_output_mode mode = RC_OUTPUT_KEEP;
    uint32_t region = kNone;
    uint32_t slot = 0;
    uint32_t source = kNone, source_slot = 0;
    uint64_t bytes = 0;
  };
  struct LoggedModule {
    std::string kind, name;
    uint32_t layer = 0;
    bool host_slots = false;  // has drop and refill
    std::vector<SlotDef> slots;
  };
  struct LoggedRegion {
    uint32_t module = 0, parent = kNone;
    uint32_t chunk = 0, microbatch = 0, occurrence = 0;
    rc_flags flags = 0;
    size_t begin = 0, end = SIZE_MAX;  // positions of its begin and end
    std::vector<SlotDef> added;
    uint32_t instances = 0;  // live ones that are not transient; replay may begin another
  };

  explicit CallLog(uint64_t step) : step_(step) {}
  uint64_t step() const { return step_; }

  void begin(const Region* r, rc_flags flags);
  void add(const Region* r,
           Call call);  // ignored for regions of other steps, and for forward calls inside a replay
  void link(const Region* r, uint32_t slot, const Region* source, uint32_t source_slot,
            uint64_t bytes);

  const std::vector<Call>& calls() const { return calls_; }
  const std::vector<LoggedRegion>& regions() const { return regions_; }
  const std::vector<LoggedModule>& modules() const { return modules_; }
  uint32_t find(const Region* r) const;  // kNone: begun before the log
  // True if `region` is `ancestor` or nested in it.
  bool within(uint32_t region, uint32_t ancestor) const;

 private:
  const uint64_t step_;
  std::vector<Call> calls_;
  std::vector<LoggedRegion> regions_;
  std::vector<LoggedModule> modules_;
  std::unordered_map<uint64_t, uint32_t> module_index_;
  std::unordered_map<BlockKey, uint32_t, BlockKeyHash> region_index_;
};

// While one lives, this thread's calls are those of a trial: they are no part of the step.
class LogPause {
 public:
  LogPause();
  ~LogPause();
  static bool on();
};

// NULL unless the region's step is being logged.
CallLog* log_of(const Region* r);

}  // namespace rc
