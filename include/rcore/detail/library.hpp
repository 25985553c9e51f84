// rcore/detail/library.hpp: what the loaded library is and has.
#ifndef RCORE_DETAIL_LIBRARY_HPP
#define RCORE_DETAIL_LIBRARY_HPP
#ifndef RCORE_RCORE_HPP
#error "include <rcore/rcore.hpp>, which declares what this file defines"
#endif

namespace rcore {

inline std::uint32_t version() noexcept {
  return rc_version();
}

inline bool has(rc_feature feature) noexcept {
  return rc_has_feature(feature) != 0;
}

template <class Function>
Function proc(const char* name) noexcept {
  return reinterpret_cast<Function>(rc_get_proc(name));
}

}  // namespace rcore

#endif  // RCORE_DETAIL_LIBRARY_HPP
