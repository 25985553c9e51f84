/* examples/gpt/options_policies.c: the policies of a default run, and the help text. */
#include <stdio.h>
#include <string.h>

#include "options.h"

static PolicySpec selective(const char* name, const char* first, const char* second) {
  PolicySpec spec = {.granularity = "selective", .modules = {first, second}, .n_modules = second ? 2 : 1};
  snprintf(spec.name, sizeof spec.name, "%s", name);
  return spec;
}

static PolicySpec full(const char* name, const char* method, int num_layers) {
  PolicySpec spec = {.granularity = "full", .method = method, .num_layers = num_layers, .n_modules = -1};
  snprintf(spec.name, sizeof spec.name, "%s", name);
  return spec;
}

int options_default_policies(int layers, PolicySpec* out) {
  const int half = layers / 2 < 1 ? 1 : layers / 2;
  int n = 0;
  out[n++] = (PolicySpec){.name = "none", .n_modules = -1};
  out[n++] = selective("core_attn", "core_attn", NULL);
  out[n++] = selective("layernorm", "layernorm", NULL);
  out[n++] = selective("mlp", "mlp", NULL);
  out[n++] = selective("core_attn+layernorm", "core_attn", "layernorm");
  out[n++] = selective("core_attn+mlp", "core_attn", "mlp");
  out[n++] = selective("mlp_act", "mlp_act", NULL);
  out[n++] = full("uniform-1", "uniform", 1);
  if (layers >= 2) out[n++] = full("uniform-2", "uniform", 2);
  if (layers >= 3) out[n++] = full("uniform-3", "uniform", 3);
  out[n++] = full("uniform-all", "uniform", layers);
  out[n++] = full("block-half", "block", half);
  out[n++] = (PolicySpec){.name = "table", .n_modules = -1, .table = true};
  return n;
}

void options_print_help(void) {
  fputs(
      "gpt: trains a byte-level GPT on the CPU under a list of recompute policies and measures what each frees and "
      "costs.\n\n"
      "  gpt                            the default list, each policy in a process of its own (--list names them)\n"
      "  gpt --policy mlp --policy uniform-2\n"
      "  gpt --recompute_granularity selective --recompute_modules core_attn layernorm\n"
      "  gpt --train 600                one long run, beside the loss of a byte-bigram model\n\n"
      "Policies (dash or underscore; each run starts with none, which the others are compared with)\n"
      "  --policy NAME                  one of --list; may be repeated\n"
      "  --policy-json FILE             a policy in rcore's JSON form; may be repeated\n"
      "  --recompute-granularity selective|full   --recompute-modules M...   --recompute-activations\n"
      "  --recompute-method uniform|block         --recompute-num-layers N\n"
      "  --distribute-saved-activations           as Megatron-Core and Bridge spell them; model.NAME=VALUE works too\n\n"
      "Sizes (defaults)\n"
      "  --layers 8  --width 128  --heads 4  --seq 256  --batch 8 (sequences per microbatch)  --microbatches 2\n"
      "  --dropout 0.1  --attention plain|fused  --seed 1  --threads 2  --text /usr/share/common-licenses/GPL-3\n"
      "  --steps 10 (measured)  --warmup 3  --learning-rate 0.001\n\n"
      "Output\n"
      "  --report FILE  the table as JSON        --compare OLD.json  flags what grew by more than 5 % (exit code 1)\n"
      "  --trace FILE   Chrome/Perfetto trace of one step per policy\n"
      "  --chart FILE   SVG: memory over one step, every policy\n\n"
      "Ratios compare processes that ran one after another: on a shared machine they are noisy.\n"
      "Exit codes: 0 done; 1 something differs, grew or failed; 2 the command line is wrong.\n",
      stdout);
}
