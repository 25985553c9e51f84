// src/region/step.h: the scope of one training step.
#pragma once

#include <cstdint>

#include "src/status.h"

namespace rc {

class Context;
class Locked;
struct Region;

struct Step {
  Context* context = nullptr;
  uint64_t serial = 0;  // never reused
  rc_phase phase = RC_PHASE_FORWARD;
  bool log = false;
  bool profile = false;
  uint64_t cap_bytes = 0;
  Region* regions = nullptr;  // live ones, newest first
  uint64_t regions_begun = 0, replays = 0;
  uint64_t allocations_before = 0;
};

Status step_begin(Locked& lock, const rc_step_desc& desc, Step** out);
Status step_end(Locked& lock, Step* step, rc_stream stream, rc_step_report* report);

}  // namespace rc
