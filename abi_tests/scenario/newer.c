/* abi_tests/scenario/newer.c: a consumer built with a newer header runs on this library, and is
 * told what it cannot have.
 *
 * The header is made by header/versions.py: every extensible struct has one more field,
 * `newer_field`. */
#include <rcore/rcore.h>
#include <stdio.h>
#include <string.h>

static int failures = 0;
#define EXPECT(condition)                            \
  do {                                               \
    if (!(condition)) {                              \
      printf("line %d: %s\n", __LINE__, #condition); \
      ++failures;                                    \
    }                                                \
  } while (0)

/* The message names both sizes and the library, so that the user knows which side to upgrade. */
static void expect_refusal(rc_status status, size_t size) {
  rc_error_info info = rc_error_info_init();
  char number[32];
  EXPECT(status == RC_E_VERSION);
  EXPECT(rc_error_last(&info) == RC_OK);
  EXPECT(info.code == RC_E_VERSION);
  sprintf(number, "%u bytes", (unsigned)size);
  EXPECT(strstr(info.message, number) != NULL);
  EXPECT(strstr(info.message, "library ") != NULL);
  EXPECT(info.newer_field == 0); /* an output's unknown tail is zeroed */
}

int main(void) {
  rc_context_desc desc = rc_context_desc_init();
  rc_context* context = NULL;
  rc_policy_desc policy_desc = rc_policy_desc_init();
  rc_policy_rule rule = rc_policy_rule_init();
  rc_policy* policy = NULL;
  rc_stats stats = rc_stats_init();
  rc_step_desc step_desc = rc_step_desc_init();
  rc_step* step = NULL;
  rc_error_info info = rc_error_info_init();

  EXPECT(rc_version() == RC_HEADER_VERSION - 1);
  EXPECT(rc_get_proc("rc_newer_call") == NULL);

  /* A consumer that says it needs the newer library is refused with both versions. */
  desc.target_version = RC_HEADER_VERSION;
  EXPECT(rc_context_create(&desc, &context) == RC_E_VERSION && context == NULL);
  EXPECT(rc_error_last(&info) == RC_OK && strstr(info.field, "target_version") != NULL);

  /* One that targets the older library runs, as long as it leaves the newer fields alone. */
  desc.target_version = RC_TARGET_VERSION;
  desc.newer_field = 1;
  expect_refusal(rc_context_create(&desc, &context), sizeof desc);
  EXPECT(context == NULL);
  desc.newer_field = 0;
  EXPECT(rc_context_create(&desc, &context) == RC_OK);
  if (context == NULL) return 1;

  rule.kind = "mlp";
  rule.action = RC_ACTION_RECOMPUTE;
  rule.newer_field = 5;
  policy_desc.num_layers = 2;
  policy_desc.rules = &rule;
  policy_desc.n_rules = 1;
  policy_desc.rule_stride = (uint32_t)sizeof rule;
  expect_refusal(rc_policy_create(&policy_desc, &policy), sizeof rule);
  EXPECT(policy == NULL);
  rule.newer_field = 0;
  EXPECT(rc_policy_create(&policy_desc, &policy) == RC_OK);
  rc_policy_release(policy);

  step_desc.newer_field = 1;
  expect_refusal(rc_step_begin(context, &step_desc, &step), sizeof step_desc);
  EXPECT(step == NULL);
  stats.newer_field = 77; /* an output: overwritten with zero, no error */
  EXPECT(rc_stats_get(context, &stats) == RC_OK && stats.newer_field == 0);

  /* An enumerator that this library does not know. */
  rule.action = RC_ACTION_NEWER;
  EXPECT(rc_policy_create(&policy_desc, &policy) == RC_E_ARGUMENT && policy == NULL);
  EXPECT(rc_has_feature(RC_FEATURE_NEWER) == 0);
  EXPECT(strcmp(rc_status_name(RC_STATUS_NEWER), "unknown") == 0);
  rc_context_release(context);
  printf("%d expectations failed\n", failures);
  return failures;
}
