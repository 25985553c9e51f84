// src/region/predict.h: what a logged step would hold under another policy.
#pragma once

#include <memory>

#include "src/policy/policy.h"

namespace rc {

class Locked;

// Runs the log of the last step begun with RC_STEP_LOG through the region machine on a device
// without memory.
Status predict(Locked& lock, std::shared_ptr<const Policy> policy, rc_prediction* out);

}  // namespace rc
