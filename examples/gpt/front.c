/* examples/gpt/front.c: checks and draws budgets beside hand-written policies. */
#include "front.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const double kMiB = 1024.0 * 1024.0;
static const double kPredictionWithin = 0.02;

static bool is_budget(const PolicyResult* r) {
  return strncmp(r->policy, "budget", 6) == 0;
}

/* The fastest hand-written policy that holds no more than `bytes`; NULL if none fits. */
static const PolicyResult* best_hand(const PolicyResult* results, int n, uint64_t bytes) {
  const PolicyResult* best = NULL;
  for (int i = 0; i < n; i++) {
    const PolicyResult* r = &results[i];
    if (!r->ok || is_budget(r) || r->measured_peak_bytes > bytes) continue;
    if (!best || r->step_ratio < best->step_ratio) best = r;
  }
  return best;
}

/* Nothing else holds less and is faster, or as good in one and better in the other. */
static bool on_front(const PolicyResult* results, int n, const PolicyResult* r) {
  for (int i = 0; i < n; i++) {
    const PolicyResult* other = &results[i];
    if (!other->ok || other == r || other->measured_peak_bytes > r->measured_peak_bytes ||
        other->step_ratio > r->step_ratio)
      continue;
    if (other->measured_peak_bytes < r->measured_peak_bytes || other->step_ratio < r->step_ratio)
      return false;
  }
  return r->ok;
}

static bool check(const PolicyResult* r) {
  bool good = true;
  if (r->measured_peak_bytes > r->budget_bytes) {
    printf("%s: %" PRIu64 " bytes were held, the budget is %" PRIu64 "\n", r->policy,
           r->measured_peak_bytes, r->budget_bytes);
    good = false;
  }
  const double off = (double)r->measured_peak_bytes / (double)r->predicted_peak_bytes - 1.0;
  if (fabs(off) > kPredictionWithin) {
    printf("%s: %.2f %% lie between prediction and measure\n", r->policy, 100.0 * off);
    good = false;
  }
  return good;
}

static bool print_budget(const PolicyResult* results, int n, const PolicyResult* r) {
  if (!r->ok) {
    printf("%-24s no plan\n", r->policy);
    return false;
  }
  const PolicyResult* hand = best_hand(results, n, r->budget_bytes);
  printf("%-24s %10.2f %10.2f %10.2f %8.3f %9.1f %9.1f %8.1f   %s", r->policy,
         (double)r->budget_bytes / kMiB, (double)r->predicted_peak_bytes / kMiB,
         (double)r->measured_peak_bytes / kMiB, r->step_ratio, 1e3 * r->step_seconds,
         1e3 * r->predicted_replay_seconds, r->replays_per_step, hand ? hand->policy : "none fits");
  if (hand) printf(" (%.3f)", hand->step_ratio);
  putchar('\n');
  return check(r);
}

/* How far apart two processes of one policy are: a budget that keeps everything is `none`. 0 where
 * there is no such pair. */
static double noise(const PolicyResult* results, int n) {
  for (int i = 1; i < n; i++)
    if (results[i].ok && is_budget(&results[i]) && results[i].replays_per_step == 0.0)
      return fabs(results[i].step_ratio - 1.0);
  return 0.0;
}

/* Times are noisy: they are told, not judged. */
static void print_times(const PolicyResult* results, int n) {
  int budgets = 0, faster = 0, within = 0;
  const double off = noise(results, n);
  for (int i = 0; i < n; i++) {
    const PolicyResult* r = &results[i];
    if (!r->ok || !is_budget(r)) continue;
    const PolicyResult* hand = best_hand(results, n, r->budget_bytes);
    budgets++;
    faster += !hand || r->step_ratio <= hand->step_ratio;
    within += !hand || r->step_ratio <= hand->step_ratio * (1.0 + off);
  }
  printf("At %d of %d budgets the step is no slower than under every hand-written policy that fits",
         faster, budgets);
  if (off > 0.0)
    printf("; at %d, within the %.1f %% by which two processes that keep everything differ", within,
           100.0 * off);
  printf(".\n");
}

bool front_print(const PolicyResult* results, int n) {
  int budgets = 0;
  for (int i = 0; i < n; i++) budgets += is_budget(&results[i]);
  if (budgets == 0) return true;
  printf("\n%-24s %10s %10s %10s %8s %9s %9s %8s   %s\n", "", "budget", "predicted", "measured",
         "step", "step", "predicted", "replays", "fastest hand-written");
  printf("%-24s %10s %10s %10s %8s %9s %9s %8s   %s\n", "budget", "MiB", "peak MiB", "peak MiB",
         "ratio", "ms", "replay ms", "a step", "that fits (ratio)");
  bool good = true;
  for (int i = 0; i < n; i++)
    if (is_budget(&results[i])) good = print_budget(results, n, &results[i]) && good;
  printf("\nPareto front (MiB, ratio):");
  for (int i = 0; i < n; i++)
    if (on_front(results, n, &results[i]))
      printf("  %s %.1f %.3f", results[i].policy, (double)results[i].measured_peak_bytes / kMiB,
             results[i].step_ratio);
  printf("\n");
  if (good) print_times(results, n);
  return good;
}

/* ---- the drawing ---- */

enum { WIDTH = 1000, HEIGHT = 560, LEFT = 70, RIGHT = 60, TOP = 40, BOTTOM = 60 };

typedef struct Axes {
  double most_mib, least_ratio, most_ratio;
} Axes;

static double x_of(const Axes* a, double mib) {
  return LEFT + mib / a->most_mib * (WIDTH - LEFT - RIGHT);
}
static double y_of(const Axes* a, double ratio) {
  return HEIGHT - BOTTOM -
         (ratio - a->least_ratio) / (a->most_ratio - a->least_ratio) * (HEIGHT - TOP - BOTTOM);
}

static Axes axes_of(const PolicyResult* results, int n) {
  Axes a = {1.0, 1.0, 1.0};
  for (int i = 0; i < n; i++) {
    if (!results[i].ok) continue;
    a.most_mib = fmax(a.most_mib, 1.05 * (double)results[i].measured_peak_bytes / kMiB);
    a.least_ratio = fmin(a.least_ratio, results[i].step_ratio);
    a.most_ratio = fmax(a.most_ratio, results[i].step_ratio);
  }
  a.least_ratio = floor(20.0 * a.least_ratio - 0.5) / 20.0;
  a.most_ratio = ceil(20.0 * a.most_ratio + 0.5) / 20.0;
  return a;
}

static double round_step(double range) {
  const double rough = range / 8, power = pow(10, floor(log10(rough)));
  return (rough / power < 1.5 ? 1 : rough / power < 3.5 ? 2 : rough / power < 7.5 ? 5 : 10) * power;
}

static void draw_axes(FILE* out, const Axes* a) {
  fprintf(out, "<text x=\"%d\" y=\"24\" font-size=\"16\">Memory and time of every policy</text>\n",
          LEFT);
  for (double v = 0; v <= a->most_mib; v += round_step(a->most_mib))
    fprintf(out,
            "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\" stroke=\"#ddd\"/><text x=\"%.1f\" "
            "y=\"%d\" text-anchor=\"middle\">%g</text>\n",
            x_of(a, v), x_of(a, v), TOP, HEIGHT - BOTTOM, x_of(a, v), HEIGHT - BOTTOM + 18, v);
  const double step = round_step(a->most_ratio - a->least_ratio);
  for (double v = ceil(a->least_ratio / step) * step; v <= a->most_ratio + 1e-9; v += step)
    fprintf(out,
            "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#ddd\"/><text x=\"%d\" "
            "y=\"%.1f\" text-anchor=\"end\">%.2f</text>\n",
            LEFT, WIDTH - RIGHT, y_of(a, v), y_of(a, v), LEFT - 8, y_of(a, v) + 4, v);
  fprintf(out,
          "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">saved activations, peak MiB</text>\n"
          "<text x=\"%d\" y=\"%d\">step, of none</text>\n",
          (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 16, LEFT - 50, TOP - 8);
}

/* Hand-written policies as rings with their names, budgets as dots; the front as a staircase. */
static void draw_policies(FILE* out, const Axes* a, const PolicyResult* results, int n) {
  for (int i = 0; i < n; i++) {
    const PolicyResult* r = &results[i];
    if (!r->ok) continue;
    const double x = x_of(a, (double)r->measured_peak_bytes / kMiB), y = y_of(a, r->step_ratio);
    const bool budget = is_budget(r);
    fprintf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"5\" stroke=\"%s\" fill=\"%s\"/>", x, y,
            budget ? "#D55E00" : "#0072B2", budget ? "#D55E00" : "white");
    fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" fill=\"%s\">%s</text>\n", x + 8, y - 6,
            budget ? "#D55E00" : "#0072B2", r->policy);
  }
}

static const PolicyResult* next_on_front(const PolicyResult* results, int n, uint64_t above) {
  const PolicyResult* next = NULL;
  for (int i = 0; i < n; i++)
    if (results[i].measured_peak_bytes > above && on_front(results, n, &results[i]) &&
        (!next || results[i].measured_peak_bytes < next->measured_peak_bytes))
      next = &results[i];
  return next;
}

static void draw_front(FILE* out, const Axes* a, const PolicyResult* results, int n) {
  const PolicyResult* r = next_on_front(results, n, 0);
  if (!r) return;
  fprintf(out, "<path fill=\"none\" stroke=\"#999\" stroke-dasharray=\"4 3\" d=\"M%.1f %.1f",
          x_of(a, (double)r->measured_peak_bytes / kMiB), y_of(a, r->step_ratio));
  while ((r = next_on_front(results, n, r->measured_peak_bytes)) != NULL)
    fprintf(out, "H%.1fV%.1f", x_of(a, (double)r->measured_peak_bytes / kMiB),
            y_of(a, r->step_ratio));
  fputs("\"/>\n", out);
}

bool front_write(const char* path, const PolicyResult* results, int n) {
  const Axes a = axes_of(results, n);
  FILE* out = fopen(path, "w");
  if (out) {
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d "
            "%d\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"%d\" height=\"%d\" "
            "fill=\"white\"/>\n",
            WIDTH, HEIGHT, WIDTH, HEIGHT, WIDTH, HEIGHT);
    draw_axes(out, &a);
    draw_front(out, &a, results, n);
    draw_policies(out, &a, results, n);
    fputs("</svg>\n", out);
  }
  const bool failed = !out || ferror(out);
  if ((out && fclose(out) != 0) || failed) {
    fprintf(stderr, "gpt: --front: %s cannot be written\n", path);
    return false;
  }
  return true;
}
