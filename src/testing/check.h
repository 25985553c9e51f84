// src/testing/check.h: what a fuzz target does when the library breaks its contract: say it and
// stop.
#pragma once

#include <cstdio>
#include <cstdlib>

#define RC_CHECK(condition, ...)                                           \
  do {                                                                     \
    if (!(condition)) {                                                    \
      std::fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
      std::fprintf(stderr, __VA_ARGS__);                                   \
      std::fputc('\n', stderr);                                            \
      std::abort();                                                        \
    }                                                                      \
  } while (0)
