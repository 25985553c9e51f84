/* examples/gpt/measure.c: measures one policy in this process, and the long run. */
#include "measure.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ops.h"
#include "policy.h"
#include "resident.h"
#include "result.h"
#include "train.h"

/* The trace is on during one step only, after the measured ones. */
typedef struct EventFilter {
  FILE* out;
  bool on;
} EventFilter;

static void pass_event(void* data, const StoreEvent* event) {
  const EventFilter* filter = data;
  if (filter->on) event_write(filter->out, event);
}

static int by_value(const void* a, const void* b) {
  const double x = *(const double*)a, y = *(const double*)b;
  return (x > y) - (x < y);
}

static double median(double* x, int n) {
  qsort(x, (size_t)n, sizeof *x, by_value);
  return n % 2 ? x[n / 2] : 0.5 * (x[n / 2 - 1] + x[n / 2]);
}

static uint64_t digest_double(uint64_t digest, double x) {
  float halves[2];
  memcpy(halves, &x, sizeof x);
  return digest_floats(digest, halves, 2);
}

/* The first step keeps everything and is logged, so that rcore predicts any policy from it; for a
 * budget it is profiled too, and what comes of it takes the place of *policy. False where nothing
 * fits the budget. */
static bool settle_policy(Trainer* trainer, const Options* options, const PolicySpec* spec,
                          rc_policy** policy, PolicyResult* result) {
  StepResult step;
  Store* store = trainer->net->store;
  const bool profiled = options_is_budget(spec) || options->budgets > 0;
  if (options_is_budget(spec)) policy_apply(store, *policy); /* its kinds; it keeps everything */
  trainer_step(trainer, profiled ? STEP_TRAIN_PROFILED : STEP_TRAIN_LOGGED, &step);
  if (options_is_budget(spec)) {
    char error[640];
    rc_policy* plan = policy_plan(store, spec, &result->budget_bytes, error, sizeof error);
    if (!plan) {
      fprintf(stderr, "gpt: %s\n", error);
      return false;
    }
    rc_policy_release(*policy);
    *policy = plan;
  }
  result->predicted_peak_bytes = policy_predict(store, *policy, &result->predicted_replay_seconds);
  policy_apply(store, *policy);
  return true;
}

/* Steps that settle: the first, and then, under the policy, one that rcore records and others that
 * run in the arena. */
static bool warm_up(Trainer* trainer, const Options* options, int index, rc_policy** policy,
                    FILE* out, PolicyResult* result) {
  StepResult step;
  const int total = 1 + options->warmup + options->steps;
  if (!settle_policy(trainer, options, &options->policies[index], policy, result)) return false;
  progress_write(out, 1, total, 0);
  for (int i = 0; i < options->warmup; i++) {
    trainer_step(trainer, STEP_TRAIN, &step);
    progress_write(out, 2 + i, total, 0);
  }
  return true;
}

/* Steps of several processes alternate: each waits for its turn. False where the parent is gone. */
static bool wait_for_turn(const Options* options) {
  char go;
  return options->go_fd < 0 || read(options->go_fd, &go, 1) == 1;
}

static void measure_steps(Trainer* trainer, const Options* options, FILE* out,
                          PolicyResult* result) {
  StepResult step;
  const int total = 1 + options->warmup + options->steps;
  double* seconds = calloc((size_t)options->steps, sizeof *seconds);
  uint64_t replays = 0;
  result->loss_digest = result->gradient_digest = 0xcbf29ce484222325ull;
  const bool resident = resident_reset_peak();
  for (int i = 0; i < options->steps; i++) {
    if (!wait_for_turn(options)) exit(1);
    trainer_step(trainer, STEP_TRAIN, &step);
    seconds[i] = step.seconds;
    replays += step.report.replays;
    if (step.report.peak_bytes > result->measured_peak_bytes)
      result->measured_peak_bytes = step.report.peak_bytes;
    result->loss_digest = digest_double(result->loss_digest, step.loss);
    result->gradient_digest =
        digest_floats(result->gradient_digest, trainer->model->grads.flat, trainer->model->grads.n);
    progress_write(out, 2 + options->warmup + i, total, step.seconds);
  }
  result->resident_bytes = resident ? resident_peak() : 0;
  result->arena_bytes = step.report.arena_bytes;
  result->arena_bound = step.report.arena_bound;
  result->arena_misses = step.report.arena_misses;
  result->step_seconds = median(seconds, options->steps);
  result->replays_per_step = (double)replays / options->steps;
  result->final_loss = step.loss;
  free(seconds);
}

static bool open_text(const Options* options, Text* text) {
  const char* wrong = text_read(options->text, text);
  if (!wrong && text->n <= (size_t)options->sizes.seq + 1) wrong = "is not longer than --seq";
  if (wrong) fprintf(stderr, "gpt: --text: %s %s\n", options->text, wrong);
  return !wrong;
}

int measure_policy(const Options* options, int index, FILE* out) {
  char error[640];
  Text text;
  if (!open_text(options, &text)) return 2;
  rc_policy* policy =
      policy_create(&options->policies[index], &options->sizes, error, sizeof error);
  if (!policy) {
    fprintf(stderr, "gpt: %s\n", error);
    return 2;
  }
  ops_set_threads(options->threads);
  EventFilter filter = {out, false};
  const bool traced = options->trace || options->chart;
  Trainer* trainer = trainer_create(&options->sizes, &text, (float)options->learning_rate,
                                    traced ? pass_event : NULL, &filter);
  PolicyResult result;
  memset(&result, 0, sizeof result);
  const bool fits = warm_up(trainer, options, index, &policy, out, &result);
  if (fits) measure_steps(trainer, options, out, &result);
  if (fits && traced) {
    StepResult step;
    filter.on = true;
    trainer_step(trainer, STEP_TRAIN, &step);
    filter.on = false;
  }
  if (fits) result_write(out, &result);
  trainer_free(trainer);
  rc_policy_release(policy);
  text_free(&text);
  return fits ? 0 : 1;
}

int measure_long_run(const Options* options) {
  enum { EVALUATION_BATCHES = 8 };
  char error[640];
  Text text;
  if (!open_text(options, &text)) return 2;
  const PolicySpec* spec =
      &options->policies[options->n_policies > 1 ? options->n_policies - 1 : 0];
  rc_policy* policy = policy_create(spec, &options->sizes, error, sizeof error);
  if (!policy) {
    fprintf(stderr, "gpt: %s\n", error);
    return 2;
  }
  ops_set_threads(options->threads);
  Trainer* trainer =
      trainer_create(&options->sizes, &text, (float)options->learning_rate, NULL, NULL);
  PolicyResult settled;
  memset(&settled, 0, sizeof settled);
  if (!options_is_budget(spec))
    policy_apply(trainer->net->store, policy);
  else if (!settle_policy(trainer, options, spec, &policy, &settled))
    return 1;
  const double bigram = text_bigram_loss(&text), begin = seconds_now();
  const int every = options->train_steps < 20 ? 1 : options->train_steps / 20;
  printf("text %s, %zu bytes; policy %s; byte-bigram model %.4f nats\n\n  step    loss  seconds\n",
         options->text, text.n, spec->name, bigram);
  for (int i = 1; i <= options->train_steps; i++) {
    StepResult step;
    trainer_step(trainer, STEP_TRAIN, &step);
    if (i % every == 0 || i == options->train_steps) {
      printf("%6d  %.4f  %7.1f\n", i, step.loss, seconds_now() - begin);
      fflush(stdout);
    }
  }
  const double loss = trainer_evaluate(trainer, EVALUATION_BATCHES);
  printf("\nloss without dropout %.4f, byte-bigram model %.4f: %s\n", loss, bigram,
         loss < bigram ? "below it" : "not below it yet");
  trainer_free(trainer);
  rc_policy_release(policy);
  text_free(&text);
  return loss < bigram ? 0 : 1;
}
