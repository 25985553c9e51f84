/* examples/gpt/model.h: sizes and parameters of the GPT, their gradients, and the AdamW state. */
#ifndef EXAMPLES_GPT_MODEL_H
#define EXAMPLES_GPT_MODEL_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { VOCABULARY = 256 };

typedef struct Sizes {
  int layers, width, heads, seq;
  int batch;        /* sequences per microbatch                                       */
  int microbatches; /* per optimizer step; all forwards run before the first backward */
  float dropout;
  bool fused; /* attention keeps one number a row instead of its probabilities */
  uint64_t seed;
} Sizes;

typedef struct LayerParams {
  float *ln1_gamma, *ln1_beta, *qkv_w, *qkv_b, *proj_w, *proj_b;
  float *ln2_gamma, *ln2_beta, *fc1_w, *fc1_b, *fc2_w, *fc2_b;
} LayerParams;

/* Pointers into one flat array. Weights are [out, in]. */
typedef struct Params {
  float* flat;
  size_t n;
  float *tokens, *positions, *norm_gamma, *norm_beta, *head_w;
  LayerParams* layers;
} Params;

typedef struct Model {
  Sizes sizes;
  Params params, grads;
  float *first_moment, *second_moment;
  int updates;
} Model;

/* What does not fit together in the sizes, in one line; NULL if all does. */
const char* sizes_check(const Sizes* sizes);
Model* model_create(const Sizes* sizes);
void model_free(Model* model);
/* One AdamW update from the gradients. */
void model_update(Model* model, float learning_rate, float weight_decay);

#endif
