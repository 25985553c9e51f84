// src/abi/module.cc: registering submodules.
#include "src/region/module.h"

#include <cstring>

#include "src/abi/guard.h"
#include "src/region/kernel_module.h"

using rc::Context;
using rc::Locked;
using rc::Module;
using rc::Status;
using namespace rc::abi;

namespace {

constexpr size_t kMaxName = 47;
constexpr uint32_t kMaxSlots = 4096;
constexpr uint32_t kMaxStates = 64;

Status check_name(const char* name, const char* extra, const std::string& field) {
  if (!name || !*name) return rc::argument_error(field, "the name is empty");
  if (std::strlen(name) > kMaxName)
    return rc::argument_error(
        field, rc::format("'%.60s' has %zu bytes; at most %zu", name, std::strlen(name), kMaxName));
  for (const char* c = name; *c; ++c)
    if (!std::isalnum(static_cast<unsigned char>(*c)) && *c != '_' && !std::strchr(extra, *c))
      return rc::argument_error(
          field,
          rc::format("'%s' has a character that is no letter, digit or one of _%s", name, extra));
  return rc::ok_status();
}

Status read_slots(const rc_module_desc& desc, std::vector<rc::SlotDef>* out) {
  if (desc.n_slots > kMaxSlots)
    return rc::argument_error("desc.n_slots",
                              rc::format("%u; at most %u", desc.n_slots, kMaxSlots));
  for (uint32_t i = 0; i < desc.n_slots; ++i) {
    rc_slot_desc slot;
    RC_TRY(rc::import_array_element(desc.slots, i, desc.slot_stride, RC_TYPE_SLOT_DESC,
                                    "desc.slots", &slot));
    rc::SlotDef def;
    RC_TRY(read_slot(slot, rc::format("desc.slots[%u]", i), &def));
    for (const rc::SlotDef& other : *out)
      if (other.name == def.name)
        return rc::argument_error(rc::format("desc.slots[%u].name", i),
                                  rc::format("'%s' is given twice", slot.name));
    out->push_back(std::move(def));
  }
  return rc::ok_status();
}

Status read_states(const rc_module_desc& desc, std::vector<rc_side_state>* out) {
  if (desc.n_states > kMaxStates)
    return rc::argument_error("desc.n_states",
                              rc::format("%u; at most %u", desc.n_states, kMaxStates));
  if (desc.n_states && !desc.states) return rc::argument_error("desc.states", "states is NULL");
  for (uint32_t i = 0; i < desc.n_states; ++i) {
    rc_side_state state;
    const std::string field = rc::format("desc.states[%u]", i);
    RC_TRY(rc::import_struct(desc.states[i], RC_TYPE_SIDE_STATE, field.c_str(), &state));
    if (!state.capture || !state.swap)
      return rc::argument_error(field, "capture and swap must be set");
    out->push_back(state);
  }
  return rc::ok_status();
}

Status register_module(Context* context, const rc_module_desc* in, rc_module** out) {
  rc_module_desc desc;
  RC_TRY(rc::import_struct(in, RC_TYPE_MODULE_DESC, "desc", &desc));
  RC_TRY(check_name(desc.kind, "", "desc.kind"));
  if ((desc.ops != nullptr) == (desc.kernel != nullptr))
    return rc::argument_error("desc.ops", "exactly one of ops and kernel must be set");
  std::vector<rc::SlotDef> slots;
  std::vector<rc_side_state> states;
  std::unique_ptr<rc::KernelModule> kernel;
  rc_kernel_desc kernel_desc = {};
  rc_module_ops ops = {};
  RC_TRY(read_slots(desc, &slots));
  if (desc.ops) {
    RC_TRY(rc::import_struct(desc.ops, RC_TYPE_MODULE_OPS, "desc.ops", &ops));
    if (!ops.replay) return rc::argument_error("desc.ops.replay", "replay is NULL");
  }
  RC_TRY(read_states(desc, &states));
  if (desc.kernel) {
    if (desc.n_slots)
      return rc::argument_error("desc.n_slots", "a kernel brings its own slots; n_slots must be 0");
    RC_TRY(rc::import_struct(desc.kernel, RC_TYPE_KERNEL_DESC, "desc.kernel", &kernel_desc));
    RC_TRY(rc::KernelModule::create(kernel_desc, &slots, &kernel));
  }
  Locked lock(context);
  auto module = std::make_unique<Module>(context, context->next_serial++);
  module->kind = desc.kind;
  module->name = desc.name && *desc.name ? desc.name : desc.kind;
  module->layer = desc.layer;
  module->slots = std::move(slots);
  module->kernel = std::move(kernel);
  module->read_kind();
  context->expect_deferred(1);
  context->modules.reserve(context->modules.size() + 1);
  context->dead_modules.reserve(context->modules.size() + context->dead_modules.size() + 1);
  std::vector<rc_tensor*> params;
  if (module->kernel) params.assign(kernel_desc.params, kernel_desc.params + kernel_desc.n_params);
  // From here on nothing throws: only now is anything of the host's taken over.
  context->modules.push_back(module.get());
  module->states = std::move(states);
  module->ops = ops;
  module->has_ops = desc.ops != nullptr;
  if (module->kernel) module->kernel->owned = std::move(params);
  ++context->objects;
  *out = reinterpret_cast<rc_module*>(module.release());
  return rc::ok_status();
}

}  // namespace

namespace rc::abi {

Status read_slot(const rc_slot_desc& slot, const std::string& field, SlotDef* out) {
  RC_TRY(check_name(slot.name, ".", field + ".name"));
  if (slot.role < RC_ROLE_INPUT || slot.role > RC_ROLE_DECISION)
    return argument_error(field + ".role",
                          format("%d is no role of a slot", static_cast<int>(slot.role)));
  if ((slot.flags & RC_SLOT_HOST) && slot.role != RC_ROLE_SAVED)
    return argument_error(field + ".flags", "RC_SLOT_HOST is for slots of the role SAVED");
  *out = {.name = slot.name, .role = slot.role, .flags = slot.flags};
  return ok_status();
}

}  // namespace rc::abi

extern "C" {

rc_status rc_module_register(rc_context* handle, const rc_module_desc* desc,
                             rc_module** out) noexcept {
  return guard("rc_module_register", [&](uint64_t*) -> Status {
    if (!out) return rc::argument_error("out", "out is NULL");
    *out = nullptr;
    RC_TRY(check(unwrap(handle)));
    return register_module(unwrap(handle), desc, out);
  });
}

void rc_module_release(rc_module* handle) noexcept {
  Module* module = unwrap(handle);
  if (!module || module->context->fork_generation != rc::fork_generation()) return;
  (void)guard("rc_module_release", [&](uint64_t*) -> Status {
    Locked lock(module->context);
    --module->handles;
    module->context->end_module_if_unused(module);
    return rc::ok_status();
  });
}

}  // extern "C"
