/* examples/gpt/gpt_variant.c: the table of one variant; GPT_NO_RCORE says which. */
#include "gpt_variant.h"

#include "ops.h"
#include "train.h"

static void* create(const Sizes* sizes, const Text* text, int threads) {
  ops_set_threads(threads);
  return trainer_create(sizes, text, 1e-3f, NULL, NULL);
}

static double step(void* trainer) {
  StepResult result;
  trainer_step(trainer, STEP_TRAIN, &result);
  return result.seconds;
}

static uint64_t gradient_digest(void* trainer) {
  const Params* grads = &((Trainer*)trainer)->model->grads;
  return digest_floats(0xcbf29ce484222325ull, grads->flat, grads->n);
}

static void release(void* trainer) {
  trainer_free(trainer);
}

#ifdef GPT_NO_RCORE
const GptVariant gpt_variant_bare = {create, step, gradient_digest, release};
#else
const GptVariant gpt_variant_rcore = {create, step, gradient_digest, release};
#endif
