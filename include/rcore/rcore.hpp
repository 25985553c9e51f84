// rcore/rcore.hpp: C++17 over rcore.h: owning handles, exceptions from statuses, lambdas as
// callbacks. Header only.
//
// This file adds nothing to the contract: each function says which C function it calls, and rcore.h
// says what that does, on which stream, with which errors. What it adds is C++'s own:
//   handles     one class per handle type, movable and not copyable; the destructor drops the
//   count. get() lends the C
//               handle, detach() gives it away. An empty handle is legal wherever C takes NULL.
//   errors      a status < 0 throws rcore::error, in the consumer's code and never through the
//   library. Notes (> 0,
//               such as RC_PASS) are returned.
//   callbacks   lambdas may throw: the exception ends at the boundary, its text goes to
//   rc_error_raise, and the
//               enclosing rc_* call fails with RC_E_HOST (or, for an rcore::error, with the status
//               it carries).
//   ABI         none. Everything is inline and compiled into the consumer; only rcore.h's functions
//   are linked.
// Namespace rcore. Since 0.1.
#ifndef RCORE_RCORE_HPP
#define RCORE_RCORE_HPP
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "rcore.h"

namespace rcore {

// ---- errors -------------------------------------------------------------------------------------

// A failed call. what() is "call: field message"; the parts are as in rc_error_info.
class error : public std::runtime_error {
 public:
  explicit error(const rc_error_info& info) : std::runtime_error(text_of(info)), info_(info) {}
  rc_status code() const noexcept { return info_.code; }
  // "modules[2]", "items[0].view.shape", "/rules/3/kind", or empty.
  const char* field() const noexcept { return info_.field; }
  const char* message() const noexcept { return info_.message; }
  const rc_error_info& info() const noexcept { return info_; }

 private:
  static std::string text_of(const rc_error_info& info) {
    std::string text = info.call;
    text += text.empty() ? "" : ": ";
    text += info.field;
    text += info.field[0] == '\0' ? "" : " ";
    text += info.message;
    return text.empty() ? std::string(rc_status_name(info.code)) : text;
  }
  rc_error_info info_;
};

// Throws rcore::error for a failure, returns everything else. Use it around any C function that has
// no wrapper here.
inline rc_status check(rc_status status) {
  if (status >= RC_OK) return status;
  rc_error_info info = rc_error_info_init();
  // The record may be another call's where this status came from a callback that left no text.
  if (rc_error_last(&info) != RC_OK || info.code != status) {
    info = rc_error_info_init();
    info.code = status;
  }
  throw error(info);
}

namespace detail {

// Runs a callback's body; no exception leaves it. A body that returns void means RC_OK.
template <class Body>
rc_status guarded(Body&& body) noexcept {
  try {
    if constexpr (std::is_void_v<decltype(body())>) {
      body();
      return RC_OK;
    } else {
      return body();
    }
  } catch (const error& e) {
    rc_error_raise(e.code(), e.what());
    return e.code();
  } catch (const std::bad_alloc&) {
    rc_error_raise(RC_E_MEMORY, "std::bad_alloc in a host callback");
    return RC_E_MEMORY;
  } catch (const std::exception& e) {
    rc_error_raise(RC_E_HOST, e.what());
  } catch (...) {
    rc_error_raise(RC_E_HOST, "an exception that is no std::exception left a host callback");
  }
  return RC_E_HOST;
}

template <class T>
void RC_CALL destroy(void* p) noexcept {
  delete static_cast<T*>(p);
}

// One count of a C handle; Release drops it.
template <class T, void (*Release)(T*) noexcept>
class handle {
 public:
  handle() noexcept = default;
  explicit handle(T* owned) noexcept : p_(owned) {}
  handle(handle&& other) noexcept : p_(other.detach()) {}
  handle& operator=(handle&& other) noexcept {
    if (this != &other) reset(other.detach());
    return *this;
  }
  handle(const handle&) = delete;
  handle& operator=(const handle&) = delete;
  ~handle() { reset(); }

  T* get() const noexcept { return p_; }
  explicit operator bool() const noexcept { return p_ != nullptr; }
  // Gives the count to the caller.
  T* detach() noexcept { return std::exchange(p_, nullptr); }
  void reset(T* owned = nullptr) noexcept {
    T* old = std::exchange(p_, owned);
    if (old != nullptr) Release(old);
  }

 private:
  T* p_ = nullptr;
};

// The calling form of rc_policy_describe and rc_report: ask for the length, then for the text.
template <class Call>
std::string text_from(Call&& call) {
  std::uint64_t needed = 0;
  check(call(nullptr, std::uint64_t{0}, &needed));
  std::string text;
  do {  // a report may grow between the two calls
    text.resize(needed);
    check(call(&text[0], static_cast<std::uint64_t>(text.size()), &needed));
  } while (needed > text.size());
  text.resize(needed == 0 ? 0 : needed - 1);  // the NUL
  return text;
}

}  // namespace detail

// ---- library ------------------------------------------------------------------------------------

// The library's version, which may be newer than RC_HEADER_VERSION (rc_version).
inline std::uint32_t version() noexcept {
  return rc_version();
}
inline bool has(rc_feature feature) noexcept {
  return rc_has_feature(feature) != 0;
}
// rc_get_proc with the type of the function: proc<decltype(&rc_version)>("rc_version"); NULL where
// there is none.
template <class Function>
Function proc(const char* name) noexcept {
  return reinterpret_cast<Function>(rc_get_proc(name));
}

// ---- tensors ------------------------------------------------------------------------------------

// A row-major view of CPU memory; `shape` is borrowed and must outlive the spec. code and bits as
// in DLDataType (2, 32 = float32).
inline rc_tensor_spec spec(void* data, const std::int64_t* shape, std::int32_t ndim,
                           std::uint8_t code = 2, std::uint8_t bits = 32) noexcept {
  rc_tensor_spec s = rc_tensor_spec_init();
  s.data = data;
  s.shape = shape;
  s.ndim = ndim;
  s.dtype_code = code;
  s.dtype_bits = bits;
  s.dtype_lanes = 1;
  return s;
}

// An owned DLPack tensor.
class tensor : public detail::handle<rc_tensor, rc_tensor_release> {
 public:
  using handle::handle;
  // rc_tensor_wrap. `release` runs once, when the last holder lets go, on any thread; it must not
  // throw.
  static tensor wrap(const rc_tensor_spec& s, std::function<void()> release = {}) {
    auto owned = release ? std::make_unique<std::function<void()>>(std::move(release)) : nullptr;
    rc_tensor* out = nullptr;
    check(rc_tensor_wrap(&s, owned ? &run : nullptr, owned.get(), &out));
    static_cast<void>(owned.release());  // run deletes it
    return tensor(out);
  }
  // rc_tensor_view; valid while this tensor lives.
  rc_tensor_spec view() const {
    rc_tensor_spec s = rc_tensor_spec_init();
    check(rc_tensor_view(get(), &s));
    return s;
  }

 private:
  static void RC_CALL run(void* p) noexcept {
    std::unique_ptr<std::function<void()>> release(static_cast<std::function<void()>*>(p));
    (*release)();
  }
};

// ---- policy -------------------------------------------------------------------------------------

// An immutable table; share it between contexts freely.
class policy : public detail::handle<rc_policy, rc_policy_release> {
 public:
  using handle::handle;
  // rc_policy_create: throws with the field, its value and the limit.
  static policy create(const rc_policy_desc& desc) {
    rc_policy* out = nullptr;
    check(rc_policy_create(&desc, &out));
    return policy(out);
  }
  // rc_policy_create_json: throws with line and column, or with the JSON pointer in error::field().
  static policy from_json(const std::string& text) {
    rc_policy* out = nullptr;
    check(rc_policy_create_json(text.data(), text.size(), &out));
    return policy(out);
  }
  rc_decision decide(const rc_site& site) const {
    rc_decision out = rc_decision_init();
    check(rc_policy_decide(get(), &site, &out));
    return out;
  }
  // rc_policy_describe: the JSON that from_json turns into the same table.
  std::string describe() const {
    return detail::text_from([this](char* b, std::uint64_t c, std::uint64_t* n) {
      return rc_policy_describe(get(), b, c, n);
    });
  }
  // rc_policy_note, all of them: what a setting does not do although one may expect it.
  std::vector<rc_note> notes() const {
    std::vector<rc_note> all;
    rc_note note = rc_note_init();
    for (std::uint32_t i = 0; check(rc_policy_note(get(), i, &note)) == RC_OK; ++i)
      all.push_back(note);
    return all;
  }
};

// ---- planning -----------------------------------------------------------------------------------

// An answer of the planner (PLAN_JSON.md has the request and the reports).
class plan : public detail::handle<rc_plan, rc_plan_release> {
 public:
  using handle::handle;
  // rc_plan_create: throws with the JSON pointer in error::field(); RC_E_BUDGET names the least
  // budget that would do.
  static plan create(const std::string& request) {
    rc_plan* out = nullptr;
    check(rc_plan_create(request.data(), request.size(), &out));
    return plan(out);
  }
  rcore::policy policy() const {
    rc_policy* out = nullptr;
    check(rc_plan_policy(get(), &out));
    return rcore::policy(out);
  }
  std::string report() const {
    return detail::text_from([this](char* b, std::uint64_t c, std::uint64_t* n) {
      return rc_plan_report(get(), b, c, n);
    });
  }
};

// rc_plan_inventory: the saved tensors of a model's layers.
inline std::string inventory(const std::string& request) {
  return detail::text_from([&](char* b, std::uint64_t c, std::uint64_t* n) {
    return rc_plan_inventory(request.data(), request.size(), b, c, n);
  });
}
// rc_plan_evaluate: what a policy saves and costs.
inline std::string evaluate(const std::string& request, const policy& of) {
  return detail::text_from([&](char* b, std::uint64_t c, std::uint64_t* n) {
    return rc_plan_evaluate(request.data(), request.size(), of.get(), b, c, n);
  });
}

// ---- host hooks ---------------------------------------------------------------------------------

// Each hook is a set of lambdas that the library owns once the call that took it has succeeded, and
// destroys when it has made its last call. They may be called from any thread.

// The host's memory. A block is freed with the request it was allocated with; its stream may
// differ. Blocks of a host allocator are never parked: their pages are not the library's to move.
struct allocator {
  // Throw, or return NULL, where there is no memory: the rc_* call then fails with RC_E_MEMORY.
  std::function<void*(const rc_alloc_request&)> alloc;
  std::function<void(const rc_alloc_request&, void*)> free;
};

// Where log lines and trace events go; without one the library is silent. Strings live for the call
// only.
struct sink {
  std::function<void(rc_level, const char* where, const char* text)> log;
  rc_level max_level = RC_LEVEL_INFO;
  std::function<void(const rc_trace_event&)> trace;
  rc_flags trace_mask = 0;  // bit n lets rc_event n through
};

// run(n, task) calls task(i) for each 0 <= i < n, on any threads, and returns when all are done. It
// must not throw.
struct parallel {
  std::function<void(std::int64_t n, const std::function<void(std::int64_t)>& task)> run;
  std::int32_t width = 1;
};

namespace detail {

inline rc_allocator table_of(allocator* hook) noexcept {
  rc_allocator t = rc_allocator_init();
  t.user_data = hook;
  t.destroy = &destroy<allocator>;
  t.alloc = [](void* self, const rc_alloc_request* request, void** out) noexcept {
    return guarded([&] {
      *out = static_cast<allocator*>(self)->alloc(*request);
      return *out != nullptr ? RC_OK : RC_E_MEMORY;
    });
  };
  t.free = [](void* self, const rc_alloc_request* request, void* p) noexcept {
    static_cast<void>(guarded([&] { static_cast<allocator*>(self)->free(*request, p); }));
  };
  return t;
}

inline rc_sink table_of(sink* hook) noexcept {
  rc_sink t = rc_sink_init();
  t.user_data = hook;
  t.destroy = &destroy<sink>;
  t.max_level = hook->max_level;
  t.trace_mask = hook->trace_mask;
  if (hook->log) {
    t.log = [](void* self, rc_level level, const char* where, const char* text) noexcept {
      static_cast<void>(guarded([&] { static_cast<sink*>(self)->log(level, where, text); }));
    };
  }
  if (hook->trace) {
    t.trace = [](void* self, const rc_trace_event* event) noexcept {
      static_cast<void>(guarded([&] { static_cast<sink*>(self)->trace(*event); }));
    };
  }
  return t;
}

inline rc_parallel table_of(parallel* hook) noexcept {
  rc_parallel t = rc_parallel_init();
  t.user_data = hook;
  t.destroy = &destroy<parallel>;
  t.width = hook->width;
  t.run = [](void* self, std::int64_t n, void(RC_CALL* task)(void*, std::int64_t),
             void* argument) noexcept {
    static_cast<parallel*>(self)->run(n, [task, argument](std::int64_t i) { task(argument, i); });
  };
  return t;
}

}  // namespace detail

// ---- context ------------------------------------------------------------------------------------

// What to bring along when a context is made; empty members mean the library's own.
struct hooks {
  std::unique_ptr<rcore::allocator> allocator;
  std::unique_ptr<rcore::sink> sink;
  std::unique_ptr<rcore::parallel> parallel;
};

// One per process and device: storage, streams, statistics. Live regions, modules and tensors keep
// the core alive behind it, so the order of destruction does not matter.
class context : public detail::handle<rc_context, rc_context_release> {
 public:
  using handle::handle;
  // rc_context_create. Hooks replace the tables of `desc`; on failure they are destroyed here, not
  // by the library.
  static context create(rc_context_desc desc = rc_context_desc_init(), hooks h = {}) {
    const rc_allocator a = h.allocator ? detail::table_of(h.allocator.get()) : rc_allocator_init();
    const rc_sink s = h.sink ? detail::table_of(h.sink.get()) : rc_sink_init();
    const rc_parallel p = h.parallel ? detail::table_of(h.parallel.get()) : rc_parallel_init();
    if (h.allocator) desc.allocator = &a;
    if (h.sink) desc.sink = &s;
    if (h.parallel) desc.parallel = &p;
    rc_context* out = nullptr;
    check(rc_context_create(&desc, &out));
    static_cast<void>(h.allocator.release());
    static_cast<void>(h.sink.release());
    static_cast<void>(h.parallel.release());
    return context(out);
  }
  // rc_context_configure; an empty policy keeps everything.
  // Live regions keep the decisions they were begun with.
  void configure(const policy& p) { check(rc_context_configure(get(), p.get())); }
  rc_status poll() { return check(rc_context_poll(get())); }
  rc_status drain() { return check(rc_context_drain(get())); }
  rc_stats stats() const {
    rc_stats out = rc_stats_init();
    check(rc_stats_get(get(), &out));
    return out;
  }
  void reset_peak() { check(rc_stats_reset_peak(get())); }
  // rc_report: JSON.
  std::string report() const {
    return detail::text_from(
        [this](char* b, std::uint64_t c, std::uint64_t* n) { return rc_report(get(), b, c, n); });
  }
  // rc_predict: what the last logged step would hold under `p`.
  rc_prediction predict(const policy& p) {
    rc_prediction out = rc_prediction_init();
    check(rc_predict(get(), p.get(), &out));
    return out;
  }
};

// ---- fences -------------------------------------------------------------------------------------

// Completion of work that no stream orders. Destroying an unsignalled fence signals RC_E_STATE.
class fence : public detail::handle<rc_fence, rc_fence_release> {
 public:
  using handle::handle;
  static fence create(context& c) {
    rc_fence* out = nullptr;
    check(rc_fence_create(c.get(), &out));
    return fence(out);
  }
  void signal(rc_status result = RC_OK) { check(rc_fence_signal(get(), result)); }
  // rc_fence_test: true once signalled; throws the failure it was signalled with.
  bool test() { return check(rc_fence_test(get())) != RC_PENDING; }
  // rc_fence_wait: false after `timeout_ns` without a signal.
  bool wait(std::uint64_t timeout_ns = UINT64_MAX) {
    return check(rc_fence_wait(get(), timeout_ns)) != RC_PENDING;
  }
  // rc_fence_on_done: `done(result)` runs once, here or in the signalling thread; what it throws is
  // dropped.
  void on_done(std::function<void(rc_status)> done) {
    using Done = std::function<void(rc_status)>;
    auto owned = std::make_unique<Done>(std::move(done));
    check(rc_fence_on_done(
        get(),
        [](void* p, rc_status result) noexcept {
          std::unique_ptr<Done> call(static_cast<Done*>(p));
          static_cast<void>(detail::guarded([&] { (*call)(result); }));
        },
        owned.get()));
    static_cast<void>(owned.release());
  }
};

// ---- modules ------------------------------------------------------------------------------------

// How a host replays: regenerate args.missing, through region_ref(args.region).alloc or into its
// own storage.
struct replay_ops {
  std::function<void(const rc_replay_args&)> replay;
  std::function<void(const rc_slot_args&)>
      drop;  // for RC_OUTPUT_HOST slots: empty the host's storage
  std::function<void(const rc_slot_args&)> refill;  // and make it writable again
};

// Host state that replay must see as the forward saw it: capture() makes a Token in begin;
// exchange(token) installs it before a replay and returns what was there, which is given back the
// same way afterwards.
class side_state {
 public:
  template <class Token>
  static side_state of(std::function<Token()> capture,
                       std::function<Token(const Token&)> exchange) {
    struct Pair {
      std::function<Token()> capture;
      std::function<Token(const Token&)> exchange;
    };
    side_state s;
    s.owned_ = owner(new Pair{std::move(capture), std::move(exchange)}, &detail::destroy<Pair>);
    s.table_.user_data = s.owned_.get();
    s.table_.destroy = &detail::destroy<Pair>;
    s.table_.capture = [](void* self, rc_context*, rc_region*, void*, rc_stream,
                          void** token) noexcept {
      return detail::guarded([&] { *token = new Token(static_cast<Pair*>(self)->capture()); });
    };
    s.table_.swap = [](void* self, rc_context*, rc_region*, void*, rc_stream, void* install,
                       void** previous) noexcept {
      return detail::guarded([&] {
        *previous =
            install == nullptr
                ? nullptr
                : new Token(static_cast<Pair*>(self)->exchange(*static_cast<Token*>(install)));
      });
    };
    s.table_.drop = [](void*, void* token) noexcept { delete static_cast<Token*>(token); };
    return s;
  }
  const rc_side_state* table() const noexcept { return &table_; }
  // The library owns it from now on.
  void disown() noexcept { static_cast<void>(owned_.release()); }

 private:
  using owner = std::unique_ptr<void, void (*)(void*)>;
  side_state() = default;
  rc_side_state table_ = rc_side_state_init();
  owner owned_{nullptr, nullptr};
};

// A registered module. (Its name is not `module`: that is no plain identifier any more in C++20.)
class submodule : public detail::handle<rc_module, rc_module_release> {
 public:
  using handle::handle;
  // rc_module_register with lambdas; desc.ops and desc.states are filled in here.
  static submodule add(context& c, rc_module_desc desc, replay_ops ops,
                       std::vector<side_state> states = {}) {
    auto owned = std::make_unique<replay_ops>(std::move(ops));
    const rc_module_ops table = table_of(owned.get());
    std::vector<const rc_side_state*> tables;
    for (const side_state& s : states) tables.push_back(s.table());
    desc.ops = &table;
    if (!tables.empty()) {
      desc.states = tables.data();
      desc.n_states = static_cast<std::uint32_t>(tables.size());
    }
    submodule m = add(c, desc);
    static_cast<void>(owned.release());
    for (side_state& s : states) s.disown();
    return m;
  }
  // rc_module_register with a description that is complete: a built-in kernel, or C callbacks.
  static submodule add(context& c, const rc_module_desc& desc) {
    rc_module* out = nullptr;
    check(rc_module_register(c.get(), &desc, &out));
    return submodule(out);
  }

 private:
  static rc_module_ops table_of(replay_ops* ops) noexcept {
    rc_module_ops t = rc_module_ops_init();
    t.user_data = ops;
    t.destroy = &detail::destroy<replay_ops>;
    t.replay = [](const rc_replay_args* a) noexcept {
      return detail::guarded([&] { static_cast<replay_ops*>(a->module_data)->replay(*a); });
    };
    if (ops->drop) {
      t.drop = [](const rc_slot_args* a) noexcept {
        return detail::guarded([&] { static_cast<replay_ops*>(a->module_data)->drop(*a); });
      };
    }
    if (ops->refill) {
      t.refill = [](const rc_slot_args* a) noexcept {
        return detail::guarded([&] { static_cast<replay_ops*>(a->module_data)->refill(*a); });
      };
    }
    return t;
  }
};

// One slot's description; `name` is borrowed until the call that takes it returns.
inline rc_slot_desc slot(const char* name, rc_role role, rc_flags flags = 0) noexcept {
  rc_slot_desc s = rc_slot_desc_init();
  s.name = name;
  s.role = role;
  s.flags = flags;
  return s;
}

// ---- communicator groups ------------------------------------------------------------------------

// A named group of processes; what a decision's `group` names. The native communicator, or the
// lambda, outlives every call that uses the group: destroying the handle drops a count, it does not
// abort collectives in flight.
class comm : public detail::handle<rc_comm, rc_comm_release> {
 public:
  using handle::handle;
  using all_gather =
      std::function<void(const void* send, void* recv, std::uint64_t bytes_per_rank, rc_stream)>;
  // rc_comm_create over the host's own all-gather.
  static comm create(context& c, const char* name, std::uint32_t rank, std::uint32_t size,
                     all_gather gather) {
    auto owned = std::make_unique<all_gather>(std::move(gather));
    rc_comm_ops ops = rc_comm_ops_init();
    ops.user_data = owned.get();
    ops.destroy = &detail::destroy<all_gather>;
    ops.all_gather = [](void* self, const void* send, void* recv, std::uint64_t bytes,
                        rc_stream s) noexcept {
      return detail::guarded([&] { (*static_cast<all_gather*>(self))(send, recv, bytes, s); });
    };
    rc_comm_desc desc = rc_comm_desc_init();
    desc.name = name;
    desc.backend = RC_BACKEND_HOST;
    desc.rank = rank;
    desc.size = size;
    desc.ops = &ops;
    comm made = create(c, desc);
    static_cast<void>(owned.release());
    return made;
  }
  // rc_comm_create with a complete description (NCCL, a group of one, C callbacks).
  static comm create(context& c, const rc_comm_desc& desc) {
    rc_comm* out = nullptr;
    check(rc_comm_create(c.get(), &desc, &out));
    return comm(out);
  }
};

// ---- steps --------------------------------------------------------------------------------------

// One training step; several may be open at once. What is left in it at its end is cancelled and
// counted in the report. The destructor ends a step that end() has not ended, on the NULL stream;
// its failure is dropped.
class step {
 public:
  step() noexcept = default;
  step(step&& other) noexcept : p_(std::exchange(other.p_, nullptr)) {}
  step& operator=(step&& other) noexcept {
    std::swap(p_, other.p_);
    return *this;
  }
  ~step() {
    if (p_ != nullptr && rc_step_end(p_, nullptr, nullptr) < RC_OK) p_ = nullptr;
  }
  // rc_step_begin.
  static step begin(context& c, const rc_step_desc& desc = rc_step_desc_init()) {
    step s;
    check(rc_step_begin(c.get(), &desc, &s.p_));
    return s;
  }
  // rc_step_end; where it throws RC_E_STATE the step stays open.
  rc_step_report end(rc_stream stream = nullptr) {
    rc_step_report report = rc_step_report_init();
    check(rc_step_end(p_, stream, &report));
    p_ = nullptr;
    return report;
  }
  rc_step* get() const noexcept { return p_; }

 private:
  rc_step* p_ = nullptr;
};

// ---- regions ------------------------------------------------------------------------------------

// The calls on a region, without ownership: what a callback makes of args.region. Every one accepts
// an empty region and returns RC_PASS then; streams default to NULL, the CPU device's only one.
class region_ref {
 public:
  region_ref() noexcept = default;
  explicit region_ref(rc_region* r) noexcept : r_(r) {}
  rc_region* get() const noexcept { return r_; }
  explicit operator bool() const noexcept { return r_ != nullptr; }

  // rc_region_save. Items with `tensor` are consumed if it succeeds; `views` receives pass-through
  // views.
  rc_status save(const std::vector<rc_save>& items, rc_stream stream = nullptr,
                 std::vector<rc_tensor_spec>* views = nullptr) {
    if (views != nullptr) views->assign(items.size(), rc_tensor_spec_init());
    return check(rc_region_save(r_, items.data(), static_cast<std::uint32_t>(items.size()),
                                sizeof(rc_save), stream,
                                views != nullptr ? views->data() : nullptr));
  }
  // Borrowed: copied in stream order.
  rc_status save(std::uint32_t slot, const rc_tensor_spec& view, rc_stream stream = nullptr) {
    rc_save item = rc_save_init();
    item.slot = slot;
    item.view = &view;
    return save_one(item, stream);
  }
  // Owned: the tensor is the library's afterwards, or still `t` if this throws.
  rc_status save(std::uint32_t slot, tensor&& t, rc_stream stream = nullptr) {
    rc_save item = rc_save_init();
    item.slot = slot;
    item.tensor = t.get();
    const rc_status status = save_one(item, stream);
    static_cast<void>(t.detach());
    return status;
  }
  // Linked: slot `source_slot` of another region, without a copy.
  rc_status link(std::uint32_t slot, region_ref source, std::uint32_t source_slot,
                 rc_stream stream = nullptr) {
    rc_save item = rc_save_init();
    item.slot = slot;
    item.source = source.get();
    item.source_slot = source_slot;
    return save_one(item, stream);
  }
  // rc_region_slot_add: the new slot's index.
  std::uint32_t add_slot(const rc_slot_desc& desc) {
    std::uint32_t out = 0;
    check(rc_region_slot_add(r_, &desc, &out));
    return out;
  }
  // rc_region_alloc; data is NULL where a replay does not want the slot.
  rc_tensor_spec alloc(std::uint32_t slot, const rc_tensor_spec& like, rc_stream stream = nullptr) {
    rc_tensor_spec out = rc_tensor_spec_init();
    check(rc_region_alloc(r_, slot, &like, stream, &out));
    return out;
  }
  rc_status output(std::uint32_t slot, rc_output_mode mode, const rc_tensor_spec& view,
                   rc_stream stream = nullptr) {
    return check(rc_region_output(r_, slot, mode, &view, stream));
  }
  rc_status forward(rc_stream s = nullptr) { return check(rc_region_forward(r_, s)); }
  rc_status end(rc_stream s = nullptr) { return check(rc_region_end(r_, s)); }
  rc_status discard(rc_stream s = nullptr) { return check(rc_region_discard(r_, s)); }
  rc_status prefetch(rc_stream s = nullptr) { return check(rc_region_prefetch(r_, s)); }
  // rc_backward_replay of this region alone.
  rc_status replay(rc_stream s = nullptr) { return check(rc_backward_replay(&r_, 1, s)); }

  // rc_region_view: borrowed memory, until the slot is done or the region gone.
  rc_tensor_spec view(std::uint32_t slot, rc_stream s = nullptr) const {
    rc_tensor_spec out = rc_tensor_spec_init();
    check(rc_region_view(r_, slot, s, &out));
    return out;
  }
  // rc_region_tensor: memory that outlives the region.
  tensor take(std::uint32_t slot, rc_stream s = nullptr) {
    rc_tensor* out = nullptr;
    check(rc_region_tensor(r_, slot, s, &out));
    return tensor(out);
  }
  // rc_region_restore: a copy into the host's own buffer, of the same dtype and shape.
  rc_status restore(std::uint32_t slot, const rc_tensor_spec& destination, rc_stream s = nullptr) {
    return check(rc_region_restore(r_, slot, s, &destination));
  }
  // rc_region_done: backward has read the slot; its memory is free in stream order.
  rc_status done(std::uint32_t slot, rc_stream s = nullptr) {
    return check(rc_region_done(r_, slot, s));
  }

  // rc_region_wants: must the running code produce this slot?
  bool wants(std::uint32_t slot) const { return check(rc_region_wants(r_, slot)) == RC_OK; }
  std::vector<std::uint32_t> missing() const {
    std::uint32_t n = 0;
    check(rc_region_missing(r_, nullptr, 0, &n));
    std::vector<std::uint32_t> slots(n);
    check(rc_region_missing(r_, slots.data(), n, &n));
    slots.resize(n < slots.size() ? n : slots.size());
    return slots;
  }
  // rc_region_decide: RC_OK where the host's choice was recorded, RC_PASS where the recorded one
  // was handed back.
  rc_status decide(std::uint32_t slot, const rc_tensor_spec& value, rc_stream s = nullptr) {
    return check(rc_region_decide(r_, slot, &value, s));
  }
  // rc_region_rng: counter blocks that a replay gets again, call by call.
  rc_rng rng(std::uint64_t blocks) {
    rc_rng out = rc_rng_init();
    check(rc_region_rng(r_, blocks, &out));
    return out;
  }
  // rc_region_rng_record: what the forward reserved, for a backward; false past the last.
  bool rng_record(std::uint32_t index, rc_rng* out) const {
    *out = rc_rng_init();
    return check(rc_region_rng_record(r_, index, out)) == RC_OK;
  }
  // Count losses and amax where this is RC_PHASE_FORWARD.
  rc_phase phase() const noexcept { return rc_region_phase(r_); }
  rc_region_info query() const {
    rc_region_info out = rc_region_info_init();
    check(rc_region_query(r_, &out));
    return out;
  }
  rc_slot_info query(std::uint32_t slot) const {
    rc_slot_info out = rc_slot_info_init();
    check(rc_region_slot_query(r_, slot, &out));
    return out;
  }
  // rc_region_cancel: drops what the region holds; RC_PENDING while another thread replays it.
  rc_status cancel(rc_stream s = nullptr) { return check(rc_region_cancel(r_, s)); }

 protected:
  rc_status save_one(const rc_save& item, rc_stream stream) {
    return check(rc_region_save(r_, &item, 1, sizeof item, stream, nullptr));
  }
  rc_region* r_ = nullptr;
};

// One count of a region. The destructor releases it in the order of the stream given to release_on
// (NULL at first).
class region : public region_ref {
 public:
  region() noexcept = default;
  explicit region(rc_region* owned) noexcept : region_ref(owned) {}
  region(region&& other) noexcept : region_ref(other.detach()), stream_(other.stream_) {}
  region& operator=(region&& other) noexcept {
    std::swap(r_, other.r_);
    std::swap(stream_, other.stream_);
    return *this;
  }
  ~region() { release(stream_); }

  // rc_region_begin; an empty region where nothing at this site needs one.
  static region begin(context& c, const rc_region_desc& desc) {
    rc_region* out = nullptr;
    check(rc_region_begin(c.get(), &desc, &out));
    return region(out);
  }
  // The same with an object that every callback finds in region_data; the library destroys it with
  // the region. Where no region came out, it is destroyed here.
  template <class T>
  static region begin(context& c, rc_region_desc desc, std::unique_ptr<T> data) {
    desc.user_data = data.get();
    desc.destroy = &detail::destroy<T>;
    region r = begin(c, desc);
    if (r) static_cast<void>(data.release());
    return r;
  }
  // rc_region_find, rc_region_lookup: one more count, or an empty region.
  static region find(context& c, std::uint64_t id) {
    rc_region* out = nullptr;
    check(rc_region_find(c.get(), id, &out));
    return region(out);
  }
  static region lookup(context& c, const rc_region_key& key) {
    rc_region* out = nullptr;
    check(rc_region_lookup(c.get(), &key, &out));
    return region(out);
  }
  // rc_region_retain: a second count of the same region.
  region share() const {
    check(rc_region_retain(r_));
    return region(r_);
  }
  rc_region* detach() noexcept { return std::exchange(r_, nullptr); }
  void release_on(rc_stream stream) noexcept { stream_ = stream; }
  void release(rc_stream stream = nullptr) noexcept { rc_region_release(detach(), stream); }

 private:
  rc_stream stream_ = nullptr;
};

// rc_backward_replay: regions in forward order, empty ones are skipped; a failure names the
// region's id in error::info().
inline rc_status replay(const std::vector<rc_region*>& regions, rc_stream stream = nullptr) {
  return check(
      rc_backward_replay(regions.data(), static_cast<std::uint32_t>(regions.size()), stream));
}

}  // namespace rcore
#endif  // RCORE_RCORE_HPP
