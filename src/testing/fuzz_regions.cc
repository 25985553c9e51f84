// src/testing/fuzz_regions.cc: bytes as a sequence of ABI calls on six modules under some policy,
// compared with a model of regions after each call.
//
// Byte 0: flags of the context; byte 1: its policy; then operations, each a byte and what it reads.
#include <algorithm>

#include "src/testing/fuzz_driver.h"

namespace rc::testing {

void Driver::step() {
  switch (in_.below(32)) {
    case 0:
    case 1:
    case 2:
      return begin();
    case 3:
      return save_tensor();
    case 4:
      return save_view();
    case 5:
    case 6:
      return save_link(false);
    case 7:
      return save_link(true);
    case 8:
    case 9:
      return alloc();
    case 10:
      return output();
    case 11:
      return decide();
    case 12:
      return rng();
    case 13:
    case 14:
      return end();
    case 15:
      return discard();
    case 16:
    case 17:
    case 18:
      return replay();
    case 19:
      return done();
    case 20:
      return cancel();
    case 21:
    case 22:
      return release();
    case 23:
      return restore();
    case 24:
      return export_tensor();
    case 25:
      return step_begin();
    case 26:
      return step_end();
    case 27:
      return look_up();
    case 28:
      return ask();
    case 29:
      return w_.check_null_region();
    case 30:
      return w_.configure(in_.below(World::kPolicies));
    default:  // the host's allocator fails soon
      w_.fail_alloc = 1 + in_.below(8);
      w_.loose = true;
  }
}

void Driver::begin() {
  if (w_.regions.size() >= kMaxRegions) return;
  const uint32_t choice = in_.byte();
  ModelRegion* parent = choice & 0x80 ? pick() : nullptr;
  int step = static_cast<int>((choice >> 4) & 3) - 1;
  if (step >= World::kSteps || (step >= 0 && !w_.steps[step])) step = -1;
  const rc_flags flags = (choice & 0x40 && choice & 0x08) ? RC_REGION_MAY_PASS : 0;
  touched_ = w_.begin(static_cast<int>((choice & 7) % World::kModules), step, parent,
                      (choice >> 3) & 1, flags);
}

void Driver::end() {
  ModelRegion* r = pick();
  if (!r) return;
  const rc_status status = rc_region_end(r->handle, nullptr);
  RC_CHECK((status >= 0) == (r->state == ModelRegion::kOpen), "end gave %d", status);
  if (status >= 0) model_end(r);
}

void Driver::discard() {
  ModelRegion* r = pick();
  if (!r) return;
  const rc_status status = rc_region_discard(r->handle, nullptr);
  RC_CHECK((status >= 0) == (r->state != ModelRegion::kOpen), "discard gave %d", status);
  model_discard(r);
}

void Driver::replay() {
  const uint32_t n = 1 + in_.below(3);
  ModelRegion* list[3] = {};
  rc_region* handles[3] = {};
  for (uint32_t i = 0; i < n; ++i)
    if ((list[i] = pick())) handles[i] = list[i]->handle;
  w_.other = pick();
  w_.behaviour = static_cast<Behaviour>(in_.below(static_cast<uint32_t>(Behaviour::kCount)));
  w_.interfered = false;
  const bool tight = n == 1 && list[0] && !list[0]->links_out && !w_.loose;
  for (ModelRegion* r : list)
    if (r) r->replayed = true;
  const bool held =
      n >
      1;  // a callback may release the region it is called for, not others that are still to come
  for (ModelRegion* r : list) {
    if (!r || !held) continue;
    RC_CHECK(rc_region_retain(r->handle) == RC_OK, "retain");
    ++r->handles;
  }
  const rc_status status = rc_backward_replay(handles, n, nullptr);
  uint32_t failed = n;
  if (status < 0) {
    rc_error_info error = rc_error_info_init();
    RC_CHECK(rc_error_last(&error) == RC_OK, "a failure leaves a record");
    const bool expected =
        status == RC_E_STATE || (w_.interfered && (status == RC_E_HOST || status == RC_E_MISMATCH));
    RC_CHECK(expected || w_.loose, "replay gave %d: %s", status, error.message);
    for (failed = 0; failed < n && !(list[failed] && list[failed]->id == error.region_id); ++failed)
      continue;
    RC_CHECK(failed < n, "the record names a region of the list, not %llu: %s",
             static_cast<unsigned long long>(error.region_id), error.message);
    if (w_.may_be_tried(*list[failed])) model_distrusted(list[failed]);
  }
  for (uint32_t i = 0; i < failed; ++i) {
    if (!list[i]) continue;
    RC_CHECK(list[i]->state == ModelRegion::kEnded, "a replay of a region in model state %d",
             list[i]->state);
    model_replayed(list[i]);
  }
  if (tight && status < 0)
    RC_CHECK(w_.interfered || list[0]->state != ModelRegion::kEnded || list[0]->transient,
             "replay: %s", last_error().c_str());
  if (tight && w_.interfered)
    RC_CHECK(status < 0, "a callback that failed, and a replay that did not");
  if (w_.to_cancel) model_cancel(w_.to_cancel);
  w_.to_cancel = nullptr;
  w_.behaviour = Behaviour::kGood;
  for (ModelRegion* r : list) {
    if (!r || !held) continue;
    --r->handles;
    rc_region_release(r->handle, nullptr);
  }
}

void Driver::done() {
  ModelRegion* r = pick();
  if (!r) return;
  const uint32_t at = slot();
  const rc_status status = rc_region_done(r->handle, at, nullptr);
  RC_CHECK((status >= 0) == (r->state != ModelRegion::kOpen), "done gave %d", status);
  if (status >= 0) r->slots[at].done = true;
}

void Driver::cancel() {
  ModelRegion* r = pick();
  if (!r) return;
  RC_CHECK(rc_region_cancel(r->handle, nullptr) >= 0, "cancel is legal always");
  model_cancel(r);
}

void Driver::release() {
  ModelRegion* r = pick();
  if (!r) return;
  if (in_.below(8) == 0) {
    RC_CHECK(rc_region_retain(r->handle) == RC_OK, "retain");
    ++r->handles;
    return;
  }
  --r->handles;
  rc_region_release(r->handle, nullptr);
  if (r->handles > 0) RC_CHECK(!r->destroyed, "a region with a count lives");
  if (r->handles == 0 && !r->shared())
    RC_CHECK(r->destroyed, "a region that nothing refers to is gone");
}

void Driver::restore() {
  ModelRegion* r = pick();
  if (!r) return;
  const uint32_t at = slot();
  const ModelSlot& s = r->slots[at];
  std::vector<unsigned char> memory(s.bytes + 1, 0);
  const int64_t shape[1] = {static_cast<int64_t>(s.bytes)};
  const rc_tensor_spec spec = bytes_spec(shape, memory.data());
  const rc_status status = rc_region_restore(r->handle, at, nullptr, &spec);
  if (seen(*r, s) == Seen::kYes) RC_CHECK(status >= 0, "restore: %s", last_error().c_str());
  if (seen(*r, s) == Seen::kNo) RC_CHECK(status == RC_E_STATE, "restore gave %d", status);
  if (status >= 0) RC_CHECK(has_pattern(memory.data(), s.bytes, s.seed), "restored other bytes");
}

void Driver::export_tensor() {
  if (!w_.exports.empty() && in_.below(3) == 0) {
    rc_tensor_release(w_.exports.back());
    w_.exports.pop_back();
    return;
  }
  ModelRegion* r = pick();
  if (!r) return;
  const uint32_t at = slot();
  rc_tensor* tensor = nullptr;
  const rc_status status = rc_region_tensor(r->handle, at, nullptr, &tensor);
  RC_CHECK((status >= 0) == (tensor != nullptr), "an export gave %d", status);
  if (status < 0) return;
  RC_CHECK(seen(*r, r->slots[at]) != Seen::kNo, "an export of nothing");
  rc_tensor_spec view = rc_tensor_spec_init();
  RC_CHECK(rc_tensor_view(tensor, &view) == RC_OK, "%s", last_error().c_str());
  w_.compare(*r, r->slots[at], view);
  mark_shared(r, at);
  w_.exports.push_back(tensor);
}

void Driver::step_begin() {
  const uint32_t i = in_.below(World::kSteps), choice = in_.byte();
  if (w_.steps[i]) return;
  rc_step_desc desc = rc_step_desc_init();
  w_.evaluation[i] = choice % 4 == 3;
  desc.phase = w_.evaluation[i] ? RC_PHASE_EVALUATION : RC_PHASE_FORWARD;
  w_.profiled[i] = choice & 0x20;
  desc.flags = (choice & 0x10 ? RC_STEP_LOG : 0) | (w_.profiled[i] ? RC_STEP_PROFILE : 0);
  desc.cap_bytes = choice >= 0xf0 ? 4096 : 0;
  w_.loose = w_.loose || desc.cap_bytes;
  RC_CHECK(rc_step_begin(w_.context, &desc, &w_.steps[i]) == RC_OK, "%s", last_error().c_str());
}

void Driver::step_end() {
  const int i = static_cast<int>(in_.below(World::kSteps));
  if (!w_.steps[i]) return;
  rc_step_report report = rc_step_report_init();
  const rc_status status = rc_step_end(w_.steps[i], nullptr, &report);
  RC_CHECK(status >= 0, "%s", last_error().c_str());
  w_.steps[i] = nullptr;
  for (ModelRegion& r : w_.regions) {
    if (r.step != i) continue;
    r.step = -1;
    if (!r.destroyed) model_cancel(&r);
  }
}

void Driver::look_up() {
  ModelRegion* r = pick();
  if (!r) return;
  rc_region* found = nullptr;
  RC_CHECK(rc_region_find(w_.context, r->id, &found) == RC_OK && found == r->handle,
           "a region is found by its id");
  rc_region_release(found, nullptr);
  RC_CHECK(rc_region_find(w_.context, r->id + (uint64_t{1} << 24), &found) == RC_PASS ||
               found != r->handle,
           "another id");
  if (found) rc_region_release(found, nullptr);
  rc_region_key key = rc_region_key_init();
  key.module = w_.modules[r->module];
  key.step = r->step >= 0 ? w_.steps[r->step] : nullptr;
  key.microbatch = r->microbatch;
  RC_CHECK(rc_region_lookup(w_.context, &key, &found) == RC_OK && found,
           "a region is found by its key");
  rc_region_release(found, nullptr);
}

void Driver::ask() {
  ModelRegion* r = pick();
  if (!r) return;
  uint32_t slots[World::kSlots + 1] = {}, n = 99;
  RC_CHECK(rc_region_missing(r->handle, slots, World::kSlots + 1, &n) >= 0 && n <= World::kSlots,
           "%u are missing", n);
  for (uint32_t i = 0; i < n; ++i)
    RC_CHECK(present(*r, r->slots[slots[i]]) != Seen::kYes, "slot %u is not missing", slots[i]);
  for (uint32_t i = 0; i < World::kSlots; ++i)
    if (r->slots[i].content == ModelSlot::kHostOwn && r->state == ModelRegion::kEnded &&
        !r->transient && present(*r, r->slots[i]) == Seen::kNo && !r->slots[i].done)
      RC_CHECK(std::count(slots, slots + n, i) == 1, "slot %u is missing", i);
  rc_slot_info info = rc_slot_info_init();
  const uint32_t at = slot();
  RC_CHECK(rc_region_slot_query(r->handle, at, &info) == RC_OK, "%s", last_error().c_str());
  RC_CHECK(info.role == r->slots[at].role && info.name[1] == '\0', "slot %u is '%s'", at,
           info.name);
  RC_CHECK(rc_region_wants(r->handle, at) >= 0 &&
               rc_region_slot_query(r->handle, 99, &info) == RC_E_ARGUMENT,
           "slot 99");
  uint64_t needed = 0;
  RC_CHECK(rc_report(w_.context, nullptr, 0, &needed) >= 0 && needed > 2, "a report");
  rc_prediction prediction = rc_prediction_init();
  const rc_status predicted =
      rc_predict(w_.context, w_.policies[in_.below(World::kPolicies)], &prediction);
  RC_CHECK(predicted >= 0 || predicted == RC_E_STATE || predicted == RC_E_UNSUPPORTED ||
               predicted == RC_E_MISMATCH,
           "%s", last_error().c_str());
  if (at == 0) {
    rc_plan_budget budget = rc_plan_budget_init();
    budget.bytes = 1 + kSizes[in_.below(16)];
    rc_plan* plan = nullptr;
    const rc_status planned = rc_plan_measured(w_.context, &budget, &plan);
    RC_CHECK((planned >= 0) == (plan != nullptr), "a plan gave %d", planned);
    RC_CHECK(planned >= 0 || planned == RC_E_STATE || planned == RC_E_BUDGET ||
                 planned == RC_E_UNSUPPORTED,
             "%s", last_error().c_str());
    rc_plan_release(plan);
  }
  const rc_status fetched = rc_region_prefetch(r->handle, nullptr);
  RC_CHECK((fetched >= 0) == (r->state != ModelRegion::kOpen), "prefetch gave %d", fetched);
}

}  // namespace rc::testing

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  rc::testing::Input input(data, size);
  rc::testing::World world(&input);
  rc::testing::Driver(&world, &input).run();
  world.finish();
  return 0;
}
