// kernels/cpu/squared_relu.cc: max(x, 0)^2.
#include "kernels/cpu/launch.h"
#include "kernels/cpu/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/squared_relu.cc"
#include "hwy/foreach_target.h"
//
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace rc {
namespace HWY_NAMESPACE {

struct SquaredRelu {
  HWY_INLINE VF operator()(VF x, VF) const { return squared_relu_of<VectorMath>(x); }
};

template <class IO>
void squared_relu_slice(const cpu::Slice& s) {
  using T = typename IO::T;
  const T* x = static_cast<const T*>(s.a);
  map_vectors<IO>(x, x, static_cast<T*>(s.out), s.n, s.stream, SquaredRelu());
}

void squared_relu_f32(const cpu::Slice& s) {
  squared_relu_slice<F32>(s);
}
void squared_relu_bf16(const cpu::Slice& s) {
  squared_relu_slice<BF16>(s);
}

}  // namespace HWY_NAMESPACE
}  // namespace rc
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rc::cpu {

void squared_relu(const KernelDesc&, const KernelArgs& args, Parallel& parallel) {
  const Tensor &x = args.inputs[0], &y = args.outputs[0];
  if (!y.data) return;
  run_elementwise(RC_PICK_KERNEL(squared_relu, x.dtype), x, x, y, nullptr, parallel);
}

}  // namespace rc::cpu
#endif
