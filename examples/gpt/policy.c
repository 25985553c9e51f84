/* examples/gpt/policy.c: writes policies for rcore, which checks every rule; the trainer itself never looks at one. */
#include "policy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net.h"
#include "store.h"
#include "text.h"

static const char* last_error(char* error, size_t capacity, const char* name) {
  rc_error_info info = rc_error_info_init();
  if (rc_error_last(&info) == RC_OK)
    snprintf(error, capacity, "policy %s: %s%s%s", name, info.field, info.field[0] ? ": " : "", info.message);
  else
    snprintf(error, capacity, "policy %s: refused", name);
  return error;
}

/* The kinds that rcore does not know. */
static uint32_t host_kinds(rc_kind_desc kinds[MARKS]) {
  const Mark* marks = net_marks();
  uint32_t n = 0;
  for (int i = 0; i < MARKS; i++) {
    if (!marks[i].host_kind) continue;
    kinds[n] = rc_kind_desc_init();
    kinds[n].name = marks[i].kind;
    kinds[n++].flags = marks[i].discards_output ? RC_KIND_DISCARDS_OUTPUT : 0;
  }
  return n;
}

static rc_policy* from_file(const PolicySpec* spec, char* error, size_t capacity) {
  Text text;
  const char* wrong = text_read(spec->json, &text);
  if (wrong) {
    snprintf(error, capacity, "--policy-json: %s %s", spec->json, wrong);
    return NULL;
  }
  rc_policy* policy = NULL;
  if (rc_policy_create_json((const char*)text.bytes, text.n, &policy) < 0) last_error(error, capacity, spec->name);
  text_free(&text);
  return policy;
}

/* An explicit table that no flag can spell: norms of the lower half made again, attention in the upper half, and the
 * activation outputs of every layer but the first. */
static uint32_t table_rules(int layers, rc_policy_rule rules[3]) {
  const uint32_t half = (uint32_t)(layers / 2);
  for (int i = 0; i < 3; i++) {
    rules[i] = rc_policy_rule_init();
    rules[i].action = RC_ACTION_RECOMPUTE;
  }
  rules[0].kind = "core_attn";
  rules[0].role = RC_ROLE_SAVED;
  rules[0].first_layer = half;
  rules[1].kind = "layernorm";
  rules[1].role = RC_ROLE_OUTPUT;
  rules[1].n_layers = half > 0 ? half : 1;
  rules[2].kind = "mlp_act";
  rules[2].role = RC_ROLE_OUTPUT;
  rules[2].first_layer = layers > 1 ? 1 : 0;
  return 3;
}

rc_policy* policy_create(const PolicySpec* spec, const Sizes* sizes, char* error, size_t capacity) {
  if (spec->json) return from_file(spec, error, capacity);
  rc_kind_desc kinds[MARKS];
  rc_policy_rule rules[3];
  rc_policy_desc desc = rc_policy_desc_init();
  desc.granularity = !spec->granularity                           ? RC_GRANULARITY_NONE
                     : strcmp(spec->granularity, "selective") == 0 ? RC_GRANULARITY_SELECTIVE
                                                                   : RC_GRANULARITY_FULL;
  desc.method = !spec->method                         ? RC_METHOD_UNSET
                : strcmp(spec->method, "uniform") == 0 ? RC_METHOD_UNIFORM
                                                       : RC_METHOD_BLOCK;
  desc.recompute_modules = spec->n_modules >= 0 ? spec->modules : NULL;
  desc.n_recompute_modules = spec->n_modules >= 0 ? (uint32_t)spec->n_modules : 0;
  desc.recompute_num_layers = (uint32_t)spec->num_layers;
  desc.num_layers = (uint32_t)sizes->layers;
  desc.num_microbatches = (uint32_t)sizes->microbatches;
  desc.attention_dropout = sizes->dropout;
  desc.hidden_dropout = sizes->dropout;
  desc.kinds = kinds;
  desc.n_kinds = host_kinds(kinds);
  desc.kind_stride = sizeof kinds[0];
  desc.rules = rules;
  desc.n_rules = spec->table ? table_rules(sizes->layers, rules) : 0;
  desc.rule_stride = sizeof rules[0];
  if (sizes->fused) desc.flags |= RC_POLICY_FUSED_ATTENTION;
  if (spec->distribute) desc.flags |= RC_POLICY_DISTRIBUTE_SAVED;
  rc_policy* policy = NULL;
  if (rc_policy_create(&desc, &policy) < 0) last_error(error, capacity, spec->name);
  return policy;
}

uint64_t policy_predict(Store* store, rc_policy* policy) {
  rc_prediction prediction = rc_prediction_init();
  store_must(rc_predict(store->context, policy, &prediction), "rc_predict");
  return prediction.peak_bytes;
}

void policy_apply(Store* store, rc_policy* policy) {
  store_must(rc_context_configure(store->context, policy), "rc_context_configure");
}
