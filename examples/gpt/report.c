/* examples/gpt/report.c: prints the table, checks it, and reads and writes it as JSON. */
#include "report.h"

#include <inttypes.h>
#include <jansson.h>
#include <string.h>

static const double kMiB = 1024.0 * 1024.0;
/* A saving this large must show in what is measured; smaller ones drown in pages and pools. */
static const double kSavingToShow = 16.0 * 1024 * 1024;

static const double kArenaOverBound = 1.02;

static double saved(uint64_t none, uint64_t now) {
  return (double)none - (double)now;
}

static bool check_saving(const char* what, const PolicyResult* none, const PolicyResult* r,
                         double measured) {
  const double predicted = saved(none->predicted_peak_bytes, r->predicted_peak_bytes);
  if (predicted < kSavingToShow || measured >= 0.95 * predicted) return true;
  printf("%s: only %.3f of the predicted saving shows in %s\n", r->policy, measured / predicted,
         what);
  return false;
}

/* Every block of a settled step has its place, and the places waste next to nothing. */
static bool check_arena(const PolicyResult* r) {
  if (r->arena_bytes == 0 || r->arena_misses > 0) {
    printf("%s: the arena had no place for %" PRIu64 " blocks of a settled step\n", r->policy,
           r->arena_misses);
    return false;
  }
  if ((double)r->arena_bytes <= kArenaOverBound * (double)r->arena_bound) return true;
  printf("%s: the arena is %.4f times the bytes that live in it\n", r->policy,
         (double)r->arena_bytes / (double)r->arena_bound);
  return false;
}

static bool check(const Options* options, const PolicyResult* results) {
  const PolicyResult* none = &results[0];
  bool good = true, same = true;
  for (int i = 0; i < options->n_policies; i++) {
    const PolicyResult* r = &results[i];
    if (!r->ok || !none->ok) {
      good = false;
      continue;
    }
    if (r->loss_digest != none->loss_digest || r->gradient_digest != none->gradient_digest) {
      printf("%s: losses or gradients differ from those of none\n", r->policy);
      same = false;
    }
    good &= check_arena(r);
    good &= check_saving("the measured peak", none, r,
                         saved(none->measured_peak_bytes, r->measured_peak_bytes));
    if (r->resident_bytes)
      good &=
          check_saving("resident memory", none, r, saved(none->resident_bytes, r->resident_bytes));
  }
  if (same && good)
    printf("Losses and gradients of %d steps are bit-identical under every policy (%016" PRIx64
           ", %016" PRIx64 ").\n",
           options->steps, none->loss_digest, none->gradient_digest);
  return good && same;
}

bool report_print(const Options* options, const PolicyResult* results) {
  const Sizes* s = &options->sizes;
  printf(
      "%d layers, width %d, %d heads, sequences of %d, %d x %d a step, %s attention, dropout %g, "
      "%d threads\n\n",
      s->layers, s->width, s->heads, s->seq, s->microbatches, s->batch,
      s->fused ? "fused" : "plain", (double)s->dropout, options->threads);
  printf("%-24s %10s %10s %10s %10s %7s %8s %7s %8s %8s\n", "", "predicted", "measured", "freed",
         "resident", "arena/", "step", "", "replays", "final");
  printf("%-24s %10s %10s %10s %10s %7s %8s %7s %8s %8s\n", "policy", "peak MiB", "peak MiB", "MiB",
         "peak MiB", "bound", "ms", "ratio", "a step", "loss");
  for (int i = 0; i < options->n_policies; i++) {
    const PolicyResult* r = &results[i];
    if (!r->ok) {
      printf("%-24s failed\n", r->policy);
      continue;
    }
    char freed[32] = "nothing";
    const double bytes = saved(results[0].measured_peak_bytes, r->measured_peak_bytes);
    if (bytes != 0.0 && results[0].ok) snprintf(freed, sizeof freed, "%.2f", bytes / kMiB);
    printf("%-24s %10.2f %10.2f %10s %10.1f %7.4f %8.1f %7.3f %8.1f %8.4f\n", r->policy,
           (double)r->predicted_peak_bytes / kMiB, (double)r->measured_peak_bytes / kMiB,
           i == 0 ? "-" : freed, (double)r->resident_bytes / kMiB,
           (double)r->arena_bytes / (double)r->arena_bound, 1e3 * r->step_seconds, r->step_ratio,
           r->replays_per_step, r->final_loss);
  }
  putchar('\n');
  return check(options, results);
}

static json_t* digest_json(uint64_t digest) { /* a string: JSON numbers end at 2^53 */
  char text[17];
  snprintf(text, sizeof text, "%016" PRIx64, digest);
  return json_string(text);
}

bool report_write(const char* path, const Options* options, const PolicyResult* results) {
  const Sizes* s = &options->sizes;
  json_t* list = json_array();
  for (int i = 0; i < options->n_policies; i++) {
    const PolicyResult* r = &results[i];
    if (!r->ok) continue;
    json_array_append_new(
        list,
        json_pack("{s:s, s:I, s:f, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:o, s:o}",
                  "policy", r->policy, "budget_bytes", (json_int_t)r->budget_bytes,
                  "predicted_replay_seconds", r->predicted_replay_seconds, "predicted_peak_bytes",
                  (json_int_t)r->predicted_peak_bytes, "measured_peak_bytes",
                  (json_int_t)r->measured_peak_bytes, "resident_bytes",
                  (json_int_t)r->resident_bytes, "arena_bytes", (json_int_t)r->arena_bytes,
                  "arena_bound", (json_int_t)r->arena_bound, "arena_misses",
                  (json_int_t)r->arena_misses, "step_seconds", r->step_seconds, "step_ratio",
                  r->step_ratio, "replays_per_step", r->replays_per_step, "final_loss",
                  r->final_loss, "loss_digest", digest_json(r->loss_digest), "gradient_digest",
                  digest_json(r->gradient_digest)));
  }
  json_t* report =
      json_pack("{s:s, s:{s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:I}, s:i, s:i, s:o}", "attention",
                s->fused ? "fused" : "plain", "sizes", "layers", s->layers, "width", s->width,
                "heads", s->heads, "seq", s->seq, "batch", s->batch, "microbatches",
                s->microbatches, "dropout", (double)s->dropout, "seed", (json_int_t)s->seed,
                "steps", options->steps, "threads", options->threads, "policies", list);
  const bool written = report && json_dump_file(report, path, JSON_INDENT(2)) == 0;
  if (!written) fprintf(stderr, "gpt: --report: %s cannot be written\n", path);
  json_decref(report);
  return written;
}

OldReport* report_read(const char* path) {
  json_error_t error;
  json_t* report = json_load_file(path, 0, &error);
  if (!report) {
    fprintf(stderr, "gpt: --compare: %s: line %d, column %d: %s\n", path, error.line, error.column,
            error.text);
    return NULL;
  }
  if (!json_is_array(json_object_get(report, "policies"))) {
    fprintf(stderr, "gpt: --compare: %s: has no list `policies`\n", path);
    json_decref(report);
    return NULL;
  }
  return (OldReport*)report;
}

void report_free(OldReport* old) {
  json_decref((json_t*)old);
}

static const json_t* find_policy(const json_t* report, const char* name) {
  const json_t* list = json_object_get(report, "policies");
  for (size_t i = 0; i < json_array_size(list); i++) {
    const char* policy = json_string_value(json_object_get(json_array_get(list, i), "policy"));
    if (policy && strcmp(policy, name) == 0) return json_array_get(list, i);
  }
  return NULL;
}

int report_compare(const OldReport* old, const PolicyResult* results, int n) {
  int grown = 0;
  for (int i = 0; i < n; i++) {
    const PolicyResult* r = &results[i];
    const json_t* before = find_policy((const json_t*)old, r->policy);
    if (!before) {
      printf("compare: %s: not in the old report\n", r->policy);
      continue;
    }
    const struct {
      const char* name;
      double now;
    } kFields[] = {{"predicted_peak_bytes", (double)r->predicted_peak_bytes},
                   {"measured_peak_bytes", (double)r->measured_peak_bytes},
                   {"resident_bytes", (double)r->resident_bytes},
                   {"step_seconds", r->step_seconds},
                   {"step_ratio", r->step_ratio},
                   {"replays_per_step", r->replays_per_step}};
    for (size_t f = 0; f < sizeof kFields / sizeof kFields[0]; f++) {
      const json_t* value = json_object_get(before, kFields[f].name);
      if (!json_is_number(value) || kFields[f].now <= 1.05 * json_number_value(value)) continue;
      printf("compare: %s: %s grew from %g to %g\n", r->policy, kFields[f].name,
             json_number_value(value), kFields[f].now);
      grown++;
    }
  }
  if (!grown) printf("compare: nothing grew by more than 5 %%\n");
  return grown;
}
