/* examples/gpt/trace.h: what the policies' traced steps look like, as a Chrome/Perfetto trace and
 * as an SVG chart. */
#ifndef EXAMPLES_GPT_TRACE_H
#define EXAMPLES_GPT_TRACE_H
#include <stdbool.h>

#include "result.h"

/* One process per policy: spans of replay per microbatch, an instant for every other event, and a
 * counter of live bytes. False, with a line on stderr, where the file cannot be written. */
bool trace_write(const char* path, const PolicyResult* results, int n);

/* Live bytes over one step, one line per policy; time runs from 0 to 1 for each. */
bool chart_write(const char* path, const PolicyResult* results, int n);

#endif
