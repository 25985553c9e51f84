// src/abi/plan.cc: planning: create, policy, report, inventory, evaluate.
#include "src/plan/plan.h"

#include "src/abi/guard.h"
#include "src/budget/measured_plan.h"

using rc::Status;
using namespace rc::abi;
using PlanHandle = std::shared_ptr<const rc::plan::Plan>;
using PolicyHandle = std::shared_ptr<const rc::Policy>;

namespace {

Status read(const char* text, uint64_t length, rc::plan::PlanRequest* out) {
  if (!text) return rc::argument_error("request", "request is NULL");
  return rc::plan::read_request({text, length}, out);
}

const rc::plan::Plan* unwrap_plan(const rc_plan* plan) {
  return plan ? reinterpret_cast<const PlanHandle*>(plan)->get() : nullptr;
}

}  // namespace

extern "C" {

rc_status rc_plan_create(const char* request, uint64_t length, rc_plan** out) noexcept {
  return guard("rc_plan_create", [&](uint64_t*) -> Status {
    if (!out) return rc::argument_error("out", "out is NULL");
    *out = nullptr;
    rc::plan::PlanRequest asked;
    RC_TRY(read(request, length, &asked));
    PlanHandle plan;
    RC_TRY(rc::plan::make_plan(std::move(asked), &plan));
    *out = reinterpret_cast<rc_plan*>(new PlanHandle(std::move(plan)));
    return rc::ok_status();
  });
}

rc_status rc_plan_measured(rc_context* handle, const rc_plan_budget* in, rc_plan** out) noexcept {
  return guard("rc_plan_measured", [&](uint64_t*) -> Status {
    if (!out) return rc::argument_error("out", "out is NULL");
    *out = nullptr;
    RC_TRY(check(unwrap(handle)));
    rc_plan_budget budget;
    RC_TRY(rc::import_struct(in, RC_TYPE_PLAN_BUDGET, "budget", &budget));
    PlanHandle plan;
    RC_TRY(rc::budget::make_measured_plan(
        unwrap(handle), {budget.bytes, budget.fraction, budget.time_limit_seconds}, &plan));
    *out = reinterpret_cast<rc_plan*>(new PlanHandle(std::move(plan)));
    return rc::ok_status();
  });
}

rc_status rc_plan_policy(const rc_plan* plan, rc_policy** out) noexcept {
  return guard("rc_plan_policy", [&](uint64_t*) -> Status {
    if (!out) return rc::argument_error("out", "out is NULL");
    *out = nullptr;
    if (!plan) return Status(RC_E_HANDLE, "plan", "plan is NULL");
    *out = reinterpret_cast<rc_policy*>(new PolicyHandle(unwrap_plan(plan)->policy));
    return rc::ok_status();
  });
}

rc_status rc_plan_report(const rc_plan* plan, char* buffer, uint64_t capacity,
                         uint64_t* needed) noexcept {
  if (needed) *needed = 0;
  return guard("rc_plan_report", [&](uint64_t*) -> Status {
    if (!plan) return Status(RC_E_HANDLE, "plan", "plan is NULL");
    return write_text(unwrap_plan(plan)->report, buffer, capacity, needed);
  });
}

void rc_plan_release(rc_plan* plan) noexcept {
  delete reinterpret_cast<PlanHandle*>(plan);
}

rc_status rc_plan_inventory(const char* request, uint64_t length, char* buffer, uint64_t capacity,
                            uint64_t* needed) noexcept {
  if (needed) *needed = 0;
  return guard("rc_plan_inventory", [&](uint64_t*) -> Status {
    rc::plan::PlanRequest asked;
    RC_TRY(read(request, length, &asked));
    return write_text(rc::plan::describe_inventory(asked), buffer, capacity, needed);
  });
}

rc_status rc_plan_evaluate(const char* request, uint64_t length, const rc_policy* policy,
                           char* buffer, uint64_t capacity, uint64_t* needed) noexcept {
  if (needed) *needed = 0;
  return guard("rc_plan_evaluate", [&](uint64_t*) -> Status {
    if (!policy) return Status(RC_E_HANDLE, "policy", "policy is NULL");
    rc::plan::PlanRequest asked;
    RC_TRY(read(request, length, &asked));
    const rc::Policy& of = **reinterpret_cast<const PolicyHandle*>(policy);
    return write_text(rc::plan::describe_evaluation(asked, of), buffer, capacity, needed);
  });
}

}  // extern "C"
