// examples/gpt/reference.h: the GPT once more, slow and in double precision, to check losses and
// gradients against.
#pragma once

#include <vector>

#include "examples/gpt/model.h"

namespace gpt {

// Mean loss of one microbatch of `rows` tokens, with the dropout masks of a first step: the records
// of its tensors follow one another in the order of the forward, from counter block 0 of `seed`.
double reference_loss(const Sizes& sizes, const std::vector<double>& params, const uint8_t* tokens,
                      const uint8_t* targets);

}  // namespace gpt
