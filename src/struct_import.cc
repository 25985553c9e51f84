// src/struct_import.cc: the rarely taken paths of struct import and export: other sizes, and
// errors.
#include "src/struct_import.h"

#include <algorithm>
#include <string>

namespace rc {

const char* struct_name(uint32_t type) {
  static constexpr const char* kNames[] = {
      nullptr,          "rc_error_info",  "rc_alloc_request", "rc_allocator",    "rc_sink",
      "rc_trace_event", "rc_parallel",    "rc_tensor_spec",   "rc_context_desc", "rc_kind_desc",
      "rc_policy_rule", "rc_policy_desc", "rc_site",          "rc_decision",     "rc_note",
      "rc_side_state",  "rc_slot_desc",   "rc_replay_args",   "rc_slot_args",    "rc_module_ops",
      "rc_kernel_desc", "rc_module_desc", "rc_comm_ops",      "rc_comm_desc",    "rc_step_desc",
      "rc_step_report", "rc_region_desc", "rc_region_key",    "rc_region_info",  "rc_save",
      "rc_rng",         "rc_stats",       "rc_prediction",    "rc_slot_info",
  };
  if (type == 0 || type >= std::size(kNames)) return "unknown struct";
  return kNames[type];
}

namespace detail {
namespace {

Status version_error(const char* field, const char* part, std::string message) {
  return Status(RC_E_VERSION, std::string(field) + part, std::move(message));
}

std::string library_version() {
  constexpr unsigned v = RC_HEADER_VERSION;
  return format("%u.%u.%u", v / 1000000, v / 1000 % 1000, v % 1000);
}

// Everything about a struct's head that can be judged without its tag's layout. *size is the
// caller's sizeof.
Status check_head(const void* at, rc_type tag, const char* field, uint32_t* size) {
  const char* name = struct_name(tag);
  if (at == nullptr) return argument_error(field, format("is NULL; a %s is required", name));
  *size = load_size(at);
  const std::string size_field = std::string(field) + ".head.struct_size";
  if (*size < sizeof(rc_head)) {
    return argument_error(
        size_field, format("is %u; a %s has at least %zu bytes (start from %s_init())", *size, name,
                           sizeof(rc_head), name));
  }
  if (*size > kStructSizeMax) {
    return argument_error(
        size_field, format("is %u; the limit is %u, so this %s is not initialised (start from "
                           "%s_init())",
                           *size, kStructSizeMax, name, name));
  }
  uint32_t type;
  std::memcpy(&type, static_cast<const char*>(at) + offsetof(rc_head, struct_type), sizeof type);
  if (type != static_cast<uint32_t>(tag)) {
    return argument_error(std::string(field) + ".head.struct_type",
                          format("is %u (%s); %s (%u) is required", type, struct_name(type), name,
                                 static_cast<unsigned>(tag)));
  }
  const void* next;
  std::memcpy(&next, static_cast<const char*>(at) + offsetof(rc_head, next), sizeof next);
  if (next != nullptr) {
    return version_error(field, ".head.next",
                         format("is not NULL; library %s knows no extension of %s",
                                library_version().c_str(), name));
  }
  return ok_status();
}

// Word-wise where it can be: a tail is usually a few words long and zero.
uint32_t first_nonzero(const char* bytes, uint32_t begin, uint32_t end) {
  uint32_t i = begin;
  for (; i + sizeof(uint64_t) <= end; i += sizeof(uint64_t)) {
    uint64_t word;
    std::memcpy(&word, bytes + i, sizeof word);
    if (word != 0) break;
  }
  while (i < end && bytes[i] == 0) ++i;
  return i;
}

}  // namespace

Status import_any(const void* from, rc_type tag, const char* field, void* to, uint32_t our_size) {
  uint32_t size = 0;
  RC_TRY(check_head(from, tag, field, &size));
  const char* bytes = static_cast<const char*>(from);
  const uint32_t unknown = first_nonzero(bytes, our_size, size);
  if (size > our_size && unknown != size) {
    return version_error(
        field, "",
        format("the caller's %s has %u bytes and sets byte %u; library %s knows %u bytes "
               "of it, so it cannot honour that",
               struct_name(tag), size, unknown, library_version().c_str(), our_size));
  }
  const uint32_t shared = std::min(size, our_size);
  std::memcpy(to, bytes, shared);
  std::memset(static_cast<char*>(to) + shared, 0, our_size - shared);
  std::memcpy(to, &our_size, sizeof our_size);  // from here on it is this library's struct
  return ok_status();
}

Status import_element_any(const void* base, uint64_t index, uint32_t stride, rc_type tag,
                          const char* field, void* to, uint32_t our_size) {
  if (base == nullptr)
    return argument_error(field, format("is NULL; an array of %s is required", struct_name(tag)));
  const std::string stride_field = std::string(field) + "_stride";
  // The caller's compiler aligned each element to a pointer; a stride that does not is no sizeof.
  if (stride < sizeof(rc_head) || stride > kStructSizeMax || stride % alignof(rc_head) != 0) {
    return argument_error(
        stride_field,
        format("is %u; it must be sizeof(%s) of the caller: a multiple of %zu from %zu "
               "to %u",
               stride, struct_name(tag), alignof(rc_head), sizeof(rc_head), kStructSizeMax));
  }
  const char* at = static_cast<const char*>(base) + index * stride;
  const std::string element = format("%s[%llu]", field, static_cast<unsigned long long>(index));
  const uint32_t size = load_size(at);
  if (size > stride) {
    return argument_error(element + ".head.struct_size",
                          format("is %u; the stride of the array is %u", size, stride));
  }
  return import_any(at, tag, element.c_str(), to, our_size);
}

Status check_any_output(const void* to, rc_type tag, const char* field, uint32_t) {
  uint32_t size = 0;
  return check_head(to, tag, field, &size);
}

void export_any(const void* value, void* to, uint32_t our_size) {
  constexpr uint32_t head = sizeof(rc_head);
  const uint32_t size = load_size(to);
  const uint32_t shared = std::min(size, our_size);
  std::memcpy(static_cast<char*>(to) + head, static_cast<const char*>(value) + head, shared - head);
  std::memset(static_cast<char*>(to) + shared, 0, size - shared);
}

}  // namespace detail
}  // namespace rc
