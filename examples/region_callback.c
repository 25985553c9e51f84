/* examples/region_callback.c: one region whose intermediate is dropped and replayed by the host's
 * own code.
 *
 * The module is the half of an MLP: from the input x it makes h = x w, which is wide, and the mean
 * of |h| in each row. The policy says: recompute what `mlp` saves, but keep `mean`. So `end` drops
 * h, and the replay makes h again and nothing else. */
#include "host.h"

enum { X, H, MEAN, kSlots };
enum { kRows = 64, kWidth = 16, kWide = 64 };

static float weights[kWidth * kWide];
static int times_h_was_made, times_mean_was_made;

/* The forward, written once: it is the replay too. */
static void run_mlp(rc_region* region) {
  const float* x = slot_data(region, X);
  float* h = slot_make(region, H, kRows, kWide);
  if (h) {
    times_h_was_made++;
    for (int r = 0; r < kRows; r++)
      for (int j = 0; j < kWide; j++) {
        float sum = 0;
        for (int i = 0; i < kWidth; i++) sum += x[r * kWidth + i] * weights[i * kWide + j];
        h[r * kWide + j] = sum;
      }
  }
  float* mean = slot_make(region, MEAN, kRows, 1);
  if (!mean) return;
  times_mean_was_made++;
  const float* row = slot_data(region, H);
  for (int r = 0; r < kRows; r++, row += kWide) {
    mean[r] = 0;
    for (int j = 0; j < kWide; j++) mean[r] += (row[j] < 0 ? -row[j] : row[j]) / kWide;
  }
}

static rc_status RC_CALL replay(const rc_replay_args* args) {
  printf("replay is asked for %u slot(s), the first is slot %u\n", args->n_missing,
         args->missing[0]);
  CHECK(args->n_missing == 1 && args->missing[0] == H);
  CHECK(rc_region_wants(args->region, H) == RC_OK);
  CHECK(rc_region_wants(args->region, MEAN) == RC_PASS);
  run_mlp(args->region);
  return RC_OK;
}

static rc_module* register_mlp(rc_context* context) {
  const rc_slot_desc slots[kSlots] = {slot_desc("x", RC_ROLE_INPUT), slot_desc("h", RC_ROLE_SAVED),
                                      slot_desc("mean", RC_ROLE_SAVED)};
  rc_module_ops ops = rc_module_ops_init();
  ops.replay = replay;
  rc_module_desc desc = rc_module_desc_init();
  desc.kind = "mlp";
  desc.n_slots = kSlots;
  desc.slots = slots;
  desc.slot_stride = sizeof slots[0];
  desc.ops = &ops;
  rc_module* module = NULL;
  MUST(rc_module_register(context, &desc, &module));
  return module;
}

static uint64_t held_bytes(rc_region* region) {
  rc_region_info info = rc_region_info_init();
  MUST(rc_region_query(region, &info));
  return info.held_bytes;
}

int main(void) {
  static const char kPolicy[] =
      "{\"rcore_policy\": 1, \"recompute_granularity\": \"selective\","
      " \"recompute_modules\": [\"mlp\"],"
      " \"rules\": [{\"kind\": \"mlp\", \"slot\": \"mean\", \"action\": \"keep\"}]}";
  static float input[kRows * kWidth], h_forward[kRows * kWide];
  for (int i = 0; i < kRows * kWidth; i++) input[i] = (float)(i % 37) / 37 - 0.5f;
  for (int i = 0; i < kWidth * kWide; i++) weights[i] = (float)(i % 101) / 101 - 0.5f;

  const rc_context_desc context_desc = rc_context_desc_init();
  rc_context* context = context_create(&context_desc, kPolicy);
  rc_module* mlp = register_mlp(context);

  const int64_t shape[2] = {kRows, kWidth};
  rc_tensor_spec x = float_matrix(shape);
  x.data = input;
  uint32_t missing[kSlots], n_missing = 0;
  /* README begin */
  rc_region_desc desc = rc_region_desc_init();
  desc.module = mlp;
  rc_region* region = NULL;
  MUST(rc_region_begin(context, &desc, &region));
  rc_save save = rc_save_init();
  save.slot = X;
  save.view = &x; /* borrowed: the region copies it */
  MUST(rc_region_save(region, &save, 1, sizeof save, NULL, NULL));
  run_mlp(region); /* fills the slots h and mean */
  const uint64_t before = held_bytes(region);
  memcpy(h_forward, slot_data(region, H), sizeof h_forward);
  MUST(rc_region_end(region, NULL)); /* the policy drops h */
  const uint64_t after = held_bytes(region);

  MUST(rc_region_missing(region, missing, kSlots, &n_missing)); /* one slot: h */
  MUST(rc_backward_replay(&region, 1, NULL)); /* calls `replay`, which is run_mlp again */
  CHECK(memcmp(slot_data(region, H), h_forward, sizeof h_forward) == 0);
  rc_region_release(region, NULL);
  /* README end */
  printf("held before end %llu B, after it %llu B\n", (unsigned long long)before,
         (unsigned long long)after);
  CHECK(before == 4 * (kRows * kWidth + kRows * kWide + kRows));
  CHECK(before - after == sizeof h_forward);
  CHECK(n_missing == 1 && missing[0] == H);
  printf("h was made %d times, with the same bytes; mean %d time(s)\n", times_h_was_made,
         times_mean_was_made);
  CHECK(times_h_was_made == 2 && times_mean_was_made == 1);
  rc_module_release(mlp);
  rc_context_release(context);
  return 0;
}
