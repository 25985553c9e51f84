// kernels/select.cc: the reasons behind the choices, with the figures they rest on.
#include "kernels/select.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdio>

namespace rc {

namespace {

std::atomic<int64_t> cache_for_test{0};

// The largest cache that Linux lists for a processor, in bytes; 0 where it lists none. glibc before
// 2.37 answers sysconf with the sum over an AMD socket: 320 MiB where the cores share 32 MiB.
int64_t listed_cache_bytes() {
  int64_t kib = 0;
  for (int index = 0;; ++index) {
    char text[64];
    std::snprintf(text, sizeof text, "/sys/devices/system/cpu/cpu0/cache/index%d/size", index);
    const int file = open(text, O_RDONLY | O_CLOEXEC);
    if (file < 0) return kib * 1024;
    const ssize_t n = read(file, text, sizeof text);
    close(file);
    int64_t size = 0;
    std::from_chars(text, text + std::max<ssize_t>(n, 0), size);  // "32768K"
    kib = std::max(kib, size);
  }
}

}  // namespace

void set_last_level_cache_for_test(int64_t bytes) {
  cache_for_test.store(bytes);
}

int64_t last_level_cache_bytes() {
  if (const int64_t forced = cache_for_test.load(std::memory_order_relaxed)) return forced;
  static const int64_t bytes = [] {
    if (const int64_t listed = listed_cache_bytes(); listed > 0) return listed;
#if defined(_SC_LEVEL3_CACHE_SIZE)
    const long l3 = sysconf(_SC_LEVEL3_CACHE_SIZE);
    if (l3 > 0) return static_cast<int64_t>(l3);
#endif
    return int64_t{32} << 20;
  }();
  return bytes;
}

StoreChoice select_store(int64_t output_bytes, int64_t row_bytes, int64_t cache_bytes) {
  // glibc's memcpy draws the line at 3/4 too, of what it takes for the cache.
  if (output_bytes < cache_bytes / 4 * 3) {
    return {StoreKind::cached,
            "the output fits the last-level cache, where its reader will find it"};
  }
  if (row_bytes < 2048) {
    return {StoreKind::cached, "rows are too short: each would end in a partly written line"};
  }
  return {StoreKind::streaming,
          "the output exceeds the cache; a streaming store saves reading its lines"};
}

StoreChoice select_store(int64_t output_bytes, int64_t row_bytes) {
  return select_store(output_bytes, row_bytes, last_level_cache_bytes());
}

GemmChoice select_gemm(bool asked, bool blas_built_in) {
  if (!asked) {
    return {GemmKind::own,
            "own kernel: its bits do not depend on a BLAS's process-wide thread count"};
  }
  if (!blas_built_in) return {GemmKind::own, "own kernel: this build has no BLAS"};
  return {GemmKind::blas, "BLAS, as asked, held to one thread while the panels run"};
}

}  // namespace rc
