// rcore/detail/callback.hpp: the boundary that no exception of a host's lambda passes.
#ifndef RCORE_DETAIL_CALLBACK_HPP
#define RCORE_DETAIL_CALLBACK_HPP
#ifndef RCORE_RCORE_HPP
#error "include <rcore/rcore.hpp>, which declares what this file defines"
#endif

#include <exception>
#include <new>
#include <type_traits>

namespace rcore::detail {

// Runs a callback's body. A body that returns void means RC_OK.
template <class Body>
rc_status guarded(Body&& body) noexcept {
  try {
    if constexpr (std::is_void_v<decltype(body())>) {
      body();
      return RC_OK;
    } else {
      return body();
    }
  } catch (const error& e) {
    rc_error_raise(e.code(), e.what());
    return e.code();
  } catch (const std::bad_alloc&) {
    rc_error_raise(RC_E_MEMORY, "std::bad_alloc in a host callback");
    return RC_E_MEMORY;
  } catch (const std::exception& e) {
    rc_error_raise(RC_E_HOST, e.what());
  } catch (...) {
    rc_error_raise(RC_E_HOST, "an exception that is no std::exception left a host callback");
  }
  return RC_E_HOST;
}

// The `destroy` of a table whose user_data is a T made with new.
template <class T>
void RC_CALL destroy(void* p) noexcept {
  delete static_cast<T*>(p);
}

}  // namespace rcore::detail

#endif  // RCORE_DETAIL_CALLBACK_HPP
