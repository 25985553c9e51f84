/* abi_tests/loading/linked.c: a linked program forks, and releases its handles after main has
 * returned.
 *
 * usage: linked fork | linked exit */
#include <rcore/rcore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int failures = 0;
#define EXPECT(condition)                            \
  do {                                               \
    if (!(condition)) {                              \
      printf("line %d: %s\n", __LINE__, #condition); \
      fflush(stdout);                                \
      ++failures;                                    \
    }                                                \
  } while (0)

static rc_context* context = NULL;
static rc_module* module = NULL;
static rc_region* region = NULL;
static rc_step* step = NULL;
static rc_fence* fence = NULL;
static int destroyed = 0;

static void RC_CALL count(void* p) {
  ++*(int*)p;
}
static rc_status RC_CALL replay(const rc_replay_args* args) {
  (void)args;
  return RC_OK;
}

static void make_everything(void) {
  rc_context_desc desc = rc_context_desc_init();
  rc_slot_desc slot = rc_slot_desc_init();
  rc_module_ops ops = rc_module_ops_init();
  rc_module_desc module_desc = rc_module_desc_init();
  rc_step_desc step_desc = rc_step_desc_init();
  rc_region_desc region_desc = rc_region_desc_init();
  rc_save item = rc_save_init();
  rc_tensor_spec view = rc_tensor_spec_init();
  static float data[64];
  static const int64_t shape[1] = {64};
  desc.n_threads = 2; /* a fork loses the workers */
  EXPECT(rc_context_create(&desc, &context) == RC_OK);
  slot.name = "x";
  slot.role = RC_ROLE_INPUT;
  ops.user_data = &destroyed;
  ops.destroy = count;
  ops.replay = replay;
  module_desc.kind = "mlp";
  module_desc.slots = &slot;
  module_desc.n_slots = 1;
  module_desc.slot_stride = (uint32_t)sizeof slot;
  module_desc.ops = &ops;
  EXPECT(rc_module_register(context, &module_desc, &module) == RC_OK);
  EXPECT(rc_step_begin(context, &step_desc, &step) == RC_OK);
  region_desc.module = module;
  region_desc.step = step;
  EXPECT(rc_region_begin(context, &region_desc, &region) == RC_OK);
  view.data = data;
  view.dtype_code = 2;
  view.dtype_bits = 32;
  view.ndim = 1;
  view.shape = shape;
  item.view = &view;
  EXPECT(rc_region_save(region, &item, 1, (uint32_t)sizeof item, NULL, NULL) >= RC_OK);
  EXPECT(rc_region_end(region, NULL) >= RC_OK);
  EXPECT(rc_fence_create(context, &fence) == RC_OK);
}

static void child(void) {
  rc_stats stats = rc_stats_init();
  rc_error_info info = rc_error_info_init();
  rc_module_desc module_desc = rc_module_desc_init();
  rc_region_desc region_desc = rc_region_desc_init();
  rc_region_info region_info = rc_region_info_init();
  rc_step_desc step_desc = rc_step_desc_init();
  rc_tensor_spec out = rc_tensor_spec_init();
  rc_module* m = (rc_module*)&stats;
  rc_region* r = (rc_region*)&stats;
  rc_step* s = (rc_step*)&stats;
  rc_tensor* t = (rc_tensor*)&stats;
  uint64_t needed = 1;
  region_desc.module = module;
  EXPECT(rc_version() == RC_HEADER_VERSION);
  EXPECT(rc_stats_get(context, &stats) == RC_E_FORKED);
  EXPECT(rc_error_last(&info) == RC_OK && info.code == RC_E_FORKED && info.message[0] != '\0');
  EXPECT(rc_context_configure(context, NULL) == RC_E_FORKED);
  EXPECT(rc_context_poll(context) == RC_E_FORKED);
  EXPECT(rc_context_drain(context) == RC_E_FORKED);
  EXPECT(rc_module_register(context, &module_desc, &m) == RC_E_FORKED && m == NULL);
  EXPECT(rc_step_begin(context, &step_desc, &s) == RC_E_FORKED && s == NULL);
  EXPECT(rc_step_end(step, NULL, NULL) == RC_E_FORKED);
  EXPECT(rc_region_begin(context, &region_desc, &r) == RC_E_FORKED && r == NULL);
  EXPECT(rc_region_discard(region, NULL) == RC_E_FORKED);
  EXPECT(rc_backward_replay(&region, 1, NULL) == RC_E_FORKED);
  EXPECT(rc_region_view(region, 0, NULL, &out) == RC_E_FORKED && out.data == NULL);
  EXPECT(rc_region_tensor(region, 0, NULL, &t) == RC_E_FORKED && t == NULL);
  EXPECT(rc_region_query(region, &region_info) == RC_E_FORKED);
  EXPECT(rc_region_cancel(region, NULL) == RC_E_FORKED);
  EXPECT(rc_region_retain(region) == RC_E_FORKED);
  EXPECT(rc_report(context, NULL, 0, &needed) == RC_E_FORKED && needed == 0);
  EXPECT(rc_fence_test(fence) == RC_E_FORKED);
  EXPECT(rc_fence_signal(fence, RC_OK) == RC_E_FORKED);
  /* Releases do nothing here: the objects are the parent's. */
  rc_region_release(region, NULL);
  rc_fence_release(fence);
  rc_module_release(module);
  rc_context_release(context);
  EXPECT(destroyed == 0);
  /* A context made in this process works. */
  {
    rc_context_desc desc = rc_context_desc_init();
    rc_context* own = NULL;
    EXPECT(rc_context_create(&desc, &own) == RC_OK);
    EXPECT(rc_stats_get(own, &stats) == RC_OK);
    rc_context_release(own);
  }
  exit(failures); /* runs the library's exit handlers in the child */
}

static void fork_case(void) {
  rc_stats stats = rc_stats_init();
  pid_t pid;
  int state = 0;
  make_everything();
  fflush(stdout);
  pid = fork();
  if (pid == 0) child();
  EXPECT(waitpid(pid, &state, 0) == pid);
  EXPECT(WIFEXITED(state) && WEXITSTATUS(state) == 0);
  EXPECT(rc_stats_get(context, &stats) == RC_OK && stats.regions_live == 1);
  EXPECT(rc_fence_test(fence) == RC_PENDING);
  rc_region_release(region, NULL);
  EXPECT(rc_step_end(step, NULL, NULL) >= RC_OK);
  rc_fence_release(fence);
  rc_module_release(module);
  rc_context_release(context);
  EXPECT(destroyed == 1);
}

/* Registered before the library's own handlers, so it runs after them. */
static void late(void) {
  rc_stats stats = rc_stats_init();
  if (rc_stats_get(context, &stats) != RC_OK) _exit(20);
  rc_region_release(region, NULL);
  if (rc_step_end(step, NULL, NULL) < RC_OK) _exit(21);
  rc_fence_release(fence);
  rc_module_release(module);
  rc_context_release(context);
  if (destroyed != 1) _exit(22);
  if (rc_context_create(NULL, &context) != RC_E_ARGUMENT) _exit(23);
}

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  if (strcmp(argv[1], "fork") == 0) {
    fork_case();
  } else if (strcmp(argv[1], "exit") == 0) {
    atexit(late);
    make_everything();
  } else {
    return 2;
  }
  printf("%s: %d expectations failed\n", argv[1], failures);
  return failures;
}
