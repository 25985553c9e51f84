/* examples/custom_allocator.c: the host's allocator behind every block of the core.
 *
 * The library asks it for arenas and blocks, aligned to at least 256 bytes; each is given back with
 * the request it was asked for with. A refusal reaches the caller as it is, and nothing has
 * changed. */
#include "host.h"

enum { X, H };
enum { kRows = 64, kWidth = 128, kSteps = 4, kMicrobatches = 3 };
enum { kRefused = RC_E_HOST - 7 }; /* the host's own numbers begin at RC_E_HOST */

typedef struct Heap {
  uint64_t allocations, frees, bytes_taken, bytes_returned, peak;
  uint64_t limit; /* most bytes that may be out at once */
  int destroyed;
} Heap;

static rc_status RC_CALL heap_alloc(void* user_data, const rc_alloc_request* request, void** out) {
  Heap* heap = user_data;
  CHECK(request->bytes > 0 && request->memory == RC_MEMORY_DEVICE);
  CHECK(request->alignment >= 256 && (request->alignment & (request->alignment - 1)) == 0);
  if (heap->bytes_taken - heap->bytes_returned + request->bytes > heap->limit) {
    rc_error_raise((rc_status)kRefused, "the heap of this example is full");
    return (rc_status)kRefused;
  }
  /* aligned_alloc wants whole multiples of the alignment. */
  const uint64_t a = request->alignment;
  *out = aligned_alloc(a, (request->bytes + a - 1) / a * a);
  if (!*out) return RC_E_MEMORY;
  heap->allocations++;
  heap->bytes_taken += request->bytes;
  const uint64_t now = heap->bytes_taken - heap->bytes_returned;
  if (now > heap->peak) heap->peak = now;
  return RC_OK;
}

static void RC_CALL heap_free(void* user_data, const rc_alloc_request* request, void* pointer) {
  Heap* heap = user_data;
  heap->frees++;
  heap->bytes_returned += request->bytes;
  free(pointer);
}

static void RC_CALL heap_destroy(void* user_data) {
  ((Heap*)user_data)->destroyed++;
}

static void run(rc_region* region) {
  const float* x = slot_data(region, X);
  float* h = slot_make(region, H, kRows, kWidth);
  for (int i = 0; h && i < kRows * kWidth; i++) h[i] = x[i] * x[i];
}

static rc_status RC_CALL replay(const rc_replay_args* args) {
  run(args->region);
  return RC_OK;
}

static rc_step_report run_step(rc_context* context, rc_module* module, float* input) {
  rc_step* step = step_begin(context);
  rc_region* regions[kMicrobatches];
  for (uint32_t m = 0; m < kMicrobatches; m++) {
    regions[m] = region_begin(context, module, step, m, NULL);
    slot_save(regions[m], X, input, kRows, kWidth);
    run(regions[m]);
    CHECK((uintptr_t)slot_data(regions[m], H) % 256 == 0);
    MUST(rc_region_end(regions[m], NULL));
  }
  for (uint32_t m = 0; m < kMicrobatches; m++) {
    MUST(rc_backward_replay(&regions[m], 1, NULL));
    rc_region_release(regions[m], NULL);
  }
  rc_step_report report = rc_step_report_init();
  MUST(rc_step_end(step, NULL, &report));
  return report;
}

/* A heap that has room for nothing more: the failure names the callback's own status and words. */
static void show_refusal(rc_context* context, rc_module* module, Heap* heap) {
  heap->limit = 0;
  rc_region* region = region_begin(context, module, NULL, 0, NULL);
  const int64_t shape[2] = {4096, 4096};
  const rc_tensor_spec wanted = float_matrix(shape);
  rc_tensor_spec got = rc_tensor_spec_init();
  CHECK((int)rc_region_alloc(region, H, &wanted, NULL, &got) == kRefused && got.data == NULL);
  rc_error_info error = rc_error_info_init();
  MUST(rc_error_last(&error));
  printf("refused with %d: %s\n", (int)error.code, error.message);
  CHECK((int)error.code == kRefused && strstr(error.message, "the heap of this example is full"));
  rc_region_release(region, NULL);
}

int main(void) {
  static Heap heap = {.limit = UINT64_MAX};
  static float input[kRows * kWidth];
  for (int i = 0; i < kRows * kWidth; i++) input[i] = (float)i;

  rc_allocator allocator = rc_allocator_init();
  allocator.user_data = &heap;
  allocator.destroy = heap_destroy;
  allocator.alloc = heap_alloc;
  allocator.free = heap_free;
  rc_context_desc desc = rc_context_desc_init();
  desc.allocator = &allocator; /* copied */
  rc_context* context =
      context_create(&desc,
                     "{\"rcore_policy\": 1, \"recompute_granularity\": \"selective\","
                     " \"recompute_modules\": [\"mlp\"]}");
  const rc_slot_desc slots[] = {slot_desc("x", RC_ROLE_INPUT), slot_desc("h", RC_ROLE_SAVED)};
  rc_module* module = module_register(context, "mlp", slots, 2, replay, NULL);

  for (int i = 0; i < kSteps; i++) {
    const uint64_t before = heap.allocations;
    const rc_step_report report = run_step(context, module, input);
    printf("step %d: %llu allocations, peak of the core %llu B\n", i + 1,
           (unsigned long long)(heap.allocations - before), (unsigned long long)report.peak_bytes);
    /* The first step takes its blocks one by one, the second an arena planned from it. */
    CHECK(i < 2 || (heap.allocations == before && report.allocations == 0));
  }
  const rc_stats stats = stats_of(context);
  CHECK(stats.allocations == heap.allocations);
  CHECK(stats.reserved_bytes == heap.bytes_taken - heap.bytes_returned);
  show_refusal(context, module, &heap);

  rc_module_release(module);
  CHECK(heap.destroyed == 0);
  rc_context_release(context);
  printf("%llu blocks and %llu B taken, %llu blocks and %llu B returned; peak %llu B\n",
         (unsigned long long)heap.allocations, (unsigned long long)heap.bytes_taken,
         (unsigned long long)heap.frees, (unsigned long long)heap.bytes_returned,
         (unsigned long long)heap.peak);
  CHECK(heap.allocations == heap.frees && heap.bytes_taken == heap.bytes_returned);
  CHECK(heap.destroyed == 1);
  return 0;
}
