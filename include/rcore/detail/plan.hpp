// rcore/detail/plan.hpp: the planner's answers.
#ifndef RCORE_DETAIL_PLAN_HPP
#define RCORE_DETAIL_PLAN_HPP
#ifndef RCORE_RCORE_HPP
#error "include <rcore/rcore.hpp>, which declares what this file defines"
#endif

namespace rcore {

inline plan plan::create(const std::string& request) {
  rc_plan* out = nullptr;
  check(rc_plan_create(request.data(), request.size(), &out));
  return plan(out);
}

inline plan plan::measured(context& c, const rc_plan_budget& budget) {
  rc_plan* out = nullptr;
  check(rc_plan_measured(c.get(), &budget, &out));
  return plan(out);
}

inline rcore::policy plan::policy() const {
  rc_policy* out = nullptr;
  check(rc_plan_policy(get(), &out));
  return rcore::policy(out);
}

inline std::string plan::report() const {
  return detail::text_from([this](char* b, std::uint64_t c, std::uint64_t* n) {
    return rc_plan_report(get(), b, c, n);
  });
}

inline std::string inventory(const std::string& request) {
  return detail::text_from([&](char* b, std::uint64_t c, std::uint64_t* n) {
    return rc_plan_inventory(request.data(), request.size(), b, c, n);
  });
}

inline std::string evaluate(const std::string& request, const policy& of) {
  return detail::text_from([&](char* b, std::uint64_t c, std::uint64_t* n) {
    return rc_plan_evaluate(request.data(), request.size(), of.get(), b, c, n);
  });
}

}  // namespace rcore

#endif  // RCORE_DETAIL_PLAN_HPP
