// rcore/detail/error.hpp: from a status to an exception.
#ifndef RCORE_DETAIL_ERROR_HPP
#define RCORE_DETAIL_ERROR_HPP
#ifndef RCORE_RCORE_HPP
#error "include <rcore/rcore.hpp>, which declares what this file defines"
#endif

namespace rcore {

inline error::error(const rc_error_info& info) : std::runtime_error(text_of(info)), info_(info) {}

inline std::string error::text_of(const rc_error_info& info) {
  std::string text = info.call;
  text += text.empty() ? "" : ": ";
  text += info.field;
  text += info.field[0] == '\0' ? "" : " ";
  text += info.message;
  return text.empty() ? std::string(rc_status_name(info.code)) : text;
}

inline rc_status check(rc_status status) {
  if (status >= RC_OK) return status;
  rc_error_info info = rc_error_info_init();
  // The record may be another call's where this status came from a callback that left no text.
  if (rc_error_last(&info) != RC_OK || info.code != status) {
    info = rc_error_info_init();
    info.code = status;
  }
  throw error(info);
}

}  // namespace rcore

#endif  // RCORE_DETAIL_ERROR_HPP
