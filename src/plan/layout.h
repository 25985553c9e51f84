// src/plan/layout.h: Layout, how a model is spread over ranks, and the microbatch it is fed.
#pragma once

#include "src/plan/architecture.h"
#include "src/policy/stage_layout.h"

namespace rc::plan {

struct Layout {
  uint32_t tp = 1, cp = 1, ep = 1, pp = 1, vpp = 1, dp = 1;
  uint32_t etp = 0;  // tensor parallelism inside the experts; 0: as tp
  bool sp = false;
  uint32_t seq = 0, mbs = 1;
  uint32_t microbatches = 0;  // per rank and step; 0: enough to fill the pipeline
  rc_fp8 fp8 = RC_FP8_OFF;
  uint32_t first_stage_layers = 0, last_stage_layers = 0;  // 0: even
  std::vector<uint32_t> layers_per_virtual_stage;

  uint32_t expert_tp() const { return etp == 0 ? tp : etp; }
  uint32_t step_microbatches() const;
  // Of one microbatch on one rank, before and after the split over the sequence.
  uint64_t tokens() const { return uint64_t{seq} / cp * mbs; }
  uint64_t split_tokens() const { return sp ? tokens() / tp : tokens(); }
};

// Sizes that divide each other and the model.
Status check(const Layout& layout, const Architecture& architecture);
// Which layers each (rank, chunk) has.
Status make_stages(const Layout& layout, const Architecture& architecture, StageLayout* out);

}  // namespace rc::plan
