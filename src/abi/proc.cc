// src/abi/proc.cc: rc_get_proc: every exported function by name.
#include <cstring>

#include "include/rcore/rcore.h"

namespace {

struct Entry {
  const char* name;
  rc_proc proc;
};

#define RC_ENTRY(f) {#f, reinterpret_cast<rc_proc>(f)}
const Entry kEntries[] = {
    RC_ENTRY(rc_version),           RC_ENTRY(rc_status_name),
    RC_ENTRY(rc_error_last),        RC_ENTRY(rc_error_raise),
    RC_ENTRY(rc_get_proc),          RC_ENTRY(rc_has_feature),
    RC_ENTRY(rc_tensor_wrap),       RC_ENTRY(rc_tensor_view),
    RC_ENTRY(rc_tensor_release),    RC_ENTRY(rc_fence_create),
    RC_ENTRY(rc_fence_signal),      RC_ENTRY(rc_fence_test),
    RC_ENTRY(rc_fence_wait),        RC_ENTRY(rc_fence_on_done),
    RC_ENTRY(rc_fence_release),     RC_ENTRY(rc_context_create),
    RC_ENTRY(rc_context_configure), RC_ENTRY(rc_context_poll),
    RC_ENTRY(rc_context_drain),     RC_ENTRY(rc_context_release),
    RC_ENTRY(rc_policy_create),     RC_ENTRY(rc_policy_create_json),
    RC_ENTRY(rc_policy_decide),     RC_ENTRY(rc_policy_describe),
    RC_ENTRY(rc_policy_note),       RC_ENTRY(rc_policy_release),
    RC_ENTRY(rc_module_register),   RC_ENTRY(rc_module_release),
    RC_ENTRY(rc_comm_create),       RC_ENTRY(rc_comm_release),
    RC_ENTRY(rc_step_begin),        RC_ENTRY(rc_step_end),
    RC_ENTRY(rc_region_begin),      RC_ENTRY(rc_region_save),
    RC_ENTRY(rc_region_slot_add),   RC_ENTRY(rc_region_alloc),
    RC_ENTRY(rc_region_output),     RC_ENTRY(rc_region_forward),
    RC_ENTRY(rc_region_end),        RC_ENTRY(rc_region_discard),
    RC_ENTRY(rc_region_prefetch),   RC_ENTRY(rc_backward_replay),
    RC_ENTRY(rc_region_view),       RC_ENTRY(rc_region_tensor),
    RC_ENTRY(rc_region_restore),    RC_ENTRY(rc_region_done),
    RC_ENTRY(rc_region_wants),      RC_ENTRY(rc_region_missing),
    RC_ENTRY(rc_region_decide),     RC_ENTRY(rc_region_rng),
    RC_ENTRY(rc_region_rng_record), RC_ENTRY(rc_region_phase),
    RC_ENTRY(rc_region_query),      RC_ENTRY(rc_region_slot_query),
    RC_ENTRY(rc_region_find),       RC_ENTRY(rc_region_lookup),
    RC_ENTRY(rc_region_retain),     RC_ENTRY(rc_region_cancel),
    RC_ENTRY(rc_region_release),    RC_ENTRY(rc_stats_get),
    RC_ENTRY(rc_stats_reset_peak),  RC_ENTRY(rc_report),
    RC_ENTRY(rc_predict),           RC_ENTRY(rc_plan_create),
    RC_ENTRY(rc_plan_policy),       RC_ENTRY(rc_plan_report),
    RC_ENTRY(rc_plan_release),      RC_ENTRY(rc_plan_inventory),
    RC_ENTRY(rc_plan_evaluate),     RC_ENTRY(rc_plan_measured),
};
#undef RC_ENTRY

}  // namespace

extern "C" rc_proc rc_get_proc(const char* name) noexcept {
  if (!name) return nullptr;
  for (const Entry& entry : kEntries)
    if (std::strcmp(entry.name, name) == 0) return entry.proc;
  return nullptr;
}
