/* examples/gpt/result.c: one result as lines of text over a pipe. */
#include "result.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void result_write(FILE* out, const PolicyResult* r) {
  /* Hexadecimal floats lose no bit. */
  fprintf(out,
          "result %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64
          " %a %a %a %" PRIx64 " %" PRIx64 " %" PRIu64 " %a\n",
          r->predicted_peak_bytes, r->measured_peak_bytes, r->resident_bytes, r->arena_bytes,
          r->arena_bound, r->arena_misses, r->step_seconds, r->replays_per_step, r->final_loss,
          r->loss_digest, r->gradient_digest, r->budget_bytes, r->predicted_replay_seconds);
  fflush(out);
}

void event_write(FILE* out, const StoreEvent* e) {
  fprintf(
      out, "event %" PRIu32 " %" PRIu32 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %s|%s\n",
      e->layer, e->microbatch, e->bytes, e->live_bytes, e->begin_ns, e->end_ns, e->name, e->kind);
}

void progress_write(FILE* out, int done, int total, double seconds) {
  fprintf(out, "progress %d %d %a\n", done, total, seconds);
  fflush(out);
}

static int read_event(const char* line, PolicyResult* r) {
  StoreEvent e;
  memset(&e, 0, sizeof e);
  const int n = sscanf(line,
                       "event %" SCNu32 " %" SCNu32 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
                       " %23[^|]|%23[^\n]",
                       &e.layer, &e.microbatch, &e.bytes, &e.live_bytes, &e.begin_ns, &e.end_ns,
                       e.name, e.kind);
  if (n < 7) return 0;
  if ((r->n_events & (r->n_events - 1)) == 0) /* grows at powers of two */
    r->events = realloc(r->events, (r->n_events ? 2 * r->n_events : 1) * sizeof *r->events);
  r->events[r->n_events++] = e;
  return 1;
}

static int read_progress(const char* line, PolicyResult* r, int* done, int* total) {
  double seconds;
  if (sscanf(line, "progress %d %d %la", done, total, &seconds) != 3) return 0;
  if (seconds <= 0.0) return 1;
  r->seconds = realloc(r->seconds, ((size_t)r->n_seconds + 1) * sizeof *r->seconds);
  r->seconds[r->n_seconds++] = seconds;
  return 1;
}

int result_read_line(const char* line, PolicyResult* r, int* done, int* total) {
  if (strncmp(line, "event ", 6) == 0) return read_event(line, r);
  if (strncmp(line, "progress ", 9) == 0) return read_progress(line, r, done, total);
  if (strncmp(line, "result ", 7) != 0) return 0;
  r->ok = sscanf(line,
                 "result %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
                 " %la %la %la %" SCNx64 " %" SCNx64 " %" SCNu64 " %la",
                 &r->predicted_peak_bytes, &r->measured_peak_bytes, &r->resident_bytes,
                 &r->arena_bytes, &r->arena_bound, &r->arena_misses, &r->step_seconds,
                 &r->replays_per_step, &r->final_loss, &r->loss_digest, &r->gradient_digest,
                 &r->budget_bytes, &r->predicted_replay_seconds) == 13;
  return r->ok;
}
