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
  const auto kernel =
      desc.tanh_gelu ? RC_PICK_KERNEL(gelu_tanh, x.dtype) : RC_PICK_KERNEL(gelu_erf, x.dtype);
  run_elementwise(kernel, x, x, y, nullptr, parallel);
}

}  // namespace rc::cpu
#endif
