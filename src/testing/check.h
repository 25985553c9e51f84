// src/testing/check.h: what a fuzz target does when the library breaks its contract: say it and
// stop.
#pragma once

#include <rcore/rcore.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#define RC_CHECK(condition, ...)                                           \
  do {                                                                     \
    if (!(condition)) {                                                    \
      std::fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
      std::fprintf(stderr, __VA_ARGS__);                                   \
      std::fputc('\n', stderr);                                            \
      std::abort();                                                        \
    }                                                                      \
  } while (0)

namespace rc::testing {

inline std::string last_error() {
  rc_error_info error = rc_error_info_init();
  return rc_error_last(&error) == RC_OK
             ? std::string(error.call) + ": " + error.field + ": " + error.message
             : "";
}

}  // namespace rc::testing
