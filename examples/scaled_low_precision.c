/* examples/scaled_low_precision.c: an FP8-style layer whose replay quantises with forward's scale.
 *
 * Delayed scaling: x is rounded to e4m3 under a scale made from the largest |x| of earlier
 * microbatches. Several forwards run before the first backward, so the running scale has moved on
 * when a replay quantises again. A side state hands each replay the scale its forward saw, and puts
 * the running one back. The layer counts its amax in the forward alone: rc_region_phase tells. */
#include <math.h>

#include "host.h"

enum { X, Q, kSlots };
enum { kRows = 32, kWidth = 64, kElements = kRows * kWidth, kMicrobatches = 3 };
static const float kLargest = 448; /* of e4m3 */

static struct {
  float scale;       /* the running scale, host state that no slot holds */
  int n_amax;        /* how often it was renewed                         */
  int made, dropped; /* tokens of the side state                     */
} fp8 = {.scale = 1};

/* The nearest e4m3 number: 4 exponent bits, 3 mantissa bits, ties to even, saturating. */
static float round_e4m3(float v) {
  const float a = fabsf(v);
  if (a >= kLargest) return copysignf(kLargest, v);
  int exponent;
  frexpf(a, &exponent); /* a = m 2^exponent, m in [0.5, 1) */
  const float ulp =
      ldexpf(1, (exponent < -5 ? -5 : exponent) - 4); /* 2^-9 below the normal range */
  return copysignf(rintf(a / ulp) * ulp, v);
}

static void run_layer(rc_region* region) {
  const float* x = slot_data(region, X);
  const float scale = fp8.scale;
  float* q = slot_make(region, Q, kRows, kWidth);
  for (int i = 0; q && i < kElements; i++) q[i] = round_e4m3(x[i] * scale);
  if (rc_region_phase(region) != RC_PHASE_FORWARD) return;
  float amax = 0;
  for (int i = 0; i < kElements; i++) amax = fmaxf(amax, fabsf(x[i]));
  fp8.scale = kLargest / amax; /* for the next microbatch */
  fp8.n_amax++;
}

static rc_status RC_CALL replay(const rc_replay_args* args) {
  run_layer(args->region);
  return RC_OK;
}

static void* new_token(void) {
  float* token = malloc(sizeof *token);
  *token = fp8.scale;
  fp8.made++;
  return token;
}

/* In begin: what the forward is about to see. */
static rc_status RC_CALL capture(void* user_data, rc_context* context, rc_region* region,
                                 void* region_data, rc_stream stream, void** token) {
  (void)user_data, (void)context, (void)region, (void)region_data, (void)stream;
  *token = new_token();
  return RC_OK;
}

/* Around a replay: installs a token, and returns one of what was there. */
static rc_status RC_CALL swap(void* user_data, rc_context* context, rc_region* region,
                              void* region_data, rc_stream stream, void* install, void** previous) {
  (void)user_data, (void)context, (void)region, (void)region_data, (void)stream;
  *previous = new_token();
  fp8.scale = *(float*)install;
  return RC_OK;
}

static void RC_CALL drop(void* user_data, void* token) {
  (void)user_data;
  fp8.dropped++;
  free(token);
}

/* Forward of all microbatches, then backward of all; how many replays gave forward's bits. */
static int run_step(rc_context* context, rc_module* module) {
  static float x[kMicrobatches][kElements], forward[kMicrobatches][kElements];
  rc_region* regions[kMicrobatches];
  int equal = 0;
  for (uint32_t m = 0; m < kMicrobatches; m++) {
    for (int i = 0; i < kElements; i++) x[m][i] = (float)(m + 1) * (float)((i * 29) % 113 - 56) / 9;
    printf("  forward  %u: scale %7.3f\n", m, (double)fp8.scale);
    regions[m] = region_begin(context, module, NULL, m, NULL);
    slot_save(regions[m], X, x[m], kRows, kWidth);
    run_layer(regions[m]);
    memcpy(forward[m], slot_data(regions[m], Q), sizeof forward[m]);
    MUST(rc_region_end(regions[m], NULL));
  }
  const float running = fp8.scale;
  for (uint32_t m = kMicrobatches; m-- > 0;) {
    MUST(rc_backward_replay(&regions[m], 1, NULL));
    const int same = !memcmp(forward[m], slot_data(regions[m], Q), sizeof forward[m]);
    printf("  backward %u: %s bits, running scale %7.3f\n", m, same ? "the same" : "other",
           (double)fp8.scale);
    equal += same;
    CHECK(fp8.scale == running);
    rc_region_release(regions[m], NULL);
  }
  return equal;
}

int main(void) {
  CHECK(round_e4m3(0.3f) == 0.3125f && round_e4m3(1e4f) == 448 &&
        round_e4m3(-0.0012f) == -1.f / 512);
  const rc_slot_desc slots[kSlots] = {slot_desc("x", RC_ROLE_INPUT), slot_desc("q", RC_ROLE_SAVED)};
  const rc_context_desc desc = rc_context_desc_init();
  rc_context* context = context_create(
      &desc,
      "{\"rcore_policy\": 1, \"fp8\": \"delayed\", \"recompute_granularity\": \"selective\","
      " \"recompute_modules\": [\"mlp\"]}");
  rc_side_state state = rc_side_state_init();
  state.capture = capture;
  state.swap = swap;
  state.drop = drop;
  rc_module* with = module_register(context, "mlp", slots, kSlots, replay, &state); /* copied */
  rc_module* without = module_register(context, "mlp", slots, kSlots, replay, NULL);

  printf("with the side state:\n");
  CHECK(run_step(context, with) == kMicrobatches);
  printf("  amax was counted %d times; %d tokens were made, %d dropped\n", fp8.n_amax, fp8.made,
         fp8.dropped);
  CHECK(fp8.n_amax == kMicrobatches);
  CHECK(fp8.made == 3 * kMicrobatches && fp8.dropped == fp8.made); /* capture, and two swaps */

  fp8.scale = 1;
  printf("without:\n");
  CHECK(run_step(context, without) == 0);
  rc_module_release(with);
  rc_module_release(without);
  rc_context_release(context);
  return 0;
}
