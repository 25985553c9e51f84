/* examples/gpt/ops.h: the arithmetic of the GPT: linear layers over BLAS, normalization, GELU,
 * dropout, loss.
 *
 * Matrices are row-major float32. Every function splits its rows (or columns) over the same fixed
 * number of threads and calls BLAS with one thread each, so the bits of a result depend on the
 * sizes and that number, and on nothing else. */
#ifndef EXAMPLES_GPT_OPS_H
#define EXAMPLES_GPT_OPS_H
#include "philox.h"

/* Sets the number of threads of every function below, and one thread per BLAS call. */
void ops_set_threads(int n);
int ops_threads(void);

/* y[rows,out] = x[rows,in] w[out,in]^T + bias[out] (bias may be NULL). */
void linear_forward(const float* x, const float* w, const float* bias, float* y, int rows, int in,
                    int out);
/* dx[rows,in] = dy w, then dw += dy^T x and dbias += column sums of dy; dx and dbias may be NULL.
 */
void linear_backward(const float* dy, const float* x, const float* w, float* dx, float* dw,
                     float* dbias, int rows, int in, int out);

/* Any of y, mean and rstd may be NULL: what is not wanted is not written. */
void layernorm_forward(const float* x, const float* gamma, const float* beta, float* y, float* mean,
                       float* rstd, int rows, int width);
/* dx += the gradient through the norm; dgamma and dbeta are added to. */
void layernorm_backward(const float* dy, const float* x, const float* gamma, const float* mean,
                        const float* rstd, float* dx, float* dgamma, float* dbeta, int rows,
                        int width);

/* GELU in the tanh form (Hendrycks and Gimpel, 2016). */
void gelu_forward(const float* x, float* y, size_t n);
/* d *= gelu'(x). */
void gelu_backward(const float* x, float* d, size_t n);

/* y = residual + dropout(y); n is a multiple of 4. `residual` may be NULL. */
void dropout_add(float* y, const float* residual, size_t n, float p, Rng rng);
/* dst = src * mask / (1 - p). */
void dropout_backward(const float* src, float* dst, size_t n, float p, Rng rng);

/* x[rows,width] = token row + position row; positions run 0..seq-1 again and again. */
void embedding_forward(const uint8_t* tokens, const float* token_table, const float* position_table,
                       float* x, int rows, int seq, int width);
void embedding_backward(const uint8_t* tokens, const float* dx, float* dtoken, float* dposition,
                        int rows, int seq, int width);

/* Sum over rows of the cross entropy of `targets` (nats); turns logits into their gradient times
 * `scale` in place. */
double cross_entropy(float* logits, const uint8_t* targets, int rows, int classes, float scale);

void adamw(float* p, const float* g, float* m, float* v, size_t n, float lr, float decay, int step);

/* y += x */
void add_into(float* y, const float* x, size_t n);

/* 64-bit digest of the bits of n floats, continued from `digest`. */
uint64_t digest_floats(uint64_t digest, const float* x, size_t n);

#endif
