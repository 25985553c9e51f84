// src/struct_import.h: reads and writes the caller's extensible structs at the C boundary.
//
// The rule of rcore.h ("extensible structs"): a shorter struct reads as if its missing tail were
// zero, a longer one is accepted only while every byte that this library does not know is zero,
// else RC_E_VERSION. Never a byte beyond the caller's struct_size is touched. When both sides have
// the same sizeof, which is every call of a program built with this header, the whole import is one
// compare and one memcpy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "src/status.h"

namespace rc {

// No public struct comes near it; a struct_size beyond it is uninitialised memory, not a newer
// caller.
inline constexpr uint32_t kStructSizeMax = 64 * 1024;

// "rc_save" for RC_TYPE_SAVE; "unknown struct" for a number that is no type.
const char* struct_name(uint32_t type);

namespace detail {

Status import_any(const void* from, rc_type tag, const char* field, void* to, uint32_t our_size);
Status check_any_output(const void* to, rc_type tag, const char* field, uint32_t our_size);
void export_any(const void* value, void* to, uint32_t our_size);
Status import_element_any(const void* base, uint64_t index, uint32_t stride, rc_type tag,
                          const char* field, void* to, uint32_t our_size);

// Unaligned and without an enum load: the bytes may be anything.
inline uint32_t load_size(const void* at) {
  uint32_t size;
  std::memcpy(&size, at, sizeof size);
  return size;
}

inline bool head_is_plain(const void* head, rc_type tag) {
  uint32_t type;
  const void* next;
  std::memcpy(&type, static_cast<const char*>(head) + offsetof(rc_head, struct_type), sizeof type);
  std::memcpy(&next, static_cast<const char*>(head) + offsetof(rc_head, next), sizeof next);
  return type == static_cast<uint32_t>(tag) && next == nullptr;
}

template <class T>
constexpr void require_extensible() {
  static_assert(std::is_trivially_copyable_v<T> && std::is_standard_layout_v<T>,
                "a public C struct");
  static_assert(offsetof(T, head) == 0, "starts with rc_head");
}

}  // namespace detail

// Reads *from into *to as this library's T; `field` names the parameter in errors ("desc",
// "desc.allocator"). *to is unspecified on failure. NULL is RC_E_ARGUMENT: test optional pointers
// before.
template <class T>
inline Status import_struct(const T* from, rc_type tag, const char* field, T* to) {
  detail::require_extensible<T>();
  if (from != nullptr && detail::load_size(from) == sizeof(T) && detail::head_is_plain(from, tag))
      [[likely]] {
    std::memcpy(static_cast<void*>(to), from, sizeof(T));
    return ok_status();
  }
  return detail::import_any(from, tag, field, to, sizeof(T));
}

// Element `index` of a caller's array whose elements are `stride` bytes apart (the caller's
// sizeof). Errors name "field[index]" and "field_stride".
template <class T>
inline Status import_array_element(const T* base, uint64_t index, uint32_t stride, rc_type tag,
                                   const char* field, T* to) {
  detail::require_extensible<T>();
  if (stride == sizeof(T) && base != nullptr) [[likely]] {
    const T* from = base + index;
    if (detail::load_size(from) == sizeof(T) && detail::head_is_plain(from, tag)) [[likely]] {
      std::memcpy(static_cast<void*>(to), from, sizeof(T));
      return ok_status();
    }
  }
  return detail::import_element_any(base, index, stride, tag, field, to, sizeof(T));
}

// Outputs come in two steps, so that nothing can fail after the work is done: check_output before
// it, export_struct (or clear_output, where the call fails) after it.
template <class T>
inline Status check_output(const T* to, rc_type tag, const char* field) {
  detail::require_extensible<T>();
  if (to != nullptr && detail::load_size(to) == sizeof(T) && detail::head_is_plain(to, tag))
      [[likely]] {
    return ok_status();
  }
  return detail::check_any_output(to, tag, field, sizeof(T));
}

// Writes min(caller's size, ours) bytes of `value` to a checked output: keeps the caller's head and
// zeroes what the caller knows and this library does not.
template <class T>
inline void export_struct(const T& value, T* to) {
  detail::require_extensible<T>();
  if (detail::load_size(to) == sizeof(T)) [[likely]] {
    constexpr size_t head = sizeof(rc_head);
    std::memcpy(reinterpret_cast<char*>(to) + head, reinterpret_cast<const char*>(&value) + head,
                sizeof(T) - head);
    return;
  }
  detail::export_any(&value, to, sizeof(T));
}

// Zeroes everything after the head of a checked output.
template <class T>
inline void clear_output(T* to) {
  detail::require_extensible<T>();
  std::memset(reinterpret_cast<char*>(to) + sizeof(rc_head), 0,
              detail::load_size(to) - sizeof(rc_head));
}

// Element `index` of an output array that has no stride parameter: the first element's struct_size
// is the caller's sizeof, so it is the stride too. Pass the array's own pointer after check_output
// on element 0.
template <class T>
inline T* output_element(T* base, uint64_t index) {
  detail::require_extensible<T>();
  return reinterpret_cast<T*>(reinterpret_cast<char*>(base) + index * detail::load_size(base));
}

// This library's own struct, ready to be handed to a callback of the host.
template <class T>
inline T make_struct(rc_type tag) {
  detail::require_extensible<T>();
  T value = {};
  value.head.struct_size = sizeof(T);
  value.head.struct_type = tag;
  return value;
}

}  // namespace rc
