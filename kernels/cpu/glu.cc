// kernels/cpu/glu.cc: the gated activations SwiGLU and GeGLU, act(gate) * up.
//
// Source: Shazeer, "GLU variants improve transformer", arXiv 2002.05202.
#include "kernels/cpu/launch.h"
#include "kernels/cpu/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/glu.cc"
#include "hwy/foreach_target.h"
//
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace rc {
namespace HWY_NAMESPACE {

struct SwiGlu {
  HWY_INLINE VF operator()(VF gate, VF up) const { return hn::Mul(silu_of<VectorMath>(gate), up); }
};
struct GeGluErf {
  HWY_INLINE VF operator()(VF gate, VF up) const {
    return hn::Mul(gelu_erf_of<VectorMath>(gate), up);
  }
};
struct GeGluTanh {
  HWY_INLINE VF operator()(VF gate, VF up) const {
    return hn::Mul(gelu_tanh_of<VectorMath>(gate), up);
  }
};

template <class IO, class F>
void glu_slice(const cpu::Slice& s) {
  using T = typename IO::T;
  map_vectors<IO>(static_cast<const T*>(s.a), static_cast<const T*>(s.b), static_cast<T*>(s.out),
                  s.n, s.stream, F());
}

void swiglu_f32(const cpu::Slice& s) {
  glu_slice<F32, SwiGlu>(s);
}
void swiglu_bf16(const cpu::Slice& s) {
  glu_slice<BF16, SwiGlu>(s);
}
void geglu_erf_f32(const cpu::Slice& s) {
  glu_slice<F32, GeGluErf>(s);
}
void geglu_erf_bf16(const cpu::Slice& s) {
  glu_slice<BF16, GeGluErf>(s);
}
void geglu_tanh_f32(const cpu::Slice& s) {
  glu_slice<F32, GeGluTanh>(s);
}
void geglu_tanh_bf16(const cpu::Slice& s) {
  glu_slice<BF16, GeGluTanh>(s);
}

}  // namespace HWY_NAMESPACE
}  // namespace rc
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rc::cpu {

void glu(const KernelDesc& desc, const KernelArgs& args, Parallel& parallel) {
  const Tensor& y = args.outputs[0];
  if (!y.data) return;
  const bool packed = args.inputs.size() == 1;
  const Tensor gate = packed ? packed_half(args.inputs[0], 0) : args.inputs[0];
  const Tensor up = packed ? packed_half(args.inputs[0], 1) : args.inputs[1];
  auto kernel = RC_PICK_KERNEL(swiglu, y.dtype);
  if (desc.kind == KernelKind::geglu && desc.tanh_gelu) {
    kernel = RC_PICK_KERNEL(geglu_tanh, y.dtype);
  } else if (desc.kind == KernelKind::geglu) {
    kernel = RC_PICK_KERNEL(geglu_erf, y.dtype);
  }
  run_elementwise(kernel, gate, up, y, nullptr, parallel);
}

}  // namespace rc::cpu
#endif
