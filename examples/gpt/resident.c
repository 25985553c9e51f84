/* examples/gpt/resident.c: /proc/self/clear_refs and VmHWM (proc(5)); ru_maxrss inherits the
 * parent's peak. */
#include "resident.h"

#include <stdio.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

bool resident_reset_peak(void) {
#ifdef __GLIBC__
  malloc_trim(0); /* holes that the first step, before there was a plan, left in the heap */
#endif
  FILE* file = fopen("/proc/self/clear_refs", "w");
  if (!file) return false;
  const bool written = fputs("5", file) >= 0;
  return fclose(file) == 0 && written;
}

uint64_t resident_peak(void) {
  FILE* file = fopen("/proc/self/status", "r");
  if (!file) return 0;
  char line[256];
  unsigned long long kib = 0;
  while (fgets(line, sizeof line, file))
    if (sscanf(line, "VmHWM: %llu kB", &kib) == 1) break;
  fclose(file);
  return (uint64_t)kib * 1024;
}
