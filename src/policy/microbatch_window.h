// src/policy/microbatch_window.h: which microbatches of a pipeline rank are recomputed partially.
#pragma once

#include <cstdint>

#include "src/policy/policy_spec.h"

namespace rc {

// Appendix C of Korthikanti et al., arXiv 2205.05198: within every window of outstanding
// microbatches the first N follow the policy, the others are recomputed in full. The definition
// stands beside rc_policy_desc.
class MicrobatchWindow {
 public:
  MicrobatchWindow() = default;
  explicit MicrobatchWindow(const PolicySpec& spec);
  bool active() const { return partial_ != 0; }
  uint32_t length() const { return length_; }
  bool is_partial(uint32_t chunk, uint32_t microbatch) const;

 private:
  uint64_t running_number(uint32_t chunk, uint32_t microbatch) const;
  uint32_t partial_ = 0;
  uint32_t length_ = 1;
  uint32_t pp_ = 1, vpp_ = 1, n_microbatches_ = 0;
};

}  // namespace rc
