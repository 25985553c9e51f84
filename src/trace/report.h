// src/trace/report.h: what the core did, in numbers and per site.
#pragma once

#include <string>

#include "include/rcore/rcore.h"

namespace rc {

class Context;

// Both need the context's lock.
void read_stats(const Context& context, rc_stats* out);
std::string report_json(const Context& context);

}  // namespace rc
