/* examples/gpt/model.c: parameter layout, initialization as in GPT-2, and the update. */
#include "model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops.h"

const char* sizes_check(const Sizes* s) {
  if (s->layers < 1 || s->layers > 1000) return "--layers must be between 1 and 1000";
  if (s->heads < 1 || s->heads > 256) return "--heads must be between 1 and 256";
  if (s->width < 4 || s->width > 16384) return "--width must be between 4 and 16384";
  if (s->width % s->heads != 0) return "--width must be a multiple of --heads";
  if (s->width % 4 != 0) return "--width must be a multiple of 4 (one counter block)";
  if (s->seq < 4 || s->seq > 32768 || s->seq % 4 != 0)
    return "--seq must be a multiple of 4 between 4 and 32768";
  if (s->batch < 1 || s->batch > 4096) return "--batch must be between 1 and 4096";
  if (s->microbatches < 1 || s->microbatches > 64) return "--microbatches must be between 1 and 64";
  if (!(s->dropout >= 0.0f && s->dropout < 1.0f)) return "--dropout must be at least 0 and below 1";
  return NULL;
}

/* Hands out the next `n` floats; with a NULL base it only counts. Parts start on cache lines. */
static float* take(float* base, size_t* used, size_t n) {
  float* at = base ? base + *used : NULL;
  *used += (n + 15) / 16 * 16;
  return at;
}

static size_t lay_out(Params* p, const Sizes* s, float* base) {
  const size_t d = (size_t)s->width;
  size_t used = 0;
  p->tokens = take(base, &used, VOCABULARY * d);
  p->positions = take(base, &used, (size_t)s->seq * d);
  for (int i = 0; i < s->layers; i++) {
    LayerParams* l = &p->layers[i];
    l->ln1_gamma = take(base, &used, d);
    l->ln1_beta = take(base, &used, d);
    l->qkv_w = take(base, &used, 3 * d * d);
    l->qkv_b = take(base, &used, 3 * d);
    l->proj_w = take(base, &used, d * d);
    l->proj_b = take(base, &used, d);
    l->ln2_gamma = take(base, &used, d);
    l->ln2_beta = take(base, &used, d);
    l->fc1_w = take(base, &used, 4 * d * d);
    l->fc1_b = take(base, &used, 4 * d);
    l->fc2_w = take(base, &used, 4 * d * d);
    l->fc2_b = take(base, &used, d);
  }
  p->norm_gamma = take(base, &used, d);
  p->norm_beta = take(base, &used, d);
  p->head_w = take(base, &used, VOCABULARY * d);
  return used;
}

static void params_create(Params* p, const Sizes* s) {
  p->layers = calloc((size_t)s->layers, sizeof *p->layers);
  p->n = lay_out(p, s, NULL);
  p->flat = calloc(p->n, sizeof(float));
  lay_out(p, s, p->flat);
}

static void params_free(Params* p) {
  free(p->layers);
  free(p->flat);
}

/* Normal numbers by Box and Muller, from one counter stream. */
static void fill_normal(float* x, size_t n, float deviation, Rng* rng) {
  for (size_t i = 0; i < n; i += 2) {
    const double u = (philox_word(*rng, i) + 1.0) / 4294967297.0,
                 v = philox_word(*rng, i + 1) / 4294967296.0;
    const double radius = sqrt(-2.0 * log(u)), angle = 6.283185307179586 * v;
    x[i] = (float)(deviation * radius * cos(angle));
    if (i + 1 < n) x[i + 1] = (float)(deviation * radius * sin(angle));
  }
  rng->offset += philox_blocks(n);
}

static void fill(float* x, size_t n, float value) {
  for (size_t i = 0; i < n; i++) x[i] = value;
}

Model* model_create(const Sizes* s) {
  Model* model = calloc(1, sizeof *model);
  model->sizes = *s;
  params_create(&model->params, s);
  params_create(&model->grads, s);
  model->first_moment = calloc(model->params.n, sizeof(float));
  model->second_moment = calloc(model->params.n, sizeof(float));
  /* The residual branches shrink with depth (GPT-2). The key differs from that of dropout. */
  const float deviation = 0.02f, residual = deviation / sqrtf(2.0f * (float)s->layers);
  const size_t d = (size_t)s->width;
  Rng rng = {s->seed ^ 0x696e697469616c73ull, 0};
  Params* p = &model->params;
  fill_normal(p->tokens, VOCABULARY * d, deviation, &rng);
  fill_normal(p->positions, (size_t)s->seq * d, deviation, &rng);
  fill_normal(p->head_w, VOCABULARY * d, deviation, &rng);
  fill(p->norm_gamma, d, 1.0f);
  for (int i = 0; i < s->layers; i++) {
    LayerParams* l = &p->layers[i];
    fill(l->ln1_gamma, d, 1.0f);
    fill(l->ln2_gamma, d, 1.0f);
    fill_normal(l->qkv_w, 3 * d * d, deviation, &rng);
    fill_normal(l->proj_w, d * d, residual, &rng);
    fill_normal(l->fc1_w, 4 * d * d, deviation, &rng);
    fill_normal(l->fc2_w, 4 * d * d, residual, &rng);
  }
  return model;
}

void model_free(Model* model) {
  if (!model) return;
  params_free(&model->params);
  params_free(&model->grads);
  free(model->first_moment);
  free(model->second_moment);
  free(model);
}

void model_update(Model* model, float learning_rate, float weight_decay) {
  model->updates++;
  adamw(model->params.flat, model->grads.flat, model->first_moment, model->second_moment,
        model->params.n, learning_rate, weight_decay, model->updates);
}
