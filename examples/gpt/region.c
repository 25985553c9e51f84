/* examples/gpt/region.c: region.h over rcore.h. */
#include "region.h"

#include <rcore/rcore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store.h"

void store_must(rc_status status, const char* what) {
  if (status >= 0) return;
  rc_error_info error = rc_error_info_init();
  const rc_status known = rc_error_last(&error);
  fprintf(stderr, "gpt: %s: %s: %s %s\n", what, rc_status_name(status),
          known == RC_OK ? error.field : "", known == RC_OK ? error.message : "");
  exit(1);
}

static rc_tensor_spec matrix(const int64_t shape[2]) {
  rc_tensor_spec spec = rc_tensor_spec_init();
  spec.dtype_code = 2;
  spec.dtype_bits = 32;
  spec.dtype_lanes = 1;
  spec.ndim = 2;
  spec.shape = shape;
  return spec;
}

static rc_status RC_CALL replay(const rc_replay_args* args) {
  const Mark* mark = args->module_data;
  mark->run(args->region_data, args->region);
  return RC_OK;
}

static rc_module* register_mark(rc_context* context, const Mark* mark, int layer) {
  static const rc_role kRoles[] = {
      [SLOT_INPUT] = RC_ROLE_INPUT, [SLOT_SAVED] = RC_ROLE_SAVED, [SLOT_OUTPUT] = RC_ROLE_OUTPUT};
  rc_slot_desc slots[SLOTS_MAX];
  for (int i = 0; i < mark->n_slots; i++) {
    slots[i] = rc_slot_desc_init();
    slots[i].name = mark->slots[i].name;
    slots[i].role = kRoles[mark->slots[i].role];
    slots[i].flags = mark->slots[i].optional ? RC_SLOT_OPTIONAL : 0;
  }
  rc_module_ops ops = rc_module_ops_init();
  ops.user_data = (void*)mark;
  ops.replay = replay;
  rc_module_desc desc = rc_module_desc_init();
  desc.kind = mark->kind;
  desc.name = mark->name;
  desc.layer = (uint32_t)layer;
  desc.n_slots = (uint32_t)mark->n_slots;
  desc.slots = slots;
  desc.slot_stride = sizeof slots[0];
  desc.ops = &ops;
  rc_module* module = NULL;
  store_must(rc_module_register(context, &desc, &module), "rc_module_register");
  return module;
}

static const char* event_name(rc_event event) {
  static const char* const kNames[] = {"?",       "begin",   "save",       "alloc",
                                       "end",     "discard", "replay",     "done",
                                       "release", "cancel",  "step begin", "step end"};
  return (size_t)event < sizeof kNames / sizeof kNames[0] ? kNames[event] : kNames[0];
}

static void RC_CALL trace(void* user_data, const rc_trace_event* event) {
  Store* store = user_data;
  StoreEvent out = {.layer = event->layer,
                    .microbatch = event->microbatch,
                    .bytes = event->bytes,
                    .live_bytes = event->live_bytes,
                    .begin_ns = event->begin_ns,
                    .end_ns = event->end_ns};
  snprintf(out.name, sizeof out.name, "%s", event_name(event->event));
  snprintf(out.kind, sizeof out.kind, "%s", event->kind ? event->kind : "");
  store->trace(store->trace_data, &out);
}

Store* store_create(const StoreDesc* desc) {
  Store* store = calloc(1, sizeof *store);
  store->n_marks = desc->n_marks;
  store->n_layers = desc->n_layers;
  store->trace = desc->trace;
  store->trace_data = desc->trace_data;
  rc_sink sink = rc_sink_init();
  sink.user_data = store;
  sink.trace = trace;
  sink.trace_mask = ~(rc_flags)0;
  rc_context_desc context = rc_context_desc_init();
  context.rng_seed = desc->seed;
  context.sink = desc->trace ? &sink : NULL;
  store_must(rc_context_create(&context, &store->context), "rc_context_create");
  store->modules = calloc((size_t)desc->n_marks * desc->n_layers, sizeof *store->modules);
  for (int mark = 0; mark < desc->n_marks; mark++)
    for (int layer = 0; layer < (desc->marks[mark].per_layer ? desc->n_layers : 1); layer++)
      store->modules[mark * desc->n_layers + layer] =
          register_mark(store->context, &desc->marks[mark], layer);
  return store;
}

void store_free(Store* store) {
  for (int i = 0; i < store->n_marks * store->n_layers; i++) rc_module_release(store->modules[i]);
  rc_context_release(store->context);
  free(store->modules);
  free(store);
}

void store_step_begin(Store* store, StepMode mode) {
  rc_step_desc desc = rc_step_desc_init();
  desc.phase = mode == STEP_EVALUATE ? RC_PHASE_EVALUATION : RC_PHASE_FORWARD;
  desc.flags = mode == STEP_TRAIN_LOGGED     ? RC_STEP_LOG
               : mode == STEP_TRAIN_PROFILED ? RC_STEP_PROFILE
                                             : 0;
  store_must(rc_step_begin(store->context, &desc, &store->step), "rc_step_begin");
}

void store_step_end(Store* store, StepReport* out) {
  rc_step_report report = rc_step_report_init();
  store_must(rc_step_end(store->step, NULL, &report), "rc_step_end");
  store->step = NULL;
  if (!out) return;
  out->peak_bytes = report.peak_bytes;
  out->replays = report.replays;
  out->allocations = report.allocations;
  out->arena_bytes = report.arena_bytes;
  out->arena_bound = report.arena_bound;
  out->arena_misses = report.arena_misses;
}

void region_begin(Store* store, int mark, int layer, int microbatch, Region* parent, void* data,
                  Region** region) {
  region_release(region);
  rc_region_desc desc = rc_region_desc_init();
  desc.module = store->modules[mark * store->n_layers + layer];
  desc.step = store->step;
  desc.parent = parent;
  desc.microbatch = (uint32_t)microbatch;
  desc.user_data = data;
  store_must(rc_region_begin(store->context, &desc, region), "rc_region_begin");
}

float* region_alloc(Region* region, int slot, int rows, int columns) {
  const int64_t shape[2] = {rows, columns};
  const rc_tensor_spec wanted = matrix(shape);
  rc_tensor_spec got = rc_tensor_spec_init();
  store_must(rc_region_alloc(region, (uint32_t)slot, &wanted, NULL, &got), "rc_region_alloc");
  return got.data;
}

void region_link(Region* region, int slot, Region* source, int source_slot) {
  rc_save save = rc_save_init();
  save.slot = (uint32_t)slot;
  save.source = source;
  save.source_slot = (uint32_t)source_slot;
  store_must(rc_region_save(region, &save, 1, sizeof save, NULL, NULL), "rc_region_save");
}

float* region_view(Region* region, int slot) {
  rc_tensor_spec spec = rc_tensor_spec_init();
  store_must(rc_region_view(region, (uint32_t)slot, NULL, &spec), "rc_region_view");
  return spec.data;
}

Rng region_rng(Region* region, uint64_t n) {
  rc_rng rng = rc_rng_init();
  store_must(rc_region_rng(region, philox_blocks(n), &rng), "rc_region_rng");
  return (Rng){rng.seed, rng.offset};
}

bool region_is_forward(Region* region) {
  return rc_region_phase(region) == RC_PHASE_FORWARD;
}
void region_end(Region* region) {
  store_must(rc_region_end(region, NULL), "rc_region_end");
}
void region_discard(Region* region) {
  store_must(rc_region_discard(region, NULL), "rc_region_discard");
}
void region_replay(Region* region) {
  store_must(rc_backward_replay(&region, 1, NULL), "rc_backward_replay");
}
void region_done(Region* region, int slot) {
  store_must(rc_region_done(region, (uint32_t)slot, NULL), "rc_region_done");
}
void region_release(Region** region) {
  rc_region_release(*region, NULL);
  *region = NULL;
}
