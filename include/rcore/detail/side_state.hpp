// rcore/detail/side_state.hpp: the C table of a side state, and who owns it.
#ifndef RCORE_DETAIL_SIDE_STATE_HPP
#define RCORE_DETAIL_SIDE_STATE_HPP
#ifndef RCORE_RCORE_HPP
#error "include <rcore/rcore.hpp>, which declares what this file defines"
#endif

namespace rcore {

template <class Token>
side_state side_state::of(std::function<Token()> capture,
                          std::function<Token(const Token&)> exchange) {
  struct Pair {
    std::function<Token()> capture;
    std::function<Token(const Token&)> exchange;
  };
  side_state s;
  s.owned_ = owner(new Pair{std::move(capture), std::move(exchange)}, &detail::destroy<Pair>);
  s.table_.user_data = s.owned_.get();
  s.table_.destroy = &detail::destroy<Pair>;
  s.table_.capture = [](void* self, rc_context*, rc_region*, void*, rc_stream,
                        void** token) noexcept {
    return detail::guarded([&] { *token = new Token(static_cast<Pair*>(self)->capture()); });
  };
  // NULL is the boundary's "nothing": nothing to install, so nothing to put back.
  s.table_.swap = [](void* self, rc_context*, rc_region*, void*, rc_stream, void* install,
                     void** previous) noexcept {
    return detail::guarded([&] {
      *previous =
          install == nullptr
              ? nullptr
              : new Token(static_cast<Pair*>(self)->exchange(*static_cast<Token*>(install)));
    });
  };
  s.table_.drop = [](void*, void* token) noexcept { delete static_cast<Token*>(token); };
  return s;
}

inline const rc_side_state* side_state::table() const noexcept {
  return &table_;
}

inline void side_state::disown() noexcept {
  static_cast<void>(owned_.release());
}

}  // namespace rcore

#endif  // RCORE_DETAIL_SIDE_STATE_HPP
