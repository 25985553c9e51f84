/* examples/builtin_kernel.c: layernorm, SwiGLU and dropout that the library can make again alone.
 *
 * No callback is written here: a module with a built-in kernel runs its forward and its replay
 * through the same code. The three outputs are discarded once read, and replay brings back the same
 * bits; the dropout mask costs no memory, since the region remembers where in the Philox stream it
 * was drawn. */
#include <string.h>

#include "check.h"

enum { kRows = 128, kWidth = 256, kHalf = kWidth / 2 };
enum { X = 0, Y = 1 }; /* slots of every kernel here */

static float input[kRows * kWidth], gamma_[kWidth], beta_[kWidth];

static rc_tensor* wrap(float* data, const int64_t* n) {
  rc_tensor_spec spec = rc_tensor_spec_init();
  spec.data = data;
  spec.dtype_code = 2;
  spec.dtype_bits = 32;
  spec.ndim = 1;
  spec.shape = n;
  rc_tensor* tensor = NULL;
  MUST(rc_tensor_wrap(&spec, NULL, NULL, &tensor));
  return tensor;
}

static rc_module* register_kernel(rc_context* context, const char* kind, rc_kernel_desc kernel) {
  rc_module_desc desc = rc_module_desc_init();
  desc.kind = kind;
  desc.kernel = &kernel; /* brings its own slots: x, y, and what else it saves */
  rc_module* module = NULL;
  MUST(rc_module_register(context, &desc, &module));
  return module;
}

static rc_kernel_desc kernel_desc(rc_kernel kernel) {
  rc_kernel_desc desc = rc_kernel_desc_init();
  desc.kernel = kernel;
  return desc;
}

/* A region whose input is slot y of `source`, without a copy. */
static rc_region* begin_after(rc_context* context, rc_module* module, rc_region* source) {
  rc_region_desc desc = rc_region_desc_init();
  desc.module = module;
  rc_region* region = NULL;
  MUST(rc_region_begin(context, &desc, &region));
  rc_save save = rc_save_init();
  const int64_t shape[2] = {kRows, kWidth};
  rc_tensor_spec x = float_matrix(shape);
  x.data = input;
  if (source) {
    save.source = source;
    save.source_slot = Y;
  } else {
    save.view = &x;
  }
  MUST(rc_region_save(region, &save, 1, sizeof save, NULL, NULL));
  return region;
}

static uint64_t live_bytes(rc_context* context) {
  rc_stats stats = rc_stats_init();
  MUST(rc_stats_get(context, &stats));
  return stats.live_bytes;
}

int main(void) {
  static const char kPolicy[] =
      "{\"rcore_policy\": 1, \"kinds\": [{\"name\": \"glu\", \"discards_output\": true},"
      " {\"name\": \"dropout\", \"discards_output\": true}, {\"name\": \"softmax\"}], "
      "\"recompute_granularity\": "
      "\"selective\","
      " \"recompute_modules\": [\"layernorm\", \"glu\", \"dropout\"]}";
  static float dropped_out[kRows * kHalf];
  for (int i = 0; i < kRows * kWidth; i++) input[i] = (float)(i % 89) / 89 - 0.5f;
  for (int i = 0; i < kWidth; i++) gamma_[i] = 1 + (float)i / kWidth, beta_[i] = (float)(i % 3);

  rc_context_desc context_desc = rc_context_desc_init();
  context_desc.n_threads = 2; /* results do not depend on it */
  context_desc.rng_seed = 20;
  context_desc.flags = RC_CONTEXT_VERIFY; /* replay compares digests by itself too */
  rc_context* context = NULL;
  MUST(rc_context_create(&context_desc, &context));
  rc_policy* policy = NULL;
  MUST(rc_policy_create_json(kPolicy, sizeof kPolicy - 1, &policy));
  MUST(rc_context_configure(context, policy));

  const int64_t width = kWidth;
  rc_tensor* const params[2] = {wrap(gamma_, &width), wrap(beta_, &width)};
  rc_kernel_desc norm_kernel = kernel_desc(RC_KERNEL_LAYERNORM);
  norm_kernel.params = params; /* consumed */
  norm_kernel.n_params = 2;
  rc_kernel_desc dropout_kernel = kernel_desc(RC_KERNEL_DROPOUT);
  dropout_kernel.dropout = 0.25;
  rc_module* modules[4] = {register_kernel(context, "layernorm", norm_kernel),
                           register_kernel(context, "glu", kernel_desc(RC_KERNEL_SWIGLU)),
                           register_kernel(context, "dropout", dropout_kernel),
                           register_kernel(context, "softmax", kernel_desc(RC_KERNEL_SOFTMAX))};

  rc_region* regions[4] = {NULL};
  for (int i = 0; i < 4; i++) {
    regions[i] = begin_after(context, modules[i], i ? regions[i - 1] : NULL);
    MUST(rc_region_forward(regions[i], NULL));
    MUST(rc_region_end(regions[i], NULL));
  }
  rc_tensor_spec y = rc_tensor_spec_init();
  MUST(rc_region_view(regions[3], X, NULL, &y));
  memcpy(dropped_out, y.data, sizeof dropped_out);
  int zeros = 0;
  for (int i = 0; i < kRows * kHalf; i++) zeros += dropped_out[i] == 0;
  const uint64_t before = live_bytes(context);
  for (int i = 0; i < 4; i++) MUST(rc_region_discard(regions[i], NULL));
  const uint64_t after = live_bytes(context);
  printf("dropout zeroed %.1f %% of the elements\n", 100.0 * zeros / (kRows * kHalf));
  printf("held %llu B before the discards, %llu B after: the input and the end\n",
         (unsigned long long)before, (unsigned long long)after);
  CHECK(zeros > kRows * kHalf / 5 && zeros < kRows * kHalf / 3);
  CHECK(after == sizeof input + sizeof dropped_out);

  MUST(rc_backward_replay(&regions[3], 1, NULL)); /* replays all that its input came from */
  rc_stats stats = rc_stats_init();
  MUST(rc_stats_get(context, &stats));
  MUST(rc_region_view(regions[3], X, NULL, &y));
  CHECK(memcmp(y.data, dropped_out, sizeof dropped_out) == 0);
  printf("%llu regions were replayed, the dropout's output has the same bits\n",
         (unsigned long long)stats.replays);
  CHECK(stats.replays == 3);

  for (int i = 3; i >= 0; i--) rc_region_release(regions[i], NULL);
  for (int i = 0; i < 4; i++) rc_module_release(modules[i]);
  rc_policy_release(policy);
  rc_context_release(context);
  return 0;
}
