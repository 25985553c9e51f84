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

// Any first element, through a small buffer of words.
template <class IO>
HWY_INLINE void dropout_buffered(const typename IO::T* x, typename IO::T* y, int64_t n,
                                 int64_t first, const PhiloxVectors& philox, VU threshold,
                                 VF scale) {
  constexpr int64_t kWords = 512;
  HWY_ALIGN uint32_t words[kWords + HWY_MAX_BYTES];
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
      store2_part<IO>(keep(x0, w0, threshold, scale), keep(x1, w1, threshold, scale), y + done + i,
                      k);
    }
  }
}

template <class IO>
void dropout_slice(const cpu::Slice& s) {
  using T = typename IO::T;
  const T* x = static_cast<const T*>(s.a);
  T* y = static_cast<T*>(s.out);
  const DropoutRule& rule = *static_cast<const DropoutRule*>(s.context);
  const PhiloxVectors philox(rule.record);
  const VU threshold = hn::Set(DU(), rule.threshold);
  const VF scale = hn::Set(DF(), rule.scale);
  const int64_t N2 = 2 * lanes();
  // A head of a multiple of 4 elements keeps counters whole.
  int64_t i = s.stream ? stream_head<IO>(y, s.n) : -1;
  const bool stream = i >= 0 && i % 4 == 0 && s.first % 4 == 0;
  if (!stream) i = 0;
  dropout_buffered<IO>(x, y, i, s.first, philox, threshold, scale);
  if (s.first % 4 == 0) {
    VF x0, x1;
    VU w0, w1;
    for (; i + N2 <= s.n; i += N2) {
      philox.words(static_cast<uint64_t>(s.first + i), w0, w1);
      IO::order(w0, w1);
      IO::load2(x + i, x0, x1);
      if (stream) {
        prefetch2(x + i + kPrefetchBytes / sizeof(T));
        IO::stream2(keep(x0, w0, threshold, scale), keep(x1, w1, threshold, scale), y + i);
      } else {
        IO::store2(keep(x0, w0, threshold, scale), keep(x1, w1, threshold, scale), y + i);
      }
    }
    if (stream) hwy::FlushStream();
  }
  dropout_buffered<IO>(x + i, y + i, s.n - i, s.first + i, philox, threshold, scale);
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
  const bool f32 = x.dtype == DType::f32;
  run_elementwise(f32 ? RC_PICK_SIMD(dropout_f32) : RC_PICK_SIMD(dropout_bf16), x, x, y, &rule,
                  parallel);
}

}  // namespace rc::cpu
#endif
