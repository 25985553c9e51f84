/* rcore/rcore.h: the whole C ABI of rcore, which owns the activation memory of transformer
 * training.
 *
 * Language floor: C99 or C++11; 64-bit targets. No include beyond the two below: complete
 * `rc_tensor` with <dlpack/dlpack.h> 1.0 or newer if you exchange DLPack tensors, or use
 * rc_tensor_wrap and rc_tensor_view and never see that header.
 *
 * A region is one run of a module for one microbatch:
 *
 *   begin -> save/alloc/link -> end -> [discard] -> [prefetch] -> rc_backward_replay -> release
 *   OPEN                        SEALED  EMPTY                     READY: view, restore
 *
 * The host marks its modules once and calls the same functions under every policy; what a policy
 * makes of the marks (keep, recompute, discard, group layers into chunks) is the library's work.
 *
 * Rules that hold for every function, unless its own comment says otherwise:
 *
 *   errors       rc_status: 0 done, > 0 done with a note, < 0 failed and nothing changed. A failure
 *                fills this thread's record (rc_error_last); out-parameters are NULL or zero then
 *                and nothing needs cleaning. RC_E_ARGUMENT, RC_E_VERSION, RC_E_HANDLE and
 *                RC_E_FORKED can come from every function that takes such an argument and are not
 *                repeated below; "Errors" lists the others to expect.
 *   exceptions   none crosses this boundary in either direction; callbacks must not throw.
 *   output       the library never prints, never exits, reads no environment variable.
 *   threads      every function may be called from any thread at any time, also two at once on one
 *                handle. Callbacks run on the calling thread with no library lock held.
 *   streams      a function that takes an rc_stream orders its work on that stream and does not
 *                block the host. On the CPU device the only stream is NULL, and work is complete
 *                when the call returns.
 *   capture      legal while the stream is being captured into a graph, but for "Capture: no".
 *   NULL region  every rc_region_* function accepts it and returns RC_PASS: hosts need no branch.
 *   ownership    inputs are borrowed for the call, strings are copied.
 *   since        0.1 for everything here. Until 1.0 is declared the ABI may change; CHANGELOG.md
 *                beside this file lists each change. */
#ifndef RCORE_RCORE_H
#define RCORE_RCORE_H
#include <stddef.h>
#include <stdint.h>

/* ---- version --------------------------------------------------------------------------------- */

/* major * 10^6 + minor * 10^3 + patch, as a literal so that binding generators see it. */
#define RC_HEADER_VERSION 1000u
/* The oldest library this consumer must run on. Define it before the include to be refused newer
 * declarations. */
#ifndef RC_TARGET_VERSION
#define RC_TARGET_VERSION 1000u
#endif

/* ---- decoration ------------------------------------------------------------------------------ */

#if defined(_WIN32)
#define RC_CALL __cdecl
#define RC_EXPORT
#define RC_NODISCARD
#else
#define RC_CALL
#define RC_EXPORT __attribute__((visibility("default")))
#define RC_NODISCARD __attribute__((warn_unused_result))
#endif
#if defined(__cplusplus)
#define RC_NOEXCEPT noexcept
#define RC_ZERO_INIT \
  {                  \
  }
extern "C" {
#else
#define RC_NOEXCEPT
#define RC_ZERO_INIT {0}
#endif
/* RC_FN: can fail, the status must be looked at. RC_VOID_FN: cannot fail, accepts NULL. */
#define RC_FN RC_EXPORT RC_NODISCARD rc_status RC_CALL
#define RC_VOID_FN RC_EXPORT void RC_CALL

/* ---- handles --------------------------------------------------------------------------------- */

/* The only tensor object on the boundary: DLPack's versioned managed tensor. Import rules: a major
 * version other than 1 is refused (only its deleter is ever called); NULL strides mean row-major;
 * byte_offset is honoured; no alignment is assumed. Deleters are called from any thread, never with
 * a lock held. */
struct DLManagedTensorVersioned;
typedef struct DLManagedTensorVersioned rc_tensor;

typedef struct rc_context rc_context; /* one per process and device: storage, streams, statistics */
typedef struct rc_policy
    rc_policy;                  /* an immutable table (site, slot) -> decision; share it freely */
typedef struct rc_plan rc_plan; /* an answer of the planner: a policy, its figures, its proof */
typedef struct rc_module
    rc_module; /* a registered submodule: kind, layer, slots, how to replay it */
typedef struct rc_region rc_region;         /* one run of a module for one microbatch */
typedef struct rc_step rc_step;             /* the scope of one training step */
typedef struct rc_comm rc_comm;             /* a named group of processes */
typedef struct rc_fence rc_fence;           /* completion of work that no stream orders */
typedef struct rc_native_stream* rc_stream; /* (rc_stream)cudaStream_t; NULL on the CPU device */
typedef void(RC_CALL* rc_proc)(void);
/* Flag constants are typed objects, not macros: binding generators drop 64-bit macros. */
typedef uint64_t rc_flags;

/* ---- status ---------------------------------------------------------------------------------- */

typedef enum rc_status {
  RC_OK = 0,
  RC_PASS = 1,    /* nothing to do here; any out handle is NULL */
  RC_PENDING = 2, /* accepted, completes later */
  RC_MOVED = 3,   /* done, but a refilled slot is at another address than before its discard */
  RC_E_ARGUMENT = -1,
  RC_E_VERSION = -2, /* a struct carries bytes, or an extension, that this library cannot honour */
  RC_E_HANDLE = -3,  /* NULL, or of another context */
  RC_E_STATE = -4,   /* not legal in the object's state; the message names both */
  RC_E_MEMORY = -5,
  RC_E_BUDGET = -6, /* a byte cap (rc_step_desc.cap_bytes) would be passed; no plan fits a budget */
  RC_E_UNSUPPORTED = -7,
  RC_E_DEVICE = -8, /* sticky for the context; native_code has the device's code */
  RC_E_COMM = -9,
  RC_E_CAPTURE = -10,  /* not legal while this stream is capturing */
  RC_E_MISMATCH = -11, /* verify mode: replay gave other bytes than the forward */
  RC_E_FORKED = -12,   /* the context was made in the parent of this process */
  RC_E_INTERNAL = -13,
  RC_E_HOST = -1000, /* this and below belong to the host's callbacks and pass through unchanged */
  RC_STATUS_FORCE32 = 0x7fffffff
} rc_status;

/* ---- extensible structs ---------------------------------------------------------------------- */

/* struct_size is the caller's sizeof. A shorter struct is zero-filled, a longer one is accepted
 * only if every byte unknown to the library is zero (else RC_E_VERSION). Zero always means
 * "default". `next` chains optional extension structs; none exists yet, so a non-NULL value is
 * RC_E_VERSION. Always start from the T_init() function beside T. */

typedef enum rc_type {
  RC_TYPE_ERROR_INFO = 1,
  RC_TYPE_ALLOC_REQUEST = 2,
  RC_TYPE_ALLOCATOR = 3,
  RC_TYPE_SINK = 4,
  RC_TYPE_TRACE_EVENT = 5,
  RC_TYPE_PARALLEL = 6,
  RC_TYPE_TENSOR_SPEC = 7,
  RC_TYPE_CONTEXT_DESC = 8,
  RC_TYPE_KIND_DESC = 9,
  RC_TYPE_POLICY_RULE = 10,
  RC_TYPE_POLICY_DESC = 11,
  RC_TYPE_SITE = 12,
  RC_TYPE_DECISION = 13,
  RC_TYPE_NOTE = 14,
  RC_TYPE_SIDE_STATE = 15,
  RC_TYPE_SLOT_DESC = 16,
  RC_TYPE_REPLAY_ARGS = 17,
  RC_TYPE_SLOT_ARGS = 18,
  RC_TYPE_MODULE_OPS = 19,
  RC_TYPE_KERNEL_DESC = 20,
  RC_TYPE_MODULE_DESC = 21,
  RC_TYPE_COMM_OPS = 22,
  RC_TYPE_COMM_DESC = 23,
  RC_TYPE_STEP_DESC = 24,
  RC_TYPE_STEP_REPORT = 25,
  RC_TYPE_REGION_DESC = 26,
  RC_TYPE_REGION_KEY = 27,
  RC_TYPE_REGION_INFO = 28,
  RC_TYPE_SAVE = 29,
  RC_TYPE_RNG = 30,
  RC_TYPE_STATS = 31,
  RC_TYPE_PREDICTION = 32,
  RC_TYPE_SLOT_INFO = 33,
  RC_TYPE_PLAN_BUDGET = 34,
  RC_TYPE_FORCE32 = 0x7fffffff /* experimental types start at 0x40000000 */
} rc_type;

typedef struct rc_head {
  uint32_t struct_size;
  rc_type struct_type;
  const struct rc_head* next;
} rc_head;

/* Inline, so that struct_size is the caller's own sizeof. */
#define RC_DEFINE_INIT(T, TAG)                \
  static inline T T##_init(void) {            \
    T v = RC_ZERO_INIT;                       \
    v.head.struct_size = (uint32_t)sizeof(T); \
    v.head.struct_type = TAG;                 \
    return v;                                 \
  }

/* ---- errors ---------------------------------------------------------------------------------- */

typedef enum rc_domain {
  RC_DOMAIN_NONE = 0,
  RC_DOMAIN_CUDA = 1,
  RC_DOMAIN_NCCL = 2,
  RC_DOMAIN_ERRNO = 3,
  RC_DOMAIN_HOST = 4,
  RC_DOMAIN_FORCE32 = 0x7fffffff
} rc_domain;

typedef struct rc_error_info {
  rc_head head;
  rc_status code;
  rc_domain native_domain;
  int64_t native_code;
  uint64_t region_id; /* 0 where no region is to blame */
  char call[48];      /* the entry point that failed */
  char field[64];     /* "modules[2]", "items[0].view.shape", "/rules/3/kind", or empty */
  char message[512];  /* one line with the value and the limit, UTF-8, always terminated */
} rc_error_info;
RC_DEFINE_INIT(rc_error_info, RC_TYPE_ERROR_INFO)

/* The library's version, in the form of RC_HEADER_VERSION. Stable across all ABI versions. */
RC_EXPORT uint32_t RC_CALL rc_version(void) RC_NOEXCEPT;
/* "RC_OK", "RC_E_ARGUMENT", ...; "unknown" for a number that is none. Static string. */
RC_EXPORT const char* RC_CALL rc_status_name(rc_status status) RC_NOEXCEPT;
/* Copies this thread's last failure. RC_PASS and a zeroed record where this thread has had none. A
 * call that succeeds leaves the record as it is. */
RC_FN rc_error_last(rc_error_info* out) RC_NOEXCEPT;
/* For callbacks: sets the message that the enclosing rc_* call will report if the callback then
 * returns `code`. */
RC_VOID_FN rc_error_raise(rc_status code, const char* message) RC_NOEXCEPT;
/* The function of that name, or NULL. Experimental ones (`rcx_*_vN`) are reachable only here. */
RC_EXPORT rc_proc RC_CALL rc_get_proc(const char* name) RC_NOEXCEPT;

typedef enum rc_feature {
  RC_FEATURE_CUDA = 1,
  RC_FEATURE_NCCL = 2,
  RC_FEATURE_BLAS = 3,         /* a CPU BLAS is behind the up-projection kernel */
  RC_FEATURE_PAGE_PARKING = 4, /* dynamic discard keeps the address (mremap with DONTUNMAP) */
  RC_FEATURE_HOST_TIER = 5,    /* slots can be moved to host memory */
  RC_FEATURE_SPLIT = 6,        /* slots can be split over a group */
  RC_FEATURE_FORCE32 = 0x7fffffff
} rc_feature;
/* 1 if this build, on this machine, has the feature. */
RC_EXPORT int32_t RC_CALL rc_has_feature(rc_feature feature) RC_NOEXCEPT;

/* ---- host hooks ------------------------------------------------------------------------------ */

/* Every vtable is {head, user_data, destroy, functions...}. The library copies the table, and
 * calls destroy(user_data) exactly once, after the last call of any other entry; not at all if the
 * function that took the table failed. */

typedef enum rc_memory {
  RC_MEMORY_DEVICE = 0,
  RC_MEMORY_HOST = 1,
  RC_MEMORY_HOST_PINNED = 2,
  RC_MEMORY_FORCE32 = 0x7fffffff
} rc_memory;

typedef struct rc_alloc_request {
  rc_head head;
  uint64_t bytes;     /* > 0 */
  uint64_t alignment; /* a power of two, at least 256 */
  rc_memory memory;
  int32_t device_id;
  rc_stream stream; /* the block becomes usable, or free, in the order of this stream */
} rc_alloc_request;
RC_DEFINE_INIT(rc_alloc_request, RC_TYPE_ALLOC_REQUEST)

/* The host's memory allocator. `free` gets the request that `alloc` got (its stream may differ).
 * `alloc` may fail with any negative status; the failure reaches the caller of the rc_* function as
 * it is. Page parking is off for blocks of a host allocator: their pages are not ours to move. */
typedef struct rc_allocator {
  rc_head head;
  void* user_data;
  void(RC_CALL* destroy)(void* user_data); /* optional */
  rc_status(RC_CALL* alloc)(void* user_data, const rc_alloc_request* request, void** out);
  void(RC_CALL* free)(void* user_data, const rc_alloc_request* request, void* pointer);
} rc_allocator;
RC_DEFINE_INIT(rc_allocator, RC_TYPE_ALLOCATOR)

/* The host's parallel-for. `run` calls task(argument, i) for each 0 <= i < n, on any threads, and
 * returns when all are done. Results of built-in kernels do not depend on it. */
typedef struct rc_parallel {
  rc_head head;
  void* user_data;
  void(RC_CALL* destroy)(void* user_data); /* optional */
  void(RC_CALL* run)(void* user_data, int64_t n, void(RC_CALL* task)(void* argument, int64_t index),
                     void* argument);
  int32_t width; /* how many tasks can run at once, at least 1 */
  uint32_t reserved0;
} rc_parallel;
RC_DEFINE_INIT(rc_parallel, RC_TYPE_PARALLEL)

typedef enum rc_level {
  RC_LEVEL_ERROR = 0,
  RC_LEVEL_WARN = 1,
  RC_LEVEL_INFO = 2,
  RC_LEVEL_DEBUG = 3,
  RC_LEVEL_FORCE32 = 0x7fffffff
} rc_level;

typedef enum rc_event {
  RC_EVENT_BEGIN = 1,
  RC_EVENT_SAVE = 2,
  RC_EVENT_ALLOC = 3,
  RC_EVENT_END = 4,
  RC_EVENT_DISCARD = 5,
  RC_EVENT_REPLAY = 6,
  RC_EVENT_DONE = 7,
  RC_EVENT_RELEASE = 8,
  RC_EVENT_CANCEL = 9,
  RC_EVENT_STEP_BEGIN = 10,
  RC_EVENT_STEP_END = 11,
  RC_EVENT_FORCE32 = 0x7fffffff
} rc_event;

/* One thing that happened, told after it did. `live_bytes` is what the core holds on the device at
 * that moment, exact. */
typedef struct rc_trace_event {
  rc_head head;
  rc_event event;
  uint32_t layer;
  uint32_t chunk;
  uint32_t microbatch;
  uint64_t region_id;
  uint64_t bytes; /* concerned by this event: saved, allocated, freed or regenerated */
  uint64_t live_bytes;
  uint64_t begin_ns; /* CLOCK_MONOTONIC */
  uint64_t end_ns;
  const char* kind; /* valid during the call only, like module_name */
  const char* module_name;
  rc_stream stream;
} rc_trace_event;
RC_DEFINE_INIT(rc_trace_event, RC_TYPE_TRACE_EVENT)

/* Where log lines and trace events go; no sink means silence. Called with no lock held; may call
 * rc_* functions that only query. */
typedef struct rc_sink {
  rc_head head;
  void* user_data;
  void(RC_CALL* destroy)(void* user_data); /* optional */
  void(RC_CALL* log)(void* user_data, rc_level level, const char* where,
                     const char* text);                               /* optional */
  void(RC_CALL* trace)(void* user_data, const rc_trace_event* event); /* optional */
  rc_flags trace_mask; /* bit n lets rc_event n through; 0 = none */
  rc_level max_level;
  uint32_t reserved0;
} rc_sink;
RC_DEFINE_INIT(rc_sink, RC_TYPE_SINK)

/* ---- tensors --------------------------------------------------------------------------------- */

typedef enum rc_device {
  RC_DEVICE_CPU = 0,
  RC_DEVICE_CUDA = 1,
  RC_DEVICE_FORCE32 = 0x7fffffff
} rc_device;

/* A view of memory: what a DLTensor says, without its header. dtype_code and dtype_bits as in
 * DLDataType (0 int, 1 unsigned, 2 float, 4 bfloat, 6 bool); lanes 0 reads as 1. Strides in
 * elements, NULL = row-major. Where the library fills one in, shape and strides point into the
 * library and stay valid as long as `data` does. */
typedef struct rc_tensor_spec {
  rc_head head;
  void* data;
  uint8_t dtype_code;
  uint8_t dtype_bits;
  uint16_t dtype_lanes;
  int32_t ndim; /* 0 to 32 */
  const int64_t* shape;
  const int64_t* strides;
  rc_device device;
  int32_t device_id;
  uint64_t bytes; /* out: of the elements, sub-byte types rounded up; in: ignored */
} rc_tensor_spec;
RC_DEFINE_INIT(rc_tensor_spec, RC_TYPE_TENSOR_SPEC)

/* Wraps host memory as a tensor, so that a program can hand it over without dlpack.h.
 * `release(user_data)` (optional) runs once, when the last holder lets go. The shape is copied. */
RC_FN rc_tensor_wrap(const rc_tensor_spec* spec, void(RC_CALL* release)(void* user_data),
                     void* user_data, rc_tensor** out) RC_NOEXCEPT;
/* Reads a tensor into a spec, without a copy; valid while `tensor` lives. byte_offset is already
 * added to `data`. */
RC_FN rc_tensor_view(const rc_tensor* tensor, rc_tensor_spec* out) RC_NOEXCEPT;
/* Calls the tensor's deleter. */
RC_VOID_FN rc_tensor_release(rc_tensor* tensor) RC_NOEXCEPT;

/* ---- fences: work that no stream orders ------------------------------------------------------ */

/* A fence the host signals (a gloo work item, a disk read, an XLA future). Counted: `out` has one
 * count. */
RC_FN rc_fence_create(rc_context* context, rc_fence** out) RC_NOEXCEPT;
/* Completes the fence, once, with RC_OK or a negative status that its waiters get. Errors:
 * RC_E_STATE the second time. */
RC_FN rc_fence_signal(rc_fence* fence, rc_status result) RC_NOEXCEPT;
/* RC_PENDING, or the result. Never blocks. */
RC_FN rc_fence_test(rc_fence* fence) RC_NOEXCEPT;
/* Blocks until the fence is signalled or `timeout_ns` has passed (RC_PENDING); UINT64_MAX = for
 * ever. */
RC_FN rc_fence_wait(rc_fence* fence, uint64_t timeout_ns) RC_NOEXCEPT;
/* Calls `done(user_data, result)` once: now if the fence is signalled, else in the signalling
 * thread. A fence that is released unsignalled signals RC_E_STATE first, so `done` always runs. */
RC_FN rc_fence_on_done(rc_fence* fence, void(RC_CALL* done)(void* user_data, rc_status result),
                       void* user_data) RC_NOEXCEPT;
RC_VOID_FN rc_fence_release(rc_fence* fence) RC_NOEXCEPT;

/* ---- context --------------------------------------------------------------------------------- */

/* Never plan a static arena: every block is dynamic. */
static const rc_flags RC_CONTEXT_NO_ARENA = 0x01;
/* Digest what is dropped and compare after replay; a difference fails the replay with
 * RC_E_MISMATCH. */
static const rc_flags RC_CONTEXT_VERIFY = 0x02;
/* Hand out a region at every site, also where RC_REGION_MAY_PASS would let the library pass. */
static const rc_flags RC_CONTEXT_PROFILE = 0x04;

typedef struct rc_context_desc {
  rc_head head;
  uint32_t target_version; /* filled by rc_context_desc_init */
  rc_device device;
  int32_t device_id;
  int32_t n_threads; /* of built-in kernels, the caller included; 0 = 1; ignored with `parallel` */
  const rc_allocator*
      allocator; /* NULL = the library's own, on the CPU device mmap and parked pages */
  const rc_sink* sink;
  const rc_parallel* parallel; /* NULL = the context's own n_threads - 1 workers */
  uint64_t rng_seed;           /* of the Philox stream that rc_region_rng hands out */
  uint64_t park_bytes_min;     /* smallest block whose pages are parked on discard; 0 = the measured
                                  default */
  rc_flags flags;
} rc_context_desc;
static inline rc_context_desc rc_context_desc_init(void) {
  rc_context_desc v = RC_ZERO_INIT;
  v.head.struct_size = (uint32_t)sizeof(rc_context_desc);
  v.head.struct_type = RC_TYPE_CONTEXT_DESC;
  v.target_version = RC_TARGET_VERSION;
  return v;
}

/* Errors: RC_E_VERSION where target_version is newer than the library; RC_E_UNSUPPORTED for a
 * device this build lacks. */
RC_FN rc_context_create(const rc_context_desc* desc, rc_context** out) RC_NOEXCEPT;
/* Gives the policy to the context, for regions begun from now on; live regions keep the decisions
 * they have. Adds a count to the policy; NULL = keep everything. The static arena is planned anew
 * from the next step. Errors: RC_E_UNSUPPORTED names what the context lacks (a tier, a communicator
 * group, a codec) and the rule that asks for it. Capture: no. */
RC_FN rc_context_configure(rc_context* context, rc_policy* policy) RC_NOEXCEPT;
/* Non-blocking: runs deleters that have come due, and returns asynchronous device errors. */
RC_FN rc_context_poll(rc_context* context) RC_NOEXCEPT;
/* Blocks the host until nothing is in flight. Capture: no. */
RC_FN rc_context_drain(rc_context* context) RC_NOEXCEPT;
/* Drops the host's count. Live regions, modules, steps and exported tensors keep the core alive
 * behind it. */
RC_VOID_FN rc_context_release(rc_context* context) RC_NOEXCEPT;

/* ---- policy ---------------------------------------------------------------------------------- */

/* `none`, `selective`, `full` + `uniform`, `full` + `block`, explicit rules and a JSON file are
 * ways to write the same table. Creation is pure: it depends on nothing that is built or present.
 * The semantics are Megatron-Core's; POLICY_RULES.md beside this file lists each of its validation
 * rules as same, relaxed or not applicable. */

typedef enum rc_granularity {
  RC_GRANULARITY_NONE = 0,
  RC_GRANULARITY_SELECTIVE = 1, /* named submodules, in all layers */
  RC_GRANULARITY_FULL = 2,      /* whole layers */
  RC_GRANULARITY_FORCE32 = 0x7fffffff
} rc_granularity;

typedef enum rc_method {
  RC_METHOD_UNSET = 0,
  RC_METHOD_UNIFORM = 1, /* chunks of recompute_num_layers layers, the last one clamped */
  RC_METHOD_BLOCK = 2, /* the first recompute_num_layers layers of each virtual stage, one by one */
  RC_METHOD_FORCE32 = 0x7fffffff
} rc_method;

typedef enum rc_fp8 {
  RC_FP8_OFF = 0,
  RC_FP8_DELAYED = 1,
  RC_FP8_TENSORWISE = 2,
  RC_FP8_BLOCKWISE = 3,
  RC_FP8_MXFP8 = 4,
  RC_FP8_FORCE32 = 0x7fffffff
} rc_fp8;

typedef enum rc_graph {
  RC_GRAPH_NONE = 0,
  RC_GRAPH_LOCAL = 1,              /* per-layer graphs captured by the trainer */
  RC_GRAPH_TRANSFORMER_ENGINE = 2, /* per-layer graphs captured by TE */
  RC_GRAPH_FULL_ITERATION = 3,
  RC_GRAPH_FORCE32 = 0x7fffffff
} rc_graph;

/* What per-layer graphs capture (rc_policy_desc.graph_scopes); 0 = the whole layer. */
static const rc_flags RC_GRAPH_SCOPE_ATTN = 0x01;
static const rc_flags RC_GRAPH_SCOPE_MLP = 0x02;
static const rc_flags RC_GRAPH_SCOPE_MOE = 0x04;
static const rc_flags RC_GRAPH_SCOPE_MOE_ROUTER = 0x08;
static const rc_flags RC_GRAPH_SCOPE_MOE_PREPROCESS = 0x10;

/* A kind that the host brings. Built in, normal: core_attn, mlp, moe, shared_experts, layer, and
 * Megatron's offload names qkv_linear, attn_proj, expert_fc1, fused_group_mlp. Built in,
 * output-discarding: layernorm, moe_act, mla_up_proj, gdn_norm_out, gdp_in_proj, gdp_qkv, mhc, and
 * attn_norm and mlp_norm, which belong to the family layernorm: what a policy says about layernorm
 * holds for them too. */
static const rc_flags RC_KIND_DISCARDS_OUTPUT = 0x01;
typedef struct rc_kind_desc {
  rc_head head;
  const char* name; /* [a-z0-9_]+, at most 47 bytes */
  rc_flags flags;
} rc_kind_desc;
RC_DEFINE_INIT(rc_kind_desc, RC_TYPE_KIND_DESC)

typedef enum rc_action {
  RC_ACTION_KEEP = 0,
  RC_ACTION_RECOMPUTE = 1,
  RC_ACTION_STORE = 2, /* in `tier`, split over `group`, through `codec` */
  RC_ACTION_FORCE32 = 0x7fffffff
} rc_action;

typedef enum rc_tier {
  RC_TIER_DEVICE = 0,
  RC_TIER_HOST = 1,
  RC_TIER_DISK = 2,
  RC_TIER_FORCE32 = 0x7fffffff
} rc_tier;

typedef enum rc_codec {
  RC_CODEC_NONE = 0, /* bit-exact; lossy codecs exist only by explicit request */
  RC_CODEC_FP8_E4M3 = 1,
  RC_CODEC_FP8_E5M2 = 2,
  RC_CODEC_FORCE32 = 0x7fffffff
} rc_codec;

/* What a slot is to its module. */
typedef enum rc_role {
  RC_ROLE_ANY = 0, /* in rules only */
  RC_ROLE_INPUT = 1,
  RC_ROLE_SAVED = 2, /* an intermediate that backward needs */
  RC_ROLE_OUTPUT = 3,
  RC_ROLE_PARAMETER = 4,
  RC_ROLE_DECISION = 5, /* a small tensor recorded once and handed back in replay, never dropped */
  RC_ROLE_FORCE32 = 0x7fffffff
} rc_role;

/* One line of an explicit table; the last rule that matches (site, slot) wins. PARAMETER and
 * DECISION slots are always kept. With RC_ROLE_ANY and no slot name an action means what it can
 * mean for the kind:
 *
 *   KEEP       every slot
 *   STORE      what the module saves: INPUT and SAVED
 *   RECOMPUTE  SAVED; also OUTPUT where the kind discards its output; kind `layer`: SAVED and
 *              OUTPUT of each layer, in recompute units of group_layers layers counted from the
 *              first layer of the rule in each virtual stage
 *
 * The INPUT of the first layer of a unit follows the table (kept, or stored by a later rule or an
 * offload); the INPUTs of the other layers of a unit are always recomputed, by the layer before.
 * Other INPUTs cannot be recomputed. */
static const rc_flags RC_RULE_CHUNK = 0x01;      /* `chunk` is a condition */
static const rc_flags RC_RULE_MICROBATCH = 0x02; /* so are first_microbatch and n_microbatches */
typedef struct rc_policy_rule {
  rc_head head;
  const char* kind; /* a declared kind; NULL = every kind */
  const char* slot; /* a slot's name; NULL = every slot of `role` */
  rc_role role;
  uint32_t first_layer;
  uint32_t n_layers; /* 0 = to the last */
  uint32_t chunk;
  uint32_t first_microbatch;
  uint32_t n_microbatches; /* 0 = to the last */
  rc_flags flags;
  rc_action action;
  rc_tier tier;
  rc_codec codec;
  uint32_t group_layers; /* kind `layer` with RECOMPUTE: layers per recompute unit; 0 = 1 */
  const char* group;     /* communicator group to split over; NULL = not split */
} rc_policy_rule;
RC_DEFINE_INIT(rc_policy_rule, RC_TYPE_POLICY_RULE)

static const rc_flags RC_POLICY_DISTRIBUTE_SAVED = 0x01; /* distribute_saved_activations */
static const rc_flags RC_POLICY_SEQUENCE_PARALLEL = 0x02;
static const rc_flags RC_POLICY_MOE_GROUPED_GEMM = 0x04;
static const rc_flags RC_POLICY_MULTI_LATENT_ATTENTION = 0x08;
static const rc_flags RC_POLICY_MOE_SHARED_EXPERT_OVERLAP = 0x10;
static const rc_flags RC_POLICY_OVERLAP_MOE_EXPERT_PARALLEL_COMM = 0x20;
static const rc_flags RC_POLICY_FUSED_ATTENTION = 0x40; /* the host's attention keeps no scores */
static const rc_flags RC_POLICY_FUSED_NORM = 0x80;      /* norms run inside the next linear */
static const rc_flags RC_POLICY_CPU_OFFLOADING = 0x100; /* layer-level: cpu_offloading_num_layers */
static const rc_flags RC_POLICY_FINE_GRAINED_OFFLOADING = 0x200; /* module-level: offload_modules */
static const rc_flags RC_POLICY_GATED_DELTA_NET = 0x400;
static const rc_flags RC_POLICY_HYPER_CONNECTIONS = 0x800; /* enable_mhc_connections */
static const rc_flags RC_POLICY_FEATURE_EXTRACTION = 0x1000;
static const rc_flags RC_POLICY_TE_OP_FUSER = 0x2000;
static const rc_flags RC_POLICY_PAGED_STASH = 0x4000;
/* Refuse what Megatron refuses, the relaxed rules too. */
static const rc_flags RC_POLICY_STRICT_MEGATRON = 0x8000;
/* Deprecated: selective, with `moe` added. */
static const rc_flags RC_POLICY_MOE_LAYER_RECOMPUTE = 0x10000;
/* The host's dropout and jitter draw from rc_region_rng. */
static const rc_flags RC_POLICY_COUNTER_RNG = 0x20000;
static const rc_flags RC_POLICY_GATED_DELTA_PRODUCT = 0x40000;
static const rc_flags RC_POLICY_MOE_ALLTOALL_DISPATCHER = 0x80000;
static const rc_flags RC_POLICY_MOE_LATENT = 0x100000;

/* Every input that a rule reads. Zero means "not set": sizes read as 1, recompute_num_layers as
 * absent.
 *
 * num_microbatches_with_partial_recompute = N (Megatron:
 * num_microbatches_with_partial_activation_checkpoints): with W = warm-up microbatches of this
 * pp_rank + 1, the most that are ever outstanding on it, the microbatch with index i follows this
 * policy where i % W < N and full recomputation layer by layer (uniform, 1) elsewhere:
 *
 *   1F1B                 i is the microbatch,
 *                        W = min(pp_size - pp_rank - 1, num_microbatches) + 1
 *   with virtual stages  i is the schedule's running number (groups of pp_size microbatches pass
 *                        chunk after chunk), W = min(2 (pp_size - pp_rank - 1) + (vpp_size - 1)
 *                        pp_size, num_microbatches vpp_size) + 1
 *
 * It needs num_microbatches and pp_size > 1. Explicit rules hold in both sorts of microbatches.
 *
 * Offloading concerns what would be kept: cpu_offloading the INPUT and SAVED slots of the first
 * cpu_offloading_num_layers layers of each virtual stage; fine-grained offloading the INPUT slots
 * of offload_modules, of the first activation_offload_fraction (rounded down) of the layers of each
 * virtual stage. What lies inside a layer that is recomputed as a whole is not offloaded; the
 * layer's own kept INPUT is. */
typedef struct rc_policy_desc {
  rc_head head;
  rc_granularity granularity;
  rc_method method;
  const char* const* recompute_modules; /* NULL = core_attn; non-NULL with n = 0 = none */
  uint32_t n_recompute_modules;
  uint32_t recompute_num_layers;
  uint32_t num_layers; /* of the model; required by full, rules with layers and pipelines */
  uint32_t num_layers_in_first_pipeline_stage; /* 0 = even */
  uint32_t num_layers_in_last_pipeline_stage;
  uint32_t pp_size;
  uint32_t pp_rank;
  uint32_t vpp_size;
  uint32_t tp_size;
  uint32_t tp_rank;
  uint32_t cp_size;
  uint32_t ep_size;
  uint32_t num_microbatches;
  uint32_t num_microbatches_with_partial_recompute; /* the first N of a window, by this policy */
  uint32_t mtp_num_layers;
  uint32_t mhc_recompute_layer_num;
  uint32_t cpu_offloading_num_layers;
  uint32_t n_offload_modules;
  const char* const* offload_modules;
  uint64_t min_offloaded_tensor_size; /* elements */
  double activation_offload_fraction; /* 0 reads as 1; below 1 needs num_layers */
  uint64_t offload_bytes_cap;         /* per rank; 0 = no cap */
  const uint8_t* moe_layers; /* num_layers bytes, 1 = mixture of experts; NULL = all dense */
  rc_fp8 fp8;
  rc_graph graph;
  rc_flags graph_scopes;
  double attention_dropout;
  double hidden_dropout;
  double moe_input_jitter_eps;
  const rc_kind_desc* kinds; /* what the host brings beyond the built-in ones */
  uint32_t n_kinds;
  uint32_t kind_stride;        /* sizeof(rc_kind_desc) of the caller */
  const rc_policy_rule* rules; /* after, and stronger than, what granularity writes */
  uint32_t n_rules;
  uint32_t rule_stride;
  rc_flags flags;
  /* Any other layout: stage c * pp_size + r is chunk c of rank r; NULL = num_layers spread evenly
   * but for the first and the last rank. */
  const uint32_t* layers_per_virtual_stage;
  uint32_t n_virtual_stages; /* pp_size * vpp_size, or 0 */
  uint32_t reserved0;
} rc_policy_desc;
RC_DEFINE_INIT(rc_policy_desc, RC_TYPE_POLICY_DESC)

typedef struct rc_site {
  rc_head head;
  const char* kind;
  uint32_t layer; /* global index */
  uint32_t chunk; /* virtual pipeline chunk */
  uint32_t microbatch;
  rc_role slot_role;
  const char* slot; /* name; NULL = any of that role */
} rc_site;
RC_DEFINE_INIT(rc_site, RC_TYPE_SITE)

typedef struct rc_decision {
  rc_head head;
  rc_action action;
  rc_tier tier;
  rc_codec codec;
  uint32_t first_layer; /* of the recompute unit that contains the site */
  uint32_t n_layers;
  int32_t rule; /* that decided: index of rules, then of what other settings write; -1 = none */
  char group[48];
} rc_decision;
RC_DEFINE_INIT(rc_decision, RC_TYPE_DECISION)

/* A finding that is no error: what a setting does not do although one may expect it. */
typedef struct rc_note {
  rc_head head;
  char field[64];
  char message[512];
} rc_note;
RC_DEFINE_INIT(rc_note, RC_TYPE_NOTE)

/* Checks every rule and writes the table. Errors: RC_E_ARGUMENT with the field, its value and the
 * limit. */
RC_FN rc_policy_create(const rc_policy_desc* desc, rc_policy** out) RC_NOEXCEPT;
/* The same from the JSON form (POLICY_JSON.md beside this file). A syntax error is reported with
 * its line and column, everything else with the JSON pointer of the offending value in
 * rc_error_info.field. `length` in bytes. */
RC_FN rc_policy_create_json(const char* text, uint64_t length, rc_policy** out) RC_NOEXCEPT;
/* What the table says for one slot at one site. */
RC_FN rc_policy_decide(const rc_policy* policy, const rc_site* site, rc_decision* out) RC_NOEXCEPT;
/* Writes the table as JSON (NUL-terminated, cut at `capacity`) and the length it needs, NUL
 * included. Feeding it to rc_policy_create_json gives the same table. `buffer` may be NULL when
 * capacity is 0. */
RC_FN rc_policy_describe(const rc_policy* policy, char* buffer, uint64_t capacity,
                         uint64_t* needed) RC_NOEXCEPT;
/* The index-th note; RC_PASS past the last. */
RC_FN rc_policy_note(const rc_policy* policy, uint32_t index, rc_note* out) RC_NOEXCEPT;
RC_VOID_FN rc_policy_release(rc_policy* policy) RC_NOEXCEPT;

/* ---- planning -------------------------------------------------------------------------------- */

/* From a model or measured tensors, a parallel layout, a device and a budget to the policy that
 * costs least and fits, with a proof. Pure: nothing here needs a context or a device. A request is
 * JSON (PLAN_JSON.md beside this file), as the answers are; errors carry the JSON pointer of the
 * value in rc_error_info.field.
 *
 * The memory model is an inventory of tensors: Korthikanti et al. (arXiv 2205.05198, equations 1 to
 * 6) for GPT to the byte, and grouped-query, gated, mixture-of-experts and latent-attention layers
 * (arXiv 2405.04434, 2603.07685) by the same rule: what backward reads is counted where it is made.
 * Microbatches in flight: min(m, p - s) for one forward, one backward; interleaved,
 * 2 (p - s - 1) + (v - 1) p + 1 chunks, which for s = 0 is Korthikanti's 1 + (p - 1) / (p v). */

/* Plans every rank. The plan is optimal for its cost model unless the certificate in its report
 * says otherwise (time_limit_seconds); then the report has the proven lower bound. Before it is
 * handed out a checker that shares no code with the solver adds every figure up again, and a
 * simulator runs it pass by pass to the same peak, cost and copies. Below what single layers need,
 * the plan has units of several layers that are run again from the input of the first ("units" in
 * the request forbids them). Errors: RC_E_BUDGET where a rank's budget is too small; the message
 * has the least that would do; RC_E_INTERNAL where checker or simulator differ. */
RC_FN rc_plan_create(const char* request, uint64_t length, rc_plan** out) RC_NOEXCEPT;
/* The plan as a policy of all ranks (set pp_rank in its JSON form where a rule needs it); adds a
 * count, which the caller gives back with rc_policy_release. */
RC_FN rc_plan_policy(const rc_plan* plan, rc_policy** out) RC_NOEXCEPT;
/* Per rank: decisions, freed bytes, cost, predicted peak, certificate. JSON, in the same calling
 * form as rc_policy_describe. */
RC_FN rc_plan_report(const rc_plan* plan, char* buffer, uint64_t capacity,
                     uint64_t* needed) RC_NOEXCEPT;
RC_VOID_FN rc_plan_release(rc_plan* plan) RC_NOEXCEPT;

/* How much a step may hold. */
typedef struct rc_plan_budget {
  rc_head head;
  uint64_t bytes;            /* most live_bytes of a step; or */
  double fraction;           /* instead: of what keeping everything takes, in (0, 1] */
  double time_limit_seconds; /* 0 = 10; then the best plan found so far */
} rc_plan_budget;
RC_DEFINE_INIT(rc_plan_budget, RC_TYPE_PLAN_BUDGET)

/* Plans from what the last step begun with RC_STEP_PROFILE measured: the policy of least replay
 * time whose step, as rc_predict has it, stays within the budget. It uses only what this context
 * can carry out, today recomputation: any set of kinds or slots layer by layer, and whole layers in
 * units of any length; Megatron's own settings are among its candidates, so that none that fits
 * costs less. The policy is the one the context has now without its recompute settings and rules,
 * plus the plan's rules. The report (PLAN_JSON.md, "The report of a measured plan") has the
 * predicted peak and time. Give the policy to the context for the steps that follow. Errors:
 * RC_E_STATE without a finished profiled step; RC_E_BUDGET where the budget is too small, the
 * message has the least that would do. */
RC_FN rc_plan_measured(rc_context* context, const rc_plan_budget* budget,
                       rc_plan** out) RC_NOEXCEPT;

/* The memory model alone: the saved tensors of each kind of layer, and what each rank holds. Same
 * request (no budget needed), same calling form. */
RC_FN rc_plan_inventory(const char* request, uint64_t length, char* buffer, uint64_t capacity,
                        uint64_t* needed) RC_NOEXCEPT;
/* What a policy of any origin saves and costs under the request's model and layout, rank by rank,
 * and its notes. Same calling form. */
RC_FN rc_plan_evaluate(const char* request, uint64_t length, const rc_policy* policy, char* buffer,
                       uint64_t capacity, uint64_t* needed) RC_NOEXCEPT;

/* ---- side state: host state that replay must see as the forward saw it ----------------------- */

/* RNG trackers, FP8 scales, autocast flags. `capture` runs in begin and makes a token; `swap`
 * installs a token before replay and returns a token of what was there (capture and swap may set
 * *out to NULL for "nothing"); after replay swap is called again with that one; `drop` ends each
 * token exactly once. If a swap fails, the states that were installed are still put back, every
 * token handed to a restoring swap counts as spent (and is dropped), and the replay fails with the
 * first failing status. */
typedef struct rc_side_state {
  rc_head head;
  void* user_data;
  void(RC_CALL* destroy)(void* user_data); /* optional */
  rc_status(RC_CALL* capture)(void* user_data, rc_context* context, rc_region* region,
                              void* region_data, rc_stream stream, void** token);
  rc_status(RC_CALL* swap)(void* user_data, rc_context* context, rc_region* region,
                           void* region_data, rc_stream stream, void* install, void** previous);
  void(RC_CALL* drop)(void* user_data, void* token); /* optional */
  rc_flags flags;
} rc_side_state;
RC_DEFINE_INIT(rc_side_state, RC_TYPE_SIDE_STATE)

/* ---- modules --------------------------------------------------------------------------------- */

static const rc_flags RC_SLOT_OPTIONAL = 0x01; /* may stay empty */
static const rc_flags RC_SLOT_NO_SPLIT = 0x02; /* never split over a group */
/* SAVED only: the host keeps the content itself, in no memory that the core knows. It is there from
 * begin on and after each replay, and missing where the policy drops it; it has no bytes, no view,
 * and is neither allocated nor saved. For hosts whose own graph holds what backward reads. */
static const rc_flags RC_SLOT_HOST = 0x04;
typedef struct rc_slot_desc {
  rc_head head;
  const char* name; /* unique in the module, [A-Za-z0-9_.]+, at most 47 bytes */
  rc_role role;
  uint32_t reserved0;
  rc_flags flags;
} rc_slot_desc;
RC_DEFINE_INIT(rc_slot_desc, RC_TYPE_SLOT_DESC)

/* What a replay callback gets; valid during the call only. It regenerates the `missing` slots and
 * no others, through rc_region_alloc (slots of the core) or into its own storage (slots of the
 * host). `missing` is advice in ascending order, rc_region_wants answers the same question. Begin
 * nested regions with rc_region_desc.parent = region.
 *
 * Threads of the host may do the callback's work. Until the replay has ended, a slot that it brings
 * back can be viewed, exported, restored and referred to by the thread that runs the callback, by
 * the one whose rc_region_alloc or rc_region_save gave it its memory, and through nested regions;
 * for all others it is missing (RC_E_STATE). A callback must not wait for a thread that asks for
 * the replay of its region, or of one that takes its input from it. */
typedef struct rc_replay_args {
  rc_head head;
  rc_context* context;
  rc_region* region;
  void* module_data; /* rc_module_ops.user_data */
  void* region_data; /* rc_region_desc.user_data */
  rc_stream stream;
  const uint32_t* missing;
  uint32_t n_missing;
  uint32_t reserved0;
} rc_replay_args;
RC_DEFINE_INIT(rc_replay_args, RC_TYPE_REPLAY_ARGS)

typedef struct rc_slot_args {
  rc_head head;
  rc_context* context;
  rc_region* region;
  void* module_data;
  void* region_data;
  rc_stream stream;
  uint32_t slot;
  uint32_t reserved0;
} rc_slot_args;
RC_DEFINE_INIT(rc_slot_args, RC_TYPE_SLOT_ARGS)

/* How the host replays a module. A callback may use every rc_* function, except that on the region
 * it is called for rc_backward_replay fails with RC_E_STATE, and cancel takes effect after the
 * callback. Where a replay fails, what it had filled counts as missing again, also where others
 * hold its memory (an exported tensor keeps what is in it; the next replay takes other memory). */
typedef struct rc_module_ops {
  rc_head head;
  void* user_data;
  void(RC_CALL* destroy)(void* user_data); /* optional */
  rc_status(RC_CALL* replay)(const rc_replay_args* args);
  /* For slots declared RC_OUTPUT_HOST: empty the host's storage, and make it writable again before
   * a replay. */
  rc_status(RC_CALL* drop)(const rc_slot_args* args);
  rc_status(RC_CALL* refill)(const rc_slot_args* args);
} rc_module_ops;
RC_DEFINE_INIT(rc_module_ops, RC_TYPE_MODULE_OPS)

/* Built-in kernels and their slots, in this order (R = rows, C = columns; a leading batch shape is
 * flattened to R). float32 or bfloat16, statistics float32. Sources of the formulas:
 * kernels/README.md. */
typedef enum rc_kernel {
  /* x[R,C] -> y[R,C], saved mean[R], rstd[R]; params gamma[C], beta[C] or none */
  RC_KERNEL_LAYERNORM = 1,
  RC_KERNEL_RMSNORM = 2,      /* x[R,C] -> y[R,C], saved rstd[R]; params gamma[C] */
  RC_KERNEL_GELU = 3,         /* x[R,C] -> y[R,C]; exact, or tanh with RC_KERNEL_TANH */
  RC_KERNEL_SWIGLU = 4,       /* x[R,2C] (gate, up) -> y[R,C] */
  RC_KERNEL_GEGLU = 5,        /* x[R,2C] (gate, up) -> y[R,C]; exact, or tanh with RC_KERNEL_TANH */
  RC_KERNEL_SQUARED_RELU = 6, /* x[R,C] -> y[R,C] */
  RC_KERNEL_DROPOUT = 7, /* x[R,C] -> y[R,C], Philox mask of the region's RNG record, zero bytes */
  RC_KERNEL_SOFTMAX = 8, /* x[R,C] -> y[R,C], along C */
  /* q[B,H,S,D], k[B,H,T,D], v[B,H,T,D] -> o[B,H,S,D], saved probs[B,H,S,T] */
  RC_KERNEL_CORE_ATTN = 9,
  RC_KERNEL_FUSED_ATTN = 10, /* the same -> o[B,H,S,D], saved lse[B,H,S] float32; no S x T memory */
  RC_KERNEL_UP_PROJ = 11,    /* x[R,C] -> y[R,N]; params w[N,C], bias[N] or none */
  RC_KERNEL_FORCE32 = 0x7fffffff
} rc_kernel;

static const rc_flags RC_KERNEL_CAUSAL = 0x01;
static const rc_flags RC_KERNEL_TANH = 0x02;
static const rc_flags RC_KERNEL_ZERO_CENTERED_GAMMA = 0x04; /* gamma is stored as gamma - 1 */
typedef struct rc_kernel_desc {
  rc_head head;
  rc_kernel kernel;
  uint32_t n_params;
  rc_tensor* const* params; /* consumed if rc_module_register succeeds */
  double epsilon;           /* 0 = 1e-5 */
  double scale;             /* attention: 0 = 1 / sqrt(D) */
  /* Probability in [0, 1), taken to the nearest 2^-16 (below 2^-17 nothing is dropped), at most
   * 65535 / 65536. Element i in row-major order (attention: of [B,H,S,T]) has the 16 bits i % 8 of
   * counter `offset` + i / 8 of its RNG record (rc_region_rng_record), the words' lower halves
   * first, words 2 and 3 of the counter being 0. It is zero where they are below 2^16 p, else
   * divided by 1 - p. n elements take ceil(n / 8) blocks. */
  double dropout;
  rc_flags flags;
} rc_kernel_desc;
RC_DEFINE_INIT(rc_kernel_desc, RC_TYPE_KERNEL_DESC)

typedef struct rc_module_desc {
  rc_head head;
  const char* kind; /* a built-in kind or one of the host's; the policy speaks about it */
  const char* name; /* for reports; NULL = kind */
  uint32_t layer;   /* global index */
  uint32_t n_slots; /* 0 with `kernel`: the kernel brings its own */
  const rc_slot_desc* slots;
  uint32_t slot_stride;
  uint32_t n_states;
  const rc_side_state* const* states;
  const rc_module_ops* ops; /* exactly one of ops and kernel */
  const rc_kernel_desc* kernel;
  rc_flags flags;
} rc_module_desc;
RC_DEFINE_INIT(rc_module_desc, RC_TYPE_MODULE_DESC)

/* Registers a submodule, once. Adds no count to anything; the module keeps the context alive.
 * Capture: no. */
RC_FN rc_module_register(rc_context* context, const rc_module_desc* desc,
                         rc_module** out) RC_NOEXCEPT;
/* Live regions keep the module. */
RC_VOID_FN rc_module_release(rc_module* module) RC_NOEXCEPT;

/* ---- communicator groups --------------------------------------------------------------------- */

typedef enum rc_backend {
  RC_BACKEND_HOST = 0,
  RC_BACKEND_NCCL = 1,
  RC_BACKEND_SELF = 2, /* a group of one */
  RC_BACKEND_FORCE32 = 0x7fffffff
} rc_backend;

typedef struct rc_comm_ops {
  rc_head head;
  void* user_data;
  void(RC_CALL* destroy)(void* user_data); /* optional */
  /* recv has size * bytes_per_rank bytes, in rank order. */
  rc_status(RC_CALL* all_gather)(void* user_data, const void* send, void* recv,
                                 uint64_t bytes_per_rank, rc_stream stream);
} rc_comm_ops;
RC_DEFINE_INIT(rc_comm_ops, RC_TYPE_COMM_OPS)

typedef struct rc_comm_desc {
  rc_head head;
  const char* name; /* what a decision's `group` names: "tp", ... ; at most 47 bytes */
  rc_backend backend;
  uint32_t rank;
  uint32_t size;
  uint32_t reserved0;
  void* native; /* borrowed ncclComm_t; must outlive the rc_comm */
  const rc_comm_ops* ops;
} rc_comm_desc;
RC_DEFINE_INIT(rc_comm_desc, RC_TYPE_COMM_DESC)

/* Any number of groups per context, names unique. Errors: RC_E_UNSUPPORTED for NCCL in a build
 * without it. */
RC_FN rc_comm_create(rc_context* context, const rc_comm_desc* desc, rc_comm** out) RC_NOEXCEPT;
RC_VOID_FN rc_comm_release(rc_comm* comm) RC_NOEXCEPT;

/* ---- steps ----------------------------------------------------------------------------------- */

typedef enum rc_phase {
  RC_PHASE_FORWARD = 0,
  RC_PHASE_REPLAY = 1,
  RC_PHASE_EVALUATION = 2, /* nothing is kept after `end`, and nothing can be replayed */
  RC_PHASE_FORCE32 = 0x7fffffff
} rc_phase;

/* Keep a log of the host's calls in this step, for rc_predict. */
static const rc_flags RC_STEP_LOG = 0x01;
/* RC_STEP_LOG, and measure what every replay takes, for rc_plan_measured: where backward asks for a
 * region (rc_backward_replay), the module's replay is run a few times more for what is there
 * already, through the same callback, over the same memory. Results stay as they are, bit by bit;
 * no other thread may read a region's slots meanwhile. Trials are no replays in any report, nor in
 * the trace; but what they begin, save and regenerate in nested regions counts, is traced, takes
 * part in the step's peak, and need not be replayed afterwards. The step runs outside the arena.
 * Run it under a policy that declares the host's kinds and, if memory allows, keeps everything. */
static const rc_flags RC_STEP_PROFILE = 0x02;
typedef struct rc_step_desc {
  rc_head head;
  uint64_t cap_bytes; /* most device bytes the step's regions may hold; 0 = no cap */
  rc_phase phase;     /* FORWARD or EVALUATION */
  uint32_t reserved0;
  rc_flags flags;
} rc_step_desc;
RC_DEFINE_INIT(rc_step_desc, RC_TYPE_STEP_DESC)

typedef struct rc_step_report {
  rc_head head;
  uint64_t regions_begun;
  uint64_t regions_purged; /* still unreleased at the end, and cancelled by it */
  uint64_t replays;        /* regions that were replayed */
  uint64_t peak_bytes;     /* highest live_bytes of the core in the step */
  uint64_t allocations;    /* calls to the allocator (not blocks of the arena) */
  uint64_t arena_bytes;    /* height of the arena this step ran in; 0 = dynamic */
  uint64_t arena_bound;    /* max over time of live bytes in that plan: its lower bound */
  uint64_t arena_misses;   /* blocks the arena had no place for */
} rc_step_report;
RC_DEFINE_INIT(rc_step_report, RC_TYPE_STEP_REPORT)

/* Opens a step. Several may be open; the first open training step owns the arena, others are
 * dynamic. The first step after rc_context_configure is recorded, the following ones run in the
 * arena planned from it; a step that asks for other blocks falls back to dynamic ones for these,
 * and the plan is made anew at its end. */
RC_FN rc_step_begin(rc_context* context, const rc_step_desc* desc, rc_step** out) RC_NOEXCEPT;
/* Closes the step: what is left of its regions is cancelled and counted. `report` may be NULL.
 * Consumes the handle. Errors: RC_E_STATE while a region of the step is being replayed (the step
 * stays open). Capture: no. */
RC_FN rc_step_end(rc_step* step, rc_stream stream, rc_step_report* report) RC_NOEXCEPT;

/* ---- regions --------------------------------------------------------------------------------- */

typedef enum rc_region_state {
  RC_REGION_OPEN = 1,
  RC_REGION_SEALED = 2, /* ended, nothing missing */
  RC_REGION_EMPTY = 3,  /* something that backward needs is missing */
  RC_REGION_READY = 4,  /* replayed */
  RC_REGION_CANCELLED = 5,
  RC_REGION_STATE_FORCE32 = 0x7fffffff
} rc_region_state;

/* begin may return RC_PASS and NULL if nothing at this site is recomputed, stored elsewhere or
 * profiled. Only for hosts that hold kept tensors themselves: it cannot hand out memory. */
static const rc_flags RC_REGION_MAY_PASS = 0x01;
/* Written by hand, not by a policy: begun inside the replay of its parent it recomputes again, as a
 * nested checkpoint call of an eager framework does, instead of keeping. */
static const rc_flags RC_REGION_EXPLICIT = 0x02;

typedef struct rc_region_desc {
  rc_head head;
  rc_module* module;
  rc_step* step;     /* NULL = the parent's, or none */
  rc_region* parent; /* the enclosing region, in forward and in replay; NULL = none */
  uint32_t chunk;    /* virtual pipeline chunk */
  uint32_t microbatch;
  uint32_t occurrence; /* of (module, chunk, microbatch) in the step, from 1; 0 = the next */
  uint32_t reserved0;
  rc_stream stream;
  void* user_data;                         /* handed to every callback of this region */
  void(RC_CALL* destroy)(void* user_data); /* optional; once, when the region is gone */
  rc_flags flags;
} rc_region_desc;
RC_DEFINE_INIT(rc_region_desc, RC_TYPE_REGION_DESC)

/* For hosts that cannot carry a handle through their graph. */
typedef struct rc_region_key {
  rc_head head;
  rc_step* step;
  rc_module* module;
  uint32_t chunk;
  uint32_t microbatch;
  uint32_t occurrence; /* 1-based; 0 = the latest */
  uint32_t reserved0;
} rc_region_key;
RC_DEFINE_INIT(rc_region_key, RC_TYPE_REGION_KEY)

/* Opens a region: captures side state, asks the policy. One count for the caller. On failure, and
 * with RC_PASS, `destroy` is not called. Where the parent will be recomputed as a whole, the slots
 * of this region live until `end` (outputs: until discard), because the parent's replay begins the
 * region anew; inside a replay they are kept, so nothing is replayed twice. */
RC_FN rc_region_begin(rc_context* context, const rc_region_desc* desc, rc_region** out) RC_NOEXCEPT;

/* One tensor to save. Exactly one of: `tensor` (owned: consumed), `view` (borrowed: copied in
 * stream order, or held without a copy where it is memory of another slot of this context),
 * `source` (slot `source_slot` of another region, without a copy). A slot that refers to a slot
 * which the policy discards does not hold it: replay refills it first. Two regions cannot refer to
 * each other, directly or through others: `source` is refused then, a `view` is copied. An owned
 * tensor's deleter runs when its last holder lets go, on the host and without waiting for streams:
 * in device memory it must free in stream order, as frameworks' allocators do, or wait itself. */
typedef struct rc_save {
  rc_head head;
  uint32_t slot;
  uint32_t source_slot;
  rc_tensor* tensor;
  const rc_tensor_spec* view;
  rc_region* source;
  rc_fence* fence; /* with `tensor`: its content is complete; borrowed while the region lives */
} rc_save;
RC_DEFINE_INIT(rc_save, RC_TYPE_SAVE)

/* Saves n tensors, all or none: a negative status consumes nothing. `stride` is the caller's
 * sizeof(rc_save). `views` (optional, n specs, all from rc_tensor_spec_init; their stride is
 * views[0].head.struct_size) receives pass-through views of what was saved: a compiled host must
 * let its forward consume these, or its scheduler may delay the save to just before the restore.
 * State: OPEN, or in replay. Errors: RC_E_STATE, RC_E_MEMORY, RC_E_BUDGET. */
RC_FN rc_region_save(rc_region* region, const rc_save* items, uint32_t n, uint32_t stride,
                     rc_stream stream, rc_tensor_spec* views) RC_NOEXCEPT;
/* Adds a slot that was not declared with the module, until `end`; numbered on from the declared
 * ones. */
RC_FN rc_region_slot_add(rc_region* region, const rc_slot_desc* desc, uint32_t* slot) RC_NOEXCEPT;
/* Memory of the core for a slot, of the dtype and shape in `spec` (its data is ignored), aligned to
 * 256 bytes. In replay RC_PASS with data NULL where the slot is not wanted, and the same address as
 * before where it is (RC_MOVED where that was impossible). State: OPEN, or in replay. Errors:
 * RC_E_STATE, RC_E_MEMORY, RC_E_BUDGET. */
RC_FN rc_region_alloc(rc_region* region, uint32_t slot, const rc_tensor_spec* spec,
                      rc_stream stream, rc_tensor_spec* out) RC_NOEXCEPT;

typedef enum rc_output_mode {
  RC_OUTPUT_KEEP = 0, /* the host's memory; the core leaves it alone */
  RC_OUTPUT_HOST = 1, /* the host's memory, emptied and refilled by the module's callbacks */
  RC_OUTPUT_MODE_FORCE32 = 0x7fffffff
} rc_output_mode;
/* Declares an output that lives in the host's memory. `view` says its dtype, shape and (for KEEP)
 * data. */
RC_FN rc_region_output(rc_region* region, uint32_t slot, rc_output_mode mode,
                       const rc_tensor_spec* view, rc_stream stream) RC_NOEXCEPT;
/* Runs the module's built-in kernel on the region's inputs, through the same code as its replay;
 * outputs and saved slots that have no memory yet get it. Errors: RC_E_STATE where an input is
 * missing; RC_E_UNSUPPORTED without a kernel. */
RC_FN rc_region_forward(rc_region* region, rc_stream stream) RC_NOEXCEPT;
/* Seals the region. Intermediates that the policy recomputes are dropped now: no forward work after
 * this call may read them. Outputs stay until rc_region_discard. */
RC_FN rc_region_end(rc_region* region, rc_stream stream) RC_NOEXCEPT;
/* Every forward reader of the outputs is enqueued on `stream`: outputs that the policy does not
 * keep are dropped, but for those that the replay of a region which refers to them has counted on
 * already. Call it always; it does nothing where the policy keeps. Idempotent. Errors: RC_E_STATE
 * while OPEN. */
RC_FN rc_region_discard(rc_region* region, rc_stream stream) RC_NOEXCEPT;
/* Optional: starts copy-back and gather early. Idempotent; RC_PASS where nothing is to fetch. */
RC_FN rc_region_prefetch(rc_region* region, rc_stream stream) RC_NOEXCEPT;

/* Makes every slot of n regions available: fetches inputs, replays first the regions whose
 * discarded outputs these need, installs side state, runs each module for the slots that are
 * missing and no more, restores side state, verifies if asked. Regions in forward order; NULL
 * entries are skipped. Idempotent: a READY or SEALED region costs nothing. If region k fails, the
 * earlier ones are READY, k is EMPTY and can be retried or cancelled, the later ones are untouched,
 * and the record names k's id. Two threads that replay one region run it once, the second waits for
 * the result. Errors: those of the callback, RC_E_MISMATCH (message: module, layer, slot),
 * RC_E_STATE (OPEN, CANCELLED, re-entry or a cycle of waits), RC_E_MEMORY. Capture: if the
 * callback's work and the side states allow it. */
RC_FN rc_backward_replay(rc_region* const* regions, uint32_t n, rc_stream stream) RC_NOEXCEPT;

/* The slot's memory, in the order of `stream`; valid until the slot is done, dropped or the region
 * is released. Errors: RC_E_STATE where it is missing (replay first), is being brought back by a
 * replay on another thread (replay too: that waits), never had content, or is the host's at an
 * address the core was not told. */
RC_FN rc_region_view(rc_region* region, uint32_t slot, rc_stream stream,
                     rc_tensor_spec* out) RC_NOEXCEPT;
/* The same as a tensor the caller owns, for another framework; its memory outlives the region, and
 * the slot counts as kept from then on. */
RC_FN rc_region_tensor(rc_region* region, uint32_t slot, rc_stream stream,
                       rc_tensor** out) RC_NOEXCEPT;
/* Copies the slot into a buffer of the host, of the same dtype and shape. */
RC_FN rc_region_restore(rc_region* region, uint32_t slot, rc_stream stream,
                        const rc_tensor_spec* destination) RC_NOEXCEPT;
/* End of use of a slot in backward: its memory is free in the order of `stream`, also where regions
 * that refer to it and do not hold it themselves have not read it yet, or are reading it on another
 * thread. Idempotent. Errors: RC_E_STATE while OPEN or being replayed. */
RC_FN rc_region_done(rc_region* region, uint32_t slot, rc_stream stream) RC_NOEXCEPT;

/* RC_OK if the running code must produce this slot: always in forward and for a NULL region, in
 * replay if it is missing; else RC_PASS. */
RC_FN rc_region_wants(rc_region* region, uint32_t slot) RC_NOEXCEPT;
/* The counted list of missing slots: writes up to `capacity` indices, ascending, and how many there
 * are. */
RC_FN rc_region_missing(rc_region* region, uint32_t* slots, uint32_t capacity,
                        uint32_t* n) RC_NOEXCEPT;
/* Forward: records the content of `value` in a decision slot (RC_OK). Replay: overwrites `value`
 * with what forward recorded (RC_PASS: the host skips its own choice). Survives the recomputation
 * of any parent. */
RC_FN rc_region_decide(rc_region* region, uint32_t slot, const rc_tensor_spec* value,
                       rc_stream stream) RC_NOEXCEPT;

/* A Philox-4x32-10 record (Salmon et al., SC'11): counter words from `offset`, keyed by `seed`. */
typedef struct rc_rng {
  rc_head head;
  uint64_t seed;
  uint64_t offset; /* in blocks of four 32-bit words */
} rc_rng;
RC_DEFINE_INIT(rc_rng, RC_TYPE_RNG)
/* Forward: reserves `blocks` counter blocks of the context's stream. Replay: returns what forward
 * reserved, call by call. Nested regions of a recomputed parent get theirs back too. Errors:
 * RC_E_MISMATCH where replay asks for another count than forward did. */
RC_FN rc_region_rng(rc_region* region, uint64_t blocks, rc_rng* out) RC_NOEXCEPT;
/* The index-th record that the region's forward reserved, for a backward that needs the mask again;
 * RC_PASS past the last. Any state but CANCELLED. */
RC_FN rc_region_rng_record(rc_region* region, uint32_t index, rc_rng* out) RC_NOEXCEPT;
/* FORWARD for a NULL region. A host counts its losses and its amax where this is FORWARD. */
RC_EXPORT rc_phase RC_CALL rc_region_phase(const rc_region* region) RC_NOEXCEPT;

typedef struct rc_region_info {
  rc_head head;
  uint64_t id; /* never reused in a process; 0 for a NULL region */
  rc_region_state state;
  rc_phase phase;
  uint32_t chunk;
  uint32_t microbatch;
  uint32_t occurrence;
  uint32_t n_slots;
  uint64_t held_bytes;    /* on the device, now; shared memory counts for each holder */
  uint64_t dropped_bytes; /* by policy, not yet refilled */
  uint64_t replays;
  void* user_data;
} rc_region_info;
RC_DEFINE_INIT(rc_region_info, RC_TYPE_REGION_INFO)

typedef struct rc_slot_info {
  rc_head head;
  rc_role role;
  rc_action action; /* what the policy decided for this slot of this region */
  uint64_t bytes;
  uint32_t present;
  uint32_t linked;    /* 1 = refers to another region's slot */
  uint64_t source_id; /* that region */
  char name[48];
} rc_slot_info;
RC_DEFINE_INIT(rc_slot_info, RC_TYPE_SLOT_INFO)

/* What the region, or one of its slots, is at this moment. A NULL region: RC_PASS and zeros. */
RC_FN rc_region_query(rc_region* region, rc_region_info* out) RC_NOEXCEPT;
RC_FN rc_region_slot_query(rc_region* region, uint32_t slot, rc_slot_info* out) RC_NOEXCEPT;
/* By id, or by key; both add a count. RC_PASS and NULL where there is none. */
RC_FN rc_region_find(rc_context* context, uint64_t id, rc_region** out) RC_NOEXCEPT;
RC_FN rc_region_lookup(rc_context* context, const rc_region_key* key, rc_region** out) RC_NOEXCEPT;
RC_FN rc_region_retain(rc_region* region) RC_NOEXCEPT;
/* Drops what the region holds and never replays it; the handle stays valid. Legal in every state.
 * Regions that refer to its slots keep what is present, and fail with RC_E_STATE where it is not.
 * RC_PENDING while it is replayed, runs its rc_region_forward, or is in its drop callback: it
 * happens after that. */
RC_FN rc_region_cancel(rc_region* region, rc_stream stream) RC_NOEXCEPT;
/* Drops the caller's count; the last one ends the region, in any state. Its memory is free in the
 * order of `stream`. A region that others refer to lives on until these are gone. */
RC_VOID_FN rc_region_release(rc_region* region, rc_stream stream) RC_NOEXCEPT;

/* ---- accounting ------------------------------------------------------------------------------ */

typedef struct rc_stats {
  rc_head head;
  uint64_t regions_live;
  uint64_t regions_begun;
  uint64_t regions_passed;
  uint64_t regions_cancelled;
  uint64_t regions_abandoned; /* released while EMPTY */
  uint64_t replays;
  uint64_t replay_ns;
  uint64_t live_bytes; /* device bytes in slots, each block once, exact (no rounding) */
  uint64_t peak_bytes;
  uint64_t dropped_bytes;     /* total, since creation */
  uint64_t regenerated_bytes; /* total */
  uint64_t reserved_bytes; /* taken from the system or the host's allocator: arena, blocks, pools */
  uint64_t parked_bytes;   /* of dynamic blocks whose pages are parked */
  uint64_t allocations;    /* calls to the allocator, total */
  uint64_t arena_bytes;
  uint64_t arena_bound;
  uint64_t arena_misses;
  uint64_t objects; /* heap objects held for regions: constant once the step loop is warm */
} rc_stats;
RC_DEFINE_INIT(rc_stats, RC_TYPE_STATS)

/* A snapshot; each number is exact, together they are of one moment only while no other thread uses
 * the context. */
RC_FN rc_stats_get(rc_context* context, rc_stats* out) RC_NOEXCEPT;
/* Sets peak_bytes to live_bytes. */
RC_FN rc_stats_reset_peak(rc_context* context) RC_NOEXCEPT;
/* Per kind and layer: bytes held, dropped, regenerated, replays; rules that matched nothing; sites
 * that freed nothing. JSON, in the same calling form as rc_policy_describe. Counts since the last
 * rc_context_configure. */
RC_FN rc_report(rc_context* context, char* buffer, uint64_t capacity, uint64_t* needed) RC_NOEXCEPT;

typedef struct rc_prediction {
  rc_head head;
  uint64_t peak_bytes;    /* highest live_bytes of the step */
  uint64_t replays;       /* regions replayed per step */
  uint64_t dropped_bytes; /* per step */
  uint64_t arena_bytes;   /* height of the arena it would run in */
  uint64_t replay_ns;     /* of its replays, as RC_STEP_PROFILE measured them, or 0 */
  uint64_t step_ns;       /* of that step with these replays instead of its own, or 0 */
} rc_prediction;
RC_DEFINE_INIT(rc_prediction, RC_TYPE_PREDICTION)

/* What the last step logged with RC_STEP_LOG (under any policy) would hold under `policy`: the log
 * is run through the region machine without memory, replays included. Errors: RC_E_STATE without a
 * log; RC_E_UNSUPPORTED; RC_E_MISMATCH where the replays of `policy` would fail in the host too, as
 * that of a region in which a nested one decides something only after it. */
RC_FN rc_predict(rc_context* context, rc_policy* policy, rc_prediction* out) RC_NOEXCEPT;

#if defined(__cplusplus)
}
#endif
#endif /* RCORE_RCORE_H */
