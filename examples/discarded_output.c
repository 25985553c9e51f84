/* examples/discarded_output.c: an output that is discarded once read, and refilled where it was.
 *
 * A norm makes y from x; a linear reads y and keeps it for backward by referring to the norm's
 * slot, without a copy. The policy discards the norm's output: between forward and backward nobody
 * holds y, and other blocks use its place. The first step is recorded; the second runs in an arena
 * planned from it, in which y is one offset with two lives. Verify mode compares what replay makes
 * with forward. */
#include <math.h>

#include "host.h"

enum { kRows = 64, kWidth = 256, kBytes = 4 * kRows * kWidth };
enum { NORM_X, NORM_Y, LINEAR_X = 0, SCRATCH = 0 };

typedef struct Trainer {
  rc_context* context;
  rc_module *norm, *linear, *scratch;
  float x[kRows * kWidth], y[kRows * kWidth];
  int spoil; /* 1 = the norm computes something else */
} Trainer;

static void run_norm(const Trainer* trainer, rc_region* region) {
  const float* x = slot_data(region, NORM_X);
  float* y = slot_make(region, NORM_Y, kRows, kWidth);
  if (!y) return;
  for (int r = 0; r < kRows; r++, x += kWidth, y += kWidth) {
    float sum = 0;
    for (int c = 0; c < kWidth; c++) sum += x[c] * x[c];
    const float scale = 1 / sqrtf(sum / kWidth + 1e-5f);
    for (int c = 0; c < kWidth; c++) y[c] = x[c] * scale;
    y[0] += (float)trainer->spoil;
  }
}

static rc_status RC_CALL replay_norm(const rc_replay_args* args) {
  run_norm(args->region_data, args->region);
  return RC_OK;
}

static rc_status RC_CALL replay_nothing(const rc_replay_args* args) {
  (void)args;
  return RC_E_HOST; /* these kinds are kept: never called */
}

static void spoiled_replay(Trainer* trainer, rc_region* linear) {
  trainer->spoil = 1;
  CHECK(rc_backward_replay(&linear, 1, NULL) == RC_E_MISMATCH);
  rc_error_info error = rc_error_info_init();
  MUST(rc_error_last(&error));
  printf("  spoiled: %s\n", error.message);
  trainer->spoil = 0; /* the region is still EMPTY and can be tried again */
}

static rc_step_report run_step(Trainer* trainer, int spoil) {
  rc_step* step = step_begin(trainer->context);
  rc_region* norm = region_begin(trainer->context, trainer->norm, step, 0, trainer);
  slot_save(norm, NORM_X, trainer->x, kRows, kWidth);
  run_norm(trainer, norm);
  MUST(rc_region_end(norm, NULL));

  rc_region* linear = region_begin(trainer->context, trainer->linear, step, 0, NULL);
  rc_save link = rc_save_init();
  link.slot = LINEAR_X;
  link.source = norm;
  link.source_slot = NORM_Y;
  MUST(rc_region_save(linear, &link, 1, sizeof link, NULL, NULL));
  float* const y = slot_data(linear, LINEAR_X); /* backward will read through this pointer */
  memcpy(trainer->y, y, kBytes);
  MUST(rc_region_end(linear, NULL));

  const uint64_t before = stats_of(trainer->context).live_bytes;
  MUST(rc_region_discard(norm, NULL));
  const uint64_t after = stats_of(trainer->context).live_bytes;
  rc_region* scratch = region_begin(trainer->context, trainer->scratch, step, 0, NULL);
  float* const gap = slot_make(scratch, SCRATCH, kRows, kWidth);
  memset(gap, 0xff, kBytes);
  rc_region_release(scratch, NULL);

  if (spoil) spoiled_replay(trainer, linear);
  MUST(rc_backward_replay(&linear, 1, NULL)); /* replays the norm first */
  const float* again = slot_data(linear, LINEAR_X);
  printf("  held %llu B before the discard, %llu B after; y is back at %s address\n",
         (unsigned long long)before, (unsigned long long)after,
         again == y ? "the same" : "another");
  CHECK(before == 2 * kBytes && after == kBytes);
  CHECK(memcmp(again, trainer->y, kBytes) == 0);
  const int same_place = again == y && gap == y;
  rc_region_release(linear, NULL);
  rc_region_release(norm, NULL);
  rc_step_report report = rc_step_report_init();
  MUST(rc_step_end(step, NULL, &report));
  printf("  arena %llu B (bound %llu B), %llu misses, peak %llu B\n",
         (unsigned long long)report.arena_bytes, (unsigned long long)report.arena_bound,
         (unsigned long long)report.arena_misses, (unsigned long long)report.peak_bytes);
  CHECK(report.peak_bytes == 2 * kBytes); /* of three blocks of that size */
  CHECK(same_place || report.arena_bytes == 0);
  return report;
}

int main(void) {
  static Trainer trainer;
  for (int i = 0; i < kRows * kWidth; i++) trainer.x[i] = (float)(i % 61) / 61 - 0.4f;
  static const char kPolicy[] =
      "{\"rcore_policy\": 1, \"recompute_granularity\": \"selective\","
      " \"recompute_modules\": [\"layernorm\"], \"kinds\": [\"scratch\"]}";
  rc_context_desc desc = rc_context_desc_init();
  desc.flags = RC_CONTEXT_VERIFY;
  trainer.context = context_create(&desc, kPolicy);
  const rc_slot_desc norm[] = {slot_desc("x", RC_ROLE_INPUT), slot_desc("y", RC_ROLE_OUTPUT)};
  const rc_slot_desc linear = slot_desc("x", RC_ROLE_INPUT);
  const rc_slot_desc scratch = slot_desc("buffer", RC_ROLE_SAVED);
  trainer.norm = module_register(trainer.context, "layernorm", norm, 2, replay_norm, NULL);
  trainer.linear = module_register(trainer.context, "qkv_linear", &linear, 1, replay_nothing, NULL);
  trainer.scratch = module_register(trainer.context, "scratch", &scratch, 1, replay_nothing, NULL);

  printf("step 1, dynamic and recorded:\n");
  CHECK(run_step(&trainer, 0).arena_bytes == 0);
  printf("step 2, in the arena:\n");
  rc_step_report report = run_step(&trainer, 0);
  CHECK(report.arena_bytes == 2 * kBytes && report.arena_misses == 0 && report.allocations == 0);
  printf("step 3, verified:\n");
  run_step(&trainer, 1);
  rc_module_release(trainer.norm);
  rc_module_release(trainer.linear);
  rc_module_release(trainer.scratch);
  rc_context_release(trainer.context);
  return 0;
}
