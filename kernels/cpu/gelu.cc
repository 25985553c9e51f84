// kernels/cpu/gelu.cc: GELU, exact and tanh.
#include "kernels/cpu/launch.h"
#include "kernels/cpu/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/gelu.cc"
#include "hwy/foreach_target.h"
//
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace rc {
namespace HWY_NAMESPACE {

struct GeluErf {
  HWY_INLINE VF operator()(VF x, VF) const { return gelu_erf_of<VectorMath>(x); }
};
struct GeluTanh {
  HWY_INLINE VF operator()(VF x, VF) const { return gelu_tanh_of<VectorMath>(x); }
};

template <class IO, class F>
void gelu_slice(const cpu::Slice& s) {
  using T = typename IO::T;
  const T* x = static_cast<const T*>(s.a);
  map_vectors<IO>(x, x, static_cast<T*>(s.out), s.n, s.stream, F());
}

void gelu_erf_f32(const cpu::Slice& s) {
  gelu_slice<F32, GeluErf>(s);
}
void gelu_erf_bf16(const cpu::Slice& s) {
  gelu_slice<BF16, GeluErf>(s);
}
void gelu_tanh_f32(const cpu::Slice& s) {
  gelu_slice<F32, GeluTanh>(s);
}
void gelu_tanh_bf16(const cpu::Slice& s) {
  gelu_slice<BF16, GeluTanh>(s);
}

}  // namespace HWY_NAMESPACE
}  // namespace rc
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rc::cpu {

void gelu(const KernelDesc& desc, const KernelArgs& args, Parallel& parallel) {
  const Tensor &x = args.inputs[0], &y = args.outputs[0];
  if (!y.data) return;
  const bool f32 = x.dtype == DType::f32;
  const auto exact = f32 ? RC_PICK_SIMD(gelu_erf_f32) : RC_PICK_SIMD(gelu_erf_bf16);
  const auto by_tanh = f32 ? RC_PICK_SIMD(gelu_tanh_f32) : RC_PICK_SIMD(gelu_tanh_bf16);
  run_elementwise(desc.tanh_gelu ? by_tanh : exact, x, x, y, nullptr, parallel);
}

}  // namespace rc::cpu
#endif
