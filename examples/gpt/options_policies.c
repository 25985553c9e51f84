/* examples/gpt/options_policies.c: the policies of a default run, and the help text. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "options.h"

static void add(PolicySpec* out, int* n, const char* name, const char* format, ...) {
  PolicySpec* spec = &out[(*n)++];
  va_list arguments;
  va_start(arguments, format);
  memset(spec, 0, sizeof *spec);
  snprintf(spec->name, sizeof spec->name, "%s", name);
  vsnprintf(spec->members, sizeof spec->members, format, arguments);
  va_end(arguments);
}

#define SELECTIVE "\"recompute_granularity\": \"selective\", \"recompute_modules\": "
#define FULL                                                                                      \
  "\"recompute_granularity\": \"full\", \"recompute_method\": \"%s\", \"recompute_num_layers\": " \
  "%d"

int options_default_policies(int layers, PolicySpec* out) {
  const int half = layers / 2 < 1 ? 1 : layers / 2;
  int n = 0;
  add(out, &n, "none", "%s", "");
  add(out, &n, "core_attn", SELECTIVE "[\"core_attn\"]");
  add(out, &n, "layernorm", SELECTIVE "[\"layernorm\"]");
  add(out, &n, "mlp", SELECTIVE "[\"mlp\"]");
  add(out, &n, "core_attn+layernorm", SELECTIVE "[\"core_attn\", \"layernorm\"]");
  add(out, &n, "core_attn+mlp", SELECTIVE "[\"core_attn\", \"mlp\"]");
  add(out, &n, "mlp_act", SELECTIVE "[\"mlp_act\"]");
  add(out, &n, "uniform-1", FULL, "uniform", 1);
  if (layers >= 2) add(out, &n, "uniform-2", FULL, "uniform", 2);
  if (layers >= 3) add(out, &n, "uniform-3", FULL, "uniform", 3);
  add(out, &n, "uniform-all", FULL, "uniform", layers);
  add(out, &n, "block-half", FULL, "block", half);
  /* What no flag can spell: the lower half makes its norms again, the upper half its attention, and
   * all layers but the first their activations. */
  add(out, &n, "table",
      "\"rules\": [{\"kind\": \"layernorm\", \"role\": \"output\", \"n_layers\": %d, \"action\": "
      "\"recompute\"},"
      " {\"kind\": \"core_attn\", \"role\": \"saved\", \"first_layer\": %d, \"action\": "
      "\"recompute\"},"
      " {\"kind\": \"mlp_act\", \"role\": \"output\", \"first_layer\": %d, \"action\": "
      "\"recompute\"}]",
      half, layers > 1 ? half : 0, layers > 1 ? 1 : 0);
  return n;
}

void options_print_help(void) {
  fputs(
      "gpt: trains a byte-level GPT on the CPU under a list of recompute policies and measures "
      "what each frees and "
      "costs.\n\n"
      "  gpt                            the default list, each policy in a process of its own "
      "(--list names them)\n"
      "  gpt --policy mlp --policy uniform-2\n"
      "  gpt --recompute_granularity selective --recompute_modules core_attn layernorm\n"
      "  gpt --train 600                one long run, beside the loss of a byte-bigram model\n\n"
      "Policies (dash or underscore; each run starts with none, which the others are compared "
      "with)\n"
      "  --policy NAME                  one of --list; may be repeated\n"
      "  --policy-json FILE             a policy in rcore's JSON form; may be repeated\n"
      "  --budget 60MB|0.4              planned from one profiled step: bytes, or a part of what "
      "none takes; may be repeated\n"
      "  --budgets 10                   so many budgets from the least to none's, and the Pareto "
      "front; steps alternate\n"
      "  --recompute-granularity selective|full   --recompute-modules M...   "
      "--recompute-activations\n"
      "  --recompute-method uniform|block         --recompute-num-layers N\n"
      "  --distribute-saved-activations           as Megatron-Core and Bridge spell them; "
      "model.NAME=VALUE works too\n\n"
      "Sizes (defaults)\n"
      "  --layers 8  --width 96  --heads 3  --seq 128  --batch 32 (sequences per microbatch)  "
      "--microbatches 2\n"
      "  --dropout 0.1  --attention plain|fused  --seed 1  --threads 2  --text "
      "/usr/share/common-licenses/GPL-3\n"
      "  --steps 10 (measured)  --warmup 2  --learning-rate 0.001\n\n"
      "Output\n"
      "  --report FILE  the table as JSON        --compare OLD.json  flags what grew by more than "
      "5 % (exit code 1)\n"
      "  --trace FILE   Chrome/Perfetto trace of one step per policy\n"
      "  --chart FILE   SVG: memory over one step, every policy\n"
      "  --front FILE   SVG: memory and step time, every policy and every budget\n\n"
      "Ratios compare processes that ran one after another: on a shared machine they are noisy.\n"
      "Exit codes: 0 done; 1 something differs, grew or failed; 2 the command line is wrong.\n",
      stdout);
}
