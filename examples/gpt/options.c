/* examples/gpt/options.c: the command line, with recompute flags spelled as Megatron-Core and
 * Megatron Bridge do. */
#include "options.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum FlagType { FLAG_INT, FLAG_REAL, FLAG_STRING, FLAG_LIST, FLAG_SWITCH } FlagType;

/* A cursor over argv and what the recompute flags have said so far. */
typedef struct Parser {
  int argc, at;
  char** argv;
  Options* out;
  PolicySpec flags;                /* the policy that --recompute-* flags spell */
  const char* names[POLICIES_MAX]; /* --policy */
  int n_names;
  char* error;
  size_t capacity;
} Parser;

static bool fail(Parser* p, const char* flag, const char* what, const char* value) {
  snprintf(p->error, p->capacity, "--%s: %s%s%s", flag, what, value ? ": " : "",
           value ? value : "");
  return false;
}

/* "--recompute_num_layers", "--recompute-num-layers" and "model.recompute_num_layers" (Bridge's
 * overrides) are one flag. Writes the bare name with dashes; false if `arg` is no flag. */
static bool flag_name(const char* arg, char name[64], const char** value) {
  if (strncmp(arg, "--", 2) == 0 && arg[2])
    arg += 2;
  else if (strncmp(arg, "model.", 6) != 0)
    return false;
  if (strncmp(arg, "model.", 6) == 0) arg += 6;
  const char* equals = strchr(arg, '=');
  const size_t n = equals ? (size_t)(equals - arg) : strlen(arg);
  if (n >= 64) return false;
  for (size_t i = 0; i < n; i++) name[i] = arg[i] == '_' ? '-' : arg[i];
  name[n] = '\0';
  *value = equals ? equals + 1 : NULL;
  return true;
}

static bool take_value(Parser* p, const char* flag, const char** value) {
  if (*value) return true;
  if (p->at >= p->argc || strncmp(p->argv[p->at], "--", 2) == 0)
    return fail(p, flag, "needs a value", NULL);
  *value = p->argv[p->at++];
  return true;
}

static bool take_int(Parser* p, const char* flag, const char* value, int* out) {
  if (!take_value(p, flag, &value)) return false;
  char* end;
  errno = 0;
  const long n = strtol(value, &end, 10);
  if (errno || end == value || *end || n < 0 || n > 1000000000)
    return fail(p, flag, "is not a whole number", value);
  *out = (int)n;
  return true;
}

static bool take_real(Parser* p, const char* flag, const char* value, double* out) {
  if (!take_value(p, flag, &value)) return false;
  char* end;
  *out = strtod(value, &end);
  if (end == value || *end || !isfinite(*out)) return fail(p, flag, "is not a number", value);
  return true;
}

/* ---- a policy spelled by flags: each becomes one member of rcore's JSON form ---- */

static bool append(Parser* p, const char* flag, const char* text) {
  const size_t used = strlen(p->flags.members);
  if (used + strlen(text) + 1 > sizeof p->flags.members)
    return fail(p, flag, "the policy is too long", NULL);
  strcpy(p->flags.members + used, text);
  return true;
}

/* The name in the table is made of the values: "selective core_attn+mlp". Cut where it is too long.
 */
static void add_to_name(Parser* p, const char* word, char separator) {
  const size_t used = strlen(p->flags.name);
  if (used) snprintf(p->flags.name + used, sizeof p->flags.name - used, "%c", separator);
  snprintf(p->flags.name + strlen(p->flags.name), sizeof p->flags.name - strlen(p->flags.name),
           "%s", word);
}

/* Whole numbers and JSON's words stay bare, everything else becomes a string. */
static bool append_value(Parser* p, const char* flag, const char* value) {
  static const char* const kBare[][2] = {{"true", "true"},   {"True", "true"}, {"false", "false"},
                                         {"False", "false"}, {"null", "null"}, {"None", "null"}};
  if (strpbrk(value, "\"\\") || strlen(value) > 200) return fail(p, flag, "is not a value", value);
  add_to_name(p, value, ' ');
  for (size_t i = 0; i < sizeof kBare / sizeof kBare[0]; i++)
    if (strcmp(value, kBare[i][0]) == 0) return append(p, flag, kBare[i][1]);
  const bool number =
      value[0] && strspn(value, "0123456789") == strlen(value) && strlen(value) < 10;
  return append(p, flag, number ? "" : "\"") && append(p, flag, value) &&
         append(p, flag, number ? "" : "\"");
}

/* One word of a list, also inside [a, "b"] and a,b as overrides write them. */
static bool append_words(Parser* p, const char* flag, const char* value, bool* first) {
  char words[256];
  if (strlen(value) >= sizeof words) return fail(p, flag, "is not a value", value);
  strcpy(words, value);
  for (char* word = strtok(words, ",[]\"' "); word; word = strtok(NULL, ",[]\"' ")) {
    if (!append(p, flag, *first ? "\"" : ", \"") || !append(p, flag, word) ||
        !append(p, flag, "\""))
      return false;
    add_to_name(p, word, *first ? ' ' : '+');
    *first = false;
  }
  return true;
}

static bool append_list(Parser* p, const char* flag, const char* value) {
  bool first = true;
  if (!append(p, flag, "[")) return false;
  if (value && !append_words(p, flag, value, &first)) return false;
  char ignored[64];
  const char* unused;
  while (!value && p->at < p->argc && !flag_name(p->argv[p->at], ignored, &unused))
    if (!append_words(p, flag, p->argv[p->at++], &first)) return false;
  return append(p, flag, "]");
}

static bool is_recompute_flag(const char* name) {
  return strncmp(name, "recompute-", 10) == 0 ||
         strncmp(name, "activations-checkpoint-", 23) == 0 ||
         strcmp(name, "distribute-saved-activations") == 0;
}

static bool is_flag_next(const Parser* p) {
  char ignored[64];
  const char* unused;
  return p->at >= p->argc || flag_name(p->argv[p->at], ignored, &unused);
}

static bool parse_recompute(Parser* p, const char* name, const char* value) {
  const char* dash = strrchr(name, '-');
  const bool list = strcmp(dash, "-modules") == 0;
  const bool is_switch = strcmp(dash, "-activations") == 0 && !value && is_flag_next(p);
  if (p->flags.members[0] && !append(p, name, ", ")) return false;
  if (!append(p, name, "\"") || !append(p, name, name) || !append(p, name, "\": ")) return false;
  if (list) return append_list(p, name, value);
  if (is_switch) {
    add_to_name(p, name, ' ');
    return append(p, name, "true");
  }
  return take_value(p, name, &value) && append_value(p, name, value);
}

static bool parse_attention(Parser* p, const char* value) {
  if (!take_value(p, "attention", &value)) return false;
  if (strcmp(value, "plain") != 0 && strcmp(value, "fused") != 0)
    return fail(p, "attention", "must be plain or fused", value);
  p->out->sizes.fused = strcmp(value, "fused") == 0;
  return true;
}

bool options_is_budget(const PolicySpec* spec) {
  return spec->budget_bytes > 0 || spec->budget_fraction > 0 || spec->spread > 0;
}

/* "60MB", "57.5MiB", "1500000" or a part of what keeping everything takes, "0.4". */
static bool parse_budget(Parser* p, const char* value) {
  static const struct {
    const char* unit;
    double bytes;
  } kUnits[] = {{"B", 1},        {"kB", 1e3},        {"MB", 1e6},          {"GB", 1e9},
                {"KiB", 1024.0}, {"MiB", 1048576.0}, {"GiB", 1073741824.0}};
  PolicySpec* spec = &p->out->policies[p->out->n_policies];
  memset(spec, 0, sizeof *spec);
  char* end;
  const double number = strtod(value, &end);
  if (end == value || !isfinite(number) || number <= 0)
    return fail(p, "budget", "is neither bytes (60MB) nor a part of 1 (0.4)", value);
  double unit = 1;
  if (*end) {
    size_t i = 0;
    while (i < sizeof kUnits / sizeof kUnits[0] && strcmp(end, kUnits[i].unit) != 0) i++;
    if (i == sizeof kUnits / sizeof kUnits[0])
      return fail(p, "budget", "has no unit of bytes (B, kB, MB, GB, KiB, MiB, GiB)", value);
    unit = kUnits[i].bytes;
  } else if (number <= 1) {
    spec->budget_fraction = number;
  } else if (number != floor(number)) {
    return fail(p, "budget", "is above 1, so it needs a unit of bytes (60MB)", value);
  }
  if (spec->budget_fraction == 0) {
    if (number * unit < 1 || number * unit > 9e15)
      return fail(p, "budget", "must be between 1 B and 9e15 B", value);
    spec->budget_bytes = (uint64_t)(number * unit);
  }
  snprintf(spec->name, sizeof spec->name, "budget=%s", value);
  p->out->n_policies++;
  return true;
}

static bool parse_policy(Parser* p, const char* name, const char* value) {
  if (!take_value(p, name, &value)) return false;
  if (p->out->n_policies + p->n_names + 1 >= POLICIES_MAX)
    return fail(p, name, "given more than 60 times", NULL);
  if (strcmp(name, "budget") == 0) return parse_budget(p, value);
  if (strcmp(name, "policy") == 0 && strncmp(value, "budget=", 7) == 0)
    return parse_budget(p, value + 7);
  if (strcmp(name, "policy") == 0) {
    p->names[p->n_names++] = value;
    return true;
  }
  PolicySpec* spec = &p->out->policies[p->out->n_policies++];
  snprintf(spec->name, sizeof spec->name, "%s", value);
  spec->file = value;
  return true;
}

static bool parse_flag(Parser* p, const char* name, const char* value) {
  Options* o = p->out;
  const struct {
    const char* name;
    FlagType type;
    void* target;
  } kFlags[] = {{"layers", FLAG_INT, &o->sizes.layers},
                {"width", FLAG_INT, &o->sizes.width},
                {"heads", FLAG_INT, &o->sizes.heads},
                {"seq", FLAG_INT, &o->sizes.seq},
                {"batch", FLAG_INT, &o->sizes.batch},
                {"microbatches", FLAG_INT, &o->sizes.microbatches},
                {"steps", FLAG_INT, &o->steps},
                {"warmup", FLAG_INT, &o->warmup},
                {"threads", FLAG_INT, &o->threads},
                {"train", FLAG_INT, &o->train_steps},
                {"learning-rate", FLAG_REAL, &o->learning_rate},
                {"text", FLAG_STRING, &o->text},
                {"report", FLAG_STRING, &o->report},
                {"trace", FLAG_STRING, &o->trace},
                {"chart", FLAG_STRING, &o->chart},
                {"compare", FLAG_STRING, &o->compare},
                {"front", FLAG_STRING, &o->front},
                {"budgets", FLAG_INT, &o->budgets},
                {"help", FLAG_SWITCH, &o->help},
                {"list", FLAG_SWITCH, &o->list},
                {"child", FLAG_INT, &o->child},
                {"child-fd", FLAG_INT, &o->child_fd},
                {"go-fd", FLAG_INT, &o->go_fd}};
  if (is_recompute_flag(name)) return parse_recompute(p, name, value);
  if (strcmp(name, "attention") == 0) return parse_attention(p, value);
  if (strcmp(name, "policy") == 0 || strcmp(name, "policy-json") == 0 ||
      strcmp(name, "budget") == 0)
    return parse_policy(p, name, value);
  if (strcmp(name, "dropout") == 0 || strcmp(name, "seed") == 0) {
    double number;
    if (!take_real(p, name, value, &number)) return false;
    if (name[0] == 'd')
      o->sizes.dropout = (float)number;
    else if (number < 0 || number > 9e15 || number != floor(number))
      return fail(p, name, "must be a whole number from 0 to 9e15", NULL);
    else
      o->sizes.seed = (uint64_t)number;
    return true;
  }
  for (size_t i = 0; i < sizeof kFlags / sizeof kFlags[0]; i++) {
    if (strcmp(name, kFlags[i].name) != 0) continue;
    if (kFlags[i].type == FLAG_INT) return take_int(p, name, value, kFlags[i].target);
    if (kFlags[i].type == FLAG_REAL) return take_real(p, name, value, kFlags[i].target);
    if (kFlags[i].type == FLAG_STRING)
      return take_value(p, name, &value) && (*(const char**)kFlags[i].target = value);
    *(bool*)kFlags[i].target = true;
    return true;
  }
  return fail(p, name, "is not a flag of this program (see --help)", NULL);
}

/* Behind what they are compared with. */
static bool spread_budgets(Parser* p) {
  Options* o = p->out;
  if (o->budgets == 0) return true;
  if (o->budgets < 2 || o->n_policies + o->budgets > POLICIES_MAX)
    return fail(p, "budgets", "must be at least 2 and leave room for the other policies", NULL);
  for (int i = 1; i <= o->budgets; i++) {
    PolicySpec* spec = &o->policies[o->n_policies++];
    memset(spec, 0, sizeof *spec);
    snprintf(spec->name, sizeof spec->name, "budget %d of %d", i, o->budgets);
    spec->spread = i;
    spec->spread_of = o->budgets;
  }
  return true;
}

/* `none` first, since the others are compared with it; then what was asked for, or the default
 * list. */
static bool settle_policies(Parser* p) {
  Options* o = p->out;
  PolicySpec known[POLICIES_MAX], asked[POLICIES_MAX];
  const int n_known = options_default_policies(o->sizes.layers, known);
  int n = 0;
  if (p->n_names + o->n_policies == 0 && !p->flags.members[0]) {
    memcpy(o->policies, known, sizeof(PolicySpec) * (size_t)n_known);
    o->n_policies = n_known;
    return spread_budgets(p);
  }
  asked[n++] = known[0];
  for (int i = 0; i < p->n_names; i++) {
    int k = 0;
    while (k < n_known && strcmp(p->names[i], known[k].name) != 0) k++;
    if (k == n_known) return fail(p, "policy", "no such policy (see --list)", p->names[i]);
    if (k > 0) asked[n++] = known[k];
  }
  for (int i = 0; i < o->n_policies; i++) asked[n++] = o->policies[i];
  if (p->flags.members[0]) {
    asked[n++] = p->flags;
  }
  memcpy(o->policies, asked, sizeof(PolicySpec) * (size_t)n);
  o->n_policies = n;
  return spread_budgets(p);
}

bool options_parse(int argc, char** argv, Options* out, char* error, size_t capacity) {
  *out = (Options){.sizes = {.layers = 8,
                             .width = 96,
                             .heads = 3,
                             .seq = 128,
                             .batch = 32,
                             .microbatches = 2,
                             .dropout = 0.1f,
                             .seed = 1},
                   .steps = 10,
                   .warmup = 2,
                   .threads = 2,
                   .learning_rate = 1e-3,
                   .text = "/usr/share/common-licenses/GPL-3",
                   .child = -1,
                   .child_fd = -1,
                   .go_fd = -1};
  Parser p = {
      .argc = argc, .at = 1, .argv = argv, .out = out, .error = error, .capacity = capacity};
  while (p.at < argc) {
    char name[64];
    const char *value, *arg = argv[p.at++];
    if (!flag_name(arg, name, &value)) {
      snprintf(error, capacity, "%s: is not a flag (see --help)", arg);
      return false;
    }
    if (!parse_flag(&p, name, value)) return false;
  }
  if (out->help) return true;
  const char* wrong = sizes_check(&out->sizes);
  if (!wrong && out->steps < 1) wrong = "--steps must be at least 1";
  if (!wrong && out->warmup < 2)
    wrong = "--warmup must be at least 2 (one step is recorded, one runs in the arena)";
  if (!wrong && (out->threads < 1 || out->threads > 256))
    wrong = "--threads must be between 1 and 256";
  if (!wrong && !(out->learning_rate > 0)) wrong = "--learning-rate must be above 0";
  if (wrong) {
    snprintf(error, capacity, "%s", wrong);
    return false;
  }
  return settle_policies(&p);
}
