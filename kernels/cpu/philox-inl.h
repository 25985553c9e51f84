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
template <bool kNaturalOrder>
class PhiloxVectors {
 public:
  explicit PhiloxVectors(PhiloxRecord record) : record_(record) {}
  HWY_INLINE void words(uint64_t first, VU& w0, VU& w1) const {
    w0 = hn::Set(DU(), philox_word(record_, first));
    w1 = hn::Set(DU(), philox_word(record_, first + 1));
  }
  HWY_INLINE void words(uint64_t first, VU& w0, VU& w1, VU& w2, VU& w3) const {
    words(first, w0, w1);
    words(first + 2, w2, w3);
  }

 private:
  PhiloxRecord record_;
};
#else
// One 32-bit word per 64-bit lane, upper half arbitrary: the widening multiply reads lower halves
// only, so each half of a product is one shift or nothing, with no shuffles inside the rounds.
// Words come in natural order, or even elements first and then odd ones (BF16's pairs), which is
// words 0 and 2 of a counter beside each other, and 1 and 3.
template <bool kNaturalOrder>
class PhiloxVectors {
 public:
  explicit PhiloxVectors(PhiloxRecord record) : offset_(record.offset) {
    // For natural order lane 2j holds counter j and lane 2j+1 counter K/2 + j, so that interleaving
    // the lower and the upper lanes of each 128-bit block gives the words in order.
    HWY_ALIGN uint64_t order[HWY_MAX_BYTES / sizeof(uint64_t)];
    const size_t K = hn::Lanes(DQ());
    for (size_t j = 0; j < K; ++j) order[j] = kNaturalOrder ? j / 2 + (j % 2) * (K / 2) : j;
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
    Counters c = begin(first);
    RC_UNROLL
    for (int round = 1; round < kPhiloxRounds; ++round) step(c, round);
    finish(c, w0, w1);
  }
  // Of [first, first + 4 * lanes()): two chains, since one waits for its multiplications.
  HWY_INLINE void words(uint64_t first, VU& w0, VU& w1, VU& w2, VU& w3) const {
    Counters c = begin(first), d = begin(first + static_cast<uint64_t>(2 * lanes()));
    RC_UNROLL
    for (int round = 1; round < kPhiloxRounds; ++round) {
      step(c, round);
      step(d, round);
    }
    finish(c, w0, w1);
    finish(d, w2, w3);
  }

 private:
  struct Counters {
    VQ c0, c1, c2, c3;
  };
  // The counter after the first round, in which words 2 and 3 are 0.
  HWY_INLINE Counters begin(uint64_t first) const {
    const VQ counter = hn::Add(hn::Set(DQ(), offset_ + first / 4), order_);
    const VQ p0 = multiply(counter, kPhiloxMul0);
    return {hn::Xor(hn::ShiftRight<32>(counter), key(0)), hn::Zero(DQ()),
            hn::Xor(hn::ShiftRight<32>(p0), key(1)), p0};
  }
  HWY_INLINE void step(Counters& c, int round) const {
    const VQ p0 = multiply(c.c0, kPhiloxMul0), p1 = multiply(c.c2, kPhiloxMul1);
    c = {hn::Xor3(hn::ShiftRight<32>(p1), c.c1, key(2 * round)), p1,
         hn::Xor3(hn::ShiftRight<32>(p0), c.c3, key(2 * round + 1)), p0};
  }
  static HWY_INLINE void finish(const Counters& c, VU& w0, VU& w1) {
    if constexpr (kNaturalOrder) {
      const VQ a = beside(c.c0, c.c1), b = beside(c.c2, c.c3);
      w0 = hn::BitCast(DU(), hn::InterleaveLower(DQ(), a, b));
      w1 = hn::BitCast(DU(), hn::InterleaveUpper(DQ(), a, b));
    } else {
      w0 = hn::BitCast(DU(), beside(c.c0, c.c2));
      w1 = hn::BitCast(DU(), beside(c.c1, c.c3));
    }
  }
  static HWY_INLINE VQ beside(VQ low, VQ high) {
    return hn::Or(hn::And(low, hn::Set(DQ(), uint64_t{0xFFFFFFFFu})), hn::ShiftLeft<32>(high));
  }
  HWY_INLINE VQ key(int i) const { return hn::Load(DQ(), keys_ + i * kKeyStride); }
  static HWY_INLINE VQ multiply(VQ a, uint32_t by) {
    return hn::MulEven(hn::BitCast(DU(), a), hn::Set(DU(), by));
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
HWY_INLINE int64_t fill_words(const PhiloxVectors<true>& philox, int64_t first, int64_t n,
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
