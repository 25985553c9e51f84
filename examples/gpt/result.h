/* examples/gpt/result.h: what a measured policy gives, and the lines in which a child process tells
 * its parent. */
#ifndef EXAMPLES_GPT_RESULT_H
#define EXAMPLES_GPT_RESULT_H
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "region.h"

typedef struct PolicyResult {
  char policy[96];
  int ok;
  uint64_t predicted_peak_bytes, measured_peak_bytes;
  uint64_t budget_bytes;           /* 0 = none was given */
  double predicted_replay_seconds; /* of a step; 0 = the logged one was not profiled */
  uint64_t resident_bytes;         /* 0 where the system does not tell */
  /* Of the last measured step: the arena's height, its lower bound, blocks it had no place for. */
  uint64_t arena_bytes, arena_bound, arena_misses;
  double step_seconds; /* median                           */
  double step_ratio;   /* to none; filled by the parent    */
  double replays_per_step;
  double final_loss;
  uint64_t loss_digest, gradient_digest;
  StoreEvent* events; /* of one step after the measured ones */
  size_t n_events;
  double* seconds; /* of each measured step */
  int n_seconds;
} PolicyResult;

void result_write(FILE* out, const PolicyResult* result);
void event_write(FILE* out, const StoreEvent* event);
/* `seconds` of a measured step, or 0. */
void progress_write(FILE* out, int done, int total, double seconds);

/* Reads one line into the result; sets *done and *total where it tells of progress. False if it is
 * none of ours. */
int result_read_line(const char* line, PolicyResult* result, int* done, int* total);

#endif
