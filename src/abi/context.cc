// src/abi/context.cc: contexts, communicator groups, features, statistics.
#include <cmath>

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/kernels.h"
#include "src/abi/guard.h"
#include "src/comm/comm.h"
#include "src/device/device_cpu.h"
#include "src/device/device_host.h"
#include "src/device/pages.h"
#include "src/region/predict.h"
#include "src/trace/report.h"

using rc::Context;
using rc::Locked;
using rc::Status;
using namespace rc::abi;

namespace {

constexpr int kMaxThreads = 1024;

// The host's parallel-for behind the kernels' interface.
class HostParallel final : public rc::Parallel {
 public:
  explicit HostParallel(const rc_parallel& table) : table_(table) {}
  ~HostParallel() override {
    if (table_.destroy) table_.destroy(table_.user_data);
  }
  int width() const override { return table_.width; }
  void run(int64_t n, rc::FunctionRef<void(int64_t)> task) override {
    table_.run(
        table_.user_data, n,
        [](void* argument, int64_t i) {
          (*static_cast<rc::FunctionRef<void(int64_t)>*>(argument))(i);
        },
        &task);
  }

 private:
  rc_parallel table_;
};

struct ContextTables {
  rc_allocator allocator;
  rc_sink sink;
  rc_parallel parallel;
};

Status read_tables(const rc_context_desc& desc, ContextTables* t) {
  if (desc.allocator) {
    RC_TRY(rc::import_struct(desc.allocator, RC_TYPE_ALLOCATOR, "desc.allocator", &t->allocator));
    if (!t->allocator.alloc) return rc::argument_error("desc.allocator.alloc", "alloc is NULL");
    if (!t->allocator.free) return rc::argument_error("desc.allocator.free", "free is NULL");
  }
  if (desc.sink) RC_TRY(rc::import_struct(desc.sink, RC_TYPE_SINK, "desc.sink", &t->sink));
  if (desc.parallel) {
    RC_TRY(rc::import_struct(desc.parallel, RC_TYPE_PARALLEL, "desc.parallel", &t->parallel));
    if (!t->parallel.run) return rc::argument_error("desc.parallel.run", "run is NULL");
    if (t->parallel.width < 1)
      return rc::argument_error("desc.parallel.width",
                                rc::format("%d; it must be at least 1", t->parallel.width));
  }
  return rc::ok_status();
}

Status create(const rc_context_desc* in, rc_context** out) {
  rc_context_desc desc;
  RC_TRY(rc::import_struct(in, RC_TYPE_CONTEXT_DESC, "desc", &desc));
  if (desc.target_version > RC_HEADER_VERSION)
    return Status(RC_E_VERSION, "desc.target_version",
                  rc::format("the program needs rcore %u; this library is %u", desc.target_version,
                             static_cast<unsigned>(RC_HEADER_VERSION)));
  if (desc.device == RC_DEVICE_CUDA)
    return Status(RC_E_UNSUPPORTED, "desc.device", "this build has no CUDA device");
  if (desc.device != RC_DEVICE_CPU)
    return rc::argument_error("desc.device",
                              rc::format("%d is no rc_device", static_cast<int>(desc.device)));
  if (desc.n_threads < 0 || desc.n_threads > kMaxThreads)
    return rc::argument_error("desc.n_threads",
                              rc::format("%d; it must be 0 to %d", desc.n_threads, kMaxThreads));
  constexpr rc_flags kKnown = 0x07;
  if (desc.flags & ~kKnown)
    return rc::argument_error(
        "desc.flags",
        rc::format("unknown bits 0x%llx", static_cast<unsigned long long>(desc.flags & ~kKnown)));
  ContextTables tables = {};
  RC_TRY(read_tables(desc, &tables));
  std::unique_ptr<rc::Parallel> parallel;
  if (!desc.parallel) {
    if (desc.n_threads > 1)
      parallel = std::make_unique<rc::ThreadPool>(desc.n_threads);
    else
      parallel = std::make_unique<rc::SerialParallel>();
  }
  std::unique_ptr<rc::Device> device = rc::make_cpu_device(desc.park_bytes_min);
  auto context = std::make_unique<Context>(nullptr, desc.flags, desc.rng_seed);
  // From here on nothing fails: the host's tables are ours, and destroyed once.
  if (desc.parallel) parallel = std::make_unique<HostParallel>(tables.parallel);
  if (desc.allocator)
    device = rc::make_host_allocator_device(tables.allocator, std::move(device), desc.device_id);
  context->storage.set_device(std::move(device));
  context->parallel = std::move(parallel);
  context->sink = tables.sink;
  *out = reinterpret_cast<rc_context*>(context.release());
  return rc::ok_status();
}

Status check_requirements(Context* context, const rc::Policy& policy) {
  using What = rc::Requirement::What;
  for (const rc::Requirement& need : policy.requirements()) {
    if (need.what == What::kGroup) {
      bool found = false;
      for (const rc::Comm* comm : context->comms) found = found || comm->name == need.name;
      if (!found)
        return Status(RC_E_UNSUPPORTED, need.rule,
                      rc::format("the context has no communicator group '%s'", need.name.c_str()));
      return Status(
          RC_E_UNSUPPORTED, need.rule,
          rc::format("this build cannot split slots over a group ('%s')", need.name.c_str()));
    }
    return Status(RC_E_UNSUPPORTED, need.rule,
                  rc::format("this build has no %s", need.name.c_str()));
  }
  return rc::ok_status();
}

}  // namespace

extern "C" {

// A host with a newer header asks for numbers that the enumeration here does not have.
__attribute__((no_sanitize("enum"))) int32_t rc_has_feature(rc_feature feature) noexcept {
  switch (static_cast<uint32_t>(feature)) {
    case RC_FEATURE_BLAS:
      return rc::cpu::have_blas();
    case RC_FEATURE_PAGE_PARKING:
      return rc::probed_parking() != rc::Parking::kOff;
    default:
      return 0;
  }
}

rc_status rc_context_create(const rc_context_desc* desc, rc_context** out) noexcept {
  return guard("rc_context_create", [&](uint64_t*) -> Status {
    if (!out) return rc::argument_error("out", "out is NULL");
    *out = nullptr;
    return create(desc, out);
  });
}

rc_status rc_context_configure(rc_context* handle, rc_policy* policy) noexcept {
  return guard("rc_context_configure", [&](uint64_t*) -> Status {
    Context* context = unwrap(handle);
    RC_TRY(check(context));
    std::shared_ptr<const rc::Policy> table;
    if (policy) table = *reinterpret_cast<std::shared_ptr<const rc::Policy>*>(policy);
    Locked lock(context);
    if (table) RC_TRY(check_requirements(context, *table));
    return context->configure(lock, std::move(table));
  });
}

rc_status rc_context_poll(rc_context* handle) noexcept {
  return guard("rc_context_poll", [&](uint64_t*) -> Status {
    RC_TRY(check(unwrap(handle)));
    Locked lock(unwrap(handle));  // its end runs what is due
    return rc::ok_status();
  });
}

rc_status rc_context_drain(rc_context* handle) noexcept {
  return guard("rc_context_drain", [&](uint64_t*) -> Status {
    RC_TRY(check(unwrap(handle)));
    Locked lock(unwrap(handle));
    return unwrap(handle)->storage.device().synchronize(nullptr);
  });
}

void rc_context_release(rc_context* handle) noexcept {
  Context* context = unwrap(handle);
  if (!context || context->fork_generation != rc::fork_generation()) return;
  (void)guard("rc_context_release", [&](uint64_t*) -> Status {
    Locked lock(context);
    --context->handles;
    return rc::ok_status();
  });
}

rc_status rc_comm_create(rc_context* handle, const rc_comm_desc* in, rc_comm** out) noexcept {
  return guard("rc_comm_create", [&](uint64_t*) -> Status {
    if (!out) return rc::argument_error("out", "out is NULL");
    *out = nullptr;
    Context* context = unwrap(handle);
    RC_TRY(check(context));
    rc_comm_desc desc;
    RC_TRY(rc::import_struct(in, RC_TYPE_COMM_DESC, "desc", &desc));
    rc_comm_ops ops = {};
    if (desc.ops) RC_TRY(rc::import_struct(desc.ops, RC_TYPE_COMM_OPS, "desc.ops", &ops));
    desc.ops = desc.ops ? &ops : nullptr;
    return rc::create_comm(context, desc, reinterpret_cast<rc::Comm**>(out));
  });
}

void rc_comm_release(rc_comm* handle) noexcept {
  rc::Comm* comm = reinterpret_cast<rc::Comm*>(handle);
  if (!comm || comm->context->fork_generation != rc::fork_generation()) return;
  (void)guard("rc_comm_release", [&](uint64_t*) -> Status {
    rc::release_comm(comm);
    return rc::ok_status();
  });
}

rc_status rc_stats_get(rc_context* handle, rc_stats* out) noexcept {
  return guard("rc_stats_get", [&](uint64_t*) -> Status {
    RC_TRY(check(unwrap(handle)));
    return fill(out, RC_TYPE_STATS, "out", [&](rc_stats* value) -> Status {
      Locked lock(unwrap(handle));
      rc::read_stats(*unwrap(handle), value);
      return rc::ok_status();
    });
  });
}

rc_status rc_stats_reset_peak(rc_context* handle) noexcept {
  return guard("rc_stats_reset_peak", [&](uint64_t*) -> Status {
    RC_TRY(check(unwrap(handle)));
    Locked lock(unwrap(handle));
    unwrap(handle)->storage.reset_peak();
    return rc::ok_status();
  });
}

rc_status rc_report(rc_context* handle, char* buffer, uint64_t capacity,
                    uint64_t* needed) noexcept {
  if (needed) *needed = 0;
  return guard("rc_report", [&](uint64_t*) -> Status {
    RC_TRY(check(unwrap(handle)));
    std::string text;
    {
      Locked lock(unwrap(handle));
      text = rc::report_json(*unwrap(handle));
    }
    return write_text(text, buffer, capacity, needed);
  });
}

rc_status rc_predict(rc_context* handle, rc_policy* policy, rc_prediction* out) noexcept {
  return guard("rc_predict", [&](uint64_t*) -> Status {
    Context* context = unwrap(handle);
    RC_TRY(check(context));
    std::shared_ptr<const rc::Policy> table;
    if (policy) table = *reinterpret_cast<std::shared_ptr<const rc::Policy>*>(policy);
    return fill(out, RC_TYPE_PREDICTION, "out", [&](rc_prediction* value) -> Status {
      Locked lock(context);
      return rc::predict(lock, table, value);
    });
  });
}

}  // extern "C"
