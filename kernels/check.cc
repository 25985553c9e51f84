// kernels/check.cc: what can be wrong with a kernel's tensors, each error with value and limit.
#include <cmath>
#include <string>

#include "kernels/kernels.h"

namespace rc {
namespace {

std::string shape_text(const Tensor& t) {
  std::string text = "[";
  for (int i = 0; i < t.ndim; ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(t.shape[i]);
  }
  return text + "]";
}

// Every launch names its tensors, if only to be asked about them: no printf, which took 0.1 us
// each.
std::string item(const char* list, size_t index) {
  return std::string(list) + '[' + std::to_string(index) + ']';
}

// One list of tensors: least and most entries, and whether data may be null.
struct List {
  const char* name;
  std::span<const Tensor> tensors;
  size_t least, most;
  bool optional_data;
};

Status check_tensor(const std::string& field, const Tensor& t, bool optional_data) {
  if (t.ndim < 1 || t.ndim > kMaxDims) {
    return argument_error(field, format("%s has %d dimensions; allowed are 1 to %d", field.c_str(),
                                        t.ndim, kMaxDims));
  }
  for (int i = 0; i < t.ndim; ++i) {
    if (t.shape[i] < 0 || t.stride[i] < 0) {
      return argument_error(field, format("%s has size %lld and stride %lld in dimension %d; both "
                                          "must be at least 0",
                                          field.c_str(), static_cast<long long>(t.shape[i]),
                                          static_cast<long long>(t.stride[i]), i));
    }
  }
  const int last = t.ndim - 1;
  if (t.shape[last] > 1 && t.stride[last] != 1) {
    return argument_error(field, format("%s has stride %lld in its last dimension; it must be 1",
                                        field.c_str(), static_cast<long long>(t.stride[last])));
  }
  if (t.dtype != DType::f32 && t.dtype != DType::bf16) {
    return argument_error(field, format("%s is %s; allowed are float32 and bfloat16", field.c_str(),
                                        dtype_name(t.dtype)));
  }
  if (!optional_data && !t.data && t.elements() > 0) {
    return argument_error(field, format("%s has %lld elements but no data", field.c_str(),
                                        static_cast<long long>(t.elements())));
  }
  if (t.data && reinterpret_cast<uintptr_t>(t.data) % dtype_bytes(t.dtype) != 0) {
    return argument_error(field,
                          format("%s starts at an address that is no multiple of its %lld-byte "
                                 "elements",
                                 field.c_str(), static_cast<long long>(dtype_bytes(t.dtype))));
  }
  return ok_status();
}

Status check_list(KernelKind kind, const List& list) {
  const size_t n = list.tensors.size();
  if (n < list.least || n > list.most) {
    return argument_error(list.name, format("%s takes %zu to %zu %s, not %zu", kernel_name(kind),
                                            list.least, list.most, list.name, n));
  }
  for (size_t i = 0; i < n; ++i) {
    RC_TRY(check_tensor(item(list.name, i), list.tensors[i], list.optional_data));
  }
  return ok_status();
}

Status want_dtype(const std::string& field, const Tensor& t, DType dtype) {
  if (t.dtype == dtype) return ok_status();
  return argument_error(field, format("%s is %s; it must be %s", field.c_str(), dtype_name(t.dtype),
                                      dtype_name(dtype)));
}

// The expected shape is the first n_leading dimensions of `like`, then `tail`.
Status want_shape(const std::string& field, const Tensor& t, const Tensor& like, int n_leading,
                  std::initializer_list<int64_t> tail) {
  Tensor expected;
  for (int i = 0; i < n_leading; ++i) expected.shape[expected.ndim++] = like.shape[i];
  for (int64_t size : tail) expected.shape[expected.ndim++] = size;
  bool same = t.ndim == expected.ndim;
  for (int i = 0; same && i < t.ndim; ++i) same = t.shape[i] == expected.shape[i];
  if (same) return ok_status();
  return argument_error(field, format("%s has shape %s; it must be %s", field.c_str(),
                                      shape_text(t).c_str(), shape_text(expected).c_str()));
}

Status want_contiguous(const std::string& field, const Tensor& t) {
  if (t.contiguous()) return ok_status();
  return argument_error(field, format("%s is strided; it must be contiguous", field.c_str()));
}

// A statistic: float32, contiguous, one number per row; a flat [R] is as good.
Status want_statistic(const std::string& field, const Tensor& t, const Tensor& x) {
  RC_TRY(want_dtype(field, t, DType::f32));
  RC_TRY(want_contiguous(field, t));
  if (t.ndim == 1 && t.shape[0] == x.rows()) return ok_status();
  return want_shape(field, t, x, x.ndim - 1, {});
}

Status check_param(const std::string& field, const Tensor& t, const Tensor& x, int64_t n) {
  RC_TRY(want_contiguous(field, t));
  if (t.dtype != DType::f32) RC_TRY(want_dtype(field, t, x.dtype));
  return want_shape(field, t, x, 0, {n});
}

Status same_as(const char* list, size_t index, const Tensor& t, const Tensor& x, int64_t cols) {
  const std::string field = item(list, index);
  RC_TRY(want_dtype(field, t, x.dtype));
  return want_shape(field, t, x, x.ndim - 1, {cols});
}

Status check_norm(const KernelArgs& a) {
  const Tensor& x = a.inputs[0];
  RC_TRY(same_as("outputs", 0, a.outputs[0], x, x.cols()));
  for (size_t i = 0; i < a.params.size(); ++i) {
    RC_TRY(check_param(item("params", i), a.params[i], x, x.cols()));
  }
  for (size_t i = 0; i < a.saved.size(); ++i) {
    RC_TRY(want_statistic(item("saved", i), a.saved[i], x));
  }
  return ok_status();
}

Status check_glu(const KernelArgs& a) {
  const Tensor& x = a.inputs[0];
  if (a.inputs.size() == 2) {
    RC_TRY(same_as("inputs", 1, a.inputs[1], x, x.cols()));
    return same_as("outputs", 0, a.outputs[0], x, x.cols());
  }
  if (x.cols() % 2 != 0) {
    return argument_error("inputs[0]",
                          format("inputs[0] holds gate and up side by side, but its last "
                                 "dimension %lld is odd",
                                 static_cast<long long>(x.cols())));
  }
  return same_as("outputs", 0, a.outputs[0], x, x.cols() / 2);
}

Status check_softmax(const KernelDesc& desc, const KernelArgs& a) {
  const Tensor& x = a.inputs[0];
  if (desc.causal && x.ndim < 2) {
    return argument_error("inputs[0]",
                          "inputs[0] has 1 dimension; causal softmax needs at least 2");
  }
  return same_as("outputs", 0, a.outputs[0], x, x.cols());
}

Status check_attention(const KernelDesc& desc, const KernelArgs& a) {
  const Tensor &q = a.inputs[0], &k = a.inputs[1], &v = a.inputs[2], &o = a.outputs[0];
  for (size_t i = 0; i < 3; ++i) {
    const std::string field = item("inputs", i);
    if (a.inputs[i].ndim != 4) {
      return argument_error(field, format("%s has %d dimensions; attention takes 4: batch, heads, "
                                          "sequence, head size",
                                          field.c_str(), a.inputs[i].ndim));
    }
    RC_TRY(want_dtype(field, a.inputs[i], q.dtype));
  }
  const int64_t H = q.shape[1], G = k.shape[1];
  if (G < 1 ? H != 0 : H % G != 0) {
    return argument_error("inputs[1]",
                          format("inputs[1] has %lld heads, which do not divide the %lld "
                                 "heads of inputs[0]",
                                 static_cast<long long>(G), static_cast<long long>(H)));
  }
  RC_TRY(want_shape("inputs[1]", k, q, 1, {G, k.shape[2], q.shape[3]}));
  RC_TRY(want_shape("inputs[2]", v, k, 3, {v.shape[3]}));
  RC_TRY(want_dtype("outputs[0]", o, q.dtype));
  RC_TRY(want_shape("outputs[0]", o, q, 3, {v.shape[3]}));
  if (desc.kind == KernelKind::fused_attention) {
    if (q.shape[3] > 512 || v.shape[3] > 512) {
      const bool of_q = q.shape[3] > 512;
      return argument_error(of_q ? "inputs[0]" : "inputs[2]",
                            format("%s has head size %lld; fused attention takes at most 512",
                                   of_q ? "inputs[0]" : "inputs[2]",
                                   static_cast<long long>(of_q ? q.shape[3] : v.shape[3])));
    }
    if (a.saved.empty()) return ok_status();
    RC_TRY(want_dtype("saved[0]", a.saved[0], DType::f32));
    RC_TRY(want_contiguous("saved[0]", a.saved[0]));
    return want_shape("saved[0]", a.saved[0], q, 3, {});
  }
  if (a.saved.empty()) return ok_status();
  RC_TRY(want_dtype("saved[0]", a.saved[0], q.dtype));
  return want_shape("saved[0]", a.saved[0], q, 3, {k.shape[2]});
}

Status check_up_projection(const KernelArgs& a) {
  const Tensor &x = a.inputs[0], &w = a.params[0];
  if (w.ndim != 2) {
    return argument_error("params[0]",
                          format("params[0] has %d dimensions; the weight has 2: outputs, "
                                 "inputs",
                                 w.ndim));
  }
  RC_TRY(want_dtype("params[0]", w, x.dtype));
  RC_TRY(want_shape("params[0]", w, x, 0, {w.shape[0], x.cols()}));
  if (a.params.size() > 1) RC_TRY(check_param("params[1]", a.params[1], x, w.shape[0]));
  return same_as("outputs", 0, a.outputs[0], x, w.shape[0]);
}

// Least and most entries of the lists of each kind, in the order of kernels.h.
struct Counts {
  size_t inputs_least, inputs_most, params_least, params_most, saved_most;
};
constexpr Counts kCounts[] = {
    {1, 1, 0, 2, 2}, {1, 1, 0, 1, 1}, {1, 1, 0, 0, 0}, {1, 2, 0, 0, 0},
    {1, 2, 0, 0, 0}, {1, 1, 0, 0, 0}, {1, 1, 0, 0, 0}, {1, 1, 0, 0, 0},
    {3, 3, 0, 0, 1}, {3, 3, 0, 0, 1}, {1, 1, 1, 2, 0},
};

Status check_numbers(const KernelDesc& d) {
  if (!(d.dropout >= 0.0f && d.dropout < 1.0f)) {
    return argument_error("dropout", format("dropout is %g; it must be in [0, 1)", d.dropout));
  }
  if (!(d.epsilon >= 0.0f) || std::isinf(d.epsilon)) {
    return argument_error("epsilon",
                          format("epsilon is %g; it must be finite and at least 0", d.epsilon));
  }
  if (!std::isfinite(d.scale)) {
    return argument_error("scale", format("scale is %g; it must be finite", d.scale));
  }
  return ok_status();
}

}  // namespace

const char* kernel_name(KernelKind kind) {
  switch (kind) {
    case KernelKind::layernorm:
      return "layernorm";
    case KernelKind::rmsnorm:
      return "rmsnorm";
    case KernelKind::gelu:
      return "gelu";
    case KernelKind::swiglu:
      return "swiglu";
    case KernelKind::geglu:
      return "geglu";
    case KernelKind::squared_relu:
      return "squared_relu";
    case KernelKind::dropout:
      return "dropout";
    case KernelKind::softmax:
      return "softmax";
    case KernelKind::core_attention:
      return "core_attention";
    case KernelKind::fused_attention:
      return "fused_attention";
    case KernelKind::up_projection:
      return "up_projection";
  }
  return "unknown";
}

Status check_kernel(const KernelDesc& desc, const KernelArgs& args) {
  const int index = static_cast<int>(desc.kind) - 1;
  if (index < 0 || index >= static_cast<int>(std::size(kCounts))) {
    return argument_error(
        "kernel", format("kernel is %d; built in are 1 to %zu", index + 1, std::size(kCounts)));
  }
  RC_TRY(check_numbers(desc));
  const Counts& c = kCounts[index];
  RC_TRY(check_list(desc.kind, {"inputs", args.inputs, c.inputs_least, c.inputs_most, false}));
  RC_TRY(check_list(desc.kind, {"params", args.params, c.params_least, c.params_most, false}));
  RC_TRY(check_list(desc.kind, {"outputs", args.outputs, 1, 1, true}));
  RC_TRY(check_list(desc.kind, {"saved", args.saved, 0, c.saved_most, true}));
  const Tensor& x = args.inputs[0];
  switch (desc.kind) {
    case KernelKind::layernorm:
    case KernelKind::rmsnorm:
      return check_norm(args);
    case KernelKind::swiglu:
    case KernelKind::geglu:
      return check_glu(args);
    case KernelKind::softmax:
      return check_softmax(desc, args);
    case KernelKind::core_attention:
    case KernelKind::fused_attention:
      return check_attention(desc, args);
    case KernelKind::up_projection:
      return check_up_projection(args);
    case KernelKind::gelu:
    case KernelKind::squared_relu:
    case KernelKind::dropout:
      break;
  }
  return same_as("outputs", 0, args.outputs[0], x, x.cols());
}

}  // namespace rc
