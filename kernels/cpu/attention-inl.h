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

HWY_INLINE VI load_draws(const uint16_t* draws) {
  return hn::PromoteTo(DI(), hn::LoadU(DH(), draws));
}

// Drops and scales p[0, n), whose first element has the given index.
HWY_INLINE void drop_row(const DropoutRule& rule, int64_t first, int64_t n, float* p) {
  PhiloxVectors philox(rule.record);
  DrawBuffer draws;
  const VI threshold = hn::Set(DI(), rule.threshold);
  const VF scale = hn::Set(DF(), rule.scale);
  const int64_t N = lanes();
  for (int64_t done = 0; done < n; done += DrawBuffer::kDraws) {
    const int64_t part = n - done < DrawBuffer::kDraws ? n - done : DrawBuffer::kDraws;
    const uint16_t* draw = draws.get(philox, first + done, part);
    float* at = p + done;
    int64_t i = 0;
    for (; i + N <= part; i += N) {
      F32::store(keep(F32::load(at + i), load_draws(draw + i), threshold, scale), at + i);
    }
    if (i < part) {
      const VF x = load_part<F32>(at + i, part - i);
      store_part<F32>(keep(x, load_draws(draw + i), threshold, scale), at + i, part - i);
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
