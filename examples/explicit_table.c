/* examples/explicit_table.c: decisions per layer and microbatch, and regions found by key.
 *
 * The policy is a table that no recipe spells: the microbatches that wait longest for their
 * backward are recomputed, the last one is kept, and layer 1 is kept in all. The host holds no
 * handle between forward and backward, as a compiled graph cannot: its backward, in another order,
 * finds each region by (step, module, microbatch, occurrence). */
#include "host.h"

enum { X, H, kSlots };
enum { kLayers = 2, kMicrobatches = 4, kOccurrences = 2, kRows = 16, kWidth = 32 };
enum { kElements = kRows * kWidth };

/* What the forward of one run computed, for comparison. */
static float expected[kLayers][kMicrobatches][kOccurrences][kElements];

static void run_layer(rc_region* region) {
  const float* x = slot_data(region, X);
  float* h = slot_make(region, H, kRows, kWidth);
  for (int i = 0; h && i < kElements; i++) h[i] = x[i] * x[i] - 1;
}

static rc_status RC_CALL replay(const rc_replay_args* args) {
  run_layer(args->region);
  return RC_OK;
}

static rc_context* create_context(void) {
  rc_policy_rule rules[2] = {rc_policy_rule_init(), rc_policy_rule_init()};
  rules[0].kind = "mlp"; /* microbatches 0, 1 and 2 */
  rules[0].flags = RC_RULE_MICROBATCH;
  rules[0].n_microbatches = 3;
  rules[0].action = RC_ACTION_RECOMPUTE;
  rules[1].kind = "mlp"; /* the last rule that matches wins */
  rules[1].first_layer = 1;
  rules[1].n_layers = 1;
  rules[1].action = RC_ACTION_KEEP;
  rc_policy_desc desc = rc_policy_desc_init();
  desc.num_layers = kLayers;
  desc.num_microbatches = kMicrobatches;
  desc.rules = rules;
  desc.n_rules = 2;
  desc.rule_stride = sizeof rules[0];
  rc_policy* policy = NULL;
  MUST(rc_policy_create(&desc, &policy));
  const rc_context_desc context_desc = rc_context_desc_init();
  rc_context* context = NULL;
  MUST(rc_context_create(&context_desc, &context));
  MUST(rc_context_configure(context, policy));
  rc_policy_release(policy);
  return context;
}

static rc_module* register_layer(rc_context* context, uint32_t layer) {
  const rc_slot_desc slots[kSlots] = {slot_desc("x", RC_ROLE_INPUT), slot_desc("h", RC_ROLE_SAVED)};
  rc_module_ops ops = rc_module_ops_init();
  ops.replay = replay;
  rc_module_desc desc = rc_module_desc_init();
  desc.kind = "mlp";
  desc.layer = layer;
  desc.slots = slots;
  desc.n_slots = kSlots;
  desc.slot_stride = sizeof slots[0];
  desc.ops = &ops;
  rc_module* module = NULL;
  MUST(rc_module_register(context, &desc, &module));
  return module;
}

/* The handle is not returned: its count stays with the step until backward takes it over. */
static void forward(rc_context* context, rc_step* step, rc_module* module, uint32_t layer,
                    uint32_t microbatch, uint32_t occurrence) {
  float* h = expected[layer][microbatch][occurrence - 1];
  float x[kElements];
  for (int i = 0; i < kElements; i++)
    x[i] = (float)(i % 17) + (float)(layer * 100 + microbatch * 10 + occurrence);
  rc_region* region = region_begin(context, module, step, microbatch, NULL);
  slot_save(region, X, x, kRows, kWidth);
  run_layer(region);
  memcpy(h, slot_data(region, H), sizeof x);
  MUST(rc_region_end(region, NULL));
}

/* 1 if the region had to be replayed. */
static int backward(rc_context* context, rc_step* step, rc_module* module, uint32_t layer,
                    uint32_t microbatch, uint32_t occurrence) {
  rc_region_key key = rc_region_key_init();
  key.step = step;
  key.module = module;
  key.microbatch = microbatch;
  key.occurrence = occurrence;
  rc_region* region = NULL;
  CHECK(rc_region_lookup(context, &key, &region) == RC_OK);
  MUST(rc_backward_replay(&region, 1, NULL));
  const float* h = slot_data(region, H);
  CHECK(memcmp(h, expected[layer][microbatch][occurrence - 1], kElements * sizeof *h) == 0);
  rc_region_info info = rc_region_info_init();
  MUST(rc_region_query(region, &info));
  CHECK(info.microbatch == microbatch && info.occurrence == occurrence);
  rc_region_release(region, NULL); /* the count of the lookup */
  rc_region_release(region, NULL); /* the count of begin      */
  CHECK(rc_region_lookup(context, &key, &region) == RC_PASS && region == NULL);
  return info.replays == 1;
}

int main(void) {
  static const uint32_t kOrder[kMicrobatches] = {2, 0, 3, 1};
  rc_context* context = create_context();
  rc_module* modules[kLayers];
  for (uint32_t l = 0; l < kLayers; l++) modules[l] = register_layer(context, l);

  for (int i = 0; i < 2; i++) { /* the second step runs in the arena that the first one planned */
    rc_step* step = step_begin(context);
    for (uint32_t m = 0; m < kMicrobatches; m++)
      for (uint32_t o = 1; o <= kOccurrences; o++) /* the layers' weights are shared: two passes */
        for (uint32_t l = 0; l < kLayers; l++) forward(context, step, modules[l], l, m, o);
    const uint64_t held = stats_of(context).live_bytes;
    for (uint32_t k = 0; k < kMicrobatches; k++) {
      const uint32_t m = i == 0 ? kOrder[k] : kOrder[kMicrobatches - 1 - k];
      int replays = 0;
      for (uint32_t o = kOccurrences; o > 0; o--)
        for (uint32_t l = kLayers; l-- > 0;)
          replays += backward(context, step, modules[l], l, m, o);
      printf("step %d: backward of microbatch %u replayed %d of %d regions\n", i + 1, m, replays,
             kLayers * kOccurrences);
      CHECK(replays == (m < 3 ? kOccurrences : 0)); /* layer 0 of the microbatches 0, 1 and 2 */
    }
    rc_step_report report = rc_step_report_init();
    MUST(rc_step_end(step, NULL, &report));
    printf("step %d: %llu B held between forward and backward, %llu regions were left over\n",
           i + 1, (unsigned long long)held, (unsigned long long)report.regions_purged);
    /* 16 inputs, and what was made from them but for the 6 that were dropped. */
    CHECK(held == (16 + 16 - 6) * sizeof(float) * kElements && report.regions_purged == 0);
  }
  for (uint32_t l = 0; l < kLayers; l++) rc_module_release(modules[l]);
  rc_context_release(context);
  return 0;
}
