/* examples/gpt/attention.h: causal multi-head attention with dropout, keeping all probabilities or
 * one number a row. */
#ifndef EXAMPLES_GPT_ATTENTION_H
#define EXAMPLES_GPT_ATTENTION_H
#include "philox.h"

typedef struct AttentionShape {
  int batch, heads, seq, head_width;
  float dropout;
} AttentionShape;

/* Floats of workspace that one call needs, for all threads. */
size_t attention_workspace(const AttentionShape* shape);

/* qkv[batch * seq, 3 * width] holds q, k and v side by side; out[batch * seq, width]. Saves
 * probs[batch, heads, seq, seq] (before dropout: the mask is drawn again from `rng`) or lse[batch,
 * heads, seq]. Any of the three may be NULL: what is not wanted is neither computed nor written. */
void attention_forward(const AttentionShape* shape, const float* qkv, float* probs, float* lse,
                       float* out, Rng rng, float* workspace);
/* dqkv = the gradient from dout, with exactly one of probs and lse. */
void attention_backward(const AttentionShape* shape, const float* qkv, const float* probs,
                        const float* lse, const float* dout, float* dqkv, Rng rng,
                        float* workspace);

#endif
