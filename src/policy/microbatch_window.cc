// src/policy/microbatch_window.cc: window length and running number of a microbatch.
#include "src/policy/microbatch_window.h"

#include <algorithm>

namespace rc {

MicrobatchWindow::MicrobatchWindow(const PolicySpec& spec)
    : partial_(spec.num_microbatches_with_partial_recompute),
      pp_(spec.pp_size),
      vpp_(spec.vpp_size),
      n_microbatches_(spec.num_microbatches) {
  const uint64_t behind = pp_ - spec.pp_rank - 1;
  const uint64_t warm_up = vpp_ == 1 ? behind : 2 * behind + uint64_t{vpp_ - 1} * pp_;
  length_ = static_cast<uint32_t>(std::min(warm_up, uint64_t{n_microbatches_} * vpp_) + 1);
}

bool MicrobatchWindow::is_partial(uint32_t chunk, uint32_t microbatch) const {
  if (!active()) return true;
  return running_number(chunk, microbatch) % length_ < partial_;
}

uint64_t MicrobatchWindow::running_number(uint32_t chunk, uint32_t microbatch) const {
  if (vpp_ == 1 || n_microbatches_ == 0) return microbatch;
  const uint32_t m = microbatch % n_microbatches_;
  const uint32_t group_first = m / pp_ * pp_;
  const uint32_t group_size = std::min(pp_, n_microbatches_ - group_first);
  return uint64_t{group_first} * vpp_ + uint64_t{chunk} * group_size + (m - group_first);
}

}  // namespace rc
