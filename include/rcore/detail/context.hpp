// rcore/detail/context.hpp: contexts.
#ifndef RCORE_DETAIL_CONTEXT_HPP
#define RCORE_DETAIL_CONTEXT_HPP
#ifndef RCORE_RCORE_HPP
#error "include <rcore/rcore.hpp>, which declares what this file defines"
#endif

namespace rcore {

inline context context::create(rc_context_desc desc, hooks h) {
  const rc_allocator a = h.allocator ? detail::table_of(h.allocator.get()) : rc_allocator_init();
  const rc_sink s = h.sink ? detail::table_of(h.sink.get()) : rc_sink_init();
  const rc_parallel p = h.parallel ? detail::table_of(h.parallel.get()) : rc_parallel_init();
  if (h.allocator) desc.allocator = &a;
  if (h.sink) desc.sink = &s;
  if (h.parallel) desc.parallel = &p;
  rc_context* out = nullptr;
  check(rc_context_create(&desc, &out));
  // A table's destroy runs only where its taker succeeded, so ownership moves here, not above.
  static_cast<void>(h.allocator.release());
  static_cast<void>(h.sink.release());
  static_cast<void>(h.parallel.release());
  return context(out);
}

inline void context::configure(const policy& p) {
  check(rc_context_configure(get(), p.get()));
}

inline rc_status context::poll() {
  return check(rc_context_poll(get()));
}

inline rc_status context::drain() {
  return check(rc_context_drain(get()));
}

inline rc_stats context::stats() const {
  rc_stats out = rc_stats_init();
  check(rc_stats_get(get(), &out));
  return out;
}

inline void context::reset_peak() {
  check(rc_stats_reset_peak(get()));
}

inline std::string context::report() const {
  return detail::text_from(
      [this](char* b, std::uint64_t c, std::uint64_t* n) { return rc_report(get(), b, c, n); });
}

inline rc_prediction context::predict(const policy& p) {
  rc_prediction out = rc_prediction_init();
  check(rc_predict(get(), p.get(), &out));
  return out;
}

}  // namespace rcore

#endif  // RCORE_DETAIL_CONTEXT_HPP
