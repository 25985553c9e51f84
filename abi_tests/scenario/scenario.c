/* abi_tests/scenario/scenario.c: one training step through the C ABI, in the common subset of C99
 * and C++11.
 *
 * Compiled as C99, C11, C++11 and C++20 with today's header, and with an older and a newer one
 * (header/versions.py). Every expectation is counted; the program exits with the number of those
 * that failed. */
#include <rcore/rcore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROWS 96
#define COLUMNS 256
#define ELEMENTS (ROWS * COLUMNS)

static int failures = 0;
#define EXPECT(condition) expect((condition) != 0, #condition, __LINE__)

static void expect(int good, const char* what, int line) {
  if (!good) {
    rc_error_info info = rc_error_info_init();
    const rc_status status = rc_error_last(&info);
    printf("line %d: %s\n  last error: %d %s %s: %s\n", line, what, (int)status, info.call,
           info.field, info.message);
    ++failures;
  }
}

static const int64_t shape[2] = {ROWS, COLUMNS};

static rc_tensor_spec floats(float* data) {
  rc_tensor_spec s = rc_tensor_spec_init();
  s.data = data;
  s.dtype_code = 2;
  s.dtype_bits = 32;
  s.dtype_lanes = 1;
  s.ndim = 2;
  s.shape = shape;
  return s;
}

/* The module: h = x * x, y = h + x. */
enum { SLOT_X = 0, SLOT_H = 1, SLOT_Y = 2 };
typedef struct module_state {
  int replays, destroyed;
  uint32_t last_missing;
} module_state;
typedef struct region_state {
  int tag, destroyed;
} region_state;
typedef struct side {
  int value, captures, swaps, drops, destroyed;
} side;
static side rng = {7, 0, 0, 0, 0};

static rc_status compute(rc_region* region) {
  rc_tensor_spec x = rc_tensor_spec_init(), h = rc_tensor_spec_init(), y = rc_tensor_spec_init();
  const rc_tensor_spec like = floats(NULL);
  const float* in;
  float *out_h, *out_y;
  int i;
  rc_status status = rc_region_view(region, SLOT_X, NULL, &x);
  if (status < RC_OK) return status;
  status = rc_region_alloc(region, SLOT_H, &like, NULL, &h);
  if (status < RC_OK) return status;
  status = rc_region_alloc(region, SLOT_Y, &like, NULL, &y);
  if (status < RC_OK) return status;
  in = (const float*)x.data;
  out_h = (float*)h.data;
  out_y = (float*)y.data;
  for (i = 0; i < ELEMENTS; ++i) {
    const float square = in[i] * in[i];
    if (out_h != NULL) out_h[i] = square;
    if (out_y != NULL) out_y[i] = square + in[i] + (float)rng.value;
  }
  return RC_OK;
}

static rc_status RC_CALL replay(const rc_replay_args* args) {
  module_state* state = (module_state*)args->module_data;
  const region_state* own = (const region_state*)args->region_data;
  EXPECT(args->head.struct_type == RC_TYPE_REPLAY_ARGS);
  EXPECT(own == NULL || own->tag == 42);
  EXPECT(rc_region_phase(args->region) == RC_PHASE_REPLAY);
  EXPECT(rng.value == 7);
  ++state->replays;
  state->last_missing = args->n_missing;
  if (args->n_missing > 0) EXPECT(rc_region_wants(args->region, args->missing[0]) == RC_OK);
  EXPECT(rc_region_wants(args->region, SLOT_X) == RC_PASS);
  return compute(args->region);
}

static void RC_CALL module_gone(void* p) {
  ++((module_state*)p)->destroyed;
}
static void RC_CALL region_gone(void* p) {
  ++((region_state*)p)->destroyed;
}
static void RC_CALL side_gone(void* p) {
  ++((side*)p)->destroyed;
}
static void RC_CALL side_drop(void* p, void* token) {
  ++((side*)p)->drops;
  free(token);
}
static rc_status side_token(side* s, void** token) {
  int* copy = (int*)malloc(sizeof(int));
  if (copy == NULL) return RC_E_MEMORY;
  *copy = s->value;
  *token = copy;
  return RC_OK;
}
static rc_status RC_CALL side_capture(void* p, rc_context* context, rc_region* region,
                                      void* region_data, rc_stream stream, void** token) {
  (void)context, (void)region, (void)region_data, (void)stream;
  ++((side*)p)->captures;
  return side_token((side*)p, token);
}
static rc_status RC_CALL side_swap(void* p, rc_context* context, rc_region* region,
                                   void* region_data, rc_stream stream, void* install,
                                   void** previous) {
  side* s = (side*)p;
  rc_status status = side_token(s, previous);
  (void)context, (void)region, (void)region_data, (void)stream;
  ++s->swaps;
  if (status == RC_OK) s->value = *(int*)install;
  return status;
}

static rc_policy* make_policy(void) {
  rc_policy_desc desc = rc_policy_desc_init();
  rc_policy_rule rule = rc_policy_rule_init();
  rc_policy* policy = NULL;
  rc_site site = rc_site_init();
  rc_decision decision = rc_decision_init();
  rule.kind = "layernorm";
  rule.action = RC_ACTION_RECOMPUTE;
  desc.num_layers = 4;
  desc.rules = &rule;
  desc.n_rules = 1;
  desc.rule_stride = (uint32_t)sizeof rule;
  EXPECT(rc_policy_create(&desc, &policy) == RC_OK);
  site.kind = "layernorm";
  site.slot_role = RC_ROLE_OUTPUT;
  EXPECT(rc_policy_decide(policy, &site, &decision) >= RC_OK);
  EXPECT(decision.action == RC_ACTION_RECOMPUTE);
  return policy;
}

static rc_module* make_module(rc_context* context, module_state* state) {
  rc_slot_desc slots[3];
  rc_side_state table = rc_side_state_init();
  const rc_side_state* states[1];
  rc_module_ops ops = rc_module_ops_init();
  rc_module_desc desc = rc_module_desc_init();
  rc_module* module = NULL;
  static const char* const names[3] = {"x", "h", "y"};
  static const rc_role roles[3] = {RC_ROLE_INPUT, RC_ROLE_SAVED, RC_ROLE_OUTPUT};
  int i;
  for (i = 0; i < 3; ++i) {
    slots[i] = rc_slot_desc_init();
    slots[i].name = names[i];
    slots[i].role = roles[i];
  }
  table.user_data = &rng;
  table.destroy = side_gone;
  table.capture = side_capture;
  table.swap = side_swap;
  table.drop = side_drop;
  states[0] = &table;
  ops.user_data = state;
  ops.destroy = module_gone;
  ops.replay = replay;
  desc.kind = "layernorm";
  desc.name = "squares";
  desc.layer = 1;
  desc.slots = slots;
  desc.n_slots = 3;
  desc.slot_stride = (uint32_t)sizeof slots[0];
  desc.states = states;
  desc.n_states = 1;
  desc.ops = &ops;
  EXPECT(rc_module_register(context, &desc, &module) == RC_OK);
  return module;
}

/* begin, save, compute, end, discard, replay, read, release. */
static void run_region(rc_context* context, rc_module* module, rc_step* step, module_state* state) {
  float* x = (float*)malloc(sizeof(float) * ELEMENTS);
  float* expected = (float*)malloc(sizeof(float) * ELEMENTS);
  region_state own = {42, 0};
  rc_region_desc desc = rc_region_desc_init();
  rc_region* region = NULL;
  rc_region* found = NULL;
  rc_save item = rc_save_init();
  rc_tensor_spec view = floats(x), passed = rc_tensor_spec_init(), out = rc_tensor_spec_init();
  rc_region_info info = rc_region_info_init();
  const int before = state->replays;
  uint32_t n = 99, missing[4] = {0, 0, 0, 0};
  int i;
  for (i = 0; i < ELEMENTS; ++i) x[i] = (float)(i % 977) * 0.25f - 100.0f;

  desc.module = module;
  desc.step = step;
  desc.microbatch = 1;
  desc.user_data = &own;
  desc.destroy = region_gone;
  EXPECT(rc_region_begin(context, &desc, &region) == RC_OK);
  EXPECT(region != NULL);
  item.slot = SLOT_X;
  item.view = &view;
  EXPECT(rc_region_save(region, &item, 1, (uint32_t)sizeof item, NULL, &passed) >= RC_OK);
  EXPECT(passed.data != NULL && memcmp(passed.data, x, sizeof(float) * ELEMENTS) == 0);
  EXPECT(rc_region_phase(region) == RC_PHASE_FORWARD);
  EXPECT(compute(region) == RC_OK);
  EXPECT(rc_region_view(region, SLOT_Y, NULL, &out) == RC_OK);
  memcpy(expected, out.data, sizeof(float) * ELEMENTS);
  EXPECT(rc_region_end(region, NULL) >= RC_OK);
  EXPECT(rc_region_discard(region, NULL) >= RC_OK);
  EXPECT(rc_region_query(region, &info) == RC_OK);
  EXPECT(info.state == RC_REGION_EMPTY && info.microbatch == 1 && info.id != 0);
  EXPECT(info.dropped_bytes == 2u * sizeof(float) * ELEMENTS);
  EXPECT(info.held_bytes == sizeof(float) * ELEMENTS);
  EXPECT(rc_region_missing(region, missing, 4, &n) >= RC_OK);
  EXPECT(n == 2 && missing[0] == SLOT_H && missing[1] == SLOT_Y);
  EXPECT(rc_region_view(region, SLOT_Y, NULL, &out) == RC_E_STATE);
  EXPECT(rc_region_find(context, info.id, &found) == RC_OK && found == region);
  rc_region_release(found, NULL);

  memset(x, 0, sizeof(float) * ELEMENTS); /* the copy is the library's */
  rng.value = 1000;                       /* the side state of the forward comes back */
  EXPECT(rc_backward_replay(&region, 1, NULL) >= RC_OK);
  EXPECT(rng.value == 1000);
  EXPECT(rc_backward_replay(&region, 1, NULL) >= RC_OK);
  EXPECT(state->replays == before + 1 && state->last_missing == 2);
  EXPECT(rc_region_view(region, SLOT_Y, NULL, &out) == RC_OK);
  EXPECT(out.data != NULL && memcmp(out.data, expected, sizeof(float) * ELEMENTS) == 0);
  EXPECT(out.ndim == 2 && out.shape != NULL && out.shape[0] == ROWS && out.shape[1] == COLUMNS);
  EXPECT(rc_region_done(region, SLOT_H, NULL) >= RC_OK);
  EXPECT(rc_region_restore(region, SLOT_X, NULL, &view) >= RC_OK);
  EXPECT(x[1] == -99.75f);
  rng.value = 7;
  rc_region_release(region, NULL);
  EXPECT(own.destroyed == 1);
  free(x);
  free(expected);
}

static void released(void* p) {
  ++*(int*)p;
}

static void tensors_and_errors(rc_context* context) {
  float data[ELEMENTS / 64];
  int64_t flat[1] = {ELEMENTS / 64};
  int count = 0;
  rc_tensor_spec s = floats(data), seen = rc_tensor_spec_init();
  rc_tensor* tensor = NULL;
  rc_error_info info = rc_error_info_init();
  rc_context* none = context;
  rc_context_desc wrong = rc_context_desc_init();
  rc_fence* gate = NULL;
  s.ndim = 1;
  s.shape = flat;
  EXPECT(rc_tensor_wrap(&s, released, &count, &tensor) == RC_OK);
  flat[0] = 0; /* the shape was copied */
  EXPECT(rc_tensor_view(tensor, &seen) == RC_OK);
  EXPECT(seen.data == (void*)data && seen.ndim == 1 && seen.shape[0] == ELEMENTS / 64);
  EXPECT(count == 0);
  rc_tensor_release(tensor);
  EXPECT(count == 1);

  wrong.head.struct_type = RC_TYPE_SITE;
  EXPECT(rc_context_create(&wrong, &none) == RC_E_ARGUMENT);
  EXPECT(none == NULL);
  EXPECT(rc_error_last(&info) == RC_OK);
  EXPECT(info.code == RC_E_ARGUMENT && strcmp(info.call, "rc_context_create") == 0);
  EXPECT(strstr(info.field, "struct_type") != NULL && info.message[0] != '\0');

  EXPECT(rc_fence_create(context, &gate) == RC_OK);
  EXPECT(rc_fence_test(gate) == RC_PENDING);
  EXPECT(rc_fence_wait(gate, 1000) == RC_PENDING);
  EXPECT(rc_fence_signal(gate, RC_OK) == RC_OK);
  EXPECT(rc_fence_test(gate) == RC_OK);
  EXPECT(rc_fence_signal(gate, RC_OK) == RC_E_STATE);
  rc_fence_release(gate);

  /* NULL is legal where the header says so. */
  rc_tensor_release(NULL);
  rc_fence_release(NULL);
  rc_module_release(NULL);
  rc_policy_release(NULL);
  rc_comm_release(NULL);
  rc_region_release(NULL, NULL);
  rc_context_release(NULL);
  EXPECT(rc_region_end(NULL, NULL) == RC_PASS);
  EXPECT(rc_region_phase(NULL) == RC_PHASE_FORWARD);
}

int main(void) {
  rc_context_desc desc = rc_context_desc_init();
  rc_context* context = NULL;
  module_state state = {0, 0, 0};
  rc_policy* policy;
  rc_module* module;
  rc_stats stats = rc_stats_init();
  int i;
  EXPECT(rc_version() >= RC_TARGET_VERSION);
  EXPECT(strcmp(rc_status_name(RC_E_BUDGET), "RC_E_BUDGET") == 0);
  EXPECT(rc_context_create(&desc, &context) == RC_OK);
  if (context == NULL) return 1;
  policy = make_policy();
  EXPECT(rc_context_configure(context, policy) == RC_OK);
  rc_policy_release(policy);
  module = make_module(context, &state);
  for (i = 0; i < 3; ++i) {
    rc_step_desc step_desc = rc_step_desc_init();
    rc_step_report report = rc_step_report_init();
    rc_step* step = NULL;
    EXPECT(rc_step_begin(context, &step_desc, &step) == RC_OK);
    run_region(context, module, step, &state);
    EXPECT(rc_step_end(step, NULL, &report) >= RC_OK);
    EXPECT(report.regions_begun == 1 && report.regions_purged == 0);
  }
  tensors_and_errors(context);
  EXPECT(rc_stats_get(context, &stats) == RC_OK);
  EXPECT(stats.regions_live == 0 && stats.regions_begun == 3 && stats.live_bytes == 0);
  rc_module_release(module);
  rc_context_release(context);
  EXPECT(state.destroyed == 1 && state.replays == 3);
  EXPECT(rng.destroyed == 1 && rng.captures == 3 && rng.swaps == 6);
  EXPECT(rng.drops == rng.captures + rng.swaps);
  printf("%s: sizeof(rc_tensor_spec) = %u, %d expectations failed\n",
         failures == 0 ? "good" : "BAD", (unsigned)sizeof(rc_tensor_spec), failures);
  return failures;
}
