/* examples/gpt/gpt_variant.h: the same trainer built with and without rcore, each behind one
 * symbol, for one process. */
#ifndef EXAMPLES_GPT_GPT_VARIANT_H
#define EXAMPLES_GPT_GPT_VARIANT_H
#include "model.h"
#include "text.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct GptVariant {
  void* (*create)(const Sizes* sizes, const Text* text, int threads);
  /* One optimizer step without a policy; returns its seconds. */
  double (*step)(void* trainer);
  uint64_t (*gradient_digest)(void* trainer);
  void (*free)(void* trainer);
} GptVariant;

extern __attribute__((visibility("default"))) const GptVariant gpt_variant_rcore;
extern __attribute__((visibility("default"))) const GptVariant gpt_variant_bare;

#ifdef __cplusplus
}
#endif
#endif
