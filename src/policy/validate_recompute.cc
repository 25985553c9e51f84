// src/policy/validate_recompute.cc: granularity, method, counts, distribution and microbatches.
#include "src/policy/validate.h"

namespace rc {
namespace {

Status check_granularity(RuleCheck& check) {
  const PolicySpec& spec = check.spec;
  if (check.selective()) {
    if (spec.recompute_num_layers != 0) {
      return check.refuse("TC1926", "recompute_num_layers",
                          format("%u, must not be set with selective recomputation, which is "
                                 "for all layers",
                                 spec.recompute_num_layers));
    }
    if (spec.method != RC_METHOD_UNSET) {
      return check.refuse(
          "ARG1425", "recompute_method",
          format("%s, must not be set with selective recomputation", name_of(spec.method)));
    }
  }
  if (check.full()) {
    if (spec.method == RC_METHOD_UNSET) {
      return check.refuse("TC1913", "recompute_method",
                          "not set, full recomputation needs uniform or block");
    }
    if (spec.num_layers == 0) {
      return argument_error("num_layers", "not set, full recomputation needs it");
    }
    const uint32_t limit = check.layout.largest();
    if (spec.recompute_num_layers == 0 || spec.recompute_num_layers > limit) {
      return check.refuse("TC1919", "recompute_num_layers",
                          format("%u, must be between 1 and %u, the layers of the largest virtual "
                                 "stage",
                                 spec.recompute_num_layers, limit));
    }
    if (spec.recompute_num_layers > check.layout.smallest()) {
      check.note("recompute_num_layers",
                 format("%u, the smallest virtual stage has %u layers: there it means all",
                        spec.recompute_num_layers, check.layout.smallest()));
    }
    return ok_status();
  }
  // Megatron takes both without a word where no granularity is set.
  if (spec.granularity == RC_GRANULARITY_NONE && spec.recompute_num_layers != 0) {
    return argument_error(
        "recompute_num_layers",
        format("%u without recompute_granularity full has no effect", spec.recompute_num_layers));
  }
  if (spec.granularity == RC_GRANULARITY_NONE && spec.method != RC_METHOD_UNSET) {
    return argument_error(
        "recompute_method",
        format("%s without recompute_granularity full has no effect", name_of(spec.method)));
  }
  return ok_status();
}

Status check_distribution(RuleCheck& check) {
  const PolicySpec& spec = check.spec;
  if (!spec.has(RC_POLICY_DISTRIBUTE_SAVED)) return ok_status();
  const char* field = "distribute_saved_activations";
  if (spec.has(RC_POLICY_SEQUENCE_PARALLEL)) {
    return check.refuse("TC1934", field,
                        "set together with sequence_parallel, under which each rank already "
                        "holds its own part");
  }
  if (spec.tp_size <= 1) {
    return check.refuse("ARG1410a", field,
                        format("set, but tp_size is %u: it splits over the tensor-parallel group, "
                               "which needs at least 2 ranks",
                               spec.tp_size));
  }
  if (spec.granularity == RC_GRANULARITY_NONE) {
    return argument_error(field, "set without recompute_granularity, it has no effect");
  }
  if (check.selective()) {
    RC_TRY(check.relax("ARG1410b", field, "set with selective recomputation, must be full"));
    check.note(field,
               "with selective recomputation the inputs of the recomputed modules are split over "
               "tp; Megatron takes the setting and ignores it",
               "ARG1410b");
  }
  return ok_status();
}

Status check_partial(RuleCheck& check) {
  const PolicySpec& spec = check.spec;
  const uint32_t n = spec.num_microbatches_with_partial_recompute;
  if (n == 0) return ok_status();
  const char* field = "num_microbatches_with_partial_recompute";
  if (spec.has(RC_POLICY_OVERLAP_MOE_EXPERT_PARALLEL_COMM)) {
    return check.refuse("CMB344", field,
                        format("%u, must not be set with overlap_moe_expert_parallel_comm", n));
  }
  if (spec.num_microbatches == 0) {
    return argument_error("num_microbatches", format("not set, %s %u needs it", field, n));
  }
  if (spec.pp_size == 1) {
    return argument_error(field, format("%u without a pipeline: pp_size is 1, so no window of "
                                        "outstanding microbatches exists",
                                        n));
  }
  const MicrobatchWindow window(spec);
  if (n >= window.length()) {
    check.note(field, format("%u covers the whole window of %u microbatches of this rank: none is "
                             "recomputed in full",
                             n, window.length()));
  }
  return ok_status();
}

Status check_mtp(RuleCheck& check) {
  const PolicySpec& spec = check.spec;
  if (!check.full() || spec.mtp_num_layers == 0) return ok_status();
  if (spec.method == RC_METHOD_UNIFORM && spec.recompute_num_layers != 1) {
    return check.refuse("MTP1621a", "recompute_num_layers",
                        format("%u, must be 1 with mtp_num_layers %u", spec.recompute_num_layers,
                               spec.mtp_num_layers));
  }
  if (spec.method == RC_METHOD_BLOCK) {
    check.note("mtp_num_layers",
               format("with method block the %u multi-token prediction layers are not recomputed",
                      spec.mtp_num_layers),
               "MTP1621b");
  }
  return ok_status();
}

}  // namespace

Status check_recompute(RuleCheck& check) {
  RC_TRY(check_granularity(check));
  RC_TRY(check_distribution(check));
  RC_TRY(check_partial(check));
  RC_TRY(check_mtp(check));
  const PolicySpec& spec = check.spec;
  if (check.full() && spec.has(RC_POLICY_FEATURE_EXTRACTION) && spec.recompute_num_layers > 1 &&
      spec.method == RC_METHOD_UNIFORM) {
    check.note("feature_extraction",
               format("with uniform chunks of %u layers only the output of the last layer of each "
                      "chunk can be taken out",
                      spec.recompute_num_layers));
  }
  return ok_status();
}

}  // namespace rc
