// kernels/cpu/layernorm.cc: LayerNorm, (x - mean) * rstd * gamma + beta over the last dimension.
//
// Mean and variance come from one pass where the mean is small, and else from two, so that a large
// mean does not cancel the variance. Source: Ba, Kiros, Hinton, arXiv 1607.06450.
#include <cmath>
#include <limits>
#include <type_traits>

#include "kernels/cpu/norm.h"
#include "kernels/cpu/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/layernorm.cc"
#include "hwy/foreach_target.h"
//
#include "kernels/cpu/norm-inl.h"

HWY_BEFORE_NAMESPACE();
namespace rc {
namespace HWY_NAMESPACE {

// Sums of x and of x^2 over whole groups of two pairs; the rest of a row is left.
template <class IO>
struct SumsOfGroups {
  float sum, squares;
  int64_t done = 0;
  SumsOfGroups(const typename IO::T* x, int64_t n) {
    const int64_t N2 = 2 * lanes();
    VF s0 = hn::Zero(DF()), s1 = s0, s2 = s0, s3 = s0, q0 = s0, q1 = s0, q2 = s0, q3 = s0;
    VF a, b, c, d;
    for (; done + 2 * N2 <= n; done += 2 * N2) {
      IO::load2(x + done, a, b);
      IO::load2(x + done + N2, c, d);
      s0 = hn::Add(s0, a);
      s1 = hn::Add(s1, b);
      s2 = hn::Add(s2, c);
      s3 = hn::Add(s3, d);
      q0 = hn::MulAdd(a, a, q0);
      q1 = hn::MulAdd(b, b, q1);
      q2 = hn::MulAdd(c, c, q2);
      q3 = hn::MulAdd(d, d, q3);
    }
    sum = hn::GetLane(hn::SumOfLanes(DF(), hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))));
    squares = hn::GetLane(hn::SumOfLanes(DF(), hn::Add(hn::Add(q0, q1), hn::Add(q2, q3))));
  }
};

// Where mean^2 is at most the variance, E x^2 - mean^2 loses one bit; else the row, which is in a
// near cache by now, is read again.
template <class IO>
HWY_INLINE void row_moments(const typename IO::T* x, int64_t n, float inverse_n, float& mean,
                            float& variance) {
  const SumsOfGroups<IO> sums(x, n);
  const typename IO::T* rest = x + sums.done;
  const int64_t left = n - sums.done;
  mean = (sums.sum + row_sum<IO>(rest, left, PlainSum())) * inverse_n;
  variance = (sums.squares + row_sum<IO>(rest, left, SquareSum())) * inverse_n - mean * mean;
  if (!(mean * mean <= variance && variance <= std::numeric_limits<float>::max())) {
    variance = row_sum<IO>(x, n, CentredSquareSum{hn::Set(DF(), mean)}) * inverse_n;
  }
}

// y = (x - mean) * rstd, then * gamma and + beta where present. For bfloat16, whose own rounding
// hides that of mean * rstd, the first step is one operation.
template <class IO, bool kGamma, bool kBeta>
struct Normalise {
  VF centre, rstd;
  const float* gamma;
  const float* beta;
  Normalise(float mean, float r, const float* gamma_in, const float* beta_in)
      : centre(hn::Set(DF(), kExact ? mean : -mean * r)),
        rstd(hn::Set(DF(), r)),
        gamma(gamma_in),
        beta(beta_in) {}
  HWY_INLINE VF operator()(VF x, int64_t i) const {
    const VF v = kExact ? hn::Mul(hn::Sub(x, centre), rstd) : hn::MulAdd(x, rstd, centre);
    if constexpr (kGamma && kBeta) return hn::MulAdd(v, F32::load(gamma + i), F32::load(beta + i));
    if constexpr (kGamma) return hn::Mul(v, F32::load(gamma + i));
    if constexpr (kBeta) return hn::Add(v, F32::load(beta + i));
    return v;
  }

 private:
  static constexpr bool kExact = std::is_same_v<IO, F32>;
};

template <class IO, bool kGamma, bool kBeta>
HWY_INLINE void layernorm_block(const cpu::NormRows& a, const float* gamma, const float* beta) {
  using T = typename IO::T;
  const int64_t n = a.x->cols();
  const float inverse_n = 1.0f / static_cast<float>(n > 0 ? n : 1);
  for (int64_t row = a.begin; row < a.end; row += 2) {
    const RowPair<T> rows = row_pair<T>(a, row);
    float mean[2], rstd[2];
    for (int k = 0; k < 2; ++k) {
      float variance;
      row_moments<IO>(rows.x[k], n, inverse_n, mean[k], variance);
      rstd[k] = 1.0f / std::sqrt(variance + a.epsilon);
      if (a.mean) a.mean[rows.row[k]] = mean[k];
      if (a.rstd) a.rstd[rows.row[k]] = rstd[k];
    }
    if (!a.y->data) continue;
    using Finish = Normalise<IO, kGamma, kBeta>;
    finish_rows<IO>(rows, n, a.stream, Finish(mean[0], rstd[0], gamma, beta),
                    Finish(mean[1], rstd[1], gamma, beta));
  }
  if (a.stream) hwy::FlushStream();
}

template <class IO>
void layernorm_rows(const cpu::NormRows& a) {
  const int64_t n = a.x->cols();
  const float* gamma = row_param<IO, 0>(a.gamma, a.gamma_f32, n, a.gamma_plus);
  const float* beta = row_param<IO, 1>(a.beta, a.beta_f32, n, 0.0f);
  if (gamma) {
    beta ? layernorm_block<IO, true, true>(a, gamma, beta)
         : layernorm_block<IO, true, false>(a, gamma, beta);
  } else {
    beta ? layernorm_block<IO, false, true>(a, gamma, beta)
         : layernorm_block<IO, false, false>(a, gamma, beta);
  }
}

void layernorm_f32(const cpu::NormRows& a) {
  layernorm_rows<F32>(a);
}
void layernorm_bf16(const cpu::NormRows& a) {
  layernorm_rows<BF16>(a);
}

}  // namespace HWY_NAMESPACE
}  // namespace rc
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rc::cpu {

void layernorm(const KernelDesc& desc, const KernelArgs& args, Parallel& parallel) {
  run_norm(RC_PICK_KERNEL(layernorm, args.inputs[0].dtype), desc, args, parallel);
}

}  // namespace rc::cpu
#endif
