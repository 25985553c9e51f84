// rcore/detail/policy.hpp: policies, their decisions and notes.
#ifndef RCORE_DETAIL_POLICY_HPP
#define RCORE_DETAIL_POLICY_HPP
#ifndef RCORE_RCORE_HPP
#error "include <rcore/rcore.hpp>, which declares what this file defines"
#endif

namespace rcore {

inline policy policy::create(const rc_policy_desc& desc) {
  rc_policy* out = nullptr;
  check(rc_policy_create(&desc, &out));
  return policy(out);
}

inline policy policy::from_json(const std::string& text) {
  rc_policy* out = nullptr;
  check(rc_policy_create_json(text.data(), text.size(), &out));
  return policy(out);
}

inline rc_decision policy::decide(const rc_site& site) const {
  rc_decision out = rc_decision_init();
  check(rc_policy_decide(get(), &site, &out));
  return out;
}

inline std::string policy::describe() const {
  return detail::text_from([this](char* b, std::uint64_t c, std::uint64_t* n) {
    return rc_policy_describe(get(), b, c, n);
  });
}

inline std::vector<rc_note> policy::notes() const {
  std::vector<rc_note> all;
  rc_note note = rc_note_init();
  for (std::uint32_t i = 0; check(rc_policy_note(get(), i, &note)) == RC_OK; ++i)
    all.push_back(note);
  return all;
}

}  // namespace rcore

#endif  // RCORE_DETAIL_POLICY_HPP
