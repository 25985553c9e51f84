// kernels/cpu/dropout.cc: dropout whose mask is a function of a Philox record and is never stored.
#include "kernels/cpu/launch.h"
#include "kernels/cpu/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/dropout.cc"
#include "hwy/foreach_target.h"
//
#include "kernels/cpu/philox-inl.h"

HWY_BEFORE_NAMESPACE();
namespace rc {
namespace HWY_NAMESPACE {

struct Rule {
  explicit Rule(const DropoutRule& r)
      : record(r.record), threshold(hn::Set(DU(), r.threshold)), scale(hn::Set(DF(), r.scale)) {}
  HWY_INLINE VF operator()(VF x, VU word) const { return keep(x, word, threshold, scale); }
  PhiloxRecord record;
  VU threshold;
  VF scale;
};

// Any first element, through a small buffer of words.
template <class IO>
HWY_INLINE void dropout_buffered(const typename IO::T* x, typename IO::T* y, int64_t n,
                                 int64_t first, const Rule& rule) {
  if (n == 0) return;
  constexpr int64_t kWords = 512;
  HWY_ALIGN uint32_t words[kWords + HWY_MAX_BYTES];
  const PhiloxVectors<true> philox(rule.record);
  const int64_t N = lanes();
  VF x0, x1;
  for (int64_t done = 0; done < n; done += kWords) {
    const int64_t part = n - done < kWords ? n - done : kWords;
    const uint32_t* w = words + fill_words(philox, first + done, part, words);
    for (int64_t i = 0; i < part; i += 2 * N) {
      const int64_t k = part - i < 2 * N ? part - i : 2 * N;
      VU w0 = hn::LoadU(DU(), w + i), w1 = hn::LoadU(DU(), w + i + N);
      IO::order(w0, w1);
      load2_part<IO>(x + done + i, k, x0, x1);
      store2_part<IO>(rule(x0, w0), rule(x1, w1), y + done + i, k);
    }
  }
}

// Whole counters: first is a multiple of 4. Returns how many elements it did, all but a tail.
template <class IO, bool kStream>
HWY_INLINE int64_t dropout_vectors(const typename IO::T* x, typename IO::T* y, int64_t n,
                                   int64_t first, const Rule& rule) {
  const PhiloxVectors<IO::kNaturalOrder> philox(rule.record);
  const int64_t N2 = 2 * lanes();
  VF x0, x1, x2, x3;
  VU w0, w1, w2, w3;
  int64_t i = 0;
  for (; i + 2 * N2 <= n; i += 2 * N2) {
    philox.words(static_cast<uint64_t>(first + i), w0, w1, w2, w3);
    IO::load2(x + i, x0, x1);
    IO::load2(x + i + N2, x2, x3);
    if constexpr (kStream) {
      prefetch2(x + i + kPrefetchBytes / sizeof(typename IO::T));
      prefetch2(x + i + N2 + kPrefetchBytes / sizeof(typename IO::T));
      IO::stream2(rule(x0, w0), rule(x1, w1), y + i);
      IO::stream2(rule(x2, w2), rule(x3, w3), y + i + N2);
    } else {
      IO::store2(rule(x0, w0), rule(x1, w1), y + i);
      IO::store2(rule(x2, w2), rule(x3, w3), y + i + N2);
    }
  }
  if (kStream) hwy::FlushStream();
  return i;
}

template <class IO>
void dropout_slice(const cpu::Slice& s) {
  using T = typename IO::T;
  const T* x = static_cast<const T*>(s.a);
  T* y = static_cast<T*>(s.out);
  const Rule rule(*static_cast<const DropoutRule*>(s.context));
  int64_t i = 0;
  if (s.first % 4 == 0) {
    // A head of a multiple of 4 elements keeps counters whole.
    const int64_t head = s.stream ? stream_head<IO>(y, s.n) : -1;
    if (head >= 0 && head % 4 == 0) {
      dropout_buffered<IO>(x, y, head, s.first, rule);
      i = head + dropout_vectors<IO, true>(x + head, y + head, s.n - head, s.first + head, rule);
    } else {
      i = dropout_vectors<IO, false>(x, y, s.n, s.first, rule);
    }
  }
  dropout_buffered<IO>(x + i, y + i, s.n - i, s.first + i, rule);
}

void dropout_f32(const cpu::Slice& s) {
  dropout_slice<F32>(s);
}
void dropout_bf16(const cpu::Slice& s) {
  dropout_slice<BF16>(s);
}

}  // namespace HWY_NAMESPACE
}  // namespace rc
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rc::cpu {

void dropout(const KernelDesc& desc, const KernelArgs& args, PhiloxRecord philox,
             Parallel& parallel) {
  const Tensor &x = args.inputs[0], &y = args.outputs[0];
  if (!y.data) return;
  const DropoutRule rule = dropout_rule(philox, desc.dropout);
  run_elementwise(RC_PICK_KERNEL(dropout, x.dtype), x, x, y, &rule, parallel);
}

}  // namespace rc::cpu
#endif
