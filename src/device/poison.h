// src/device/poison.h: marks memory as (in)accessible for AddressSanitizer and valgrind; nothing
// without them.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#define RC_POISON_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define RC_POISON_ASAN 1
#endif
#endif
#if defined(RC_POISON_ASAN)
#include <sanitizer/asan_interface.h>
#endif
// Set by CMake where the header was found; the requests are a few instructions outside valgrind.
#if defined(RC_WITH_VALGRIND)
#include <valgrind/memcheck.h>
#endif

namespace rc {

inline void poison_range([[maybe_unused]] void* pointer, [[maybe_unused]] size_t bytes) {
#if defined(RC_POISON_ASAN)
  __asan_poison_memory_region(pointer, bytes);
#endif
#if defined(RC_WITH_VALGRIND)
  (void)VALGRIND_MAKE_MEM_NOACCESS(pointer, bytes);
#endif
}

// The content counts as undefined afterwards.
inline void unpoison_range([[maybe_unused]] void* pointer, [[maybe_unused]] size_t bytes) {
#if defined(RC_POISON_ASAN)
  __asan_unpoison_memory_region(pointer, bytes);
#endif
#if defined(RC_WITH_VALGRIND)
  (void)VALGRIND_MAKE_MEM_UNDEFINED(pointer, bytes);
#endif
}

// Before a range goes back to the system: the address may next belong to somebody else.
inline void forget_range([[maybe_unused]] void* pointer, [[maybe_unused]] size_t bytes) {
#if defined(RC_POISON_ASAN)
  __asan_unpoison_memory_region(pointer, bytes);
#endif
}

}  // namespace rc
