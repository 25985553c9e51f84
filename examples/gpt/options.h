/* examples/gpt/options.h: what the command line asks for. */
#ifndef EXAMPLES_GPT_OPTIONS_H
#define EXAMPLES_GPT_OPTIONS_H
#include "model.h"

enum { POLICIES_MAX = 64 };

/* One policy as it was asked for: the part of rcore's JSON form that speaks about recomputation, or
 * a file. rcore checks it; this program knows none of the rules. */
typedef struct PolicySpec {
  char name[96];
  char members[1024]; /* "\"recompute_granularity\": \"full\", ..." */
  const char* file;   /* path of a whole policy; NULL = members      */
  /* Above 0: planned from one profiled step for a budget of so many bytes, of this part of what
   * keeping everything takes, or the spread-th of spread_of from the least to that. */
  uint64_t budget_bytes;
  double budget_fraction;
  int spread, spread_of;
} PolicySpec;

/* True if the policy is rcore's answer to a budget. */
bool options_is_budget(const PolicySpec* spec);

typedef struct Options {
  Sizes sizes;
  int steps, warmup, threads;
  double learning_rate;
  const char* text;
  PolicySpec policies[POLICIES_MAX];
  int n_policies;
  const char *report, *trace, *chart, *compare, *front;
  int budgets;     /* so many, from the least to keeping everything; with the hand-written ones */
  int train_steps; /* > 0: one long run instead of the list */
  bool help, list;
  int child;    /* internal: index of the one policy to measure, -1 = this is the parent */
  int child_fd; /* internal: where its lines go                                          */
  int go_fd;    /* internal: a byte from here starts each measured step; -1 = they just run */
} Options;

/* Fills `out` from the command line. On failure writes one line that names the flag, and returns
 * false. */
bool options_parse(int argc, char** argv, Options* out, char* error, size_t capacity);
void options_print_help(void);

/* The policies of a default run, for `layers` layers. */
int options_default_policies(int layers, PolicySpec* out);

#endif
