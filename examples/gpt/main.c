/* examples/gpt/main.c: trains a GPT under a list of recompute policies and prints what each frees
 * and costs. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "front.h"
#include "measure.h"
#include "options.h"
#include "policy.h"
#include "report.h"
#include "runner.h"
#include "trace.h"

/* A policy that rcore refuses is a mistake on the command line; it is said before anything runs. */
static bool policies_are_good(const Options* options) {
  for (int i = 0; i < options->n_policies; i++) {
    char error[640];
    rc_policy* policy = policy_create(&options->policies[i], &options->sizes, error, sizeof error);
    if (!policy) {
      fprintf(stderr, "gpt: %s\n", error);
      return false;
    }
    policy_print_notes(&options->policies[i], policy);
    rc_policy_release(policy);
  }
  return true;
}

static int run_list(const Options* options, int argc, char** argv) {
  OldReport* old = NULL;
  if (options->compare && !(old = report_read(options->compare))) return 2;
  PolicyResult* results = calloc((size_t)options->n_policies, sizeof *results);
  bool good = runner_measure_all(options, argc, argv, results);
  good = report_print(options, results) && good;
  good = front_print(results, options->n_policies) && good;
  if (options->report) good = report_write(options->report, options, results) && good;
  if (options->trace) good = trace_write(options->trace, results, options->n_policies) && good;
  if (options->chart) good = chart_write(options->chart, results, options->n_policies) && good;
  if (options->front) good = front_write(options->front, results, options->n_policies) && good;
  if (old) good = report_compare(old, results, options->n_policies) == 0 && good;
  if (old) report_free(old);
  for (int i = 0; i < options->n_policies; i++) {
    free(results[i].events);
    free(results[i].seconds);
  }
  free(results);
  return good ? 0 : 1;
}

/* The run-times read these while they load. OpenBLAS would start threads although the trainer
 * splits the work itself; OpenMP's would spin, which is slow where others use the machine too. */
static void set_up_runtimes(char** argv) {
  if (getenv("OPENBLAS_NUM_THREADS") && getenv("OMP_WAIT_POLICY")) return;
  setenv("OPENBLAS_NUM_THREADS", "1", 0);
  setenv("OMP_WAIT_POLICY", "passive", 0);
  execv("/proc/self/exe", argv); /* without /proc the program goes on as it is */
}

int main(int argc, char** argv) {
  static Options options;
  char error[256];
  if (!options_parse(argc, argv, &options, error, sizeof error)) {
    fprintf(stderr, "gpt: %s\n", error);
    return 2;
  }
  if (options.help) {
    options_print_help();
    return 0;
  }
  if (options.list) {
    for (int i = 0; i < options.n_policies; i++) puts(options.policies[i].name);
    return 0;
  }
  if (options.child >= 0 && options.child < options.n_policies && options.child_fd >= 0) {
    FILE* out = fdopen(options.child_fd, "w");
    return out ? measure_policy(&options, options.child, out) : 2;
  }
  set_up_runtimes(argv);
  if (!policies_are_good(&options)) return 2;
  return options.train_steps > 0 ? measure_long_run(&options) : run_list(&options, argc, argv);
}
