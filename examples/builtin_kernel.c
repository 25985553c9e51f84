/* examples/builtin_kernel.c: layernorm, SwiGLU and dropout that the library can make again alone.
 *
 * No callback is written here: a module with a built-in kernel runs its forward and its replay
 * through the same code. The three outputs are discarded once read, and replay brings back the same
 * bits; the dropout mask costs no memory, since the region remembers where in the Philox stream it
 * was drawn. */
#include "host.h"

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

/* The region's input is slot Y of another region, without a copy. */
static void link_input(rc_region* region, rc_region* source) {
  rc_save save = rc_save_init();
  save.slot = X;
  save.source = source;
  save.source_slot = Y;
  MUST(rc_region_save(region, &save, 1, sizeof save, NULL, NULL));
}

int main(void) {
  static const char kPolicy[] =
      "{\"rcore_policy\": 1, \"recompute_granularity\": \"selective\","
      " \"recompute_modules\": [\"layernorm\", \"glu\", \"dropout\"],"
      " \"kinds\": [{\"name\": \"glu\", \"discards_output\": true},"
      "             {\"name\": \"dropout\", \"discards_output\": true}, \"softmax\"]}";
  static float dropped_out[kRows * kHalf];
  for (int i = 0; i < kRows * kWidth; i++) input[i] = (float)(i % 89) / 89 - 0.5f;
  for (int i = 0; i < kWidth; i++) gamma_[i] = 1 + (float)i / kWidth, beta_[i] = (float)(i % 3);

  rc_context_desc context_desc = rc_context_desc_init();
  context_desc.n_threads = 2; /* results do not depend on it */
  context_desc.rng_seed = 20;
  context_desc.flags = RC_CONTEXT_VERIFY; /* replay compares digests by itself too */
  rc_context* context = context_create(&context_desc, kPolicy);

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
    regions[i] = region_begin(context, modules[i], NULL, 0, NULL);
    if (i == 0)
      slot_save(regions[i], X, input, kRows, kWidth);
    else
      link_input(regions[i], regions[i - 1]);
    MUST(rc_region_forward(regions[i], NULL));
    MUST(rc_region_end(regions[i], NULL));
  }
  memcpy(dropped_out, slot_data(regions[3], X), sizeof dropped_out);
  int zeros = 0;
  for (int i = 0; i < kRows * kHalf; i++) zeros += dropped_out[i] == 0;
  const uint64_t before = stats_of(context).live_bytes;
  for (int i = 0; i < 4; i++) MUST(rc_region_discard(regions[i], NULL));
  const uint64_t after = stats_of(context).live_bytes;
  printf("dropout zeroed %.1f %% of the elements\n", 100.0 * zeros / (kRows * kHalf));
  printf("held %llu B before the discards, %llu B after: the input and the end\n",
         (unsigned long long)before, (unsigned long long)after);
  CHECK(zeros > kRows * kHalf / 5 && zeros < kRows * kHalf / 3);
  CHECK(after == sizeof input + sizeof dropped_out);

  MUST(rc_backward_replay(&regions[3], 1, NULL)); /* replays all that its input came from */
  const uint64_t replays = stats_of(context).replays;
  CHECK(memcmp(slot_data(regions[3], X), dropped_out, sizeof dropped_out) == 0);
  printf("%llu regions were replayed, the dropout's output has the same bits\n",
         (unsigned long long)replays);
  CHECK(replays == 3);

  for (int i = 3; i >= 0; i--) rc_region_release(regions[i], NULL);
  for (int i = 0; i < 4; i++) rc_module_release(modules[i]);
  rc_context_release(context);
  return 0;
}
