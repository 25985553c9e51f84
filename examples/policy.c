/* examples/policy.c: what a policy decides: from the descriptor, from JSON, described, and refused.
 */
#include "host.h"

enum { kLayers = 12 };

static rc_decision decide(const rc_policy* policy, const char* kind, uint32_t layer, rc_role role) {
  rc_site site = rc_site_init();
  site.kind = kind;
  site.layer = layer;
  site.slot_role = role;
  rc_decision decision = rc_decision_init();
  MUST(rc_policy_decide(policy, &site, &decision));
  return decision;
}

/* One line: k = kept, r = recomputed, for every layer. */
static void print_row(const rc_policy* policy, const char* kind, rc_role role, const char* what,
                      const char* expected) {
  char row[kLayers + 1] = {0};
  for (uint32_t layer = 0; layer < kLayers; layer++)
    row[layer] = decide(policy, kind, layer, role).action == RC_ACTION_RECOMPUTE ? 'r' : 'k';
  printf("  %-10s %-7s %s\n", kind, what, row);
  CHECK(strcmp(row, expected) == 0);
}

/* Megatron's flags, as a descriptor. */
static rc_policy* from_descriptor(void) {
  const char* const modules[] = {"core_attn", "layernorm"};
  rc_policy_desc desc = rc_policy_desc_init();
  desc.num_layers = kLayers;
  desc.granularity = RC_GRANULARITY_SELECTIVE;
  desc.recompute_modules = modules;
  desc.n_recompute_modules = 2;
  desc.flags = RC_POLICY_FUSED_ATTENTION;
  rc_policy* policy = NULL;
  MUST(rc_policy_create(&desc, &policy));
  return policy;
}

static rc_policy* from_json(const char* text) {
  rc_policy* policy = NULL;
  MUST(rc_policy_create_json(text, strlen(text), &policy));
  return policy;
}

/* The first call says how long the text is. The caller frees it. */
static char* describe(const rc_policy* policy) {
  uint64_t needed = 0;
  MUST(rc_policy_describe(policy, NULL, 0, &needed));
  char* text = malloc(needed);
  MUST(rc_policy_describe(policy, text, needed, &needed));
  return text;
}

static void show_notes(const rc_policy* policy) {
  rc_note note = rc_note_init();
  uint32_t n = 0;
  for (; rc_policy_note(policy, n, &note) == RC_OK; n++)
    printf("  note on %s: %s\n", note.field, note.message);
  CHECK(n == 1); /* fused attention keeps no scores, so that recomputing core_attn frees little */
}

static void show_refusal(void) {
  static const char kText[] =
      "{\"rcore_policy\": 1, \"recompute_granularity\": \"selective\","
      " \"recompute_modules\": [\"core_attn\", \"layernrom\"]}";
  rc_policy* policy = NULL;
  CHECK(rc_policy_create_json(kText, sizeof kText - 1, &policy) == RC_E_ARGUMENT);
  CHECK(policy == NULL);
  rc_error_info error = rc_error_info_init();
  MUST(rc_error_last(&error));
  printf("refused at %s: %s\n", error.field, error.message);
  CHECK(strcmp(error.field, "/recompute_modules/1") == 0);
  CHECK(strstr(error.message, "did you mean \"layernorm\"?"));
}

int main(void) {
  rc_policy* selective = from_descriptor();
  printf("selective, from the descriptor:\n");
  print_row(selective, "core_attn", RC_ROLE_SAVED, "saved", "rrrrrrrrrrrr");
  print_row(selective, "layernorm", RC_ROLE_OUTPUT, "output", "rrrrrrrrrrrr");
  print_row(selective, "mlp", RC_ROLE_SAVED, "saved", "kkkkkkkkkkkk");
  show_notes(selective);

  /* The same flags, and a rule that no flag can spell; `rope` is a kind of the host's own. */
  rc_policy* table = from_json(
      "{\"rcore_policy\": 1, \"num_layers\": 12, \"recompute_granularity\": \"selective\","
      " \"recompute_modules\": [\"core_attn\", \"layernorm\"],"
      " \"kinds\": [{\"name\": \"rope\", \"discards_output\": true}],"
      " \"rules\": [{\"kind\": \"layernorm\", \"first_layer\": 8, \"action\": \"keep\"},"
      "             {\"kind\": \"rope\", \"n_layers\": 3, \"action\": \"recompute\"}]}");
  printf("selective with two rules, from JSON:\n");
  print_row(table, "core_attn", RC_ROLE_SAVED, "saved", "rrrrrrrrrrrr");
  print_row(table, "layernorm", RC_ROLE_OUTPUT, "output", "rrrrrrrrkkkk");
  print_row(table, "rope", RC_ROLE_OUTPUT, "output", "rrrkkkkkkkkk");
  CHECK(decide(table, "layernorm", 9, RC_ROLE_OUTPUT).rule == 0); /* the first rule decided */

  rc_policy* full = from_json(
      "{\"rcore_policy\": 1, \"num_layers\": 12, \"recompute_granularity\": \"full\","
      " \"recompute_method\": \"uniform\", \"recompute_num_layers\": 5}");
  printf("full, uniform: layer 7 is recomputed with");
  const rc_decision unit = decide(full, "layer", 7, RC_ROLE_SAVED);
  printf(" layers %u to %u\n", unit.first_layer, unit.first_layer + unit.n_layers - 1);
  CHECK(unit.first_layer == 5 && unit.n_layers == 5);
  const rc_decision last = decide(full, "layer", 11, RC_ROLE_SAVED);
  CHECK(last.first_layer == 10 && last.n_layers == 2); /* the last unit is cut short */

  /* What describe writes, create_json reads. */
  char* text = describe(table);
  rc_policy* again = from_json(text);
  char* text_again = describe(again);
  CHECK(strcmp(text, text_again) == 0);
  printf("described:\n%s\n", text);
  show_refusal();

  free(text);
  free(text_again);
  rc_policy_release(again);
  rc_policy_release(full);
  rc_policy_release(table);
  rc_policy_release(selective);
  return 0;
}
