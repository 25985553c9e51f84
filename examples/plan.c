/* examples/plan.c: from a model, a layout and a budget to a policy; and what a policy is worth. */
#include "host.h"

static const char kRequest[] =
    "{\"rcore_plan\": 1, \"model\": \"llama3-70b\", \"hardware\": \"h100\", \"options\": "
    "[\"recompute\"],"
    " \"budget_bytes\": %llu, \"layout\": {\"tensor_model_parallel_size\": 4, "
    "\"sequence_parallel\": true,"
    " \"pipeline_model_parallel_size\": 4, \"virtual_pipeline_model_parallel_size\": 5,"
    " \"seq_length\": 4096}}";

static rc_status plan_for(unsigned long long budget, char* request, size_t capacity,
                          rc_plan** plan) {
  snprintf(request, capacity, kRequest, budget);
  return rc_plan_create(request, strlen(request), plan);
}

/* The number behind the first `"name": ` of a report; a program would use a JSON reader. */
static double number_of(const char* report, const char* name) {
  char key[64];
  snprintf(key, sizeof key, "\"%s\": ", name);
  const char* at = strstr(report, key);
  CHECK(at != NULL);
  return strtod(at + strlen(key), NULL);
}

static char* evaluated(const char* request, const rc_policy* policy) {
  uint64_t needed = 0;
  MUST(rc_plan_evaluate(request, strlen(request), policy, NULL, 0, &needed));
  char* text = malloc(needed);
  MUST(rc_plan_evaluate(request, strlen(request), policy, text, needed, &needed));
  return text;
}

static char* reported(const rc_plan* plan) {
  uint64_t needed = 0;
  MUST(rc_plan_report(plan, NULL, 0, &needed));
  char* text = malloc(needed);
  MUST(rc_plan_report(plan, text, needed, &needed));
  return text;
}

/* The plan's own policy takes exactly what the plan says. */
static void plan_and_evaluate(void) {
  char request[1024];
  rc_plan* plan = NULL;
  MUST(plan_for(14000000000ull, request, sizeof request, &plan));
  char* report = reported(plan);
  rc_policy* policy = NULL;
  MUST(rc_plan_policy(plan, &policy));
  rc_plan_release(plan); /* the policy lives on */

  char* worth = evaluated(request, policy);
  const double peak = number_of(worth, "peak_bytes");
  printf("first rank: keeping everything takes %.2f GB, the plan %.2f GB for %.2f %% of a step\n",
         number_of(worth, "keep_all_peak_bytes") / 1e9, peak / 1e9,
         100 * number_of(report, "overhead"));
  CHECK(peak <= 14e9 && peak == number_of(report, "peak_bytes"));

  rc_site site = rc_site_init();
  site.kind = "attn_norm";
  site.slot_role = RC_ROLE_OUTPUT;
  site.slot = "out";
  rc_decision decision = rc_decision_init();
  MUST(rc_policy_decide(policy, &site, &decision));
  CHECK(decision.action == RC_ACTION_RECOMPUTE);
  rc_policy_release(policy);
  free(worth);
  free(report);
}

/* Too little is answered with what would do. */
static void ask_for_too_little(void) {
  char request[1024];
  rc_plan* plan = NULL;
  CHECK(plan_for(1000000, request, sizeof request, &plan) == RC_E_BUDGET);
  CHECK(plan == NULL);
  rc_error_info error = rc_error_info_init();
  MUST(rc_error_last(&error));
  printf("refused: %s: %s\n", error.field, error.message);
  const char* least = strrchr(error.message, ' ');
  CHECK(least != NULL);
  MUST(plan_for(strtoull(least, NULL, 10), request, sizeof request, &plan));
  rc_plan_release(plan);
}

static void read_the_memory_model(void) {
  static const char request[] =
      "{\"rcore_plan\": 1, \"model\": \"deepseek-v3\", \"layout\": {\"seq_length\": 1}}";
  char text[65536];
  uint64_t needed = 0;
  MUST(rc_plan_inventory(request, sizeof request - 1, text, sizeof text, &needed));
  CHECK(needed <= sizeof text);
  CHECK(strstr(text, "\"bytes\": 454912") != NULL);
  printf("DeepSeek-V3: 454912 bytes per token and layer\n");
}

int main(void) {
  plan_and_evaluate();
  ask_for_too_little();
  read_the_memory_model();
  return 0;
}
