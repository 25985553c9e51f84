// src/abi/tensor.cc: tensors and fences.
#include "src/storage/tensor.h"

#include "src/abi/guard.h"
#include "src/region/fence.h"

using rc::Status;
using namespace rc::abi;

namespace {

Status check_fence(rc_fence* fence) {
  if (!fence) return Status(RC_E_HANDLE, "fence", "fence is NULL");
  if (reinterpret_cast<rc::Fence*>(fence)->forked())
    return Status(RC_E_FORKED, "fence", "the fence was created in the parent of this process");
  return rc::ok_status();
}

}  // namespace

extern "C" {

rc_status rc_tensor_wrap(const rc_tensor_spec* spec, void (*release)(void*), void* user_data,
                         rc_tensor** out) noexcept {
  return guard("rc_tensor_wrap", [&](uint64_t*) -> Status {
    if (!out) return rc::argument_error("out", "out is NULL");
    *out = nullptr;
    rc_tensor_spec s;
    RC_TRY(rc::import_struct(spec, RC_TYPE_TENSOR_SPEC, "spec", &s));
    return rc::wrap_tensor(s, release, user_data, out);
  });
}

rc_status rc_tensor_view(const rc_tensor* tensor, rc_tensor_spec* out) noexcept {
  return guard("rc_tensor_view", [&](uint64_t*) -> Status {
    return fill(out, RC_TYPE_TENSOR_SPEC, "out",
                [&](rc_tensor_spec* value) { return rc::read_tensor(tensor, "tensor", value); });
  });
}

void rc_tensor_release(rc_tensor* tensor) noexcept {
  rc::release_tensor(tensor);
}

rc_status rc_fence_create(rc_context* context, rc_fence** out) noexcept {
  return guard("rc_fence_create", [&](uint64_t*) -> Status {
    if (!out) return rc::argument_error("out", "out is NULL");
    *out = nullptr;
    RC_TRY(check(unwrap(context)));
    *out = reinterpret_cast<rc_fence*>(new rc::Fence);
    return rc::ok_status();
  });
}

rc_status rc_fence_signal(rc_fence* fence, rc_status result) noexcept {
  return guard("rc_fence_signal", [&](uint64_t*) -> Status {
    RC_TRY(check_fence(fence));
    return reinterpret_cast<rc::Fence*>(fence)->signal(result);
  });
}

// The host's own result comes back as it is, without an error record of the library.
rc_status rc_fence_test(rc_fence* fence) noexcept {
  const rc_status checked = guard("rc_fence_test", [&](uint64_t*) { return check_fence(fence); });
  return checked < 0 ? checked : reinterpret_cast<rc::Fence*>(fence)->test();
}

rc_status rc_fence_wait(rc_fence* fence, uint64_t timeout_ns) noexcept {
  const rc_status checked = guard("rc_fence_wait", [&](uint64_t*) { return check_fence(fence); });
  return checked < 0 ? checked : reinterpret_cast<rc::Fence*>(fence)->wait(timeout_ns);
}

rc_status rc_fence_on_done(rc_fence* fence, void (*done)(void*, rc_status),
                           void* user_data) noexcept {
  return guard("rc_fence_on_done", [&](uint64_t*) -> Status {
    RC_TRY(check_fence(fence));
    if (!done) return rc::argument_error("done", "done is NULL");
    reinterpret_cast<rc::Fence*>(fence)->on_done(done, user_data);
    return rc::ok_status();
  });
}

void rc_fence_release(rc_fence* fence) noexcept {
  if (fence && !reinterpret_cast<rc::Fence*>(fence)->forked())
    reinterpret_cast<rc::Fence*>(fence)->release();
}

}  // extern "C"
