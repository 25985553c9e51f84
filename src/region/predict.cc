// src/region/predict.cc: a logged step, run again through the region machine without memory.
//
// The shadow context is an ordinary one over a device that hands out addresses and nothing behind
// them, so that what is predicted and what will happen come from the same code. A module's replay
// callback makes again the calls that the log has between the region's begin and end: what a host's
// callback does, which runs its forward code.
#include "src/region/predict.h"

#include "src/region/call_log.h"
#include "src/region/context.h"
#include "src/region/profile.h"
#include "src/storage/tensor.h"

namespace rc {
namespace {

// Addresses without memory.
class NullDevice final : public Device {
 public:
  bool synchronous() const override { return true; }
  Status allocate(size_t bytes, Stream, void** out) override {
    *out = reinterpret_cast<void*>(next_);
    next_ += (bytes + kBlockAlignment - 1) / kBlockAlignment * kBlockAlignment + kBlockAlignment;
    return ok_status();
  }
  void free(void*, size_t, Stream) override {}
  void trim() override {}
  bool park(void*, size_t, Stream) override { return true; }
  Status unpark(void*, size_t, Stream) override { return ok_status(); }
  Status copy(void*, const void*, size_t, Stream) override { return ok_status(); }
  Status record(Stream, Event* out) override {
    *out = 0;
    return ok_status();
  }
  Status wait(Stream, Event) override { return ok_status(); }
  bool query(Event) override { return true; }
  void release(Event) override {}
  Status synchronize(Stream) override { return ok_status(); }
  bool capturing(Stream) override { return false; }
  void touch(Stream, const void*, size_t, bool) override {}
  void poison(void*, size_t) override {}
  void unpoison(void*, size_t) override {}
  DeviceMemory memory() const override { return {}; }

 private:
  uintptr_t next_ = uintptr_t{1} << 32;
};

// A tensor of so many bytes at an address that is nobody's.
rc_tensor_spec bytes_spec(const int64_t* count) {
  rc_tensor_spec spec = rc_tensor_spec_init();
  spec.data = reinterpret_cast<void*>(uintptr_t{1} << 20);
  spec.dtype_code = 1;
  spec.dtype_bits = 8;
  spec.ndim = 1;
  spec.shape = count;
  return spec;
}

class Shadow {
 public:
  Shadow(const CallLog& log, const Profile* profile, rc_flags flags)
      : log_(log),
        profile_(profile),
        context_(new Context(std::make_unique<NullDevice>(), flags & ~RC_CONTEXT_VERIFY, 0)) {}

  Status run(std::shared_ptr<const Policy> policy, bool curve, Forecast* out) {
    RC_TRY(set_up(std::move(policy)));
    Status status;
    uint64_t peak = 0;
    for (size_t i = 0; i < log_.calls().size() && status.ok(); ++i) {
      Locked lock(context_);
      StorageStats& stats = context_->storage.stats();
      stats.step_peak_bytes = stats.live_bytes;
      status = call(lock, log_.calls()[i]);
      peak = std::max(peak, stats.step_peak_bytes);
      if (!curve) continue;
      out->live.push_back(stats.live_bytes);
      out->peak.push_back(stats.step_peak_bytes);
    }
    rc_step_report report = rc_step_report_init();
    {
      Locked lock(context_);
      Status ended = step_end(lock, step_, nullptr, &report);
      if (status.ok()) status = std::move(ended);
      out->peak_bytes = peak;
      out->replays = report.replays;
      out->dropped_bytes = context_->storage.stats().dropped_bytes;
      out->arena_bytes = context_->storage.arena().size().bytes;
      out->replay_ns = replay_ns_;
    }
    tear_down();
    return status;
  }

 private:
  struct Instance {
    Shadow* shadow = nullptr;
    uint32_t index = 0;
    Region* region = nullptr;
  };

  Status set_up(std::shared_ptr<const Policy> policy) {
    context_->parallel = std::make_unique<SerialParallel>();
    Locked lock(context_);
    RC_TRY(context_->configure(lock, std::move(policy)));
    for (const CallLog::LoggedModule& m : log_.modules()) {
      auto module = std::make_unique<Module>(context_, context_->next_serial++);
      module->kind = m.kind;
      module->name = m.name;
      module->layer = m.layer;
      module->slots = m.slots;
      module->ops.replay = replay;
      if (m.host_slots)
        module->ops.drop = module->ops.refill = [](const rc_slot_args*) { return RC_OK; };
      module->read_kind();
      context_->expect_deferred(1);
      context_->modules.push_back(module.get());
      ++context_->objects;
      modules_.push_back(module.release());
    }
    instances_.resize(log_.regions().size());
    for (uint32_t i = 0; i < instances_.size(); ++i) instances_[i] = {this, i, nullptr};
    rc_step_desc desc = rc_step_desc_init();
    return step_begin(lock, desc, &step_);
  }

  void tear_down() {
    {
      Locked lock(context_);
      for (Instance& i : instances_)
        if (i.region) region_release(lock, i.region, nullptr);
    }
    Locked lock(context_);
    for (Module* m : modules_) {
      --m->handles;
      context_->end_module_if_unused(m);
    }
    --context_->handles;  // the end of this lock deletes it
  }

  Region* current(uint32_t index) {
    return index == CallLog::kNone ? nullptr : instances_[index].region;
  }

  Status begin(Locked& lock, uint32_t index) {
    const CallLog::LoggedRegion& logged = log_.regions()[index];
    Instance& instance = instances_[index];
    if (instance.region) region_release(lock, instance.region, nullptr);
    instance.region = nullptr;
    rc_region_desc desc = rc_region_desc_init();
    desc.module = reinterpret_cast<rc_module*>(modules_[logged.module]);
    desc.step = reinterpret_cast<rc_step*>(step_);
    desc.parent = reinterpret_cast<rc_region*>(current(logged.parent));
    desc.chunk = logged.chunk;
    desc.microbatch = logged.microbatch;
    desc.occurrence = logged.occurrence;
    desc.user_data = &instance;
    desc.flags = logged.flags & ~RC_REGION_MAY_PASS;
    RC_TRY(region_begin(lock, desc, &instance.region));
    for (const SlotDef& def : logged.added) {
      uint32_t slot;
      RC_TRY(region_slot_add(instance.region, def, &slot));
    }
    return ok_status();
  }

  Status save(Locked& lock, const CallLog::Call& c) {
    // What a region of another step holds is there, and none of this step's bytes.
    const bool elsewhere = c.op == CallLog::kSaveLink && c.source == CallLog::kNone;
    const int64_t count = elsewhere ? 0 : static_cast<int64_t>(c.bytes);
    SaveItem item = {.save = rc_save_init(), .view = bytes_spec(&count)};
    item.save.slot = c.slot;
    if (c.op == CallLog::kSaveTensor || elsewhere) {
      RC_TRY(wrap_tensor(item.view, nullptr, nullptr, &item.save.tensor));
    } else if (c.op == CallLog::kSaveCopy) {
      item.save.view = &item.view;
    } else {
      item.save.source = reinterpret_cast<rc_region*>(current(c.source));
      item.save.source_slot = c.source_slot;
      if (!item.save.source) return ok_status();
    }
    Status status = region_save(lock, current(c.region), &item, 1, nullptr);
    if (!status.ok()) release_tensor(item.save.tensor);
    return status;
  }

  Status call(Locked& lock, const CallLog::Call& c) {
    Region* r = current(c.region);
    if (c.op == CallLog::kBegin) return begin(lock, c.region);
    if (!r) return ok_status();  // released in the log by another instance of the same region
    const int64_t count = static_cast<int64_t>(c.bytes);
    rc_tensor_spec spec = bytes_spec(&count), out = rc_tensor_spec_init();
    switch (c.op) {
      case CallLog::kSaveTensor:
      case CallLog::kSaveCopy:
      case CallLog::kSaveLink:
        return save(lock, c);
      case CallLog::kAlloc:
        return region_alloc(lock, r, c.slot, spec, nullptr, &out);
      case CallLog::kOutput:
        return region_output(r, c.slot, c.mode, spec);
      case CallLog::kDecide:
        return region_decide(lock, r, c.slot, spec, nullptr);
      case CallLog::kEnd:
        return region_end(lock, r, nullptr);
      case CallLog::kDiscard:
        return region_discard(lock, r, nullptr);
      case CallLog::kReplay:
        return replay_regions(lock, &r, 1, nullptr);
      case CallLog::kDone:
        return region_done(lock, r, c.slot, nullptr);
      case CallLog::kCancel:
        return region_cancel(lock, r, nullptr);
      case CallLog::kRelease:
        instances_[c.region].region = nullptr;
        region_release(lock, r, nullptr);
        return ok_status();
      case CallLog::kBegin:
      case CallLog::kSlotAdd:
        break;
    }
    return ok_status();
  }

  // What the host's callback would do: its forward code once more.
  static rc_status replay(const rc_replay_args* args) {
    const Instance& instance = *static_cast<Instance*>(args->region_data);
    Shadow& shadow = *instance.shadow;
    if (shadow.profile_)
      shadow.replay_ns_ +=
          shadow.profile_->replay_ns(instance.index, {args->missing, args->n_missing});
    return shadow.replay_body(instance.index);
  }

  rc_status replay_body(uint32_t index) {
    const CallLog::LoggedRegion& logged = log_.regions()[index];
    const size_t end = std::min(logged.end, log_.calls().size());
    for (size_t i = logged.begin + 1; i < end; ++i) {
      const CallLog::Call& c = log_.calls()[i];
      if (!log_.within(c.region, index)) continue;
      Locked lock(context_);
      Status status = call(lock, c);
      if (!status.ok()) return status.code();
    }
    return RC_OK;
  }

  const CallLog& log_;
  const Profile* const profile_;
  uint64_t replay_ns_ = 0;
  Context* context_;
  std::vector<Module*> modules_;
  std::vector<Instance> instances_;
  Step* step_ = nullptr;
};

}  // namespace

Status forecast(const CallLog& log, const Profile* profile, rc_flags flags,
                std::shared_ptr<const Policy> policy, ForecastDetail detail, Forecast* out) {
  if (detail != ForecastDetail::kArena) flags |= RC_CONTEXT_NO_ARENA;
  *out = Forecast();
  return Shadow(log, profile, flags).run(std::move(policy), detail == ForecastDetail::kCurve, out);
}

Status predict(Locked& lock, std::shared_ptr<const Policy> policy, rc_prediction* out) {
  const CallLog* log = lock.context()->call_log.get();
  if (!log) return Status(RC_E_STATE, "context", "no step was logged with RC_STEP_LOG");
  for (const Step* step : lock.context()->steps)
    if (step->serial == log->step())
      return Status(RC_E_STATE, "context", "the logged step is still open");
  const Profile* profile = lock.context()->profile.get();
  if (profile && !profile->settled()) profile = nullptr;
  Forecast seen;
  RC_TRY(forecast(*log, profile, lock.context()->flags, std::move(policy), ForecastDetail::kArena,
                  &seen));
  out->peak_bytes = seen.peak_bytes;
  out->replays = seen.replays;
  out->dropped_bytes = seen.dropped_bytes;
  out->arena_bytes = seen.arena_bytes;
  out->replay_ns = seen.replay_ns;
  out->step_ns = profile ? profile->step_ns() + seen.replay_ns : 0;
  return ok_status();
}

}  // namespace rc
