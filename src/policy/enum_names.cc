// src/policy/enum_names.cc: the spelling of the policy's enumerators.
#include "src/policy/policy.h"

namespace rc {
namespace {

template <size_t N>
const char* pick(const char* const (&names)[N], int value) {
  return value >= 0 && static_cast<size_t>(value) < N ? names[value] : "?";
}

}  // namespace

const char* name_of(rc_granularity value) {
  static constexpr const char* kNames[] = {"none", "selective", "full"};
  return pick(kNames, value);
}
const char* name_of(rc_method value) {
  static constexpr const char* kNames[] = {"unset", "uniform", "block"};
  return pick(kNames, value);
}
const char* name_of(rc_fp8 value) {
  static constexpr const char* kNames[] = {"off", "delayed", "tensorwise", "blockwise", "mxfp8"};
  return pick(kNames, value);
}
const char* name_of(rc_graph value) {
  static constexpr const char* kNames[] = {"none", "local", "transformer_engine", "full_iteration"};
  return pick(kNames, value);
}
const char* name_of(rc_action value) {
  static constexpr const char* kNames[] = {"keep", "recompute", "store"};
  return pick(kNames, value);
}
const char* name_of(rc_tier value) {
  static constexpr const char* kNames[] = {"device", "host", "disk"};
  return pick(kNames, value);
}
const char* name_of(rc_codec value) {
  static constexpr const char* kNames[] = {"none", "fp8_e4m3", "fp8_e5m2"};
  return pick(kNames, value);
}
const char* name_of(rc_role value) {
  static constexpr const char* kNames[] = {"any",    "input",     "saved",
                                           "output", "parameter", "decision"};
  return pick(kNames, value);
}

}  // namespace rc
