/* examples/check.h: what every example does with a status and with a claim: a false one ends it
 * with code 1. */
#ifndef EXAMPLES_HOST_H
#define EXAMPLES_HOST_H
#include <rcore/rcore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A failure has left its record in this thread. */
static inline rc_status must_at(rc_status status, const char* call, const char* file, int line) {
  if (status >= 0) return status;
  rc_error_info error = rc_error_info_init();
  const int known = rc_error_last(&error) == RC_OK;
  fprintf(stderr, "%s:%d: %s: %s: %s: %s\n", file, line, call, rc_status_name(status),
          known ? error.field : "", known ? error.message : "no record");
  exit(1);
}
#define MUST(call) must_at((call), #call, __FILE__, __LINE__)

#define CHECK(claim)                                                      \
  do {                                                                    \
    if (!(claim)) {                                                       \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #claim); \
      exit(1);                                                            \
    }                                                                     \
  } while (0)

static inline rc_tensor_spec float_matrix(const int64_t shape[2]) {
  rc_tensor_spec spec = rc_tensor_spec_init();
  spec.dtype_code = 2; /* DLPack: 2 = float */
  spec.dtype_bits = 32;
  spec.ndim = 2;
  spec.shape = shape;
  return spec;
}

static inline rc_slot_desc slot_desc(const char* name, rc_role role) {
  rc_slot_desc slot = rc_slot_desc_init();
  slot.name = name;
  slot.role = role;
  return slot;
}

/* Memory for a slot; NULL where a replay does not want it. */
static inline float* slot_make(rc_region* region, uint32_t slot, int64_t rows, int64_t columns) {
  const int64_t shape[2] = {rows, columns};
  const rc_tensor_spec wanted = float_matrix(shape);
  rc_tensor_spec got = rc_tensor_spec_init();
  MUST(rc_region_alloc(region, slot, &wanted, NULL, &got));
  return got.data;
}

static inline float* slot_data(rc_region* region, uint32_t slot) {
  rc_tensor_spec spec = rc_tensor_spec_init();
  MUST(rc_region_view(region, slot, NULL, &spec));
  return spec.data;
}

/* Saves a borrowed matrix of the host: the region copies it. */
static inline void slot_save(rc_region* region, uint32_t slot, float* data, int64_t rows,
                             int64_t columns) {
  const int64_t shape[2] = {rows, columns};
  rc_tensor_spec view = float_matrix(shape);
  view.data = data;
  rc_save save = rc_save_init();
  save.slot = slot;
  save.view = &view;
  MUST(rc_region_save(region, &save, 1, sizeof save, NULL, NULL));
}

static inline rc_context* context_create(const rc_context_desc* desc, const char* policy_json) {
  rc_context* context = NULL;
  MUST(rc_context_create(desc, &context));
  rc_policy* policy = NULL;
  MUST(rc_policy_create_json(policy_json, strlen(policy_json), &policy));
  MUST(rc_context_configure(context, policy)); /* adds a count */
  rc_policy_release(policy);
  return context;
}

/* A module that `replay` makes again; `state` may be NULL. */
static inline rc_module* module_register(rc_context* context, const char* kind,
                                         const rc_slot_desc* slots, uint32_t n,
                                         rc_status(RC_CALL* replay)(const rc_replay_args*),
                                         const rc_side_state* state) {
  rc_module_ops ops = rc_module_ops_init();
  ops.replay = replay;
  rc_module_desc desc = rc_module_desc_init();
  desc.kind = kind;
  desc.slots = slots;
  desc.n_slots = n;
  desc.slot_stride = sizeof slots[0];
  desc.ops = &ops;
  desc.states = &state;
  desc.n_states = state != NULL;
  rc_module* module = NULL;
  MUST(rc_module_register(context, &desc, &module));
  return module;
}

static inline rc_region* region_begin(rc_context* context, rc_module* module, rc_step* step,
                                      uint32_t microbatch, void* user_data) {
  rc_region_desc desc = rc_region_desc_init();
  desc.module = module;
  desc.step = step;
  desc.microbatch = microbatch;
  desc.user_data = user_data;
  rc_region* region = NULL;
  MUST(rc_region_begin(context, &desc, &region));
  return region;
}

static inline rc_step* step_begin(rc_context* context) {
  rc_step_desc desc = rc_step_desc_init();
  rc_step* step = NULL;
  MUST(rc_step_begin(context, &desc, &step));
  return step;
}

static inline rc_stats stats_of(rc_context* context) {
  rc_stats stats = rc_stats_init();
  MUST(rc_stats_get(context, &stats));
  return stats;
}

#endif
