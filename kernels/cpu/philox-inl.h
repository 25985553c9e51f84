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

// The eight draws of one counter.
HWY_INLINE void store_counter(PhiloxRecord record, uint64_t counter, uint16_t* draws) {
  const PhiloxWords c = philox_counter(record, counter);
  for (int i = 0; i < 8; ++i) draws[i] = static_cast<uint16_t>(c.w[i / 2] >> (i % 2 * 16));
}

#if HWY_TARGET == HWY_SCALAR
// The baseline has one lane and no interleaving: counters one by one.
class PhiloxVectors {
 public:
  static constexpr int64_t kMaxStep = kDrawsPerCounter;
  explicit PhiloxVectors(PhiloxRecord record) : record_(record) {}
  void fill(uint64_t first, int64_t n, uint16_t* draws) const {
    for (int64_t i = 0; i < n; i += kMaxStep) {
      store_counter(record_, (first + static_cast<uint64_t>(i)) / kDrawsPerCounter, draws + i);
    }
  }

 private:
  PhiloxRecord record_;
};
#else
using DQ = hn::ScalableTag<uint64_t>;
using DW = hn::Repartition<uint16_t, DQ>;
using VQ = hn::Vec<DQ>;
using VW = hn::Vec<DW>;

// One 32-bit word per 64-bit lane, upper half arbitrary: the widening multiply reads lower halves
// only, so each half of a product is one shift or nothing, with no shuffles inside the rounds. A
// vector of K counters is one chain of rounds, each of which waits for its multiplications; the
// registers hold several chains.
class PhiloxVectors {
 public:
  static constexpr int kChains = HWY_MAX_BYTES >= 64 && HWY_ARCH_X86 ? 4 : 2;
  static constexpr int64_t kStride = HWY_MAX_BYTES / sizeof(uint64_t);
  static constexpr int64_t kMaxStep = kChains * kDrawsPerCounter * kStride;

  explicit PhiloxVectors(PhiloxRecord record) : record_(record) {
    // Lane 2j holds counter j and lane 2j+1 counter K/2 + j, so that interleaving the lower and the
    // upper lanes of each 128-bit block gives the draws in order.
    for (uint64_t chain = 0; chain < kChains; ++chain) {
      for (uint64_t lane = 0; lane < K(); ++lane) {
        const uint64_t counter = chain * K() + lane / 2 + lane % 2 * (K() / 2);
        firsts_[chain * kStride + lane] = kPhiloxMul0 * counter;
      }
    }
    uint32_t k0 = static_cast<uint32_t>(record.seed), k1 = static_cast<uint32_t>(record.seed >> 32);
    for (int round = 0; round < kPhiloxRounds; ++round) {
      set_key(2 * round, k0);
      set_key(2 * round + 1, k1);
      k0 += kPhiloxWeyl0;
      k1 += kPhiloxWeyl1;
    }
    set_high(static_cast<uint32_t>(record.offset >> 32));
  }

  // Elements whose draws come out of draws<kN>().
  template <int kN>
  static HWY_INLINE int64_t step() {
    return static_cast<int64_t>(kN * kDrawsPerCounter * K());
  }
  // Of n elements from `first`, a multiple of 8, how many draws() may be asked for: all, unless the
  // counter passes a multiple of 2^32.
  HWY_INLINE int64_t prepare(uint64_t first, int64_t n) {
    const uint64_t counter = record_.offset + first / kDrawsPerCounter;
    const uint32_t high = static_cast<uint32_t>(counter >> 32);
    if (HWY_UNLIKELY(high != high_)) set_high(high);
    const uint64_t left = (uint64_t{1} << 32) - static_cast<uint32_t>(counter);
    return static_cast<uint64_t>(n) < left * kDrawsPerCounter
               ? n
               : static_cast<int64_t>(left * kDrawsPerCounter);
  }
  // Draws of elements [first, first + step<kN>()) in order, of which prepare() allowed all.
  template <int kN>
  HWY_INLINE void draws(uint64_t first, VW (&out)[2 * kN]) const {
    const uint32_t counter = static_cast<uint32_t>(record_.offset + first / kDrawsPerCounter);
    const VQ base = hn::Set(DQ(), uint64_t{counter} * kPhiloxMul0);
    Counters c[kN];
    RC_UNROLL
    for (int i = 0; i < kN; ++i) c[i] = begin(hn::Add(base, hn::Load(DQ(), firsts_ + i * kStride)));
    RC_UNROLL
    for (int round = 3; round < kPhiloxRounds - 1; ++round) {
      RC_UNROLL
      for (int i = 0; i < kN; ++i) advance(c[i], round);
    }
    RC_UNROLL
    for (int i = 0; i < kN; ++i) finish(c[i], out[2 * i], out[2 * i + 1]);
  }

  // draws[0 .. n) of elements first ... first + n, with whole vectors written; first is a multiple
  // of 8. Not inlined, see dropout.cc.
  HWY_NOINLINE void fill(uint64_t first, int64_t n, uint16_t* draws) {
    for (int64_t i = 0; i < n;) {
      const uint64_t at = first + static_cast<uint64_t>(i);
      const int64_t allowed = prepare(at, step<kChains>());
      if (n - i > step<kChains - 1>() && allowed == step<kChains>()) {
        i += store<kChains>(at, draws + i);
      } else if (allowed >= step<1>()) {
        i += store<1>(at, draws + i);
      } else {
        store_counter(record_, at / kDrawsPerCounter, draws + i);
        i += static_cast<int64_t>(kDrawsPerCounter);
      }
    }
  }

 private:
  struct Counters {
    VQ c0, c1, c2, c3;
  };
  static HWY_INLINE uint64_t K() { return hn::Lanes(DQ()); }
  template <int kN>
  HWY_INLINE int64_t store(uint64_t first, uint16_t* to) const {
    VW out[2 * kN];
    draws<kN>(first, out);
    RC_UNROLL
    for (int i = 0; i < 2 * kN; ++i)
      hn::StoreU(out[i], DW(), to + i * static_cast<int64_t>(hn::Lanes(DW())));
    return step<kN>();
  }
  // After three rounds, from the first product of the first.
  HWY_INLINE Counters begin(VQ p) const {
    const VQ q = multiply(hn::Xor(hn::ShiftRight<32>(p), key(1)), kPhiloxMul1);
    const VQ p0 = multiply(hn::Xor(hn::ShiftRight<32>(q), key(2)), kPhiloxMul0);
    const VQ p1 = multiply(hn::Xor(p, key(3)), kPhiloxMul1);
    return {hn::Xor3(hn::ShiftRight<32>(p1), q, key(4)), p1,
            hn::Xor(hn::ShiftRight<32>(p0), key(5)), p0};
  }
  HWY_INLINE void advance(Counters& c, int round) const {
    const VQ p0 = multiply(c.c0, kPhiloxMul0), p1 = multiply(c.c2, kPhiloxMul1);
    c = {hn::Xor3(hn::ShiftRight<32>(p1), c.c1, key(2 * round)), p1,
         hn::Xor3(hn::ShiftRight<32>(p0), c.c3, key(2 * round + 1)), p0};
  }
  // The last round: words 0 and 1 of each counter beside each other, and 2 and 3; then in order.
  HWY_INLINE void finish(const Counters& c, VW& d0, VW& d1) const {
    constexpr int kLast = 2 * kPhiloxRounds - 2;
    const VQ p0 = multiply(c.c0, kPhiloxMul0), p1 = multiply(c.c2, kPhiloxMul1);
    const VQ a = last(p1, c.c1, key(kLast)), b = last(p0, c.c3, key(kLast + 1));
    d0 = hn::BitCast(DW(), hn::InterleaveLower(DQ(), a, b));
    d1 = hn::BitCast(DW(), hn::InterleaveUpper(DQ(), a, b));
  }
  // The halves of a product exchanged; the lower one then takes the other word and the key.
  static HWY_INLINE VQ last(VQ product, VQ word, VQ key) {
    const VQ swapped = hn::BitCast(DQ(), hn::Shuffle2301(hn::BitCast(DU(), product)));
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3
    return VQ{_mm512_mask_ternarylogic_epi32(swapped.raw, 0x5555, word.raw, key.raw, 0x96)};
#else
    return hn::Xor3(swapped, hn::And(word, hn::Set(DQ(), uint64_t{0xFFFFFFFFu})), key);
#endif
  }
  // The upper half of the counter, words 2 and 3 being 0, makes word 0 of the first round, hence a
  // product of the second, the same for all: two operands that take the place of keys.
  HWY_NOINLINE void set_high(uint32_t high) {
    high_ = high;
    const uint32_t key1 = static_cast<uint32_t>(record_.seed >> 32);
    const uint64_t product = uint64_t{kPhiloxMul0} * (high ^ static_cast<uint32_t>(record_.seed));
    set_key(3, static_cast<uint32_t>(product >> 32) ^ (key1 + kPhiloxWeyl1));
    set_key(5, static_cast<uint32_t>(product) ^ (key1 + 2 * kPhiloxWeyl1));
  }
  HWY_INLINE void set_key(int i, uint32_t key) {
    hn::Store(hn::Set(DQ(), uint64_t{key}), DQ(), keys_ + i * kStride);
  }
  HWY_INLINE VQ key(int i) const { return hn::Load(DQ(), keys_ + i * kStride); }
  static HWY_INLINE VQ multiply(VQ a, uint32_t by) {
    return hn::MulEven(hn::BitCast(DU(), a), hn::Set(DU(), by));
  }
  PhiloxRecord record_;
  uint32_t high_ = 0;
  // Operands from the first-level cache: the keys of all rounds, and the first product of each
  // counter's distance from the first.
  HWY_ALIGN uint64_t keys_[2 * kPhiloxRounds * kStride];
  HWY_ALIGN uint64_t firsts_[kChains * kStride];
};
#endif

// The draws of a run of elements from any first one, a buffer at a time.
class DrawBuffer {
 public:
  static constexpr int64_t kDraws = 256;
  // Draws of elements first ... first + n, n at most kDraws, until the next call. Whole vectors may
  // be loaded from any of them.
  HWY_INLINE const uint16_t* get(PhiloxVectors& philox, int64_t first, int64_t n) {
    const int64_t skip = first % static_cast<int64_t>(kDrawsPerCounter);
    philox.fill(static_cast<uint64_t>(first - skip), skip + n, draws_);
    return draws_ + skip;
  }

 private:
  HWY_ALIGN uint16_t draws_[kDraws + PhiloxVectors::kMaxStep + HWY_MAX_BYTES];
};

// x * scale where the draw keeps it, else +0.
HWY_INLINE VF keep(VF x, VI draw, VI threshold, VF scale) {
  return hn::IfThenZeroElse(hn::RebindMask(DF(), hn::Lt(draw, threshold)), hn::Mul(x, scale));
}

}  // namespace HWY_NAMESPACE
}  // namespace rc
HWY_AFTER_NAMESPACE();

#endif  // per-target guard
