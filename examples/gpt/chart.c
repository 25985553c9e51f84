/* examples/gpt/chart.c: draws live bytes over one step for every policy as an SVG. */
#include <math.h>
#include <stdio.h>

#include "trace.h"

enum { WIDTH = 1000, HEIGHT = 560, LEFT = 70, RIGHT = 240, TOP = 40, BOTTOM = 50 };

/* Colours that stay apart for colour-blind readers (Okabe and Ito, 2008), then the same in dashes.
 */
static const char* const kColours[] = {"#000000", "#E69F00", "#56B4E9", "#009E73",
                                       "#0072B2", "#D55E00", "#CC79A7"};
enum { COLOURS = sizeof kColours / sizeof kColours[0] };

static double highest_of(const PolicyResult* results, int n) {
  uint64_t highest = 1;
  for (int i = 0; i < n; i++)
    for (size_t e = 0; e < results[i].n_events; e++)
      if (results[i].events[e].live_bytes > highest) highest = results[i].events[e].live_bytes;
  return (double)highest;
}

static double x_of(double fraction) {
  return LEFT + fraction * (WIDTH - LEFT - RIGHT);
}
static double y_of(double bytes, double top) {
  return HEIGHT - BOTTOM - bytes / top * (HEIGHT - TOP - BOTTOM);
}

static void draw_axes(FILE* out, double top, double mib) {
  fprintf(out, "<text x=\"%d\" y=\"24\" font-size=\"16\">Saved activations over one step</text>\n",
          LEFT);
  /* Round steps of 1, 2 or 5 times a power of ten, about six of them. */
  const double rough = top / mib / 6, power = pow(10, floor(log10(rough)));
  const double step = rough / power < 1.5   ? power
                      : rough / power < 3.5 ? 2 * power
                      : rough / power < 7.5 ? 5 * power
                                            : 10 * power;
  for (double value = 0; value * mib <= top; value += step)
    fprintf(out,
            "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#ddd\"/><text x=\"%d\" "
            "y=\"%.1f\" "
            "text-anchor=\"end\">%g</text>\n",
            LEFT, WIDTH - RIGHT, y_of(value * mib, top), y_of(value * mib, top), LEFT - 8,
            y_of(value * mib, top) + 4, value);
  fprintf(out, "<text x=\"%d\" y=\"%d\">MiB</text>\n", LEFT - 40, TOP - 8);
  fprintf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">share of the step</text>\n",
          x_of(0.5), HEIGHT - 12);
  for (int i = 0; i <= 4; i++)
    fprintf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%d %%</text>\n", x_of(i / 4.0),
            HEIGHT - BOTTOM + 18, 25 * i);
}

/* A staircase: bytes stay until the next event. */
static void draw_policy(FILE* out, const PolicyResult* r, int index, double top) {
  if (r->n_events == 0) return;
  const double first = (double)r->events[0].begin_ns;
  const double length = fmax((double)r->events[r->n_events - 1].end_ns - first, 1.0);
  const char* dash = index < COLOURS ? "none" : "6 3";
  fprintf(out,
          "<path fill=\"none\" stroke=\"%s\" stroke-width=\"1.5\" stroke-dasharray=\"%s\" "
          "d=\"M%.1f %.1f",
          kColours[index % COLOURS], dash, x_of(0), y_of(0, top));
  uint64_t drawn = 0;
  for (size_t i = 0; i < r->n_events; i++) {
    if (r->events[i].live_bytes == drawn) continue;
    drawn = r->events[i].live_bytes;
    fprintf(out, "H%.1fV%.1f", x_of(((double)r->events[i].end_ns - first) / length),
            y_of((double)drawn, top));
  }
  fputs("\"/>\n", out);
  const int y = TOP + 20 * index;
  fprintf(out,
          "<line x1=\"%d\" x2=\"%d\" y1=\"%d\" y2=\"%d\" stroke=\"%s\" stroke-width=\"3\" "
          "stroke-dasharray=\"%s\"/>"
          "<text x=\"%d\" y=\"%d\">%s</text>\n",
          WIDTH - RIGHT + 20, WIDTH - RIGHT + 50, y, y, kColours[index % COLOURS], dash,
          WIDTH - RIGHT + 58, y + 4, r->policy);
}

bool chart_write(const char* path, const PolicyResult* results, int n) {
  const double mib = 1024.0 * 1024.0, top = highest_of(results, n) * 1.05;
  FILE* out = fopen(path, "w");
  if (out) {
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d "
            "%d\" "
            "font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"%d\" height=\"%d\" "
            "fill=\"white\"/>\n",
            WIDTH, HEIGHT, WIDTH, HEIGHT, WIDTH, HEIGHT);
    draw_axes(out, top, mib);
    for (int i = 0; i < n; i++) draw_policy(out, &results[i], i, top);
    fputs("</svg>\n", out);
  }
  const bool failed = !out || ferror(out);
  if ((out && fclose(out) != 0) || failed) {
    fprintf(stderr, "gpt: --chart: %s cannot be written\n", path);
    return false;
  }
  return true;
}
