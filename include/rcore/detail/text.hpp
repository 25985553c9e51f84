// rcore/detail/text.hpp: a string from the calls that write text into a buffer.
#ifndef RCORE_DETAIL_TEXT_HPP
#define RCORE_DETAIL_TEXT_HPP
#ifndef RCORE_RCORE_HPP
#error "include <rcore/rcore.hpp>, which declares what this file defines"
#endif

namespace rcore::detail {

// The calling form of rc_policy_describe: ask for the length, then for the text.
template <class Call>
std::string text_from(Call&& call) {
  std::uint64_t needed = 0;
  check(call(nullptr, std::uint64_t{0}, &needed));
  std::string text;
  do {  // a report may grow between the two calls
    text.resize(needed);
    check(call(&text[0], static_cast<std::uint64_t>(text.size()), &needed));
  } while (needed > text.size());
  text.resize(needed == 0 ? 0 : needed - 1);  // the NUL
  return text;
}

}  // namespace rcore::detail

#endif  // RCORE_DETAIL_TEXT_HPP
