// src/plan/device_profile.h: DeviceProfile, the rates of a device as data, and times from them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "src/plan/inventory.h"

namespace rc::plan {

// Peak rates in FLOP/s and bytes/s, each with the share of it that kernels reach.
struct DeviceProfile {
  std::string name;
  double gemm_flops = 0, gemm_share = 0.70;
  double fp8_flops = 0;  // 0: the device has none, FP8 runs at gemm_flops
  double attention_share = 0.60;
  double hbm_rate = 0, hbm_share = 0.85;
  // To host memory, one direction, and what is left of it when all devices of a host copy at once.
  double host_rate = 0, host_share = 0.55;
  // Of a copy's traffic in device memory, what kernels wait for: about the share of a layer's time
  // in which they are bound by that memory themselves.
  double copy_share = 0.1;
  double tp_rate = 0;  // of a collective inside a node, per rank
  double ep_rate = 0;  // of an all-to-all between nodes, per rank
  double launch_seconds = 0;
  uint64_t memory_bytes = 0;
};

bool find_device(std::string_view name, DeviceProfile* out);
std::vector<std::string_view> device_names();
Status check(const DeviceProfile& profile);

// The work's parts one after the other: no overlap is assumed. `fp8`: GEMMs run in 8 bits.
double seconds(const Work& work, const DeviceProfile& profile, bool fp8 = false);
// What copies to the host reach while others do the same.
inline double host_rate(const DeviceProfile& p) {
  return p.host_rate * p.host_share;
}

}  // namespace rc::plan
