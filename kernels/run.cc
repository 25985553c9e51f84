// kernels/run.cc: the one entry by which forward and replay run a kernel on host memory.
#include <new>

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/launch.h"

namespace rc {
namespace {

void launch(const KernelDesc& desc, const KernelArgs& args, PhiloxRecord philox,
            Parallel& parallel) {
  switch (desc.kind) {
    case KernelKind::layernorm:
      return cpu::layernorm(desc, args, parallel);
    case KernelKind::rmsnorm:
      return cpu::rmsnorm(desc, args, parallel);
    case KernelKind::gelu:
      return cpu::gelu(desc, args, parallel);
    case KernelKind::swiglu:
    case KernelKind::geglu:
      return cpu::glu(desc, args, parallel);
    case KernelKind::squared_relu:
      return cpu::squared_relu(desc, args, parallel);
    case KernelKind::dropout:
      return cpu::dropout(desc, args, philox, parallel);
    case KernelKind::softmax:
      return cpu::softmax(desc, args, parallel);
    case KernelKind::core_attention:
      return cpu::core_attention(desc, args, philox, parallel);
    case KernelKind::fused_attention:
      return cpu::fused_attention(desc, args, philox, parallel);
    case KernelKind::up_projection:
      return cpu::up_projection(desc, args, parallel);
  }
}

}  // namespace

Status run_kernel(const KernelDesc& desc, const KernelArgs& args, PhiloxRecord philox,
                  Parallel& parallel) {
  RC_TRY(check_kernel(desc, args));
  if (desc.kind == KernelKind::up_projection && desc.blas && !cpu::have_blas()) {
    return Status(RC_E_UNSUPPORTED, "blas", "blas is asked for, but this build has no CPU BLAS");
  }
  try {
    launch(desc, args, philox, parallel);
  } catch (const std::bad_alloc&) {
    return Status(RC_E_MEMORY, "",
                  format("%s found no memory for its scratch", kernel_name(desc.kind)));
  }
  return ok_status();
}

uint64_t philox_counters_used(const KernelDesc& desc, const KernelArgs& args) {
  if (!(desc.dropout > 0.0f) || args.inputs.empty()) return 0;
  const Tensor& x = args.inputs[0];
  switch (desc.kind) {
    case KernelKind::dropout:
      return philox_counters(static_cast<uint64_t>(x.elements()));
    case KernelKind::core_attention:
    case KernelKind::fused_attention:
      return philox_counters(static_cast<uint64_t>(x.rows() * args.inputs[1].shape[2]));
    default:
      return 0;
  }
}

}  // namespace rc
