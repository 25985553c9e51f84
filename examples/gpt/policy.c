/* examples/gpt/policy.c: writes policies for rcore, which checks every rule; the trainer itself
 * never looks at one. */
#include "policy.h"

#include <stdio.h>
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

uint64_t policy_predict(Store* store, rc_policy* policy) {
  rc_prediction prediction = rc_prediction_init();
  store_must(rc_predict(store->context, policy, &prediction), "rc_predict");
  return prediction.peak_bytes;
}

void policy_apply(Store* store, rc_policy* policy) {
  store_must(rc_context_configure(store->context, policy), "rc_context_configure");
}
