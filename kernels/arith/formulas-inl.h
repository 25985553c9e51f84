// kernels/arith/formulas-inl.h: exp and the activations, written once for scalars and for vectors.
//
// Included inside a namespace, once per instruction set, hence no include guard. M is a policy with
// a value type M::V and the operations set, add, sub, mul, div, mul_add, neg_mul_add (c - a * b),
// min, max (both return the second operand if it is NaN), abs, and exponent (a float whose exponent
// bits are the lowest 8 bits of the operand). arith/scalar_math.h is M for one float.
//
// The polynomials are own minimax fits (iteratively reweighted least squares in double precision,
// then rounded to float32); the stated errors are of the float32 evaluation against float64.

// e^c for c in [-88, 88.8] or NaN: Cody-Waite reduction by ln 2, degree 6. Adding 1.5 * 2^23 + 127
// rounds c / ln 2 to an integer n and leaves n + 127, the biased exponent of 2^n, in the lowest
// bits: 0 at n = -127, +inf at n = 128.
template <class M>
RC_HD typename M::V exp_in_range(typename M::V c) {
  using V = typename M::V;
  const V shift = M::set(12583039.0f);
  const V t = M::mul_add(c, M::set(1.44269504f), shift);
  const V n = M::sub(t, shift);
  V r = M::neg_mul_add(n, M::set(0.693359375f), c);  // ln 2 = 0.693359375 - 2.12194440e-4
  r = M::neg_mul_add(n, M::set(-2.12194440e-4f), r);
  V p = M::set(1.38145988e-3f);
  p = M::mul_add(p, r, M::set(8.36871658e-3f));
  p = M::mul_add(p, r, M::set(4.16683890e-2f));
  p = M::mul_add(p, r, M::set(1.66665211e-1f));
  p = M::mul_add(p, r, M::set(4.99999940e-1f));
  p = M::mul_add(p, M::mul(r, r), M::add(r, M::set(1.0f)));
  return M::mul(p, M::exponent(t));
}

// e^x. Relative error below 1.3e-7; 0 below -87.68, +inf above 88.37 (2^127.5), NaN stays NaN.
template <class M>
RC_HD typename M::V exp_of(typename M::V x) {
  return exp_in_range<M>(M::min(M::set(88.8f), M::max(M::set(-88.0f), x)));
}

// The same where x <= 0 or NaN is known.
template <class M>
RC_HD typename M::V exp_of_negative(typename M::V x) {
  return exp_in_range<M>(M::max(M::set(-88.0f), x));
}

// x / (1 + e^-x), SiLU; x times the logistic function.
template <class M>
RC_HD typename M::V silu_of(typename M::V x) {
  const typename M::V e = exp_of<M>(M::sub(M::set(0.0f), x));
  return M::div(x, M::add(M::set(1.0f), e));
}

// GELU by the tanh formula, 0.5 x (1 + tanh u) with u = sqrt(2/pi) (x + 0.044715 x^3) (Hendrycks
// and Gimpel, arXiv 1606.08415), computed as x / (1 + e^-2u): one exp, and no cancellation in the
// tail.
template <class M>
RC_HD typename M::V gelu_tanh_of(typename M::V x) {
  using V = typename M::V;
  // -2 sqrt(2/pi) = -1.59576912, times 0.044715 = -0.0713548163.
  const V inner = M::mul_add(M::mul(x, x), M::set(-0.0713548163f), M::set(-1.59576912f));
  return M::div(x, M::add(M::set(1.0f), exp_of<M>(M::mul(x, inner))));
}

// Exact GELU, x Phi(x) = max(x, 0) - |x| Q(|x|) with Q(a) = erfc(a / sqrt 2) / 2. The substitution
// is of Shepherd and Laframboise (Math. Comp. 36, 1981): Q(a) e^(a^2/2) is a polynomial in t = (a -
// k) / (a + k); here k = 3, degree 9, relative error 5.6e-7 on [0, 14]. Absolute error below 1.2e-7
// (1 + |x|); relative error in the negative tail below 5e-6, where 1 + erf would lose all.
template <class M>
RC_HD typename M::V gelu_erf_of(typename M::V x) {
  using V = typename M::V;
  // Q underflows before 14; the bound keeps inf / inf out of t.
  const V a = M::min(M::set(14.0f), M::abs(x));
  const V t = M::div(M::sub(a, M::set(3.0f)), M::add(a, M::set(3.0f)));
  V p = M::set(5.36719235e-05f);
  p = M::mul_add(p, t, M::set(1.15543829e-04f));
  p = M::mul_add(p, t, M::set(-3.39484948e-04f));
  p = M::mul_add(p, t, M::set(-9.83758480e-04f));
  p = M::mul_add(p, t, M::set(2.90455623e-03f));
  p = M::mul_add(p, t, M::set(6.13207091e-03f));
  p = M::mul_add(p, t, M::set(-4.62132916e-02f));
  p = M::mul_add(p, t, M::set(1.23225033e-01f));
  p = M::mul_add(p, t, M::set(-2.06402615e-01f));
  p = M::mul_add(p, t, M::set(1.21513948e-01f));
  const V q = M::mul(p, exp_of_negative<M>(M::mul(M::mul(a, a), M::set(-0.5f))));
  return M::neg_mul_add(a, q, M::max(M::set(0.0f), x));
}

// max(x, 0)^2 (Primer, arXiv 2109.08668).
template <class M>
RC_HD typename M::V squared_relu_of(typename M::V x) {
  const typename M::V positive = M::max(M::set(0.0f), x);
  return M::mul(positive, positive);
}
