// src/region/call_log.cc: writing the log.
#include "src/region/call_log.h"

#include "src/region/context.h"

namespace rc {
namespace {

BlockKey key_of(const Region* r) {
  return {.site = r->module->serial,
          .instance = (uint64_t{r->microbatch} << 32) | r->occurrence,
          .slot = r->chunk};
}

bool is_forward_call(CallLog::Op op) {
  return op <= CallLog::kDiscard;
}

thread_local int pauses = 0;

}  // namespace

LogPause::LogPause() {
  ++pauses;
}
LogPause::~LogPause() {
  --pauses;
}
bool LogPause::on() {
  return pauses > 0;
}

CallLog* log_of(const Region* r) {
  CallLog* log = r->context->call_log.get();
  return log && r->step && r->step->log && log->step() == r->step->serial ? log : nullptr;
}

uint32_t CallLog::find(const Region* r) const {
  if (!r->step || r->step->serial != step_) return kNone;  // steps share their keys
  const auto it = region_index_.find(key_of(r));
  return it == region_index_.end() ? kNone : it->second;
}

void CallLog::begin(const Region* r, rc_flags flags) {
  if (r->phase == RC_PHASE_REPLAY) {
    if (const uint32_t known = find(r); known != kNone && !r->transient)
      ++regions_[known].instances;
    return;
  }
  const auto [module, fresh] =
      module_index_.try_emplace(r->module->serial, static_cast<uint32_t>(modules_.size()));
  if (fresh)
    modules_.push_back({.kind = r->module->kind,
                        .name = r->module->name,
                        .layer = r->module->layer,
                        .host_slots = r->module->ops.drop && r->module->ops.refill,
                        .slots = r->module->slots});
  const uint32_t index = static_cast<uint32_t>(regions_.size());
  // Before the region has an index: one that a host keys like its parent is not its own parent.
  const uint32_t parent = r->parent ? find(r->parent) : kNone;
  region_index_[key_of(r)] = index;
  regions_.push_back({.module = module->second,
                      .parent = parent,
                      .chunk = r->chunk,
                      .microbatch = r->microbatch,
                      .occurrence = r->occurrence,
                      .flags = flags,
                      .begin = calls_.size(),
                      .added = {},
                      .instances = r->transient ? 0u : 1u});
  calls_.push_back({.op = kBegin, .region = index});
}

void CallLog::add(const Region* r, Call call) {
  // A transient instance is released by the code that begins its successor; the shadow does so by
  // itself.
  if (call.op == kRelease && r->transient) return;
  if (is_forward_call(call.op) && (r->phase == RC_PHASE_REPLAY || r->replaying)) return;
  call.region = find(r);
  if (call.region == kNone) return;
  // A replay has begun the region anew while the host still held the one before: the last of them
  // ends it.
  if (call.op == kRelease && regions_[call.region].instances > 0 &&
      --regions_[call.region].instances > 0)
    return;
  if (LogPause::on()) return;
  if (call.op == kEnd) regions_[call.region].end = calls_.size();
  if (call.op == kSlotAdd) regions_[call.region].added.push_back(r->added.back());
  calls_.push_back(call);
}

void CallLog::link(const Region* r, uint32_t slot, const Region* source, uint32_t source_slot,
                   uint64_t bytes) {
  add(r, {.op = kSaveLink,
          .slot = slot,
          .source = find(source),
          .source_slot = source_slot,
          .bytes = bytes});
}

bool CallLog::within(uint32_t region, uint32_t ancestor) const {
  for (; region != kNone; region = regions_[region].parent)
    if (region == ancestor) return true;
  return false;
}

}  // namespace rc
