// src/abi/policy.cc: policies: create, ask, describe.
#include "src/policy/policy.h"

#include <cstring>

#include "src/abi/guard.h"

using rc::Status;
using namespace rc::abi;
using PolicyHandle = std::shared_ptr<const rc::Policy>;

namespace {

Status adopt(std::shared_ptr<const rc::Policy> policy, rc_policy** out) {
  *out = reinterpret_cast<rc_policy*>(new PolicyHandle(std::move(policy)));
  return rc::ok_status();
}

const rc::Policy* unwrap_policy(const rc_policy* policy) {
  return policy ? reinterpret_cast<const PolicyHandle*>(policy)->get() : nullptr;
}

void copy_name(char* to, size_t capacity, std::string_view from) {
  const size_t n = std::min(from.size(), capacity - 1);
  if (n > 0) std::memcpy(to, from.data(), n);
  to[n] = '\0';
}

Status decide(const rc_policy* handle, const rc_site* in, rc_decision* out) {
  const rc::Policy* policy = unwrap_policy(handle);
  if (!policy) return Status(RC_E_HANDLE, "policy", "policy is NULL");
  rc_site site;
  RC_TRY(rc::import_struct(in, RC_TYPE_SITE, "site", &site));
  if (!site.kind) return rc::argument_error("site.kind", "kind is NULL");
  int kind = -1;
  RC_TRY(policy->kinds().resolve(site.kind, "site.kind", &kind));
  const rc::Decision d = policy->decide(
      {.kind = site.kind, .layer = site.layer, .chunk = site.chunk, .microbatch = site.microbatch},
      {.name = site.slot ? site.slot : "", .role = site.slot_role});
  out->action = d.action;
  out->tier = d.tier;
  out->codec = d.codec;
  out->first_layer = d.first_layer;
  out->n_layers = d.n_layers;
  out->rule = d.rule;
  copy_name(out->group, sizeof out->group, d.group);
  return rc::ok_status();
}

}  // namespace

extern "C" {

rc_status rc_policy_create(const rc_policy_desc* in, rc_policy** out) noexcept {
  return guard("rc_policy_create", [&](uint64_t*) -> Status {
    if (!out) return rc::argument_error("out", "out is NULL");
    *out = nullptr;
    rc_policy_desc desc;
    RC_TRY(rc::import_struct(in, RC_TYPE_POLICY_DESC, "desc", &desc));
    rc::PolicySpec spec;
    RC_TRY(rc::read_policy_desc(desc, &spec));
    std::shared_ptr<const rc::Policy> policy;
    RC_TRY(rc::create_policy(spec, &policy));
    return adopt(std::move(policy), out);
  });
}

rc_status rc_policy_create_json(const char* text, uint64_t length, rc_policy** out) noexcept {
  return guard("rc_policy_create_json", [&](uint64_t*) -> Status {
    if (!out) return rc::argument_error("out", "out is NULL");
    *out = nullptr;
    if (!text) return rc::argument_error("text", "text is NULL");
    std::shared_ptr<const rc::Policy> policy;
    RC_TRY(rc::create_policy_json({text, length}, &policy));
    return adopt(std::move(policy), out);
  });
}

rc_status rc_policy_decide(const rc_policy* policy, const rc_site* site,
                           rc_decision* out) noexcept {
  return guard("rc_policy_decide", [&](uint64_t*) -> Status {
    return fill(out, RC_TYPE_DECISION, "out",
                [&](rc_decision* value) { return decide(policy, site, value); });
  });
}

rc_status rc_policy_describe(const rc_policy* policy, char* buffer, uint64_t capacity,
                             uint64_t* needed) noexcept {
  if (needed) *needed = 0;
  return guard("rc_policy_describe", [&](uint64_t*) -> Status {
    if (!policy) return Status(RC_E_HANDLE, "policy", "policy is NULL");
    return write_text(rc::describe(*unwrap_policy(policy)), buffer, capacity, needed);
  });
}

rc_status rc_policy_note(const rc_policy* policy, uint32_t index, rc_note* out) noexcept {
  return guard("rc_policy_note", [&](uint64_t*) -> Status {
    if (!policy) return Status(RC_E_HANDLE, "policy", "policy is NULL");
    return fill(out, RC_TYPE_NOTE, "out", [&](rc_note* value) -> Status {
      const auto& notes = unwrap_policy(policy)->notes();
      if (index >= notes.size()) return Status::note(RC_PASS);
      copy_name(value->field, sizeof value->field, notes[index].field);
      copy_name(value->message, sizeof value->message, notes[index].message);
      return rc::ok_status();
    });
  });
}

void rc_policy_release(rc_policy* policy) noexcept {
  delete reinterpret_cast<PolicyHandle*>(policy);
}

}  // extern "C"
