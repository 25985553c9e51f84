/* examples/gpt/attention.c: causal attention in blocks of 64 query rows; probabilities are stored
 * or made again. */
#include "attention.h"

#include <cblas.h>
#include <math.h>
#include <omp.h>
#include <string.h>

#include "ops.h"
#include "simd.h"

enum { BLOCK = 64, BUFFERS = 3 };

size_t attention_workspace(const AttentionShape* shape) {
  return (size_t)ops_threads() * BUFFERS * BLOCK * (size_t)shape->seq;
}

static void gemm(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k, float alpha,
                 const float* a, int lda, const float* b, int ldb, float beta, float* c, int ldc) {
  cblas_sgemm(CblasRowMajor, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

/* One head of one sequence, as pointers into the token-major arrays. */
typedef struct Head {
  const float *q, *k, *v;
  int stride; /* of a token in qkv */
  int seq, width;
  float scale;
  uint64_t row0; /* (batch, head) index times seq: the first row among all rows of probabilities */
  Rng rng;
  uint32_t threshold; /* words below it drop */
  float keep_scale;
} Head;

static Head head_of(const AttentionShape* s, const float* qkv, int index, Rng rng) {
  const int width = s->heads * s->head_width, b = index / s->heads, h = index % s->heads;
  const float* base = qkv + (size_t)b * s->seq * 3 * width + (size_t)h * s->head_width;
  return (Head){.q = base,
                .k = base + width,
                .v = base + 2 * width,
                .stride = 3 * width,
                .seq = s->seq,
                .width = s->head_width,
                .scale = 1.0f / sqrtf((float)s->head_width),
                .row0 = (uint64_t)index * (uint64_t)s->seq,
                .rng = rng,
                .threshold = (uint32_t)((double)s->dropout * 4294967296.0),
                .keep_scale = 1.0f / (1.0f - s->dropout)};
}

/* Softmax of the first n scores of a row in place, zeros in [n, end); returns log(sum(exp)). */
PER_CPU static float softmax_row(float* row, int n, int end) {
  float highest = row[0], sum = 0.0f;
#pragma omp simd reduction(max : highest)
  for (int i = 1; i < n; i++) highest = row[i] > highest ? row[i] : highest;
#pragma omp simd reduction(+ : sum)
  for (int i = 0; i < n; i++) {
    row[i] = exp_lane(row[i] - highest);
    sum += row[i];
  }
  const float normalize = 1.0f / sum;
  for (int i = 0; i < n; i++) row[i] *= normalize;
  for (int i = n; i < end; i++) row[i] = 0.0f;
  return highest + logf(sum);
}

/* Probabilities from scores and the row's log-sum-exp. */
PER_CPU static void exp_row(float* row, float lse, int n, int end) {
  for (int i = 0; i < n; i++) row[i] = exp_lane(row[i] - lse);
  for (int i = n; i < end; i++) row[i] = 0.0f;
}

/* The mask of probability row `row` on n columns: dropped = p * mask / (1 - p), and the same on
 * `dp` in place where it is not NULL; zeros up to `end`. */
PER_CPU static void drop_row(const Head* h, uint64_t row, const float* p, float* dropped, float* dp,
                             int n, int end) {
  uint32_t words[PHILOX_GROUP];
  const uint64_t first = row * (uint64_t)h->seq / 4;
  for (int i = 0; i < n; i += PHILOX_GROUP) {
    const int m = n - i < PHILOX_GROUP ? n - i : PHILOX_GROUP;
    philox_group(h->rng, first + (uint64_t)i / 4, words);
#pragma omp simd
    for (int j = 0; j < m; j++)
      dropped[i + j] = words[j] >= h->threshold ? p[i + j] * h->keep_scale : 0.0f;
    if (!dp) continue;
#pragma omp simd
    for (int j = 0; j < m; j++)
      dp[i + j] = words[j] >= h->threshold ? dp[i + j] * h->keep_scale : 0.0f;
  }
  for (int i = n; i < end; i++) dropped[i] = 0.0f;
}

/* ds = p * (dp * mask - <p, dp * mask>) * scale, over the dropped gradient in place. */
PER_CPU static void softmax_gradient_row(const float* p, float* dp, float scale, int n, int end) {
  float dot = 0.0f;
#pragma omp simd reduction(+ : dot)
  for (int i = 0; i < n; i++) dot += p[i] * dp[i];
#pragma omp simd
  for (int i = 0; i < n; i++) dp[i] = p[i] * (dp[i] - dot) * scale;
  for (int i = n; i < end; i++) dp[i] = 0.0f;
}

static void forward_head(const AttentionShape* s, const Head* h, float* probs, float* lse,
                         float* out, float* buffer) {
  const int seq = s->seq, width = s->heads * s->head_width;
  float *scores = buffer, *dropped = buffer + (size_t)BLOCK * seq;
  for (int r0 = 0; r0 < seq; r0 += BLOCK) {
    const int rows = seq - r0 < BLOCK ? seq - r0 : BLOCK, keys = r0 + rows;
    float* p = probs ? probs + (size_t)r0 * seq : scores;
    gemm(CblasNoTrans, CblasTrans, rows, keys, h->width, h->scale, h->q + (size_t)r0 * h->stride,
         h->stride, h->k, h->stride, 0.0f, p, seq);
    for (int i = 0; i < rows; i++) {
      /* The upper triangle of stored probabilities is written too: replay must give every byte
       * again. */
      const float sum = softmax_row(p + (size_t)i * seq, r0 + i + 1, probs ? seq : keys);
      if (lse) lse[r0 + i] = sum;
      if (out && s->dropout > 0.0f)
        drop_row(h, h->row0 + (uint64_t)(r0 + i), p + (size_t)i * seq, dropped + (size_t)i * seq,
                 NULL, r0 + i + 1, keys);
    }
    if (out)
      gemm(CblasNoTrans, CblasNoTrans, rows, h->width, keys, 1.0f, s->dropout > 0.0f ? dropped : p,
           seq, h->v, h->stride, 0.0f, out + (size_t)r0 * width, width);
  }
}

void attention_forward(const AttentionShape* s, const float* qkv, float* probs, float* lse,
                       float* out, Rng rng, float* workspace) {
  if (!probs && !lse && !out) return;
  const int n = s->batch * s->heads, width = s->heads * s->head_width;
#pragma omp parallel for schedule(static) num_threads(ops_threads()) if (n * s->seq > 1024)
  for (int i = 0; i < n; i++) {
    const Head h = head_of(s, qkv, i, rng);
    const size_t at =
        (size_t)(i / s->heads) * s->seq * width + (size_t)(i % s->heads) * s->head_width;
    forward_head(s, &h, probs ? probs + h.row0 * (size_t)s->seq : NULL, lse ? lse + h.row0 : NULL,
                 out ? out + at : NULL,
                 workspace + (size_t)omp_get_thread_num() * BUFFERS * BLOCK * s->seq);
  }
}

static void backward_head(const AttentionShape* s, const Head* h, const float* probs,
                          const float* lse, const float* dout, float* dq, float* dk, float* dv,
                          float* buffer) {
  const int seq = s->seq, width = s->heads * s->head_width, stride = h->stride;
  float *remade = buffer, *dropped = buffer + (size_t)BLOCK * seq,
        *gradient = dropped + (size_t)BLOCK * seq;
  /* From the last block up: the first one covers all keys, so it writes dk and dv and the others
   * add. */
  for (int r0 = (seq - 1) / BLOCK * BLOCK; r0 >= 0; r0 -= BLOCK) {
    const int rows = seq - r0 < BLOCK ? seq - r0 : BLOCK, keys = r0 + rows;
    const float* q = h->q + (size_t)r0 * stride;
    const float* d = dout + (size_t)r0 * width;
    const float* p = probs ? probs + (size_t)r0 * seq : remade;
    const float add = keys == seq ? 0.0f : 1.0f;
    if (!probs) {
      gemm(CblasNoTrans, CblasTrans, rows, keys, h->width, h->scale, q, stride, h->k, stride, 0.0f,
           remade, seq);
      for (int i = 0; i < rows; i++)
        exp_row(remade + (size_t)i * seq, lse[r0 + i], r0 + i + 1, keys);
    }
    gemm(CblasNoTrans, CblasTrans, rows, keys, h->width, 1.0f, d, width, h->v, stride, 0.0f,
         gradient, seq);
    for (int i = 0; i < rows; i++) {
      const size_t at = (size_t)i * seq;
      const int n = r0 + i + 1;
      if (s->dropout > 0.0f)
        drop_row(h, h->row0 + (uint64_t)(r0 + i), p + at, dropped + at, gradient + at, n, keys);
      softmax_gradient_row(p + at, gradient + at, h->scale, n, keys);
    }
    gemm(CblasTrans, CblasNoTrans, keys, h->width, rows, 1.0f, s->dropout > 0.0f ? dropped : p, seq,
         d, width, add, dv, stride);
    gemm(CblasTrans, CblasNoTrans, keys, h->width, rows, 1.0f, gradient, seq, q, stride, add, dk,
         stride);
    gemm(CblasNoTrans, CblasNoTrans, rows, h->width, keys, 1.0f, gradient, seq, h->k, stride, 0.0f,
         dq + (size_t)r0 * stride, stride);
  }
}

void attention_backward(const AttentionShape* s, const float* qkv, const float* probs,
                        const float* lse, const float* dout, float* dqkv, Rng rng,
                        float* workspace) {
  const int n = s->batch * s->heads, width = s->heads * s->head_width;
#pragma omp parallel for schedule(static) num_threads(ops_threads()) if (n * s->seq > 1024)
  for (int i = 0; i < n; i++) {
    const Head h = head_of(s, qkv, i, rng);
    const size_t token0 = (size_t)(i / s->heads) * s->seq,
                 column = (size_t)(i % s->heads) * s->head_width;
    float* dq = dqkv + token0 * 3 * width + column;
    backward_head(s, &h, probs ? probs + h.row0 * (size_t)s->seq : NULL, lse ? lse + h.row0 : NULL,
                  dout + token0 * width + column, dq, dq + width, dq + 2 * width,
                  workspace + (size_t)omp_get_thread_num() * BUFFERS * BLOCK * s->seq);
  }
}
