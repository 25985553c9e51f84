// src/region/predict.h: what a logged step would hold under another policy.
#pragma once

#include <memory>
#include <vector>

#include "src/policy/policy.h"

namespace rc {

class CallLog;
class Locked;
class Profile;

// A logged step under a policy: what it holds and what its replays take.
struct Forecast {
  uint64_t peak_bytes = 0, replays = 0, dropped_bytes = 0, arena_bytes = 0;
  uint64_t replay_ns = 0;  // by the profile's measure; 0 without one
  // Per call of the log: bytes held when it was over, and the most that were held while it ran.
  std::vector<uint64_t> live, peak;
};

enum class ForecastDetail : uint8_t { kFigures, kArena, kCurve };

// Runs the log through the region machine on a device without memory. `flags` are the context's;
// kArena plans the arena too, kCurve fills live and peak. Needs no lock: a log is constant once its
// step is over.
Status forecast(const CallLog& log, const Profile* profile, rc_flags flags,
                std::shared_ptr<const Policy> policy, ForecastDetail detail, Forecast* out);

// The forecast of the last step begun with RC_STEP_LOG.
Status predict(Locked& lock, std::shared_ptr<const Policy> policy, rc_prediction* out);

}  // namespace rc
