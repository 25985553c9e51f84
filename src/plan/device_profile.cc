// src/plan/device_profile.cc: devices by name: peak rates from their makers' data sheets (dense,
// bfloat16), links as planners see them.
#include "src/plan/device_profile.h"

#include <cmath>

namespace rc::plan {
namespace {

const std::vector<DeviceProfile>& devices() {
  static const auto* const all = new std::vector<DeviceProfile>{{.name = "a100",
                                                                 .gemm_flops = 312e12,
                                                                 .hbm_rate = 2.039e12,
                                                                 .host_rate = 25e9,
                                                                 .tp_rate = 230e9,
                                                                 .ep_rate = 22e9,
                                                                 .launch_seconds = 3e-6,
                                                                 .memory_bytes = 80'000'000'000},
                                                                {.name = "h100",
                                                                 .gemm_flops = 989e12,
                                                                 .fp8_flops = 1979e12,
                                                                 .hbm_rate = 3.35e12,
                                                                 .host_rate = 55e9,
                                                                 .tp_rate = 370e9,
                                                                 .ep_rate = 50e9,
                                                                 .launch_seconds = 3e-6,
                                                                 .memory_bytes = 80'000'000'000},
                                                                {.name = "h200",
                                                                 .gemm_flops = 989e12,
                                                                 .fp8_flops = 1979e12,
                                                                 .hbm_rate = 4.8e12,
                                                                 .host_rate = 55e9,
                                                                 .tp_rate = 370e9,
                                                                 .ep_rate = 50e9,
                                                                 .launch_seconds = 3e-6,
                                                                 .memory_bytes = 141'000'000'000},
                                                                {.name = "b200",
                                                                 .gemm_flops = 2250e12,
                                                                 .fp8_flops = 4500e12,
                                                                 .hbm_rate = 8.0e12,
                                                                 .host_rate = 55e9,
                                                                 .tp_rate = 740e9,
                                                                 .ep_rate = 50e9,
                                                                 .launch_seconds = 3e-6,
                                                                 .memory_bytes = 180'000'000'000}};
  return *all;
}

Status positive(const char* field, double value, bool may_be_zero = false) {
  if (std::isfinite(value) && (value > 0 || (may_be_zero && value == 0))) return ok_status();
  return argument_error(field,
                        format("%g, must be %s", value, may_be_zero ? "at least 0" : "above 0"));
}

double over(double amount, double rate) {
  return amount > 0 ? amount / rate : 0;
}

}  // namespace

bool find_device(std::string_view name, DeviceProfile* out) {
  for (const DeviceProfile& d : devices()) {
    if (d.name != name) continue;
    *out = d;
    return true;
  }
  return false;
}

std::vector<std::string_view> device_names() {
  std::vector<std::string_view> names;
  for (const DeviceProfile& d : devices()) names.push_back(d.name);
  return names;
}

Status check(const DeviceProfile& p) {
  RC_TRY(positive("gemm_flops", p.gemm_flops));
  RC_TRY(positive("fp8_flops", p.fp8_flops, true));
  RC_TRY(positive("hbm_rate", p.hbm_rate));
  RC_TRY(positive("host_rate", p.host_rate, true));
  RC_TRY(positive("tp_rate", p.tp_rate));
  RC_TRY(positive("ep_rate", p.ep_rate));
  RC_TRY(positive("launch_seconds", p.launch_seconds, true));
  if (!(p.copy_share >= 0 && p.copy_share <= 1))
    return argument_error("copy_share", format("%g, must be between 0 and 1", p.copy_share));
  const struct {
    const char* field;
    double value;
  } shares[] = {{"gemm_share", p.gemm_share},
                {"attention_share", p.attention_share},
                {"hbm_share", p.hbm_share},
                {"host_share", p.host_share}};
  for (const auto& s : shares) {
    if (!(s.value > 0 && s.value <= 1))
      return argument_error(s.field, format("%g, must be above 0 and at most 1", s.value));
  }
  return ok_status();
}

double seconds(const Work& w, const DeviceProfile& p, bool fp8) {
  const double gemm = fp8 && p.fp8_flops > 0 ? p.fp8_flops : p.gemm_flops;
  return over(w.gemm_flops, gemm * p.gemm_share) +
         over(w.attention_flops, p.gemm_flops * p.attention_share) +
         over(w.hbm_bytes, p.hbm_rate * p.hbm_share) + over(w.tp_bytes, p.tp_rate) +
         over(w.ep_bytes, p.ep_rate) + w.kernels * p.launch_seconds;
}

}  // namespace rc::plan
