/* examples/moe_router.c: a router whose choice hangs on the last bit, recorded as a decision.
 *
 * A mixture of experts saves what each expert got, one slot per expert; the policy recomputes it. A
 * replay on a GPU may add in another order, so a near-tie can fall the other way: here replay moves
 * one logit by one unit in the last place. With the decision slot replay routes as forward did;
 * without it an expert gets other tokens. Their number changes every step: blocks that the arena
 * has no place for come from dynamic memory, without an error. */
#include <math.h>

#include "host.h"

enum { kExperts = 4, kWidth = 32, kMaxTokens = 96 };
enum { X, CHOICE, FIRST_EXPERT, kSlots = FIRST_EXPERT + kExperts };

typedef struct Layer {
  int tokens;
  int records_choice; /* 0 = the mistake that this example is about        */
  int would_differ;   /* tokens that replay, left alone, would send elsewhere */
  float x[kMaxTokens * kWidth];
  int32_t forward_choice[kMaxTokens];
} Layer;

static float router[kExperts * kWidth];

static void fill(float* to, int n) {
  static uint32_t random = 1;
  while (n-- > 0) *to++ = (float)((random = random * 1664525 + 1013904223) >> 8) / (1 << 24) - 0.5f;
}

static void route(const float* x, int tokens, int nudge, int32_t* choice) {
  for (int t = 0; t < tokens; t++) {
    float best = -INFINITY;
    for (int e = 0; e < kExperts; e++) {
      float logit = 0;
      for (int i = 0; i < kWidth; i++) logit += x[t * kWidth + i] * router[e * kWidth + i];
      if (nudge && e == 1) logit = nextafterf(logit, INFINITY);
      if (logit > best) best = logit, choice[t] = e;
    }
  }
}

/* Forward: records `choice`. Replay: overwrites it with what forward recorded. */
static rc_status decide(rc_region* region, int32_t* choice, int64_t tokens) {
  rc_tensor_spec value = rc_tensor_spec_init();
  value.data = choice;
  value.dtype_code = 0; /* DLPack: 0 = signed integer */
  value.dtype_bits = 32;
  value.ndim = 1;
  value.shape = &tokens;
  return rc_region_decide(region, CHOICE, &value, NULL);
}

static rc_status run_layer(Layer* layer, rc_region* region) {
  const int in_replay = rc_region_phase(region) == RC_PHASE_REPLAY;
  const float* x = slot_data(region, X);
  int32_t choice[kMaxTokens];
  route(x, layer->tokens, in_replay, choice);
  layer->would_differ = 0;
  for (int t = 0; in_replay && t < layer->tokens; t++)
    layer->would_differ += choice[t] != layer->forward_choice[t];
  if (layer->records_choice) {
    const rc_status status = decide(region, choice, layer->tokens);
    if (status < 0) return status;
    CHECK(status == (in_replay ? RC_PASS : RC_OK));
  }
  if (!in_replay) memcpy(layer->forward_choice, choice, sizeof choice);

  for (int32_t e = 0; e < kExperts; e++) {
    int64_t shape[2] = {0, kWidth};
    for (int t = 0; t < layer->tokens; t++) shape[0] += choice[t] == e;
    const rc_tensor_spec wanted = float_matrix(shape);
    rc_tensor_spec got = rc_tensor_spec_init();
    const rc_status status = rc_region_alloc(region, FIRST_EXPERT + e, &wanted, NULL, &got);
    if (status < 0) return status;
    float* to = got.data;
    for (int t = 0; to && t < layer->tokens; t++)
      if (choice[t] == e) {
        memcpy(to, x + t * kWidth, kWidth * sizeof *to);
        to += kWidth;
      }
  }
  return RC_OK;
}

static rc_status RC_CALL replay(const rc_replay_args* args) {
  const rc_status status = run_layer(args->region_data, args->region);
  rc_error_info error = rc_error_info_init();
  if (status < 0 && rc_error_last(&error) == RC_OK) rc_error_raise(status, error.message);
  return status;
}

/* What the experts got, one after the other: as many rows as there are tokens. */
static void gather(rc_region* region, float* out) {
  for (uint32_t e = 0; e < kExperts; e++) {
    rc_tensor_spec spec = rc_tensor_spec_init();
    MUST(rc_region_view(region, FIRST_EXPERT + e, NULL, &spec));
    for (int64_t i = 0; i < spec.shape[0] * kWidth; i++) *out++ = ((const float*)spec.data)[i];
  }
}

static rc_step_report run_step(rc_context* context, rc_module* module, Layer* layer) {
  static float before[kMaxTokens * kWidth], after[kMaxTokens * kWidth];
  const size_t bytes = (size_t)layer->tokens * kWidth * sizeof before[0];
  rc_step* step = step_begin(context);
  rc_region* region = region_begin(context, module, step, 0, layer);
  slot_save(region, X, layer->x, layer->tokens, kWidth);
  MUST(run_layer(layer, region));
  gather(region, before);
  MUST(rc_region_end(region, NULL)); /* the experts' inputs are dropped, the choice is kept */

  const rc_status status = rc_backward_replay(&region, 1, NULL);
  CHECK(layer->would_differ > 0);
  CHECK(status == (layer->records_choice ? RC_OK : RC_E_MISMATCH));
  if (layer->records_choice) gather(region, after);
  CHECK(!layer->records_choice || memcmp(before, after, bytes) == 0);
  rc_region_release(region, NULL);
  rc_step_report report = rc_step_report_init();
  MUST(rc_step_end(step, NULL, &report));
  return report;
}

int main(void) {
  static const int kTokens[] = {40, 64, 96, 51, 77};
  static Layer layer;
  rc_slot_desc slots[kSlots] = {slot_desc("x", RC_ROLE_INPUT),
                                slot_desc("choice", RC_ROLE_DECISION)};
  const char* const names[kExperts] = {"expert0", "expert1", "expert2", "expert3"};
  for (int e = 0; e < kExperts; e++) slots[FIRST_EXPERT + e] = slot_desc(names[e], RC_ROLE_SAVED);
  slots[CHOICE].flags = RC_SLOT_OPTIONAL;

  fill(router, kExperts * kWidth);
  /* Experts 0 and 1 differ in their view of feature 0 alone: a token without it is a tie. */
  memcpy(router + kWidth + 1, router + 1, (kWidth - 1) * sizeof router[0]);

  const rc_context_desc desc = rc_context_desc_init();
  rc_context* context =
      context_create(&desc,
                     "{\"rcore_policy\": 1, \"recompute_granularity\": \"selective\","
                     " \"recompute_modules\": [\"moe\"]}");
  rc_module* module = module_register(context, "moe", slots, kSlots, replay, NULL);

  for (int i = 0; i < 5; i++) {
    layer.tokens = kTokens[i];
    layer.records_choice = 1;
    fill(layer.x, layer.tokens * kWidth);
    for (int t = 0; t < layer.tokens; t += 4) layer.x[t * kWidth] = 0; /* no feature 0 */
    const rc_step_report report = run_step(context, module, &layer);
    printf(
        "step %d: %d tokens, %d would have gone elsewhere in replay, none did; %llu arena misses\n",
        i + 1, layer.tokens, layer.would_differ, (unsigned long long)report.arena_misses);
    CHECK(i != 1 || report.arena_misses > 0); /* planned for 40 tokens, asked for 64 */
  }
  layer.records_choice = 0;
  run_step(context, module, &layer);
  rc_error_info error = rc_error_info_init();
  MUST(rc_error_last(&error));
  printf("without the decision: %s\n", error.message);

  rc_module_release(module);
  rc_context_release(context);
  return 0;
}
