// src/region/predict.cc: rc_predict.
#include "src/region/predict.h"

#include "src/region/call_log.h"
#include "src/region/context.h"

namespace rc {

Status predict(Locked& lock, std::shared_ptr<const Policy> policy, rc_prediction* out) {
  (void)policy;
  (void)out;
  if (!lock.context()->call_log) return Status(RC_E_STATE, "context", "no step was logged with RC_STEP_LOG");
  return ok_status();
}

}  // namespace rc
