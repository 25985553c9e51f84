// src/abi/error.cc: versions, names, and this thread's error record.
#include <dlfcn.h>

#include <cstring>

#include "src/abi/guard.h"

namespace rc::abi {
namespace {

// Trivial, so that it needs no destructor at thread exit and no guard on access.
struct ThreadError {
  rc_status code;
  rc_domain domain;
  int64_t native_code;
  uint64_t region_id;
  char call[48], field[64], message[512];
  rc_status raised_code;
  char raised[512];
  int depth;
  bool inner;  // a call made by a callback of the current outermost call has failed
};

thread_local ThreadError t_error;

// Copies and terminates; never cuts a UTF-8 sequence in half.
void copy_text(char* to, size_t capacity, const char* from) {
  size_t n = std::strlen(from);
  if (n >= capacity) {
    n = capacity - 1;
    while (n > 0 && (static_cast<unsigned char>(from[n]) & 0xC0) == 0x80) --n;
  }
  std::memcpy(to, from, n);
  to[n] = '\0';
}

}  // namespace

void enter() {
  if (t_error.depth++ > 0) return;
  t_error.raised_code = RC_OK;
  t_error.inner = false;
}

void leave() {
  --t_error.depth;
}

rc_status fail(const char* call, Status status, uint64_t region_id) {
  ThreadError& e = t_error;
  // A callback that passes on the status of a call of its own is explained by that call's message.
  if (e.inner && e.code == status.code() && e.raised_code != status.code()) {
    e.raised_code = status.code();
    std::memcpy(e.raised, e.message, sizeof e.raised);
  }
  e.inner = e.depth > 1;
  e.code = status.code();
  e.domain = status.native_domain();
  e.native_code = status.native_code();
  e.region_id = region_id;
  copy_text(e.call, sizeof e.call, call);
  copy_text(e.field, sizeof e.field, status.field().c_str());
  if (e.raised_code == status.code() && e.raised_code < 0)
    copy_text(e.message, sizeof e.message, (status.message() + ": " + e.raised).c_str());
  else
    copy_text(e.message, sizeof e.message, status.message().c_str());
  return e.code;
}

rc_status fail_exception(const char* call, rc_status code, const char* what) {
  ThreadError& e = t_error;
  e.code = code;
  e.domain = RC_DOMAIN_NONE;
  e.native_code = 0;
  e.region_id = 0;
  copy_text(e.call, sizeof e.call, call);
  e.field[0] = '\0';
  copy_text(e.message, sizeof e.message, what);
  return code;
}

namespace {

rc_status last_error(rc_error_info* out) {
  Status checked = check_output(out, RC_TYPE_ERROR_INFO, "out");
  if (!checked.ok()) return checked.code();  // the record itself stays as it is
  rc_error_info info = make_struct<rc_error_info>(RC_TYPE_ERROR_INFO);
  const ThreadError& e = t_error;
  info.code = e.code;
  info.native_domain = e.domain;
  info.native_code = e.native_code;
  info.region_id = e.region_id;
  std::memcpy(info.call, e.call, sizeof info.call);
  std::memcpy(info.field, e.field, sizeof info.field);
  std::memcpy(info.message, e.message, sizeof info.message);
  export_struct(info, out);
  return e.code == RC_OK ? RC_PASS : RC_OK;
}

}  // namespace

Status write_text(const std::string& text, char* buffer, uint64_t capacity, uint64_t* needed) {
  if (!buffer && capacity > 0)
    return argument_error("buffer", "buffer is NULL and capacity is not 0");
  if (needed) *needed = text.size() + 1;
  if (capacity > 0) copy_text(buffer, capacity, text.c_str());
  return ok_status();
}

}  // namespace rc::abi

extern "C" {

uint32_t rc_version(void) noexcept {
  return RC_HEADER_VERSION;
}

const char* rc_status_name(rc_status status) noexcept {
  switch (status) {
#define RC_NAME(s) \
  case s:          \
    return #s
    RC_NAME(RC_OK);
    RC_NAME(RC_PASS);
    RC_NAME(RC_PENDING);
    RC_NAME(RC_MOVED);
    RC_NAME(RC_E_ARGUMENT);
    RC_NAME(RC_E_VERSION);
    RC_NAME(RC_E_HANDLE);
    RC_NAME(RC_E_STATE);
    RC_NAME(RC_E_MEMORY);
    RC_NAME(RC_E_BUDGET);
    RC_NAME(RC_E_UNSUPPORTED);
    RC_NAME(RC_E_DEVICE);
    RC_NAME(RC_E_COMM);
    RC_NAME(RC_E_CAPTURE);
    RC_NAME(RC_E_MISMATCH);
    RC_NAME(RC_E_FORKED);
    RC_NAME(RC_E_INTERNAL);
    RC_NAME(RC_E_HOST);
#undef RC_NAME
    default:
      return "unknown";
  }
}

rc_status rc_error_last(rc_error_info* out) noexcept {
  return rc::abi::last_error(out);
}

void rc_error_raise(rc_status code, const char* message) noexcept {
  rc::abi::t_error.raised_code = code;
  rc::abi::copy_text(rc::abi::t_error.raised, sizeof rc::abi::t_error.raised,
                     message ? message : "");
}

}  // extern "C"
