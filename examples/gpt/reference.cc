// examples/gpt/reference.cc: a forward in double precision written from the formulas, loops only.
#include "examples/gpt/reference.h"

#include <cmath>

extern "C" {
#include "examples/gpt/philox.h"
}

namespace gpt {
namespace {

using Vector = std::vector<double>;

// Walks the flat parameters in their order (model.c): parts start at multiples of 16.
class Reader {
 public:
  explicit Reader(const Vector& flat) : flat_(flat) {}
  const double* take(size_t n) {
    const double* at = flat_.data() + used_;
    used_ += (n + 15) / 16 * 16;
    return at;
  }

 private:
  const Vector& flat_;
  size_t used_ = 0;
};

class Dropout {
 public:
  Dropout(const Sizes& sizes) : p_(sizes.dropout), rng_{sizes.seed, 0} {}
  // A new tensor of n elements begins.
  void begin(uint64_t n) {
    rng_.offset = next_;
    next_ += philox_blocks(n);
  }
  double operator()(uint64_t i, double x) const {
    const auto threshold = static_cast<uint32_t>(p_ * 4294967296.0);
    return philox_word(rng_, i) >= threshold ? x / (1.0 - p_) : 0.0;
  }

 private:
  double p_;
  Rng rng_;
  uint64_t next_ = 0;
};

Vector linear(const Vector& x, const double* w, const double* bias, size_t in, size_t out) {
  const size_t rows = x.size() / in;
  Vector y(rows * out);
  for (size_t r = 0; r < rows; ++r) {
    for (size_t o = 0; o < out; ++o) {
      double sum = bias ? bias[o] : 0.0;
      for (size_t i = 0; i < in; ++i) sum += x[r * in + i] * w[o * in + i];
      y[r * out + o] = sum;
    }
  }
  return y;
}

Vector norm(const Vector& x, const double* gamma, const double* beta, size_t width) {
  Vector y(x.size());
  for (size_t r = 0; r < x.size() / width; ++r) {
    double mean = 0, variance = 0;
    for (size_t c = 0; c < width; ++c) mean += x[r * width + c] / width;
    for (size_t c = 0; c < width; ++c) variance += std::pow(x[r * width + c] - mean, 2) / width;
    for (size_t c = 0; c < width; ++c) {
      y[r * width + c] =
          (x[r * width + c] - mean) / std::sqrt(variance + 1e-5) * gamma[c] + beta[c];
    }
  }
  return y;
}

Vector attention(const Sizes& s, const Vector& qkv, Dropout* dropout) {
  const size_t seq = s.seq, width = s.width, hd = width / s.heads;
  Vector out(static_cast<size_t>(s.batch) * seq * width);
  dropout->begin(static_cast<uint64_t>(s.batch) * s.heads * seq * seq);
  for (size_t b = 0; b < static_cast<size_t>(s.batch); ++b) {
    for (size_t h = 0; h < static_cast<size_t>(s.heads); ++h) {
      for (size_t q = 0; q < seq; ++q) {
        const double* query = &qkv[(b * seq + q) * 3 * width + h * hd];
        Vector p(q + 1);
        double sum = 0;
        for (size_t k = 0; k <= q; ++k) {
          const double* key = &qkv[(b * seq + k) * 3 * width + width + h * hd];
          double score = 0;
          for (size_t i = 0; i < hd; ++i) score += query[i] * key[i];
          sum += p[k] = std::exp(score / std::sqrt(static_cast<double>(hd)));
        }
        for (size_t k = 0; k <= q; ++k) {
          const double* value = &qkv[(b * seq + k) * 3 * width + 2 * width + h * hd];
          const double kept = (*dropout)(((b * s.heads + h) * seq + q) * seq + k, p[k] / sum);
          for (size_t i = 0; i < hd; ++i)
            out[(b * seq + q) * width + h * hd + i] += kept * value[i];
        }
      }
    }
  }
  return out;
}

void add_dropped(const Vector& branch, Dropout* dropout, Vector* x) {
  dropout->begin(x->size());
  for (size_t i = 0; i < x->size(); ++i) (*x)[i] += (*dropout)(i, branch[i]);
}

void layer(const Sizes& s, Reader* params, Dropout* dropout, Vector* x) {
  const size_t d = s.width;
  const double *ln1_gamma = params->take(d), *ln1_beta = params->take(d);
  const double *qkv_w = params->take(3 * d * d), *qkv_b = params->take(3 * d);
  const double *proj_w = params->take(d * d), *proj_b = params->take(d);
  const double *ln2_gamma = params->take(d), *ln2_beta = params->take(d);
  const double *fc1_w = params->take(4 * d * d), *fc1_b = params->take(4 * d);
  const double *fc2_w = params->take(4 * d * d), *fc2_b = params->take(d);
  const Vector qkv = linear(norm(*x, ln1_gamma, ln1_beta, d), qkv_w, qkv_b, d, 3 * d);
  const Vector mixed = attention(s, qkv, dropout);
  add_dropped(linear(mixed, proj_w, proj_b, d, d), dropout, x);
  Vector wide = linear(norm(*x, ln2_gamma, ln2_beta, d), fc1_w, fc1_b, d, 4 * d);
  for (double& v : wide) {
    v = 0.5 * v *
        (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846) * (v + 0.044715 * v * v * v)));
  }
  add_dropped(linear(wide, fc2_w, fc2_b, 4 * d, d), dropout, x);
}

}  // namespace

double reference_loss(const Sizes& s, const Vector& flat, const uint8_t* tokens,
                      const uint8_t* targets) {
  const size_t d = s.width, rows = static_cast<size_t>(s.batch) * s.seq;
  Reader params(flat);
  Dropout dropout(s);
  const double *token_table = params.take(VOCABULARY * d), *positions = params.take(s.seq * d);
  Vector x(rows * d), embedded(rows * d);
  for (size_t i = 0; i < rows * d; ++i) {
    embedded[i] = token_table[tokens[i / d] * d + i % d] + positions[i / d % s.seq * d + i % d];
  }
  add_dropped(embedded, &dropout, &x);
  for (int l = 0; l < s.layers; ++l) layer(s, &params, &dropout, &x);
  const double *gamma = params.take(d), *beta = params.take(d), *head = params.take(VOCABULARY * d);
  const Vector logits = linear(norm(x, gamma, beta, d), head, nullptr, d, VOCABULARY);
  double loss = 0;
  for (size_t r = 0; r < rows; ++r) {
    double sum = 0;
    for (size_t c = 0; c < VOCABULARY; ++c) sum += std::exp(logits[r * VOCABULARY + c]);
    loss += (std::log(sum) - logits[r * VOCABULARY + targets[r]]) / rows;
  }
  return loss;
}

}  // namespace gpt
