/* examples/gpt/options.h: what the command line asks for. */
#ifndef EXAMPLES_GPT_OPTIONS_H
#define EXAMPLES_GPT_OPTIONS_H
#include "model.h"

enum { POLICIES_MAX = 64, MODULES_MAX = 16 };

/* One policy as it was asked for, before rcore has seen it. */
typedef struct PolicySpec {
  char name[96];
  const char* granularity; /* "selective", "full", or NULL = none                       */
  const char* method;      /* "uniform", "block", or NULL                               */
  int num_layers;          /* recompute_num_layers; 0 = not set                         */
  const char* modules[MODULES_MAX];
  int n_modules;    /* -1 = not given                                                   */
  bool distribute;  /* distribute_saved_activations                                     */
  bool table;       /* the built-in explicit table                                      */
  const char* json; /* path of a policy in JSON; the other fields are then unused       */
} PolicySpec;

typedef struct Options {
  Sizes sizes;
  int steps, warmup, threads;
  double learning_rate;
  const char* text;
  PolicySpec policies[POLICIES_MAX];
  int n_policies;
  const char *report, *trace, *chart, *compare;
  int train_steps;   /* > 0: one long run instead of the list */
  bool help, list;
  int child;    /* internal: index of the one policy to measure, -1 = this is the parent */
  int child_fd; /* internal: where its lines go                                          */
} Options;

/* Fills `out` from the command line. On failure writes one line that names the flag, and returns false. */
bool options_parse(int argc, char** argv, Options* out, char* error, size_t capacity);
void options_print_help(void);

/* The policies of a default run, for `layers` layers. */
int options_default_policies(int layers, PolicySpec* out);

#endif
