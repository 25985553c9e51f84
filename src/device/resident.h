// src/device/resident.h: what the operating system says about this process's memory; tests compare
// accounting with it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace rc {

struct Resident {
  uint64_t now = 0;   // bytes resident
  uint64_t high = 0;  // their high-water mark since the start or the last reset
};

// Sums over the page tables (smaps_rollup), exact where VmRSS lags behind by per-thread counters;
// nullopt where /proc does not tell, with the reason.
std::optional<uint64_t> resident_bytes(std::string* reason = nullptr);
// VmRSS and VmHWM: off by up to 64 pages per thread on the kernels before 6.2 and by 32 pages per
// CPU since.
std::optional<Resident> resident_mark(std::string* reason = nullptr);
// Sets the high-water mark to what is resident now (clear_refs, value 5). ru_maxrss does not serve:
// it starts at the parent's peak.
bool reset_resident_mark(std::string* reason = nullptr);

}  // namespace rc
