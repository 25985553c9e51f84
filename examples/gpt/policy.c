/* examples/gpt/policy.c: writes policies for rcore, which checks every rule; the trainer itself
 * never looks at one. */
#include "policy.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net.h"
#include "store.h"
#include "text.h"

enum { TEXT_MAX = 8192 };

/* The kinds that rcore does not know, as members of a JSON list. */
static size_t write_kinds(char* text, size_t capacity) {
  const Mark* marks = net_marks();
  size_t n = 0;
  for (int i = 0; i < MARKS; i++)
    if (marks[i].host_kind)
      n += (size_t)snprintf(text + n, capacity - n, "%s{\"name\": \"%s\", \"discards_output\": %s}",
                            n ? ", " : "", marks[i].kind,
                            marks[i].discards_output ? "true" : "false");
  return n;
}

/* What the trainer says of itself, around what was asked for. */
static size_t write_policy(const PolicySpec* spec, const Sizes* sizes, char* text) {
  char kinds[1024];
  write_kinds(kinds, sizeof kinds);
  return (size_t)snprintf(
      text, TEXT_MAX,
      "{\"rcore_policy\": 1, \"num_layers\": %d, \"num_microbatches\": %d, \"attention_dropout\": "
      "%g, \"hidden_dropout\": %g, \"counter_rng\": true, \"fused_attention\": %s, "
      "\"kinds\": [%s]%s%s}",
      sizes->layers, sizes->microbatches, (double)sizes->dropout, (double)sizes->dropout,
      sizes->fused ? "true" : "false", kinds, spec->members[0] ? ", " : "", spec->members);
}

rc_policy* policy_create(const PolicySpec* spec, const Sizes* sizes, char* error, size_t capacity) {
  char written[TEXT_MAX];
  Text text = {.bytes = NULL};
  if (spec->file) {
    const char* wrong = text_read(spec->file, &text);
    if (wrong) {
      snprintf(error, capacity, "--policy-json: %s %s", spec->file, wrong);
      text_free(&text);
      return NULL;
    }
  } else {
    text.n = write_policy(spec, sizes, written);
  }
  rc_policy* policy = NULL;
  if (rc_policy_create_json(spec->file ? (const char*)text.bytes : written, text.n, &policy) < 0) {
    rc_error_info info = rc_error_info_init();
    if (rc_error_last(&info) == RC_OK)
      snprintf(error, capacity, "policy %s: %s%s%s", spec->name, info.field,
               info.field[0] ? ": " : "", info.message);
    else
      snprintf(error, capacity, "policy %s: refused", spec->name);
  }
  text_free(&text);
  return policy;
}

void policy_print_notes(const PolicySpec* spec, const rc_policy* policy) {
  rc_note note = rc_note_init();
  for (uint32_t i = 0; rc_policy_note(policy, i, &note) == RC_OK; i++)
    printf("note: policy %s: %s%s%s\n", spec->name, note.field, note.field[0] ? ": " : "",
           note.message);
}

uint64_t policy_predict(Store* store, rc_policy* policy, double* replay_seconds) {
  rc_prediction prediction = rc_prediction_init();
  store_must(rc_predict(store->context, policy, &prediction), "rc_predict");
  *replay_seconds = 1e-9 * (double)prediction.replay_ns;
  return prediction.peak_bytes;
}

/* A number of the plan's report. */
static uint64_t report_number(const rc_plan* plan, const char* key) {
  uint64_t needed = 0;
  store_must(rc_plan_report(plan, NULL, 0, &needed), "rc_plan_report");
  char* text = malloc(needed);
  store_must(rc_plan_report(plan, text, needed, &needed), "rc_plan_report");
  json_t* report = json_loads(text, 0, NULL);
  const json_int_t value = json_integer_value(json_object_get(report, key));
  json_decref(report);
  free(text);
  return (uint64_t)value;
}

static rc_plan* plan_for(Store* store, const rc_plan_budget* budget, const PolicySpec* spec,
                         char* error, size_t capacity) {
  rc_plan* plan = NULL;
  if (rc_plan_measured(store->context, budget, &plan) >= 0) return plan;
  rc_error_info info = rc_error_info_init();
  const rc_status known = rc_error_last(&info);
  snprintf(error, capacity, "%s: %s: %s", spec->name, known == RC_OK ? info.field : "",
           known == RC_OK ? info.message : "");
  return NULL;
}

rc_policy* policy_plan(Store* store, const PolicySpec* spec, uint64_t* budget_bytes, char* error,
                       size_t capacity) {
  rc_plan_budget budget = rc_plan_budget_init();
  budget.bytes = spec->budget_bytes;
  budget.fraction = spec->budget_fraction;
  if (spec->spread) { /* the first plan says how far apart the ends are */
    budget.fraction = 1.0;
    rc_plan* all = plan_for(store, &budget, spec, error, capacity);
    if (!all) return NULL;
    const double least = (double)report_number(all, "least_budget_bytes"),
                 most = (double)report_number(all, "keep_all_peak_bytes");
    rc_plan_release(all);
    budget.fraction = 0.0;
    budget.bytes =
        (uint64_t)(least + (most - least) * (spec->spread - 1) / (double)(spec->spread_of - 1));
  }
  rc_plan* plan = plan_for(store, &budget, spec, error, capacity);
  if (!plan) return NULL;
  rc_policy* policy = NULL;
  store_must(rc_plan_policy(plan, &policy), "rc_plan_policy");
  *budget_bytes = report_number(plan, "budget_bytes");
  rc_plan_release(plan);
  return policy;
}

void policy_apply(Store* store, rc_policy* policy) {
  store_must(rc_context_configure(store->context, policy), "rc_context_configure");
}
