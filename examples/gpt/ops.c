/* examples/gpt/ops.c: linear layers over BLAS, normalization, GELU, dropout, embedding, loss and
 * AdamW on the CPU. */
#include "ops.h"

#include <cblas.h>
#include <math.h>
#include <omp.h>
#include <string.h>

#include "simd.h"

/* OpenBLAS only; other libraries are linked in their sequential form. */
extern void openblas_set_num_threads(int) __attribute__((weak));

static int threads = 1;

void ops_set_threads(int n) {
  threads = n < 1 ? 1 : n;
  if (openblas_set_num_threads) openblas_set_num_threads(1);
}
int ops_threads(void) {
  return threads;
}

/* The `part`-th of `parts` ranges of n items, in multiples of 16. */
static void range_of(long n, int part, int parts, long* begin, long* end) {
  const long units = (n + 15) / 16;
  *begin = units * part / parts * 16;
  *end = units * (part + 1) / parts * 16;
  if (*begin > n) *begin = n;
  if (*end > n) *end = n;
}

/* Waking a second thread costs about as much as 5e5 floating-point operations. */
static int team_for(double operations) {
  return operations > 5e5 ? threads : 1;
}

/* Runs `body` once per thread with its range [begin, end) of n items, each of `cost` operations. */
#define OVER_THREADS(n, cost, body)                                               \
  do {                                                                            \
    const long items = (n);                                                       \
    const int team = team_for((double)items * (cost));                            \
    _Pragma("omp parallel num_threads(team)") {                                   \
      long begin, end;                                                            \
      range_of(items, omp_get_thread_num(), omp_get_num_threads(), &begin, &end); \
      if (begin < end) body;                                                      \
    }                                                                             \
  } while (0);

/* ---- linear ---- */

PER_CPU static void set_rows(float* y, const float* bias, long rows, int width) {
  for (long r = 0; r < rows; r++) memcpy(y + r * width, bias, sizeof(float) * (size_t)width);
}

void linear_forward(const float* x, const float* w, const float* bias, float* y, int rows, int in,
                    int out){OVER_THREADS(rows, 2.0 * in * out,
                                          {
                                            if (bias)
                                              set_rows(y + begin * out, bias, end - begin, out);
                                            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans,
                                                        (int)(end - begin), out, in, 1.0f,
                                                        x + begin * in, in, w, in,
                                                        bias ? 1.0f : 0.0f, y + begin * out, out);
                                          })}

PER_CPU static void add_columns(const float* dy, float* sums, int rows, int width, long begin,
                                long end) {
  for (int r = 0; r < rows; r++)
    for (long c = begin; c < end; c++) sums[c] += dy[(size_t)r * width + c];
}

void linear_backward(const float* dy, const float* x, const float* w, float* dx, float* dw,
                     float* dbias, int rows, int in, int out) {
  if (dx) {
    OVER_THREADS(rows, 2.0 * in * out, {
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)(end - begin), in, out, 1.0f,
                  dy + begin * out, out, w, in, 0.0f, dx + begin * in, in);
    })
  }
  OVER_THREADS(out, 2.0 * in * rows, {
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)(end - begin), in, rows, 1.0f,
                dy + begin, out, x, in, 1.0f, dw + begin * in, in);
    if (dbias) add_columns(dy, dbias, rows, out, begin, end);
  })
}

/* ---- layer normalization ---- */

PER_CPU static void layernorm_rows(const float* x, const float* gamma, const float* beta, float* y,
                                   float* mean, float* rstd, long begin, long end, int width) {
  for (long r = begin; r < end; r++) {
    const float* row = x + r * width;
    float sum = 0.0f, squares = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int c = 0; c < width; c++) sum += row[c];
    const float m = sum / (float)width;
#pragma omp simd reduction(+ : squares)
    for (int c = 0; c < width; c++) squares += (row[c] - m) * (row[c] - m);
    const float s = 1.0f / sqrtf(squares / (float)width + 1e-5f);
    if (mean) mean[r] = m;
    if (rstd) rstd[r] = s;
    if (!y) continue;
    for (int c = 0; c < width; c++) y[r * width + c] = (row[c] - m) * s * gamma[c] + beta[c];
  }
}

void layernorm_forward(const float* x, const float* gamma, const float* beta, float* y, float* mean,
                       float* rstd, int rows, int width) {
  if (!y && !mean && !rstd) return;
  OVER_THREADS(rows, 8 * width, layernorm_rows(x, gamma, beta, y, mean, rstd, begin, end, width))
}

PER_CPU static void layernorm_dx(const float* dy, const float* x, const float* gamma,
                                 const float* mean, const float* rstd, float* dx, long begin,
                                 long end, int width) {
  for (long r = begin; r < end; r++) {
    const float *drow = dy + r * width, *row = x + r * width;
    float* out = dx + r * width;
    const float m = mean[r], s = rstd[r];
    float sum = 0.0f, dot = 0.0f;
#pragma omp simd reduction(+ : sum, dot)
    for (int c = 0; c < width; c++) {
      const float d = drow[c] * gamma[c];
      sum += d;
      dot += d * (row[c] - m) * s;
    }
    sum /= (float)width;
    dot /= (float)width;
    for (int c = 0; c < width; c++)
      out[c] += s * (drow[c] * gamma[c] - sum - (row[c] - m) * s * dot);
  }
}

PER_CPU static void layernorm_dparams(const float* dy, const float* x, const float* mean,
                                      const float* rstd, float* dgamma, float* dbeta, int rows,
                                      int width, long begin, long end) {
  for (int r = 0; r < rows; r++) {
    const float *drow = dy + (size_t)r * width, *row = x + (size_t)r * width;
    const float m = mean[r], s = rstd[r];
    for (long c = begin; c < end; c++) {
      dgamma[c] += drow[c] * (row[c] - m) * s;
      dbeta[c] += drow[c];
    }
  }
}

void layernorm_backward(const float* dy, const float* x, const float* gamma, const float* mean,
                        const float* rstd, float* dx, float* dgamma, float* dbeta, int rows,
                        int width) {
  OVER_THREADS(width, 5 * rows,
               layernorm_dparams(dy, x, mean, rstd, dgamma, dbeta, rows, width, begin, end))
  OVER_THREADS(rows, 12 * width, layernorm_dx(dy, x, gamma, mean, rstd, dx, begin, end, width))
}

/* ---- GELU ---- */

static const float kGeluScale = 0.7978845608f; /* sqrt(2 / pi) */
static const float kGeluCubic = 0.044715f;

PER_CPU static void gelu_range(const float* x, float* y, long begin, long end) {
  for (long i = begin; i < end; i++) {
    const float v = x[i];
    const float u = kGeluScale * (v + kGeluCubic * v * v * v);
    y[i] =
        v * (1.0f - 1.0f / (1.0f + exp_lane(2.0f * u))); /* (1 + tanh u) / 2 = 1 - 1 / (1 + e^2u) */
  }
}

void gelu_forward(const float* x, float* y,
                  size_t n){OVER_THREADS((long)n, 20, gelu_range(x, y, begin, end))}

PER_CPU static void gelu_gradient_range(const float* x, float* d, long begin, long end) {
  for (long i = begin; i < end; i++) {
    const float v = x[i];
    const float u = kGeluScale * (v + kGeluCubic * v * v * v);
    const float h = 1.0f - 1.0f / (1.0f + exp_lane(2.0f * u));
    const float du = kGeluScale * (1.0f + 3.0f * kGeluCubic * v * v);
    d[i] *= h + v * 2.0f * h * (1.0f - h) * du;
  }
}

void gelu_backward(const float* x, float* d, size_t n) {
  OVER_THREADS((long)n, 25, gelu_gradient_range(x, d, begin, end))
}

/* ---- dropout ---- */

static uint32_t drop_threshold(float p) {
  return (uint32_t)((double)p * 4294967296.0);
}

PER_CPU static void dropout_range(const float* src, const float* residual, float* dst, long begin,
                                  long end, uint32_t threshold, float scale, Rng rng) {
  uint32_t words[PHILOX_GROUP];
  for (long i = begin; i < end; i += PHILOX_GROUP) {
    const long n = end - i < PHILOX_GROUP ? end - i : PHILOX_GROUP;
    philox_group(rng, (uint64_t)i / 4, words);
    if (residual) {
#pragma omp simd
      for (long j = 0; j < n; j++)
        dst[i + j] = residual[i + j] + (words[j] >= threshold ? src[i + j] * scale : 0.0f);
    } else {
#pragma omp simd
      for (long j = 0; j < n; j++) dst[i + j] = words[j] >= threshold ? src[i + j] * scale : 0.0f;
    }
  }
}

void dropout_add(float* y, const float* residual, size_t n, float p, Rng rng) {
  if (p == 0.0f) {
    if (residual) add_into(y, residual, n);
    return;
  }
  const uint32_t threshold = drop_threshold(p);
  const float scale = 1.0f / (1.0f - p);
  OVER_THREADS((long)n, 10, dropout_range(y, residual, y, begin, end, threshold, scale, rng))
}

void dropout_backward(const float* src, float* dst, size_t n, float p, Rng rng) {
  const uint32_t threshold = p == 0.0f ? 0 : drop_threshold(p);
  const float scale = 1.0f / (1.0f - p);
  if (p == 0.0f) {
    if (dst != src) memcpy(dst, src, n * sizeof(float));
    return;
  }
  OVER_THREADS((long)n, 10, dropout_range(src, NULL, dst, begin, end, threshold, scale, rng))
}

/* ---- embedding ---- */

void embedding_forward(const uint8_t* tokens, const float* token_table, const float* position_table,
                       float* x, int rows, int seq, int width) {
  OVER_THREADS(rows, width, {
    for (long r = begin; r < end; r++) {
      const float* token = token_table + (size_t)tokens[r] * width;
      const float* position = position_table + (size_t)(r % seq) * width;
      for (int c = 0; c < width; c++) x[r * width + c] = token[c] + position[c];
    }
  })
}

void embedding_backward(const uint8_t* tokens, const float* dx, float* dtoken, float* dposition,
                        int rows, int seq, int width){
    OVER_THREADS(width, 2 * rows,
                 {
                   for (int r = 0; r < rows; r++) {
                     float* token = dtoken + (size_t)tokens[r] * width;
                     float* position = dposition + (size_t)(r % seq) * width;
                     for (long c = begin; c < end; c++) {
                       token[c] += dx[(size_t)r * width + c];
                       position[c] += dx[(size_t)r * width + c];
                     }
                   }
                 })}

/* ---- loss ---- */

PER_CPU static void cross_entropy_rows(float* logits, const uint8_t* targets, long begin, long end,
                                       int classes, float scale, float* losses) {
  for (long r = begin; r < end; r++) {
    float* row = logits + r * classes;
    float highest = row[0], sum = 0.0f;
    for (int c = 1; c < classes; c++) highest = row[c] > highest ? row[c] : highest;
    const float at_target = row[targets[r]] - highest;
#pragma omp simd reduction(+ : sum)
    for (int c = 0; c < classes; c++) {
      row[c] = exp_lane(row[c] - highest);
      sum += row[c];
    }
    losses[r] = logf(sum) - at_target;
    const float normalize = scale / sum;
    for (int c = 0; c < classes; c++) row[c] *= normalize;
    row[targets[r]] -= scale;
  }
}

double cross_entropy(float* logits, const uint8_t* targets, int rows, int classes, float scale) {
  double total = 0.0;
  enum { CHUNK = 4096 };
  float losses[CHUNK];
  for (int first = 0; first < rows; first += CHUNK) {
    const int n = rows - first < CHUNK ? rows - first : CHUNK;
    OVER_THREADS(n, 15 * classes,
                 cross_entropy_rows(logits + (size_t)first * classes, targets + first, begin, end,
                                    classes, scale, losses))
    for (int r = 0; r < n; r++) total += losses[r];
  }
  return total;
}

/* ---- optimizer and accounting ---- */

PER_CPU static void adamw_range(float* p, const float* g, float* m, float* v, long begin, long end,
                                float lr, float decay, float correct1, float correct2) {
  for (long i = begin; i < end; i++) {
    m[i] = 0.9f * m[i] + 0.1f * g[i];
    v[i] = 0.99f * v[i] + 0.01f * g[i] * g[i];
    p[i] -= lr * (m[i] * correct1 / (sqrtf(v[i] * correct2) + 1e-8f) + decay * p[i]);
  }
}

void adamw(float* p, const float* g, float* m, float* v, size_t n, float lr, float decay,
           int step) {
  const float correct1 = (float)(1.0 / (1.0 - pow(0.9, step)));
  const float correct2 = (float)(1.0 / (1.0 - pow(0.99, step)));
  OVER_THREADS((long)n, 15, adamw_range(p, g, m, v, begin, end, lr, decay, correct1, correct2))
}

PER_CPU static void add_range(float* y, const float* x, long begin, long end) {
  for (long i = begin; i < end; i++) y[i] += x[i];
}

void add_into(float* y, const float* x,
              size_t n){OVER_THREADS((long)n, 1, add_range(y, x, begin, end))}

uint64_t digest_floats(uint64_t digest, const float* x, size_t n) {
  for (size_t i = 0; i < n;
       i++) { /* FNV-1a over 32-bit words, finished by a mix so that high bits count */
    uint32_t bits;
    memcpy(&bits, x + i, 4);
    digest = (digest ^ bits) * 0x100000001b3ull;
    digest ^= digest >> 29;
  }
  return digest;
}
