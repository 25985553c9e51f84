/* examples/gpt/train.c: one optimizer step after another. */
#include "train.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

double seconds_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

Trainer* trainer_create(const Sizes* sizes, const Text* text, float learning_rate,
                        void (*trace)(void* data, const StoreEvent* event), void* trace_data) {
  Trainer* t = calloc(1, sizeof *t);
  t->model = model_create(sizes);
  t->net = net_create(t->model, trace, trace_data);
  t->text = text;
  t->learning_rate = learning_rate;
  t->weight_decay = 0.01f;
  const size_t rows = (size_t)t->net->rows;
  t->tokens = malloc(rows * sizes->microbatches);
  t->targets = malloc(rows * sizes->microbatches);
  for (int m = 0; m < sizes->microbatches; m++) {
    t->net->microbatches[m].tokens = t->tokens + rows * m;
    t->net->microbatches[m].targets = t->targets + rows * m;
  }
  return t;
}

void trainer_free(Trainer* t) {
  net_free(t->net);
  model_free(t->model);
  free(t->tokens);
  free(t->targets);
  free(t);
}

static void load_batch(Trainer* t, int step, int m) {
  const Sizes* s = &t->model->sizes;
  const size_t at = (size_t)t->net->rows * m;
  text_batch(t->text, s->seed, step, m, s->batch, s->seq, t->tokens + at, t->targets + at);
}

/* A linear start, since Adam's first steps are as long as any and a deep residual stream does not
 * bear it. */
static float learning_rate_at(const Trainer* t, int step) {
  enum { STARTING_STEPS = 40 };
  return step < STARTING_STEPS ? t->learning_rate * (float)(step + 1) / STARTING_STEPS
                               : t->learning_rate;
}

void trainer_step(Trainer* t, StepMode mode, StepResult* result) {
  const int n = t->model->sizes.microbatches;
  for (int m = 0; m < n; m++) load_batch(t, t->step, m);
  const double begin = seconds_now();
  memset(t->model->grads.flat, 0, t->model->grads.n * sizeof(float));
  store_step_begin(t->net->store, mode);
  for (int m = 0; m < n; m++) net_forward(&t->net->microbatches[m]);
  for (int m = 0; m < n; m++) net_backward(&t->net->microbatches[m]);
  store_step_end(t->net->store, &result->report);
  model_update(t->model, learning_rate_at(t, t->step), t->weight_decay);
  result->seconds = seconds_now() - begin;
  result->loss = 0.0;
  for (int m = 0; m < n; m++)
    result->loss += t->net->microbatches[m].loss / ((double)t->net->rows * n);
  t->step++;
}

double trainer_evaluate(Trainer* t, int batches) {
  MicrobatchRun* run = &t->net->microbatches[0];
  double loss = 0.0;
  net_set_dropout(t->net, 0.0f);
  for (int i = 0; i < batches; i++) {
    load_batch(t, -1 - i, 0);
    store_step_begin(t->net->store, STEP_EVALUATE);
    net_forward(run);
    net_drop(run);
    store_step_end(t->net->store, NULL);
    loss += run->loss / ((double)t->net->rows * batches);
  }
  net_set_dropout(t->net, t->model->sizes.dropout);
  return loss;
}
