/* abi_tests/loading/loading.c: the library survives every way in which a host process loads, leaves
 * and forks it.
 *
 * usage: loading CASE LIBRARY SYMBOLS. Linked against nothing of rcore: everything comes through
 * dlopen, but for the cases in linked.c. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <dlpack/dlpack.h>
#include <pthread.h>
#include <rcore/rcore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int failures = 0;
#define EXPECT(condition)                            \
  do {                                               \
    if (!(condition)) {                              \
      printf("line %d: %s\n", __LINE__, #condition); \
      ++failures;                                    \
    }                                                \
  } while (0)

/* Declares a pointer to an rc_* function and finds it in the library `from`. */
#define FROM(from, name) __typeof__(&name) p_##name = (__typeof__(&name))dlsym(from, #name)

static void* load(const char* path, int mode) {
  void* library = dlopen(path, mode);
  if (library == NULL) {
    printf("dlopen(%s, %d): %s\n", path, mode, dlerror());
    exit(1);
  }
  return library;
}

/* rc_get_proc is the same as dlsym for every exported name, in every mode of loading. */
static void modes(const char* path, const char* symbols) {
  static const int flags[4] = {RTLD_NOW | RTLD_LOCAL, RTLD_LAZY | RTLD_LOCAL,
                               RTLD_NOW | RTLD_GLOBAL, RTLD_LAZY | RTLD_GLOBAL};
  for (int i = 0; i < 4; ++i) {
    void* library = load(path, flags[i]);
    FROM(library, rc_get_proc);
    FROM(library, rc_version);
    EXPECT(p_rc_version() >= RC_HEADER_VERSION);
    FILE* list = fopen(symbols, "r");
    EXPECT(list != NULL);
    char line[256];
    int n = 0;
    while (list != NULL && fgets(line, sizeof line, list) != NULL) {
      line[strcspn(line, "@\n")] = '\0';
      if (strncmp(line, "rc_", 3) != 0) continue;
      ++n;
      void* symbol = dlsym(library, line);
      if (symbol == NULL || (void*)p_rc_get_proc(line) != symbol) {
        printf("%s: dlsym %p, rc_get_proc %p\n", line, symbol, (void*)p_rc_get_proc(line));
        ++failures;
      }
    }
    if (list != NULL) fclose(list);
    EXPECT(n > 50);
    EXPECT(p_rc_get_proc("rc_no_such_function") == NULL);
    EXPECT(p_rc_get_proc("rc_versio") == NULL);
    EXPECT(p_rc_get_proc("") == NULL);
    EXPECT(p_rc_get_proc(NULL) == NULL);
    EXPECT(dlclose(library) == 0);
  }
}

static rc_context* make_context(void* library) {
  FROM(library, rc_context_create);
  rc_context_desc desc = rc_context_desc_init();
  rc_context* context = NULL;
  EXPECT(p_rc_context_create(&desc, &context) == RC_OK);
  return context;
}

/* Two loads are one library; state lives until the last user, and beyond (-z nodelete). */
static void twice(const char* path) {
  void* a = load(path, RTLD_NOW | RTLD_LOCAL);
  void* b = load(path, RTLD_LAZY | RTLD_LOCAL);
  FROM(a, rc_stats_get);
  FROM(b, rc_context_release);
  EXPECT(dlsym(a, "rc_version") == dlsym(b, "rc_version"));
  rc_context* context = make_context(a);
  EXPECT(dlclose(a) == 0);
  rc_stats stats = rc_stats_init();
  EXPECT(p_rc_stats_get(context, &stats) == RC_OK);
  EXPECT(dlclose(b) == 0);
  EXPECT(p_rc_stats_get(context, &stats) == RC_OK); /* still mapped */
  p_rc_context_release(context);
}

static int released = 0;
static void RC_CALL count_release(void* user) {
  ++*(int*)user;
}

/* A tensor that outlives the library's handle: another framework calls its deleter whenever it
 * likes. */
static void deleter_after_close(const char* path) {
  void* library = load(path, RTLD_NOW | RTLD_LOCAL);
  FROM(library, rc_tensor_wrap);
  float data[6] = {0};
  const int64_t shape[2] = {2, 3};
  rc_tensor_spec spec = rc_tensor_spec_init();
  spec.data = data;
  spec.dtype_code = kDLFloat;
  spec.dtype_bits = 32;
  spec.dtype_lanes = 1;
  spec.ndim = 2;
  spec.shape = shape;
  rc_tensor* tensor = NULL;
  EXPECT(p_rc_tensor_wrap(&spec, count_release, &released, &tensor) == RC_OK);
  rc_context* context = make_context(library);
  FROM(library, rc_context_release);
  p_rc_context_release(context);
  EXPECT(dlclose(library) == 0);
  EXPECT(tensor->version.major == 1);
  EXPECT(tensor->dl_tensor.ndim == 2 && tensor->dl_tensor.shape[1] == 3);
  EXPECT(tensor->dl_tensor.strides == NULL || tensor->dl_tensor.strides[0] == 3);
  EXPECT((char*)tensor->dl_tensor.data + tensor->dl_tensor.byte_offset == (char*)data);
  EXPECT(released == 0);
  tensor->deleter(tensor);
  EXPECT(released == 1);
}

/* A copy under another name is a library of its own: no symbol of one may bind to the other. */
static void two_copies(const char* path) {
  char copy[] = "./librcore_copy_XXXXXX"; /* in the build tree */
  const int fd = mkstemp(copy);
  FILE* in = fopen(path, "rb");
  FILE* out = fd < 0 ? NULL : fdopen(fd, "wb");
  EXPECT(in != NULL && out != NULL);
  if (in == NULL || out == NULL) return;
  char block[65536];
  for (size_t n; (n = fread(block, 1, sizeof block, in)) > 0;)
    EXPECT(fwrite(block, 1, n, out) == n);
  fclose(in);
  fclose(out);
  void* a = load(path, RTLD_NOW | RTLD_GLOBAL);
  void* b = load(copy, RTLD_NOW | RTLD_LOCAL);
  unlink(copy);
  FROM(a, rc_error_last);
  __typeof__(&rc_error_last) b_error_last = (__typeof__(&rc_error_last))dlsym(b, "rc_error_last");
  EXPECT(p_rc_error_last != b_error_last);
  rc_context *in_a = make_context(a), *in_b = make_context(b);
  FROM(a, rc_context_create);
  rc_context_desc wrong = rc_context_desc_init();
  wrong.device_id = -5;
  wrong.head.struct_type = RC_TYPE_SITE;
  rc_context* none = NULL;
  EXPECT(p_rc_context_create(&wrong, &none) == RC_E_ARGUMENT);
  rc_error_info info = rc_error_info_init();
  EXPECT(p_rc_error_last(&info) == RC_OK);
  EXPECT(b_error_last(&info) == RC_PASS); /* the failure belongs to the other copy */
  __typeof__(&rc_context_release) a_release =
      (__typeof__(&rc_context_release))dlsym(a, "rc_context_release");
  __typeof__(&rc_context_release) b_release =
      (__typeof__(&rc_context_release))dlsym(b, "rc_context_release");
  a_release(in_a);
  b_release(in_b);
}

static void* fail_in_thread(void* library) {
  FROM(library, rc_context_create);
  FROM(library, rc_error_last);
  rc_context* none = NULL;
  EXPECT(p_rc_context_create(NULL, &none) == RC_E_ARGUMENT);
  rc_error_info info = rc_error_info_init();
  EXPECT(p_rc_error_last(&info) == RC_OK && info.code == RC_E_ARGUMENT);
  dlclose(library); /* this thread's record is destroyed after this */
  return NULL;
}

/* A thread that has seen an error ends after dlclose; its record does not reach other threads. */
static void thread_end_after_close(const char* path) {
  void* library = load(path, RTLD_NOW | RTLD_LOCAL);
  FROM(library, rc_error_last);
  pthread_t thread;
  EXPECT(pthread_create(&thread, NULL, fail_in_thread, library) == 0);
  EXPECT(pthread_join(thread, NULL) == 0);
  rc_error_info info = rc_error_info_init();
  EXPECT(p_rc_error_last(&info) == RC_PASS && info.code == RC_OK && info.message[0] == '\0');
}

/* Without a GPU driver everything loads, says so, and refuses a CUDA context with a reason. */
static void no_driver(const char* path) {
  setenv("CUDA_VISIBLE_DEVICES", "", 1);
  void* library = load(path, RTLD_NOW | RTLD_LOCAL);
  FROM(library, rc_has_feature);
  FROM(library, rc_context_create);
  FROM(library, rc_error_last);
  rc_context_desc desc = rc_context_desc_init();
  rc_context* context = NULL;
  desc.device = RC_DEVICE_CUDA;
  if (p_rc_has_feature(RC_FEATURE_CUDA) == 0) {
    rc_error_info info = rc_error_info_init();
    EXPECT(p_rc_context_create(&desc, &context) == RC_E_UNSUPPORTED);
    EXPECT(context == NULL);
    EXPECT(p_rc_error_last(&info) == RC_OK && info.message[0] != '\0');
  }
  for (int feature = -1; feature < 100; ++feature) {
    const int32_t has = p_rc_has_feature((rc_feature)feature);
    EXPECT(has == 0 || has == 1);
  }
  FROM(library, rc_context_release);
  p_rc_context_release(make_context(library));
}

int main(int argc, char** argv) {
  if (argc < 4) return 2;
  const char *name = argv[1], *path = argv[2];
  if (strcmp(name, "modes") == 0)
    modes(path, argv[3]);
  else if (strcmp(name, "twice") == 0)
    twice(path);
  else if (strcmp(name, "deleter_after_close") == 0)
    deleter_after_close(path);
  else if (strcmp(name, "two_copies") == 0)
    two_copies(path);
  else if (strcmp(name, "thread_end_after_close") == 0)
    thread_end_after_close(path);
  else if (strcmp(name, "no_driver") == 0)
    no_driver(path);
  else
    return 2;
  printf("%s: %d expectations failed\n", name, failures);
  return failures;
}
