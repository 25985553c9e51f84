// rcore/rcore.hpp: the API of rcore in C++17, over the C ABI of rcore.h.
//
// One region's life (abi_tests/wrapper/example_test.cc compiles and runs this text):
//
//     // Set up: layers' norms are computed again in backward, everything else is kept.
//     rcore::context context = rcore::context::create();
//     context.configure(rcore::policy::from_json(
//         R"({"rcore_policy": 1, "rules": [{"kind": "layernorm", "action": "recompute"}]})"));
//     const rc_slot_desc slots[] = {rcore::slot("in", RC_ROLE_INPUT),
//                                   rcore::slot("out", RC_ROLE_OUTPUT)};
//     rc_module_desc desc = rc_module_desc_init();
//     desc.kind = "layernorm";
//     desc.slots = slots;
//     desc.n_slots = 2;
//     desc.slot_stride = sizeof slots[0];
//     const auto run = [&](rcore::region_ref region) {  // in forward, and again in each replay
//       const rc_tensor_spec out = region.alloc(1, rcore::spec(nullptr, shape, 1));
//       if (out.data != nullptr) norm(region.view(0), out);  // NULL: a replay has it already
//     };
//     rcore::replay_ops ops;
//     ops.replay = [&](const rc_replay_args& args) { run(rcore::region_ref(args.region)); };
//     const rcore::submodule layernorm = rcore::submodule::add(context, desc, std::move(ops));
//
//     // Forward, for each microbatch.
//     rcore::step step = rcore::step::begin(context);
//     rc_region_desc site = rc_region_desc_init();
//     site.module = layernorm.get();
//     site.step = step.get();
//     rcore::region region = rcore::region::begin(context, site);
//     region.save(0, x);  // copies; a tensor that is moved in is not copied
//     run(region);
//     region.end();
//     next_layer(region.view(1));
//     region.discard();  // the next layer has read "out": its memory is free again
//
//     // Backward.
//     region.replay();  // calls ops.replay, because "out" is missing
//     next_layer_backward(region.view(1));
//     region.release();
//     const rc_step_report report = step.end();  // peak bytes, replays, what was left over
//
// This file adds nothing to the contract: each function names the C function it calls, and the
// comment there says what that does, on which stream, in which states. What it adds is C++'s own:
//
//   handles    One class per handle type, movable and not copyable: as with unique_ptr, an object
//              owns one count and drops it when it is destroyed. get() lends the C handle to calls
//              that have no wrapper, detach() gives the count away, reset() drops it early (a
//              region: release(), a step: end()), and an object made from a C handle takes over the
//              caller's count. A default-made or moved-from object is empty: legal wherever C takes
//              NULL, RC_E_HANDLE or RC_E_ARGUMENT elsewhere.
//   errors     A status < 0 becomes an rcore::error, thrown in the consumer's own code and never
//              through the library; notes (> 0, such as RC_PASS) are returned. As in rcore.h,
//              every function that is not noexcept may throw for bad arguments, handles, versions
//              and a fork; "Throws" names the others to expect. A call that throws has changed
//              nothing: lambdas and objects that were moved into it are destroyed, a tensor is
//              still the caller's. std::bad_alloc comes from the functions that build strings or
//              vectors, or take lambdas.
//   callbacks  Lambdas may throw, unless their comment says otherwise: the exception ends at the
//              boundary, its text becomes the message of the enclosing call (rc_error_raise), which
//              fails with RC_E_HOST (an rcore::error: with its own code; std::bad_alloc: with
//              RC_E_MEMORY). A lambda may be called after the object it was given to is gone (a
//              live region keeps its module), and is destroyed on any thread: capture by value what
//              does not surely live longer.
//   threads    An object here is a pointer. Calls through it may come from any threads at once;
//              to move, assign, reset or destroy it while another thread uses it is a race, as
//              with std::unique_ptr.
//   streams    Where a stream can be given it comes last and defaults to NULL: the CPU device's
//              only one, and CUDA's legacy default stream.
//   structs    Plain data stays the C struct. Start from T_init(), as in C.
//   ABI        None of its own. Everything is inline and compiled into the consumer, and only
//              rcore.h's functions are linked. Between modules that may be built differently pass
//              get() or detach(), not these objects.
//
// Everything is in namespace rcore, and since 0.1. detail/ holds the definitions; include only this
// file, and name nothing in rcore::detail.
#ifndef RCORE_RCORE_HPP
#define RCORE_RCORE_HPP
#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "detail/handle.hpp"
#include "rcore.h"

namespace rcore {

// ---- errors -------------------------------------------------------------------------------------

// A failed call. Copyable and free of handles: it can be kept, or carried to another thread.
//
//     try {
//       rcore::policy::from_json(text);
//     } catch (const rcore::error& e) {
//       if (e.code() == RC_E_ARGUMENT) show(e.field(), e.message());  // "/rules/3/kind", "..."
//     }
class error : public std::runtime_error {
 public:
  // what() becomes "call: field message", or rc_status_name of the code where there is no text.
  explicit error(const rc_error_info& info);
  // What went wrong, for a program: RC_E_MEMORY may be worth another try, RC_E_DEVICE never is.
  rc_status code() const noexcept { return info_.code; }
  // Where: "modules[2]", "items[0].view.shape", the JSON pointer "/rules/3/kind", or empty.
  const char* field() const noexcept { return info_.field; }
  // One line with the value and the limit. Both texts live as long as this object.
  const char* message() const noexcept { return info_.message; }
  // The whole record: the call that failed, the device's own code, the id of the region to blame.
  const rc_error_info& info() const noexcept { return info_; }

 private:
  static std::string text_of(const rc_error_info& info);
  rc_error_info info_;
};

// Throws rcore::error for a failure, with the calling thread's record (rc_error_last), and returns
// everything else. For C functions that have no wrapper here:
//
//     const rc_status status = rcore::check(rc_region_alloc(r.get(), 1, &like, s, &out));
//     if (status == RC_MOVED) rebind(out.data);
//
// Call it on the thread of the failed call, before another call fails there.
inline rc_status check(rc_status status);

// ---- library ------------------------------------------------------------------------------------

// rc_version: of the library that is loaded, which may be newer than RC_HEADER_VERSION.
inline std::uint32_t version() noexcept;
// rc_has_feature: both this build and this machine have it.
inline bool has(rc_feature feature) noexcept;
// rc_get_proc with the type of the function, for what the loaded library may have and this header
// lacks: proc<decltype(&rc_version)>("rc_version"). NULL where there is none. Nobody checks the
// type.
template <class Function>
Function proc(const char* name) noexcept;

// ---- tensors ------------------------------------------------------------------------------------

// A row-major view of CPU memory, for the calls that take a rc_tensor_spec. Nothing is copied:
// `data` and `shape` must outlive the calls that read the spec. With data = NULL it describes what
// alloc() shall make. code and bits are DLDataType's (2, 32: float32; 4, 16: bfloat16).
inline rc_tensor_spec spec(void* data, const std::int64_t* shape, std::int32_t ndim,
                           std::uint8_t code = 2, std::uint8_t bits = 32) noexcept;

// One count of a DLPack tensor (DLManagedTensorVersioned); destroying it calls the deleter.
// Tensors of other frameworks come in by tensor(pointer), and leave by detach().
class tensor : public detail::handle<rc_tensor, rc_tensor_release> {
 public:
  using handle::handle;
  // rc_tensor_wrap: the host's memory as a tensor. `release` runs once, when the last holder lets
  // go, on any thread and without waiting for streams; it must not throw. If wrap throws, release
  // is destroyed without being called, and the memory stays the caller's.
  static tensor wrap(const rc_tensor_spec& s, std::function<void()> release = {});
  // rc_tensor_view: address, dtype, shape and strides, without a copy; valid while this tensor
  // lives.
  rc_tensor_spec view() const;

 private:
  static void RC_CALL run(void* p) noexcept;
};

// ---- policy -------------------------------------------------------------------------------------

// An immutable table (site, slot) -> keep, recompute or store. Making one needs no context and no
// device. Contexts it is given to hold counts of their own, so it can be destroyed right after.
class policy : public detail::handle<rc_policy, rc_policy_release> {
 public:
  using handle::handle;
  // rc_policy_create. A setting that breaks a rule of POLICY_RULES.md throws RC_E_ARGUMENT with the
  // field, its value and the limit.
  static policy create(const rc_policy_desc& desc);
  // rc_policy_create_json, for the form in POLICY_JSON.md. A syntax error throws with line and
  // column in message(), everything else with the JSON pointer of the value in field().
  static policy from_json(const std::string& text);
  // rc_policy_decide: the table's answer for one slot at one site, and the rule it comes from.
  rc_decision decide(const rc_site& site) const;
  // rc_policy_describe: JSON that from_json turns into the same table; what to keep with a run.
  std::string describe() const;
  // rc_policy_note, all of them: what a setting does not do although one may expect it. Show them
  // to whoever wrote the policy.
  std::vector<rc_note> notes() const;
};

// ---- planning -----------------------------------------------------------------------------------

class context;

// The planner's answer: a policy, its figures and the proof that none costs less. A plan outlives
// what it was made from. Planning may take as long as time_limit_seconds says.
//
//     rc_plan_budget half = rc_plan_budget_init();
//     half.fraction = 0.5;
//     context.configure(rcore::plan::measured(context, half).policy());
class plan : public detail::handle<rc_plan, rc_plan_release> {
 public:
  using handle::handle;
  // rc_plan_create, from a model, a layout, a device and a budget, as PLAN_JSON.md has them. Pure:
  // neither a context nor a device is needed. A bad value throws with its JSON pointer in field().
  // Throws RC_E_BUDGET where a rank's budget is too small; message() has the least that would do.
  static plan create(const std::string& request);
  // rc_plan_measured, from what the context's last step with RC_STEP_PROFILE measured: the policy
  // of least replay time whose step stays within the budget. Give its policy() to the context for
  // the steps that follow. Throws RC_E_STATE without a finished profiled step, RC_E_BUDGET as
  // create() does.
  static plan measured(context& c, const rc_plan_budget& budget);
  // rc_plan_policy: one more count of the plan's policy; it outlives the plan.
  rcore::policy policy() const;
  // rc_plan_report: the decisions, freed bytes, cost, predicted peak and certificate, as JSON; of a
  // plan from a request rank by rank.
  std::string report() const;
};

// rc_plan_inventory: the memory model alone, as JSON: the saved tensors of each kind of layer, and
// what each rank holds. `request` is that of plan::create; it needs no budget.
inline std::string inventory(const std::string& request);
// rc_plan_evaluate: what a policy of any origin saves and costs under the request's model and
// layout, rank by rank, as JSON. An empty `of` throws RC_E_HANDLE.
inline std::string evaluate(const std::string& request, const policy& of);

// ---- host hooks ---------------------------------------------------------------------------------

// What a context may use of the host. Fill in the lambdas and hand the hooks to context::create:
// on success they belong to the library, which destroys them after its last call, with or after the
// context. They are called from any thread, also two at once, and with no library lock held.

// The host's memory instead of the library's own; both lambdas must be set. Blocks are never parked
// then (the pages are not the library's to move), so an output may be refilled at another address
// than before.
struct allocator {
  // `bytes` at `alignment`, usable in the order of request.stream. Where there is no memory, return
  // NULL or throw std::bad_alloc: the rc_* call fails with RC_E_MEMORY. Any other exception fails
  // it as every callback's does.
  std::function<void*(const rc_alloc_request&)> alloc;
  // Gets the request that alloc got, but for the stream: the block is free in the order of the one
  // given here. What it throws is dropped.
  std::function<void(const rc_alloc_request&, void*)> free;
};

// Where log lines and trace events go; without a sink the library is silent. Exceptions are
// dropped: nobody's training stops because a log is full. Only calls that query are legal inside.
struct sink {
  // `where` and `text` live for the call only. May stay empty.
  std::function<void(rc_level, const char* where, const char* text)> log;
  // Lines of this level and of worse ones go to log.
  rc_level max_level = RC_LEVEL_INFO;
  // One thing that happened, after it did; its strings live for the call only. May stay empty.
  std::function<void(const rc_trace_event&)> trace;
  // Bit n lets rc_event n through: rc_flags{1} << RC_EVENT_REPLAY, or ~rc_flags{0} for all.
  rc_flags trace_mask = 0;
};

// The host's thread pool, for built-in kernels; their results do not depend on it.
struct parallel {
  // Calls task(i) once for each 0 <= i < n, on any threads, and returns when all are done. It must
  // not throw: there is no status to fail with, and std::terminate is what follows.
  std::function<void(std::int64_t n, const std::function<void(std::int64_t)>& task)> run;
  // How many tasks can run at once, at least 1: the kernels cut their work by it.
  std::int32_t width = 1;
};

// What to bring along when a context is made; an empty member means the library's own.
struct hooks {
  std::unique_ptr<rcore::allocator> allocator;
  std::unique_ptr<rcore::sink> sink;
  std::unique_ptr<rcore::parallel> parallel;
};

// ---- context ------------------------------------------------------------------------------------

// One per process and device: storage, streams, statistics. Live regions, modules, steps and
// exported tensors keep the core alive behind it, so objects can be destroyed in any order. After a
// fork the child's calls throw RC_E_FORKED: make a context there.
class context : public detail::handle<rc_context, rc_context_release> {
 public:
  using handle::handle;
  // rc_context_create. Hooks that are set replace the tables of `desc`. If it throws they are
  // destroyed here, by the caller's side. Throws RC_E_VERSION where desc.target_version is newer
  // than the library, RC_E_UNSUPPORTED for a device this build lacks.
  static context create(rc_context_desc desc = rc_context_desc_init(), hooks h = {});
  // rc_context_configure, for regions begun from now on; live ones keep the decisions they have. An
  // empty policy keeps everything. Throws RC_E_UNSUPPORTED with the rule that asks for a tier, a
  // group or a codec which this context lacks; RC_E_CAPTURE while a stream is being captured.
  void configure(const policy& p);
  // rc_context_poll: runs deleters that have come due; never blocks. Throws a device's asynchronous
  // error, which is RC_E_DEVICE and stays.
  rc_status poll();
  // rc_context_drain: blocks the host until nothing is in flight. Throws RC_E_CAPTURE.
  rc_status drain();
  // rc_stats_get: each number is exact; they are of one moment only while no other thread works.
  rc_stats stats() const;
  // rc_stats_reset_peak: peak_bytes counts anew from what is live now.
  void reset_peak();
  // rc_report: per kind and layer the bytes held, dropped and regenerated, rules that matched
  // nothing, sites that freed nothing. JSON; counts since the last configure.
  std::string report() const;
  // rc_predict: what the last step logged with RC_STEP_LOG would hold and replay under `p`, found
  // without memory or kernels; its times too if the step had RC_STEP_PROFILE. Throws RC_E_STATE
  // where no step was logged or the logged one is open.
  rc_prediction predict(const policy& p);
};

// ---- fences -------------------------------------------------------------------------------------

// Completion of work that no stream orders: a disk read, a gloo work item, another runtime's
// future. Put one in rc_save.fence together with a tensor that is still being written. A fence that
// goes unsignalled signals RC_E_STATE first, so nobody waits for ever.
class fence : public detail::handle<rc_fence, rc_fence_release> {
 public:
  using handle::handle;
  // rc_fence_create.
  static fence create(context& c);
  // rc_fence_signal: completes it, from any thread, with RC_OK or the failure that waiters get.
  // Throws RC_E_STATE the second time.
  void signal(rc_status result = RC_OK);
  // rc_fence_test: signalled? Never blocks. Throws the failure it was signalled with; what() is the
  // code's name then, as the host's result comes without a text.
  bool test();
  // rc_fence_wait: false after `timeout_ns` without a signal; the default waits for ever. Throws as
  // test() does.
  bool wait(std::uint64_t timeout_ns = UINT64_MAX);
  // rc_fence_on_done: calls done(result) once, here if it is signalled already, else in the
  // signalling thread, at the latest when the fence is destroyed. What it throws is dropped.
  void on_done(std::function<void(rc_status)> done);
};

// ---- modules ------------------------------------------------------------------------------------

// How a host makes a module's missing slots again; only replay must be set. In a callback
// region_ref(args.region) has the calls; replay() of that same region throws RC_E_STATE there, and
// cancel() takes effect afterwards.
struct replay_ops {
  // Regenerates the slots in args.missing and no others, through alloc() and view() or into the
  // host's own storage. Nested regions take args.region as their parent. What it throws leaves the
  // region EMPTY, to be tried again or cancelled.
  std::function<void(const rc_replay_args&)> replay;
  // For slots declared RC_OUTPUT_HOST only: gives back the host's storage in discard(), and ...
  std::function<void(const rc_slot_args&)> drop;
  // ... makes it writable again before a replay.
  std::function<void(const rc_slot_args&)> refill;
};

// Host state that replay must see as the forward saw it: RNG trackers, FP8 scales, autocast flags.
//
//     auto precision = rcore::side_state::of<mode>(
//         [] { return current; }, [](const mode& then) { return std::exchange(current, then); });
class side_state {
 public:
  // capture() runs in begin and returns a Token. exchange(token) runs before each replay, installs
  // what the token holds and returns a Token of what was there; after the replay, also a failed
  // one, it is called again with that. Both run on the thread that begins or replays the region;
  // each token is destroyed once, on any thread.
  template <class Token>
  static side_state of(std::function<Token()> capture, std::function<Token(const Token&)> exchange);
  // The C table, for rc_module_desc.states; valid while this object lives.
  const rc_side_state* table() const noexcept;
  // For after a rc_module_register of your own has taken table(): the library destroys the state
  // from then on. submodule::add sees to it by itself.
  void disown() noexcept;

 private:
  using owner = std::unique_ptr<void, void (*)(void*)>;
  side_state() = default;
  rc_side_state table_ = rc_side_state_init();
  owner owned_{nullptr, nullptr};
};

// One slot's description for rc_module_desc.slots; `name` is borrowed until the call that takes the
// description returns.
inline rc_slot_desc slot(const char* name, rc_role role, rc_flags flags = 0) noexcept;

// A registered module: what a policy speaks about. Register it once, not once a step; live regions
// keep it when this object goes. (Not `module`: that is no plain identifier in C++20.)
class submodule : public detail::handle<rc_module, rc_module_release> {
 public:
  using handle::handle;
  // rc_module_register with lambdas: desc.ops is filled in here, and desc.states where `states` has
  // any. On success the library owns the lambdas and the states; if it throws they are destroyed.
  static submodule add(context& c, rc_module_desc desc, replay_ops ops,
                       std::vector<side_state> states = {});
  // rc_module_register with a description that is complete: a built-in kernel, whose parameters
  // are consumed on success, or C callbacks.
  static submodule add(context& c, const rc_module_desc& desc);

 private:
  static rc_module_ops table_of(replay_ops* ops) noexcept;
};

// ---- communicator groups ------------------------------------------------------------------------

// A named group of processes: what a decision's `group` names. Its communicator, or lambda, must
// outlive every call that uses the group. Destroying the object aborts no collective in flight.
class comm : public detail::handle<rc_comm, rc_comm_release> {
 public:
  using handle::handle;
  // Enqueues on the stream: `recv` gets the bytes_per_rank bytes of each rank, in rank order.
  using all_gather =
      std::function<void(const void* send, void* recv, std::uint64_t bytes_per_rank, rc_stream)>;
  // rc_comm_create over the host's own all-gather. `name` ("tp") is unique in the context.
  static comm create(context& c, const char* name, std::uint32_t rank, std::uint32_t size,
                     all_gather gather);
  // rc_comm_create with a complete description: NCCL, a group of one, C callbacks. Throws
  // RC_E_UNSUPPORTED for NCCL in a build without it.
  static comm create(context& c, const rc_comm_desc& desc);
};

// ---- steps --------------------------------------------------------------------------------------

// The scope of one training step. Several may be open at once; the first one owns the static arena.
// Regions that are left in it at its end are cancelled and counted in the report: a leak is told,
// and does not reach the next step.
class step {
 public:
  step() noexcept = default;
  step(step&& other) noexcept;
  // Swaps: the step that stood here ends with `other`.
  step& operator=(step&& other) noexcept;
  // Ends a step that end() has not ended, as an exception on its way would leave it, on the NULL
  // stream. A failure is dropped, and the step stays open then.
  ~step();
  // rc_step_begin. Pass RC_STEP_LOG in desc.flags for context::predict, RC_STEP_PROFILE for
  // plan::measured, cap_bytes for a hard limit: calls that would pass it throw RC_E_BUDGET.
  static step begin(context& c, const rc_step_desc& desc = rc_step_desc_init());
  // rc_step_end. Throws RC_E_STATE while a region of the step is being replayed, RC_E_CAPTURE on a
  // stream that is being captured; the step stays open then, and this object keeps it.
  rc_step_report end(rc_stream stream = nullptr);
  // For rc_region_desc.step; NULL once ended.
  rc_step* get() const noexcept { return p_; }

 private:
  rc_step* p_ = nullptr;
};

// ---- regions ------------------------------------------------------------------------------------

// The calls on a region, without ownership: what a callback makes of args.region, and what
// functions take that only use a region. Copies are free; one is valid while a count is held.
// With an empty region_ref every call does nothing and returns RC_PASS or zeros: a host needs no
// branch where begin() passed. `slot` counts from 0 in the order of the module's description.
class region_ref {
 public:
  region_ref() noexcept = default;
  explicit region_ref(rc_region* r) noexcept : r_(r) {}
  rc_region* get() const noexcept { return r_; }
  explicit operator bool() const noexcept { return r_ != nullptr; }

  // Forward: what the region holds. save, link, alloc and output are for a region that is OPEN or
  // in replay, add_slot, forward and end for one that is OPEN, discard for one that is not; each
  // throws RC_E_STATE elsewhere, and RC_E_MEMORY or RC_E_BUDGET where a copy or block has no room.

  // rc_region_save, all items or none. Tensors in items are consumed if it returns RC_OK: detach()
  // their owners then. `views` receives, item by item, views of what was saved, for a compiled host
  // to let its forward read.
  rc_status save(const std::vector<rc_save>& items, rc_stream stream = nullptr,
                 std::vector<rc_tensor_spec>* views = nullptr);
  // Borrowed memory: copied in stream order, or shared without a copy where it is another slot's.
  rc_status save(std::uint32_t slot, const rc_tensor_spec& view, rc_stream stream = nullptr);
  // An owned tensor: the library's afterwards, and `t` is empty. It is still `t`'s if this throws
  // or the region is empty.
  rc_status save(std::uint32_t slot, tensor&& t, rc_stream stream = nullptr);
  // Slot `source_slot` of another region, without a copy. Where the policy discards that one,
  // replay makes it again first.
  rc_status link(std::uint32_t slot, region_ref source, std::uint32_t source_slot,
                 rc_stream stream = nullptr);
  // rc_region_slot_add: one more slot, of this region alone; returns its index.
  std::uint32_t add_slot(const rc_slot_desc& desc);
  // rc_region_alloc: the core's memory for a slot, of `like`'s dtype and shape. data is NULL where
  // a replay does not want the slot. The note RC_MOVED is not reported; check(rc_region_alloc(...))
  // tells.
  rc_tensor_spec alloc(std::uint32_t slot, const rc_tensor_spec& like, rc_stream stream = nullptr);
  // rc_region_output: an output in the host's memory. RC_PASS in replay.
  rc_status output(std::uint32_t slot, rc_output_mode mode, const rc_tensor_spec& view,
                   rc_stream stream = nullptr);
  // rc_region_forward: runs the module's built-in kernel. Throws RC_E_UNSUPPORTED where it has
  // none.
  rc_status forward(rc_stream s = nullptr);
  // rc_region_end: seals it. Intermediates that the policy recomputes are gone: no forward work
  // enqueued later may read them. Outputs stay until discard().
  rc_status end(rc_stream s = nullptr);
  // rc_region_discard: every forward reader of the outputs is enqueued on `s`. Call it always;
  // RC_PASS where the policy keeps them.
  rc_status discard(rc_stream s = nullptr);

  // Backward: from EMPTY to READY, and what is read there.

  // rc_region_prefetch, optional: starts copy-back early. RC_PASS where nothing is to fetch.
  rc_status prefetch(rc_stream s = nullptr);
  // rc_backward_replay of this region alone, and of those it needs. Costs nothing where nothing is
  // missing. Throws what the module's replay threw (RC_E_HOST), RC_E_MISMATCH with the slot in a
  // context that verifies, RC_E_STATE while OPEN, once CANCELLED or from inside its own replay. The
  // region can be tried again or cancelled; error::info() has its id.
  rc_status replay(rc_stream s = nullptr);
  // rc_region_view: borrowed memory, until the slot is done or dropped or the region released.
  // Throws RC_E_STATE where the slot is missing (replay first) or was never filled.
  rc_tensor_spec view(std::uint32_t slot, rc_stream s = nullptr) const;
  // rc_region_tensor: the same as a tensor, for another framework. Its memory outlives the region;
  // the slot counts as kept from then on. Throws as view() does, and RC_E_UNSUPPORTED where the
  // slot lies in the host's own memory.
  tensor take(std::uint32_t slot, rc_stream s = nullptr);
  // rc_region_restore: a copy into the host's buffer, of the slot's dtype and shape.
  rc_status restore(std::uint32_t slot, const rc_tensor_spec& destination, rc_stream s = nullptr);
  // rc_region_done: backward has read the slot; its memory is free in the order of `s`. RC_PASS the
  // second time.
  rc_status done(std::uint32_t slot, rc_stream s = nullptr);

  // What a module's code asks, the same in forward and in replay.

  // rc_region_wants: must this run produce the slot? Always true in forward and for an empty
  // region.
  bool wants(std::uint32_t slot) const;
  // rc_region_missing: the slots a replay has to make, ascending.
  std::vector<std::uint32_t> missing() const;
  // rc_region_decide, for a choice that replay must repeat (a router's, a sampler's): where phase()
  // is RC_PHASE_FORWARD make it, then call this everywhere. Forward records `value` (RC_OK), replay
  // overwrites value's memory with the record (RC_PASS), an empty region leaves it alone. Throws
  // RC_E_MISMATCH where replay comes with another dtype or shape.
  rc_status decide(std::uint32_t slot, const rc_tensor_spec& value, rc_stream s = nullptr);
  // rc_region_rng: `blocks` Philox counter blocks, which a replay gets again call by call. Throws
  // RC_E_MISMATCH where a replay asks for another number than the forward did.
  rc_rng rng(std::uint64_t blocks);
  // rc_region_rng_record: what the forward reserved by its index-th rng(), for a backward that
  // needs the mask; false and zeros past the last.
  bool rng_record(std::uint32_t index, rc_rng* out) const;
  // rc_region_phase. Count losses and amax where this is RC_PHASE_FORWARD, and nowhere else.
  rc_phase phase() const noexcept;
  // rc_region_query: id, state, bytes held and dropped, replays, at this moment.
  rc_region_info query() const;
  // rc_region_slot_query: name, role, what the policy decided, whether it is present or linked.
  rc_slot_info query(std::uint32_t slot) const;
  // rc_region_cancel: drops what it holds and never replays it, in any state; counts stay as they
  // are. RC_PENDING while it is replayed, runs its forward or its drop.
  rc_status cancel(rc_stream s = nullptr);

 protected:
  rc_status save_one(const rc_save& item, rc_stream stream);
  rc_region* r_ = nullptr;
};

// One count of a region. Passes as a region_ref wherever one is taken.
class region : public region_ref {
 public:
  region() noexcept = default;
  // Takes over the caller's count.
  explicit region(rc_region* owned) noexcept : region_ref(owned) {}
  region(region&& other) noexcept;
  // Swaps: the region that stood here is released with `other`.
  region& operator=(region&& other) noexcept;
  // Releases it in the order of the stream given to release_on, NULL at first.
  ~region();

  // rc_region_begin: one run of desc.module for one microbatch; the policy is asked now. Empty
  // where desc.flags allow it (RC_REGION_MAY_PASS) and nothing at this site needs a region.
  static region begin(context& c, const rc_region_desc& desc);
  // The same with an object that every callback of the region finds in region_data. The library
  // destroys it with the region, on any thread; where no region came out it is destroyed here.
  template <class T>
  static region begin(context& c, rc_region_desc desc, std::unique_ptr<T> data);
  // rc_region_find: one more count of the live region with that id (query().id), or empty. Ids are
  // never used twice in a process.
  static region find(context& c, std::uint64_t id);
  // rc_region_lookup: the same by step, module, chunk, microbatch and occurrence (0: the latest),
  // for hosts that cannot carry a handle from forward to backward.
  static region lookup(context& c, const rc_region_key& key);
  // rc_region_retain: a second count of the same region, whose stream is NULL.
  region share() const;
  // Gives the count to the caller, to be dropped with rc_region_release.
  rc_region* detach() noexcept;
  // Before a destructor may run: memory of the region is free in the order of this stream.
  void release_on(rc_stream stream) noexcept;
  // rc_region_release, now and in the order of `stream` (release_on is for the destructor); empty
  // afterwards. The last count ends the region in any state; one that others link to lives on until
  // these are gone.
  void release(rc_stream stream = nullptr) noexcept;

 private:
  rc_stream stream_ = nullptr;
};

// rc_backward_replay of several regions, in forward order; NULL entries are skipped. If one fails,
// those before it are READY, it can be tried again, those behind it are untouched, and
// error::info().region_id is its id. Two threads that replay one region run it once.
inline rc_status replay(const std::vector<rc_region*>& regions, rc_stream stream = nullptr);

}  // namespace rcore

// The definitions: first how a status is thrown, ...
#include "detail/error.hpp"
// ... then what takes lambdas, C tables and texts across the boundary, which the others use, ...
#include "detail/callback.hpp"
#include "detail/hooks.hpp"
#include "detail/text.hpp"
// ... then each of the nouns above.
#include "detail/comm.hpp"
#include "detail/context.hpp"
#include "detail/fence.hpp"
#include "detail/library.hpp"
#include "detail/module.hpp"
#include "detail/plan.hpp"
#include "detail/policy.hpp"
#include "detail/region.hpp"
#include "detail/region_ref.hpp"
#include "detail/side_state.hpp"
#include "detail/step.hpp"
#include "detail/tensor.hpp"
#endif  // RCORE_RCORE_HPP
