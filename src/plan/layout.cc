// src/plan/layout.cc: checks of a layout against the model it spreads.
#include "src/plan/layout.h"

namespace rc::plan {
namespace {

constexpr uint32_t kMaxRanks = 1u << 16;

Status divides(const char* field, uint32_t by, const char* what, uint64_t value) {
  if (value % by == 0) return ok_status();
  return argument_error(field, format("%u does not divide %s %llu", by, what,
                                      static_cast<unsigned long long>(value)));
}

Status check_sizes(const Layout& l) {
  const struct {
    const char* field;
    uint32_t value, most;
  } sizes[] = {{"tensor_model_parallel_size", l.tp, kMaxRanks},
               {"context_parallel_size", l.cp, kMaxRanks},
               {"expert_model_parallel_size", l.ep, kMaxRanks},
               {"pipeline_model_parallel_size", l.pp, 4096},
               {"virtual_pipeline_model_parallel_size", l.vpp, 4096},
               {"data_parallel_size", l.dp, 1u << 20},
               {"expert_tensor_parallel_size", l.expert_tp(), kMaxRanks},
               {"seq_length", l.seq, 1u << 28},
               {"micro_batch_size", l.mbs, 1u << 20},
               {"num_microbatches", l.step_microbatches(), 1u << 20}};
  for (const auto& s : sizes) {
    if (s.value < 1 || s.value > s.most)
      return argument_error(s.field, format("%u, must be between 1 and %u", s.value, s.most));
  }
  return ok_status();
}

}  // namespace

uint32_t Layout::step_microbatches() const {
  if (microbatches != 0) return microbatches;
  return pp == 1 ? 1 : 2 * pp;
}

Status check(const Layout& l, const Architecture& m) {
  RC_TRY(check_sizes(l));
  RC_TRY(divides("context_parallel_size", l.cp, "seq_length", l.seq));
  const Attention& a = m.attention;
  RC_TRY(divides("tensor_model_parallel_size", l.tp, "num_attention_heads", a.heads));
  if (l.tp > a.kv_heads ? l.tp % a.kv_heads != 0 : a.kv_heads % l.tp != 0) {
    return argument_error(
        "tensor_model_parallel_size",
        format("%u and num_query_groups %u do not divide each other", l.tp, a.kv_heads));
  }
  if (m.any_dense()) {
    RC_TRY(divides("tensor_model_parallel_size", l.tp, "ffn_hidden_size", m.ffn));
  }
  if (l.sp) {
    if (l.tp == 1) {
      return argument_error("sequence_parallel",
                            "true, but tensor_model_parallel_size is 1: nothing to split over");
    }
    RC_TRY(divides("tensor_model_parallel_size", l.tp, "seq_length / context_parallel_size",
                   l.seq / l.cp));
  }
  if (m.any_moe()) {
    RC_TRY(divides("expert_model_parallel_size", l.ep, "num_experts", m.experts.count));
    RC_TRY(divides("expert_tensor_parallel_size", l.expert_tp(), "moe_ffn_hidden_size",
                   m.experts.width));
    RC_TRY(divides("tensor_model_parallel_size", l.tp, "moe_shared_expert_intermediate_size",
                   m.experts.shared_width));
    if (l.tp > 1 && !l.sp) {
      return argument_error(
          "sequence_parallel",
          format("false, but experts with tensor_model_parallel_size %u need it", l.tp));
    }
  } else if (l.ep > 1) {
    return argument_error("expert_model_parallel_size",
                          format("%u, but the model has no experts", l.ep));
  }
  StageLayout stages;
  return make_stages(l, m, &stages);
}

Status make_stages(const Layout& l, const Architecture& m, StageLayout* out) {
  if (uint64_t{l.pp} * l.vpp > kMaxModelLayers) {
    return argument_error(
        "virtual_pipeline_model_parallel_size",
        format("%u chunks on each of %u ranks, together at most %u", l.vpp, l.pp, kMaxModelLayers));
  }
  PolicySpec spec;
  spec.num_layers = m.num_layers;
  spec.pp_size = l.pp;
  spec.vpp_size = l.vpp;
  spec.num_layers_in_first_pipeline_stage = l.first_stage_layers;
  spec.num_layers_in_last_pipeline_stage = l.last_stage_layers;
  spec.layers_per_virtual_stage = l.layers_per_virtual_stage;
  return StageLayout::make(spec, out);
}

}  // namespace rc::plan
