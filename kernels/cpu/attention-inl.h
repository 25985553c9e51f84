// kernels/cpu/attention-inl.h: what the plain and the fused attention share per row.
#if defined(RC_KERNELS_CPU_ATTENTION_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef RC_KERNELS_CPU_ATTENTION_INL_H
#undef RC_KERNELS_CPU_ATTENTION_INL_H
#else
#define RC_KERNELS_CPU_ATTENTION_INL_H
#endif

#include "kernels/cpu/gemm-inl.h"
#include "kernels/cpu/philox-inl.h"
#include "kernels/cpu/softmax-inl.h"

HWY_BEFORE_NAMESPACE();
namespace rc {
namespace HWY_NAMESPACE {

// Drops and scales p[0, n), whose first element has the given index.
HWY_INLINE void drop_row(const DropoutRule& rule, int64_t first, int64_t n, float* p) {
  constexpr int64_t kWords = 512;
  HWY_ALIGN uint32_t words[kWords + HWY_MAX_BYTES];
  const PhiloxVectors<true> philox(rule.record);
  const VU threshold = hn::Set(DU(), rule.threshold);
  const VF scale = hn::Set(DF(), rule.scale);
  const int64_t N = lanes();
  for (int64_t done = 0; done < n; done += kWords) {
    const int64_t part = n - done < kWords ? n - done : kWords;
    const uint32_t* w = words + fill_words(philox, first + done, part, words);
    for (int64_t i = 0; i < part; i += N) {
      const int64_t k = part - i < N ? part - i : N;
      float* at = p + done + i;
      store_part<F32>(keep(load_part<F32>(at, k), hn::LoadU(DU(), w + i), threshold, scale), at, k);
    }
  }
}

template <class IO>
HWY_INLINE void zero_outputs(const cpu::AttentionTile& t) {
  for (int64_t r = 0; r < t.rows; ++r) {
    typename IO::T* o = static_cast<typename IO::T*>(t.o->data) + t.o_at(t.row + r);
    std::memset(o, 0, static_cast<size_t>(t.v->shape[3]) * sizeof(typename IO::T));
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace rc
HWY_AFTER_NAMESPACE();

#endif  // per-target guard
