// kernels/cpu/philox-inl.h: Philox-4x32-10 for a vector of counters (see arith/philox.h).
#if defined(RC_KERNELS_CPU_PHILOX_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef RC_KERNELS_CPU_PHILOX_INL_H
#undef RC_KERNELS_CPU_PHILOX_INL_H
#else
#define RC_KERNELS_CPU_PHILOX_INL_H
#endif

#include "kernels/arith/philox.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace rc {
namespace HWY_NAMESPACE {

using DQ = hn::ScalableTag<uint64_t>;
using VQ = hn::Vec<DQ>;

#if HWY_TARGET == HWY_SCALAR
// The baseline has one lane and no interleaving: words one by one.
class PhiloxVectors {
 public:
  explicit PhiloxVectors(PhiloxRecord record) : record_(record) {}
  HWY_INLINE void words(uint64_t first, VU& w0, VU& w1) const {
    w0 = hn::Set(DU(), philox_word(record_, first));
    w1 = hn::Set(DU(), philox_word(record_, first + 1));
  }

 private:
  PhiloxRecord record_;
};
#else
// One 32-bit word per 64-bit lane, upper half arbitrary: the widening multiply reads lower halves
// only, so each half of a product is one shift or nothing, with no shuffles inside the rounds.
class PhiloxVectors {
 public:
  explicit PhiloxVectors(PhiloxRecord record) : offset_(record.offset) {
    // Lane 2j holds counter j and lane 2j+1 counter K/2 + j, so that interleaving the lower and the
    // upper lanes of each 128-bit block gives the words in order.
    HWY_ALIGN uint64_t order[HWY_MAX_BYTES / sizeof(uint64_t)];
    const size_t K = hn::Lanes(DQ());
    for (size_t j = 0; j < K; ++j) order[j] = j / 2 + (j % 2) * (K / 2);
    order_ = hn::Load(DQ(), order);
    uint32_t k0 = static_cast<uint32_t>(record.seed), k1 = static_cast<uint32_t>(record.seed >> 32);
    for (int round = 0; round < kPhiloxRounds; ++round) {
      hn::Store(hn::Set(DQ(), uint64_t{k0}), DQ(), keys_ + 2 * round * kKeyStride);
      hn::Store(hn::Set(DQ(), uint64_t{k1}), DQ(), keys_ + (2 * round + 1) * kKeyStride);
      k0 += kPhiloxWeyl0;
      k1 += kPhiloxWeyl1;
    }
  }

  // Words of elements [first, first + 2 * lanes()); first is a multiple of 4.
  HWY_INLINE void words(uint64_t first, VU& w0, VU& w1) const {
    const VQ counter = hn::Add(hn::Set(DQ(), offset_ + first / 4), order_);
    VQ c0 = counter, c1 = hn::ShiftRight<32>(counter), c2 = hn::Zero(DQ()), c3 = hn::Zero(DQ());
    const VQ m0 = hn::Set(DQ(), kPhiloxMul0), m1 = hn::Set(DQ(), kPhiloxMul1);
    RC_UNROLL
    for (int round = 0; round < kPhiloxRounds; ++round) {
      const VQ p0 = multiply(c0, m0), p1 = multiply(c2, m1);
      const VQ k0 = hn::Load(DQ(), keys_ + 2 * round * kKeyStride);
      const VQ k1 = hn::Load(DQ(), keys_ + (2 * round + 1) * kKeyStride);
      c0 = hn::Xor3(hn::ShiftRight<32>(p1), c1, k0);
      c1 = p1;
      c2 = hn::Xor3(hn::ShiftRight<32>(p0), c3, k1);
      c3 = p0;
    }
    const VQ low = hn::Set(DQ(), uint64_t{0xFFFFFFFFu});
    const VQ a = hn::Or(hn::And(c0, low), hn::ShiftLeft<32>(c1));
    const VQ b = hn::Or(hn::And(c2, low), hn::ShiftLeft<32>(c3));
    w0 = hn::BitCast(DU(), hn::InterleaveLower(DQ(), a, b));
    w1 = hn::BitCast(DU(), hn::InterleaveUpper(DQ(), a, b));
  }

 private:
  static HWY_INLINE VQ multiply(VQ a, VQ b) {
    return hn::MulEven(hn::BitCast(DU(), a), hn::BitCast(DU(), b));
  }
  static constexpr int64_t kKeyStride = HWY_MAX_BYTES / sizeof(uint64_t);
  uint64_t offset_;
  VQ order_;
  // The key of every round, broadcast once: an operand from the first-level cache.
  HWY_ALIGN uint64_t keys_[2 * kPhiloxRounds * kKeyStride];
};
#endif

// words[0 .. n) of elements first ... first + n; `words` has room for 3 + 2 * lanes() more.
// Returns where element `first` stands in `words` (0 to 3: a counter's words come together).
HWY_INLINE int64_t fill_words(const PhiloxVectors& philox, int64_t first, int64_t n,
                              uint32_t* words) {
  const int64_t skip = first % 4, N = lanes();
  for (int64_t i = 0; i < skip + n; i += 2 * N) {
    VU w0, w1;
    philox.words(static_cast<uint64_t>(first - skip + i), w0, w1);
    hn::StoreU(w0, DU(), words + i);
    hn::StoreU(w1, DU(), words + i + N);
  }
  return skip;
}

// x * scale where the word keeps it, else +0.
HWY_INLINE VF keep(VF x, VU word, VU threshold, VF scale) {
  return hn::IfThenZeroElse(hn::RebindMask(DF(), hn::Lt(word, threshold)), hn::Mul(x, scale));
}

}  // namespace HWY_NAMESPACE
}  // namespace rc
HWY_AFTER_NAMESPACE();

#endif  // per-target guard
