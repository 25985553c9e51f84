// src/abi/guard.h: the one way through which every extern "C" function runs its body.
//
// A body returns Status; the guard turns it, and any exception, into rc_status and this thread's
// error record.
#pragma once

#include <exception>
#include <new>

#include "src/region/context.h"
#include "src/struct_import.h"

namespace rc::abi {

// This thread's last failure, and what a callback raised on the way to it.
[[gnu::cold]] rc_status fail(const char* call, Status status, uint64_t region_id);
[[gnu::cold]] rc_status fail_exception(const char* call, rc_status code, const char* what);
void enter();
void leave();

template <class Body>
rc_status guard(const char* call, Body body) noexcept {
  enter();
  rc_status result;
  uint64_t region_id = 0;
  try {
    Status status = body(&region_id);
    result = status.ok() ? status.code() : fail(call, std::move(status), region_id);
  } catch (const std::bad_alloc&) {
    result = fail_exception(call, RC_E_MEMORY, "out of host memory");
  } catch (const std::exception& e) {
    result = fail_exception(call, RC_E_INTERNAL, e.what());
  } catch (...) {
    result = fail_exception(call, RC_E_INTERNAL, "an exception of unknown type");
  }
  leave();
  return result;
}

inline Context* unwrap(rc_context* context) {
  return reinterpret_cast<Context*>(context);
}
inline Region* unwrap(rc_region* region) {
  return reinterpret_cast<Region*>(region);
}
inline Module* unwrap(rc_module* module) {
  return reinterpret_cast<Module*>(module);
}
inline Step* unwrap(rc_step* step) {
  return reinterpret_cast<Step*>(step);
}

inline Status check(Context* context) {
  if (!context) return Status(RC_E_HANDLE, "context", "context is NULL");
  if (context->fork_generation != fork_generation())
    return Status(RC_E_FORKED, "context", "the context was created in the parent of this process");
  return ok_status();
}

// NULL regions never come here.
inline Status check(Region* region) {
  if (region->context->fork_generation != fork_generation())
    return Status(RC_E_FORKED, "region",
                  "the region's context was created in the parent of this process");
  return ok_status();
}

// After the lock is taken: a handle that was released is recognised as long as its slot in the pool
// is unused.
inline Status check_live(Region* region) {
  if (region->id == 0) return Status(RC_E_HANDLE, "region", "the region was released");
  return ok_status();
}

// The frame of nearly every region call.
template <class Body>
rc_status with_region(const char* call, rc_region* handle, Body body) noexcept {
  if (!handle) return RC_PASS;
  return guard(call, [&](uint64_t* blamed) -> Status {
    Region* r = unwrap(handle);
    RC_TRY(check(r));
    Locked lock(r->context);
    RC_TRY(check_live(r));
    *blamed = r->id;
    Status status = body(lock, r);
    if (lock.blamed()) *blamed = lock.blamed();
    return status;
  });
}

// For outputs of the two-step kind (see struct_import.h): checks, runs, writes or clears.
template <class T, class Body>
Status fill(T* out, rc_type tag, const char* field, Body body) {
  RC_TRY(check_output(out, tag, field));
  T value = make_struct<T>(tag);
  Status status = body(&value);
  if (status.ok())
    export_struct(value, out);
  else
    clear_output(out);
  return status;
}

Status read_slot(const rc_slot_desc& slot, const std::string& field, SlotDef* out);

// The calling form of rc_policy_describe and rc_report: NUL-terminated, cut at `capacity`.
Status write_text(const std::string& text, char* buffer, uint64_t capacity, uint64_t* needed);

}  // namespace rc::abi
