// src/comm/comm.h: a named group of processes, as the host described it.
#pragma once

#include <string>

#include "src/status.h"

namespace rc {

class Context;

class Comm {
 public:
  Comm(Context* owner, std::string group, const rc_comm_desc& desc)
      : context(owner),
        name(std::move(group)),
        backend(desc.backend),
        rank(desc.rank),
        size(desc.size) {
    if (desc.ops) ops = *desc.ops;
  }
  Context* const context;
  const std::string name;
  const rc_backend backend;
  const uint32_t rank, size;
  rc_comm_ops ops = {};
};

// Checks and registers the group; names are unique in a context.
Status create_comm(Context* context, const rc_comm_desc& desc, Comm** out);
void release_comm(Comm* comm);

}  // namespace rc
