// src/plan/chain.h: plans below the sum of the layers' inputs: checkpoints of several layers.
//
// A chain of layers with heterogeneous costs, where a layer's forward is run to save nothing, its
// input, or everything (in each of the ways the layer's own tensors can be treated). Optimal among
// persistent schedules by dynamic programming over segments and memory:
//   C(i, j, m) = min( min over ways c: f_i + r_c + C(i+1, j, m - s_c),
//                     min over k: f_i + ... + f_(k-1) + C(k, j, m - a_i) + C(i, k-1, m) )
// after O. Beaumont, L. Eyraud-Dubois, J. Herrmann, A. Joly, A. Shilova, "Optimal checkpointing for
// heterogeneous chains", arXiv 1911.13214, with the ways of saving of Rockmate (ICML 2023). Nothing
// is offloaded in this regime.
#pragma once

#include "src/plan/problem.h"

namespace rc {

// Whether the stage is a chain: one chunk, and the classes name their inputs.
bool is_chain(const PlanStage& stage);

// False where no chain plan fits; *minimum then is the least budget that has one. With several
// microbatches held the bound is that of one, so that the plan may be better than it is known.
bool solve_chain(const PlanStage& stage, StagePlan* plan, int64_t* minimum);

}  // namespace rc
