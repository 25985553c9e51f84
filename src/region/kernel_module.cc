// src/region/kernel_module.cc: slots of built-in kernels, and running one on a region.
#include "src/region/kernel_module.h"

#include "kernels/cpu/gemm.h"
#include "src/region/context.h"
#include "src/storage/tensor.h"

namespace rc {
namespace {

constexpr uint8_t kFloat = 2, kBfloat = 4;

struct Layout {
  rc_kernel kernel;
  std::vector<const char*> inputs, outputs, saved;
  uint32_t params_min, params_max;
};

const std::vector<Layout>& layouts() {
  static const auto* const table = new std::vector<Layout>{
      {RC_KERNEL_LAYERNORM, {"x"}, {"y"}, {"mean", "rstd"}, 1, 2},
      {RC_KERNEL_RMSNORM, {"x"}, {"y"}, {"rstd"}, 1, 1},
      {RC_KERNEL_GELU, {"x"}, {"y"}, {}, 0, 0},
      {RC_KERNEL_SWIGLU, {"x"}, {"y"}, {}, 0, 0},
      {RC_KERNEL_GEGLU, {"x"}, {"y"}, {}, 0, 0},
      {RC_KERNEL_SQUARED_RELU, {"x"}, {"y"}, {}, 0, 0},
      {RC_KERNEL_DROPOUT, {"x"}, {"y"}, {}, 0, 0},
      {RC_KERNEL_SOFTMAX, {"x"}, {"y"}, {}, 0, 0},
      {RC_KERNEL_CORE_ATTN, {"q", "k", "v"}, {"o"}, {"probs"}, 0, 0},
      {RC_KERNEL_FUSED_ATTN, {"q", "k", "v"}, {"o"}, {"lse"}, 0, 0},
      {RC_KERNEL_UP_PROJ, {"x"}, {"y"}, {}, 1, 2},
  };
  return *table;
}

Status to_tensor(const rc_tensor_spec& spec, const char* field, Tensor* out) {
  *out = Tensor();
  if (spec.dtype_code == kFloat && spec.dtype_bits == 32)
    out->dtype = DType::f32;
  else if (spec.dtype_code == kBfloat && spec.dtype_bits == 16)
    out->dtype = DType::bf16;
  else
    return Status(RC_E_UNSUPPORTED, field,
                  format("dtype code %u with %u bits; built-in kernels take float32 and "
                         "bfloat16",
                         spec.dtype_code, spec.dtype_bits));
  if (spec.ndim > kMaxDims)
    return argument_error(
        field, format("ndim is %d; built-in kernels take up to %d", spec.ndim, kMaxDims));
  out->data = spec.data;
  out->ndim = spec.ndim;
  int64_t stride = 1;
  for (int i = spec.ndim - 1; i >= 0; --i) {
    out->shape[i] = spec.shape[i];
    out->stride[i] = spec.strides ? spec.strides[i] : stride;
    stride *= spec.shape[i];
  }
  return ok_status();
}

// Shape and dtype of output or saved tensor `index` (outputs first).
Tensor infer(const KernelModule& m, std::span<const Tensor> in, uint32_t index) {
  Tensor t = in[0];
  t.data = nullptr;
  const int last = t.ndim - 1;
  const bool saved = index >= m.n_outputs;
  switch (m.desc.kind) {
    case KernelKind::layernorm:
    case KernelKind::rmsnorm:
      if (saved) {
        t.dtype = DType::f32;
        t.ndim = last < 0 ? 0 : last;
      }
      break;
    case KernelKind::swiglu:
    case KernelKind::geglu:
      if (last >= 0) t.shape[last] /= 2;
      break;
    case KernelKind::core_attention:
      t.shape[3] = saved ? in[1].shape[2] : in[2].shape[3];
      break;
    case KernelKind::fused_attention:
      if (saved) {
        t.dtype = DType::f32;
        t.ndim = 3;
      } else {
        t.shape[3] = in[2].shape[3];
      }
      break;
    case KernelKind::up_projection:
      if (last >= 0) t.shape[last] = m.params[0].shape[0];
      break;
    default:
      break;
  }
  int64_t stride = 1;
  for (int i = t.ndim - 1; i >= 0; --i) {
    t.stride[i] = stride;
    stride *= t.shape[i];
  }
  return t;
}

rc_tensor_spec to_spec(const Tensor& t) {
  rc_tensor_spec spec = rc_tensor_spec_init();
  spec.dtype_code = t.dtype == DType::bf16 ? kBfloat : kFloat;
  spec.dtype_bits = t.dtype == DType::bf16 ? 16 : 32;
  spec.dtype_lanes = 1;
  spec.ndim = t.ndim;
  spec.shape = t.shape;
  return spec;
}

bool is_attention(KernelKind kind) {
  return kind == KernelKind::core_attention || kind == KernelKind::fused_attention;
}

Status read_inputs(Locked& lock, Region* r, const KernelModule& m, Stream stream, Tensor* inputs) {
  for (uint32_t i = 0; i < m.n_inputs; ++i) {
    rc_tensor_spec spec = rc_tensor_spec_init();
    RC_TRY(region_view(lock, r, i, stream, &spec));
    RC_TRY(to_tensor(spec, r->def(i).name.c_str(), &inputs[i]));
    if (is_attention(m.desc.kind) && inputs[i].ndim != 4)
      return argument_error(r->def(i).name,
                            format("ndim is %d; attention takes [B,H,S,D]", inputs[i].ndim));
    r->context->storage.device().touch(stream, spec.data, spec.bytes, false);
  }
  return ok_status();
}

// Memory for outputs and saved tensors; data stays null where nobody wants one.
Status prepare_results(Locked& lock, Region* r, const KernelModule& m, Stream stream,
                       std::span<const Tensor> inputs, Tensor* results) {
  for (uint32_t i = 0; i < m.n_outputs + m.n_saved; ++i) {
    const uint32_t slot = m.n_inputs + i;
    SlotState& s = r->slots[slot];
    results[i] = infer(m, inputs, i);
    if (r->replaying && !s.wanted) continue;
    rc_tensor_spec spec = to_spec(results[i]);
    if (s.content == SlotState::kHostKept || s.content == SlotState::kHostManaged ||
        (s.content == SlotState::kBlock && s.present())) {
      TensorMeta expected;
      RC_TRY(TensorMeta::read(spec, "output", &expected));
      if (!expected.same_as(s.meta))
        return argument_error(r->def(slot).name,
                              "dtype or shape of the given output is not what the kernel makes");
      if (s.content == SlotState::kBlock) RC_TRY(r->context->storage.use(s.block, stream, true));
      s.note_filled();
      s.meta.fill(s.content == SlotState::kBlock ? static_cast<char*>(s.block->data) + s.offset
                                                 : s.host_data,
                  &spec);
    } else {
      RC_TRY(region_alloc(lock, r, slot, spec, stream, &spec));
    }
    RC_TRY(to_tensor(spec, r->def(slot).name.c_str(), &results[i]));
    r->context->storage.device().touch(stream, spec.data, spec.bytes, true);
  }
  return ok_status();
}

}  // namespace

Status KernelModule::create(const rc_kernel_desc& desc, std::vector<SlotDef>* slots,
                            std::unique_ptr<KernelModule>* out) {
  const Layout* layout = nullptr;
  for (const Layout& l : layouts())
    if (l.kernel == desc.kernel) layout = &l;
  if (!layout)
    return argument_error("desc.kernel.kernel",
                          format("%d is no rc_kernel", static_cast<int>(desc.kernel)));
  if (desc.n_params < layout->params_min || desc.n_params > layout->params_max)
    return argument_error("desc.kernel.n_params",
                          format("%u parameters; %s takes %u to %u", desc.n_params,
                                 kernel_name(static_cast<KernelKind>(desc.kernel)),
                                 layout->params_min, layout->params_max));
  if (!(desc.dropout >= 0 && desc.dropout < 1))
    return argument_error("desc.kernel.dropout", format("%g; it must be in [0, 1)", desc.dropout));
  if (!(desc.epsilon >= 0))
    return argument_error("desc.kernel.epsilon", format("%g; it must be >= 0", desc.epsilon));
  auto m = std::make_unique<KernelModule>();
  m->desc.kind = static_cast<KernelKind>(desc.kernel);
  m->desc.epsilon = static_cast<float>(desc.epsilon);
  m->desc.scale = static_cast<float>(desc.scale);
  m->desc.dropout = static_cast<float>(desc.dropout);
  m->desc.causal = (desc.flags & RC_KERNEL_CAUSAL) != 0;
  m->desc.tanh_gelu = (desc.flags & RC_KERNEL_TANH) != 0;
  m->desc.zero_centered_gamma = (desc.flags & RC_KERNEL_ZERO_CENTERED_GAMMA) != 0;
  m->desc.blas = cpu::have_blas();
  for (uint32_t i = 0; i < desc.n_params; ++i) {
    const std::string field = format("desc.kernel.params[%u]", i);
    rc_tensor_spec spec = rc_tensor_spec_init();
    RC_TRY(read_tensor(desc.params[i], field.c_str(), &spec));
    Tensor t;
    RC_TRY(to_tensor(spec, field.c_str(), &t));
    m->params.push_back(t);
  }
  slots->clear();
  const auto add = [&](const std::vector<const char*>& names, rc_role role) {
    for (const char* name : names) slots->push_back({.name = name, .role = role, .flags = 0});
    return static_cast<uint32_t>(names.size());
  };
  m->n_inputs = add(layout->inputs, RC_ROLE_INPUT);
  m->n_outputs = add(layout->outputs, RC_ROLE_OUTPUT);
  m->n_saved = add(layout->saved, RC_ROLE_SAVED);
  *out = std::move(m);
  return ok_status();
}

KernelModule::~KernelModule() {
  for (rc_tensor* t : owned) release_tensor(t);
}

Status run_kernel_module(Locked& lock, Region* r, Stream stream) {
  const KernelModule& m = *r->module->kernel;
  Tensor inputs[3], results[3];
  RC_TRY(read_inputs(lock, r, m, stream, inputs));
  RC_TRY(prepare_results(lock, r, m, stream, {inputs, m.n_inputs}, results));
  const KernelArgs args = {.inputs = {inputs, m.n_inputs},
                           .params = m.params,
                           .outputs = {results, m.n_outputs},
                           .saved = {results + m.n_outputs, m.n_saved}};
  RC_TRY(check_kernel(m.desc, args));
  PhiloxRecord philox = {};
  if (m.desc.dropout > 0) {
    rc_rng rng = rc_rng_init();
    RC_TRY(region_rng(lock, r, philox_counters_used(m.desc, args), &rng));
    philox = {.seed = rng.seed, .offset = rng.offset};
  }
  lock.unlock();
  Status status = run_kernel(m.desc, args, philox, *r->context->parallel);
  lock.relock();
  return status;
}

}  // namespace rc
