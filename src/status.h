// src/status.h: the result of every internal fallible call: a code, the offending field, a message.
//
// An OK status carries nothing and costs nothing; a failure carries one record on the heap.
// No exception of ours is thrown; abi.cc turns a Status into rc_status plus this thread's last
// error.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "include/rcore/rcore.h"

namespace rc {

class [[nodiscard]] Status {
 public:
  Status() = default;
  [[gnu::cold]] Status(rc_status code, std::string_view field, std::string_view message);
  Status(Status&&) noexcept = default;
  Status& operator=(Status&&) noexcept = default;

  bool ok() const { return code_ >= 0; }
  rc_status code() const { return code_; }
  // "modules[2]", "inputs[0].strides", "/rules/3/kind"; empty where no field is to blame.
  const std::string& field() const;
  // One line with the value and the limit, no trailing newline.
  const std::string& message() const;
  int64_t native_code() const { return record_ ? record_->native_code : 0; }
  rc_domain native_domain() const { return record_ ? record_->domain : RC_DOMAIN_NONE; }
  // A note: success (> 0) that the caller should see, such as RC_PASS.
  static Status note(rc_status positive) {
    Status s;
    s.code_ = positive;
    return s;
  }
  // Puts the field into a larger one: "slot" in "items[3]" is "items[3].slot". Only failures pay
  // for it.
  [[gnu::cold]] Status&& inside(const std::string& outer) &&;
  [[gnu::cold]] Status&& with_native(rc_domain domain, int64_t code) &&;

 private:
  struct Record {
    std::string field, message;
    rc_domain domain = RC_DOMAIN_NONE;
    int64_t native_code = 0;
  };
  rc_status code_ = RC_OK;
  std::unique_ptr<Record> record_;
};

inline Status ok_status() {
  return Status();
}
[[gnu::cold]] Status argument_error(std::string_view field, std::string_view message);
// printf into std::string, for messages with values and limits.
[[gnu::cold, gnu::format(printf, 1, 2)]] std::string format(const char* pattern, ...);

}  // namespace rc

// Leaves the enclosing function with a failure; notes and success go on.
#define RC_TRY(expression)                         \
  do {                                             \
    ::rc::Status rc_try_status = (expression);     \
    if (!rc_try_status.ok()) return rc_try_status; \
  } while (0)
