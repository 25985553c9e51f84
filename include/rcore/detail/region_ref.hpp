// rcore/detail/region_ref.hpp: the calls on a region, without ownership.
#ifndef RCORE_DETAIL_REGION_REF_HPP
#define RCORE_DETAIL_REGION_REF_HPP
#ifndef RCORE_RCORE_HPP
#error "include <rcore/rcore.hpp>, which declares what this file defines"
#endif

namespace rcore {

inline rc_status region_ref::save(const std::vector<rc_save>& items, rc_stream stream,
                                  std::vector<rc_tensor_spec>* views) {
  if (views != nullptr) views->assign(items.size(), rc_tensor_spec_init());
  return check(rc_region_save(r_, items.data(), static_cast<std::uint32_t>(items.size()),
                              sizeof(rc_save), stream, views != nullptr ? views->data() : nullptr));
}

inline rc_status region_ref::save(std::uint32_t slot, const rc_tensor_spec& view,
                                  rc_stream stream) {
  rc_save item = rc_save_init();
  item.slot = slot;
  item.view = &view;
  return save_one(item, stream);
}

inline rc_status region_ref::save(std::uint32_t slot, tensor&& t, rc_stream stream) {
  rc_save item = rc_save_init();
  item.slot = slot;
  item.tensor = t.get();
  const rc_status status = save_one(item, stream);
  if (r_ != nullptr) static_cast<void>(t.detach());  // a NULL region takes nothing
  return status;
}

inline rc_status region_ref::link(std::uint32_t slot, region_ref source, std::uint32_t source_slot,
                                  rc_stream stream) {
  rc_save item = rc_save_init();
  item.slot = slot;
  item.source = source.get();
  item.source_slot = source_slot;
  return save_one(item, stream);
}

inline rc_status region_ref::save_one(const rc_save& item, rc_stream stream) {
  return check(rc_region_save(r_, &item, 1, sizeof item, stream, nullptr));
}

inline std::uint32_t region_ref::add_slot(const rc_slot_desc& desc) {
  std::uint32_t out = 0;
  check(rc_region_slot_add(r_, &desc, &out));
  return out;
}

inline rc_tensor_spec region_ref::alloc(std::uint32_t slot, const rc_tensor_spec& like,
                                        rc_stream stream) {
  rc_tensor_spec out = rc_tensor_spec_init();
  check(rc_region_alloc(r_, slot, &like, stream, &out));
  return out;
}

inline rc_status region_ref::output(std::uint32_t slot, rc_output_mode mode,
                                    const rc_tensor_spec& view, rc_stream stream) {
  return check(rc_region_output(r_, slot, mode, &view, stream));
}

inline rc_status region_ref::forward(rc_stream s) {
  return check(rc_region_forward(r_, s));
}

inline rc_status region_ref::end(rc_stream s) {
  return check(rc_region_end(r_, s));
}

inline rc_status region_ref::discard(rc_stream s) {
  return check(rc_region_discard(r_, s));
}

inline rc_status region_ref::prefetch(rc_stream s) {
  return check(rc_region_prefetch(r_, s));
}

inline rc_status region_ref::replay(rc_stream s) {
  return check(rc_backward_replay(&r_, 1, s));
}

inline rc_tensor_spec region_ref::view(std::uint32_t slot, rc_stream s) const {
  rc_tensor_spec out = rc_tensor_spec_init();
  check(rc_region_view(r_, slot, s, &out));
  return out;
}

inline tensor region_ref::take(std::uint32_t slot, rc_stream s) {
  rc_tensor* out = nullptr;
  check(rc_region_tensor(r_, slot, s, &out));
  return tensor(out);
}

inline rc_status region_ref::restore(std::uint32_t slot, const rc_tensor_spec& destination,
                                     rc_stream s) {
  return check(rc_region_restore(r_, slot, s, &destination));
}

inline rc_status region_ref::done(std::uint32_t slot, rc_stream s) {
  return check(rc_region_done(r_, slot, s));
}

inline bool region_ref::wants(std::uint32_t slot) const {
  return check(rc_region_wants(r_, slot)) == RC_OK;
}

inline std::vector<std::uint32_t> region_ref::missing() const {
  std::uint32_t n = 0;
  check(rc_region_missing(r_, nullptr, 0, &n));
  std::vector<std::uint32_t> slots(n);
  check(rc_region_missing(r_, slots.data(), n, &n));
  // Another thread's replay may have made fewer or more of them missing between the two calls.
  slots.resize(n < slots.size() ? n : slots.size());
  return slots;
}

inline rc_status region_ref::decide(std::uint32_t slot, const rc_tensor_spec& value, rc_stream s) {
  return check(rc_region_decide(r_, slot, &value, s));
}

inline rc_rng region_ref::rng(std::uint64_t blocks) {
  rc_rng out = rc_rng_init();
  check(rc_region_rng(r_, blocks, &out));
  return out;
}

inline bool region_ref::rng_record(std::uint32_t index, rc_rng* out) const {
  *out = rc_rng_init();
  return check(rc_region_rng_record(r_, index, out)) == RC_OK;
}

inline rc_phase region_ref::phase() const noexcept {
  return rc_region_phase(r_);
}

inline rc_region_info region_ref::query() const {
  rc_region_info out = rc_region_info_init();
  check(rc_region_query(r_, &out));
  return out;
}

inline rc_slot_info region_ref::query(std::uint32_t slot) const {
  rc_slot_info out = rc_slot_info_init();
  check(rc_region_slot_query(r_, slot, &out));
  return out;
}

inline rc_status region_ref::cancel(rc_stream s) {
  return check(rc_region_cancel(r_, s));
}

inline rc_status replay(const std::vector<rc_region*>& regions, rc_stream stream) {
  return check(
      rc_backward_replay(regions.data(), static_cast<std::uint32_t>(regions.size()), stream));
}

}  // namespace rcore

#endif  // RCORE_DETAIL_REGION_REF_HPP
