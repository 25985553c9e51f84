// src/status.cc: Status and its message formatting.
#include "src/status.h"

#include <cstdarg>
#include <cstdio>

namespace rc {

Status::Status(rc_status code, std::string_view field, std::string_view message)
    : code_(code), record_(std::make_unique<Record>()) {
  record_->field = field;
  record_->message = message;
}

const std::string& Status::field() const {
  static const std::string* const none = new std::string;  // leaked: valid at process exit
  return record_ ? record_->field : *none;
}

const std::string& Status::message() const {
  static const std::string* const none = new std::string;
  return record_ ? record_->message : *none;
}

Status&& Status::inside(const std::string& outer) && {
  if (record_) record_->field = record_->field.empty() ? outer : outer + "." + record_->field;
  return std::move(*this);
}

Status&& Status::with_native(rc_domain domain, int64_t code) && {
  if (record_) {
    record_->domain = domain;
    record_->native_code = code;
  }
  return std::move(*this);
}

Status argument_error(std::string_view field, std::string_view message) {
  return Status(RC_E_ARGUMENT, field, message);
}

std::string format(const char* pattern, ...) {
  va_list args;
  va_start(args, pattern);
  va_list again;
  va_copy(again, args);
  const int length = std::vsnprintf(nullptr, 0, pattern, args);
  va_end(args);
  std::string text(length > 0 ? static_cast<size_t>(length) : 0, '\0');
  if (length > 0) std::vsnprintf(text.data(), text.size() + 1, pattern, again);
  va_end(again);
  return text;
}

}  // namespace rc
