/* examples/gpt/trace.c: writes the Chrome trace event format, which Perfetto and chrome://tracing
 * read. */
#include "trace.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void write_policy(FILE* out, const PolicyResult* r, int pid) {
  fprintf(out, ",\n{\"ph\":\"M\",\"pid\":%d,\"name\":\"process_name\",\"args\":{\"name\":\"%s\"}}",
          pid, r->policy);
  const uint64_t origin = r->n_events ? r->events[0].begin_ns : 0;
  for (size_t i = 0; i < r->n_events; i++) {
    const StoreEvent* e = &r->events[i];
    const double at = (double)(int64_t)(e->begin_ns - origin) / 1e3;
    const double length = (double)(e->end_ns - e->begin_ns) / 1e3;
    const bool span = strcmp(e->name, "replay") == 0;
    fprintf(out,
            ",\n{\"ph\":\"%s\",\"pid\":%d,\"tid\":%" PRIu32 ",\"ts\":%.3f,\"name\":\"%s %s %" PRIu32
            "\",\"cat\":\"%s\"",
            span ? "X" : "i", pid, e->microbatch, at, e->name, e->kind, e->layer, e->name);
    if (span)
      fprintf(out, ",\"dur\":%.3f", length);
    else
      fputs(",\"s\":\"t\"", out);
    fprintf(out, ",\"args\":{\"bytes\":%" PRIu64 "}}", e->bytes);
    fprintf(out,
            ",\n{\"ph\":\"C\",\"pid\":%d,\"ts\":%.3f,\"name\":\"live "
            "bytes\",\"args\":{\"bytes\":%" PRIu64 "}}",
            pid, at + length, e->live_bytes);
  }
}

bool trace_write(const char* path, const PolicyResult* results, int n) {
  FILE* out = fopen(path, "w");
  if (out) {
    fputs(
        "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n{\"ph\":\"M\",\"pid\":0,\"name\":\"process_"
        "name\",\"args\":"
        "{\"name\":\"gpt\"}}",
        out);
    for (int i = 0; i < n; i++) write_policy(out, &results[i], i + 1);
    fputs("\n]}\n", out);
  }
  const bool failed = !out || ferror(out);
  if ((out && fclose(out) != 0) || failed) {
    fprintf(stderr, "gpt: --trace: %s cannot be written\n", path);
    return false;
  }
  return true;
}
