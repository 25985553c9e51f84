// src/region/call_log.h: the host's calls of one step, as data, for rc_predict.
#pragma once

namespace rc {

class CallLog {};

}  // namespace rc
