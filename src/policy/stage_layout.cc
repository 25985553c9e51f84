// src/policy/stage_layout.cc: the mapping of layers to virtual pipeline stages.
#include "src/policy/stage_layout.h"

#include <algorithm>
#include <iterator>

namespace rc {
namespace {

constexpr uint32_t kUnbounded = UINT32_MAX;

Status check_uneven(const char* field, uint32_t layers, uint32_t vpp) {
  if (layers % vpp == 0) return ok_status();
  return argument_error(field, format("%u does not divide into %u virtual chunks", layers, vpp));
}

}  // namespace

Status StageLayout::make(const PolicySpec& spec, StageLayout* out) {
  *out = StageLayout();
  out->num_layers_ = spec.num_layers;
  if (spec.vpp_size > 1 && spec.pp_size == 1) {
    return argument_error("vpp_size",
                          format("%u virtual chunks need pp_size > 1, it is 1", spec.vpp_size));
  }
  if (spec.num_layers == 0) {
    if (spec.pp_size > 1) {
      return argument_error("num_layers", format("not set, but pp_size is %u", spec.pp_size));
    }
    if (!spec.layers_per_virtual_stage.empty()) {
      return argument_error("num_layers", "not set, but layers_per_virtual_stage is");
    }
    if (spec.num_layers_in_first_pipeline_stage + spec.num_layers_in_last_pipeline_stage != 0) {
      return argument_error("num_layers", "not set, but layers of the first or last stage are");
    }
    out->stages_.push_back({0, kUnbounded, 0, 0});
    out->largest_ = out->smallest_ = kUnbounded;
    return ok_status();
  }
  RC_TRY(spec.layers_per_virtual_stage.empty() ? out->spread(spec) : out->take_list(spec));
  out->smallest_ = kUnbounded;
  for (const Stage& stage : out->stages_) {
    out->largest_ = std::max(out->largest_, stage.n);
    if (stage.n > 0) out->smallest_ = std::min(out->smallest_, stage.n);
  }
  return ok_status();
}

Status StageLayout::spread(const PolicySpec& spec) {
  const uint32_t first = spec.num_layers_in_first_pipeline_stage;
  const uint32_t last = spec.num_layers_in_last_pipeline_stage;
  const uint32_t pp = spec.pp_size, vpp = spec.vpp_size;
  if (pp == 1 && (first != 0 || last != 0)) {
    const char* field =
        first != 0 ? "num_layers_in_first_pipeline_stage" : "num_layers_in_last_pipeline_stage";
    return argument_error(field, format("%u without a pipeline: pp_size is 1", first + last));
  }
  if (uint64_t{first} + last > spec.num_layers) {
    return argument_error(
        "num_layers_in_first_pipeline_stage",
        format("first %u and last %u pass num_layers %u", first, last, spec.num_layers));
  }
  const uint32_t middle_ranks = pp - (first != 0 ? 1 : 0) - (last != 0 ? 1 : 0);
  const uint32_t middle_layers = spec.num_layers - first - last;
  if ((middle_layers == 0) != (middle_ranks == 0) ||
      (middle_ranks != 0 && middle_layers % middle_ranks != 0)) {
    return argument_error(
        "num_layers", format("%u layers do not spread evenly over %u pipeline ranks", middle_layers,
                             middle_ranks));
  }
  const uint32_t middle = middle_ranks == 0 ? 0 : middle_layers / middle_ranks;
  RC_TRY(check_uneven("num_layers_in_first_pipeline_stage", first, vpp));
  RC_TRY(check_uneven("num_layers_in_last_pipeline_stage", last, vpp));
  RC_TRY(check_uneven("vpp_size", middle, vpp));
  uint32_t next = 0;
  for (uint32_t chunk = 0; chunk < vpp; ++chunk) {
    for (uint32_t rank = 0; rank < pp; ++rank) {
      uint32_t of_rank = middle;
      if (rank == 0 && first != 0) of_rank = first;
      if (rank == pp - 1 && last != 0) of_rank = last;
      stages_.push_back({next, of_rank / vpp, rank, chunk});
      next += of_rank / vpp;
    }
  }
  return ok_status();
}

Status StageLayout::take_list(const PolicySpec& spec) {
  const auto& list = spec.layers_per_virtual_stage;
  const char* field = "layers_per_virtual_stage";
  if (spec.num_layers_in_first_pipeline_stage != 0 || spec.num_layers_in_last_pipeline_stage != 0) {
    return argument_error(field, "it already says the layers of the first and the last stage");
  }
  if (list.size() != uint64_t{spec.pp_size} * spec.vpp_size) {
    return argument_error(field, format("%zu entries, must be pp_size %u x vpp_size %u",
                                        list.size(), spec.pp_size, spec.vpp_size));
  }
  uint64_t total = 0;
  for (size_t i = 0; i < list.size(); ++i) {
    if (total + list[i] > spec.num_layers) {
      return argument_error(format("%s[%zu]", field, i),
                            format("%u layers pass num_layers %u", list[i], spec.num_layers));
    }
    stages_.push_back({static_cast<uint32_t>(total), list[i],
                       static_cast<uint32_t>(i % spec.pp_size),
                       static_cast<uint32_t>(i / spec.pp_size)});
    total += list[i];
  }
  if (total == spec.num_layers) return ok_status();
  return argument_error(field, format("the sum is %llu, must be num_layers %u",
                                      static_cast<unsigned long long>(total), spec.num_layers));
}

Stage StageLayout::stage_of(uint32_t layer) const {
  if (known() && layer >= num_layers_) return {layer, 1, 0, 0};
  // The last stage that begins at or before the layer has it: an empty stage that begins at the
  // same layer stands before.
  const auto after = std::upper_bound(stages_.begin(), stages_.end(), layer,
                                      [](uint32_t l, const Stage& s) { return l < s.first; });
  return *std::prev(after);
}

}  // namespace rc
