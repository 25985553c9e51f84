// src/comm/comm.cc: registering communicator groups.
#include "src/comm/comm.h"

#include <cstring>

#include "src/region/context.h"

namespace rc {
namespace {

constexpr size_t kMaxName = 47;

Status check_comm(const rc_comm_desc& desc) {
  if (!desc.name || !*desc.name) return argument_error("desc.name", "the group needs a name");
  if (std::strlen(desc.name) > kMaxName)
    return argument_error("desc.name",
                          format("%zu bytes; at most %zu", std::strlen(desc.name), kMaxName));
  if (desc.size == 0 || desc.rank >= desc.size)
    return argument_error("desc.rank", format("rank %u of %u", desc.rank, desc.size));
  switch (static_cast<uint32_t>(desc.backend)) {
    case RC_BACKEND_HOST:
      if (!desc.ops || !desc.ops->all_gather)
        return argument_error("desc.ops.all_gather", "a host backend needs all_gather");
      return ok_status();
    case RC_BACKEND_SELF:
      if (desc.size != 1)
        return argument_error("desc.size", format("%u; a SELF group has one member", desc.size));
      return ok_status();
    case RC_BACKEND_NCCL:
      return Status(RC_E_UNSUPPORTED, "desc.backend", "this build has no NCCL");
    default:
      return argument_error("desc.backend",
                            format("%d is no rc_backend", static_cast<int>(desc.backend)));
  }
}

}  // namespace

Status create_comm(Context* context, const rc_comm_desc& desc, Comm** out) {
  RC_TRY(check_comm(desc));
  Locked lock(context);
  for (const Comm* comm : context->comms)
    if (comm->name == desc.name)
      return argument_error("desc.name", format("group '%s' exists already", desc.name));
  auto comm = std::make_unique<Comm>(context, desc.name, desc);
  context->expect_deferred(1);
  context->comms.push_back(comm.get());
  ++context->objects;
  *out = comm.release();
  return ok_status();
}

void release_comm(Comm* comm) {
  Locked lock(comm->context);
  std::erase(comm->context->comms, comm);
  comm->context->settle_deferred(1);
  --comm->context->objects;
  if (comm->ops.destroy)
    comm->context->defer(
        [](void* destroy, void* data, void*) { reinterpret_cast<void (*)(void*)>(destroy)(data); },
        reinterpret_cast<void*>(comm->ops.destroy), comm->ops.user_data);
  delete comm;
}

}  // namespace rc
