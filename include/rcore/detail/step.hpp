// rcore/detail/step.hpp: the scope of one training step.
#ifndef RCORE_DETAIL_STEP_HPP
#define RCORE_DETAIL_STEP_HPP
#ifndef RCORE_RCORE_HPP
#error "include <rcore/rcore.hpp>, which declares what this file defines"
#endif

namespace rcore {

inline step::step(step&& other) noexcept : p_(std::exchange(other.p_, nullptr)) {}

inline step& step::operator=(step&& other) noexcept {
  std::swap(p_, other.p_);
  return *this;
}

inline step::~step() {
  // The status must be looked at (RC_NODISCARD), and there is nobody left to be told.
  if (p_ != nullptr && rc_step_end(p_, nullptr, nullptr) < RC_OK) p_ = nullptr;
}

inline step step::begin(context& c, const rc_step_desc& desc) {
  step s;
  check(rc_step_begin(c.get(), &desc, &s.p_));
  return s;
}

inline rc_step_report step::end(rc_stream stream) {
  rc_step_report report = rc_step_report_init();
  check(rc_step_end(p_, stream, &report));
  p_ = nullptr;
  return report;
}

}  // namespace rcore

#endif  // RCORE_DETAIL_STEP_HPP
