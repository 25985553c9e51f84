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
HWY_INLINE void dropout_buffered(const typename IO::T* x, typename IO::T* y, int64_t n, int64_t first,
                                 const PhiloxVectors& philox, VU threshold, VF scale) {
  constexpr int64_t kWords = 512;
  HWY_ALIGN uint32_t words[kWords + HWY_MAX_BYTES];
  const int64_t N = lanes();
  for (int64_t done = 0; done < n; done += kWords) {
    const int64_t part = n - done < kWords ? n - done : kWords;
    const uint32_t* w = words + fill_words(philox, first + done, part, words);
    int64_t i = 0;
    for (; i + N <= part; i += N) {
      IO::store(keep(IO::load(x + done + i), hn::LoadU(DU(), w + i), threshold, scale), y + done + i);
    }
    if (i < part) {
      store_part<IO>(keep(load_part<IO>(x + done + i, part - i), hn::LoadU(DU(), w + i), threshold,
                          scale),
                     y + done + i, part - i);
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
  const int64_t N = lanes();
  int64_t i = 0;
  const bool stream = s.stream && stream_head<IO>(y, s.n) == 0;
  if (s.first % 4 == 0) {
    for (; i + 2 * N <= s.n; i += 2 * N) {
      VU w0, w1;
      philox.words(static_cast<uint64_t>(s.first + i), w0, w1);
      const VF y0 = keep(IO::load(x + i), w0, threshold, scale);
      const VF y1 = keep(IO::load(x + i + N), w1, threshold, scale);
      if (stream) {
        IO::stream(y0, y + i);
        IO::stream(y1, y + i + N);
      } else {
        IO::store(y0, y + i);
        IO::store(y1, y + i + N);
      }
    }
    if (stream) hwy::FlushStream();
  }
  dropout_buffered<IO>(x + i, y + i, s.n - i, s.first + i, philox, threshold, scale);
}

void dropout_f32(const cpu::Slice& s) { dropout_slice<F32>(s); }
void dropout_bf16(const cpu::Slice& s) { dropout_slice<BF16>(s); }

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
