// rcore/detail/fence.hpp: fences.
#ifndef RCORE_DETAIL_FENCE_HPP
#define RCORE_DETAIL_FENCE_HPP
#ifndef RCORE_RCORE_HPP
#error "include <rcore/rcore.hpp>, which declares what this file defines"
#endif

namespace rcore {

inline fence fence::create(context& c) {
  rc_fence* out = nullptr;
  check(rc_fence_create(c.get(), &out));
  return fence(out);
}

inline void fence::signal(rc_status result) {
  check(rc_fence_signal(get(), result));
}

inline bool fence::test() {
  return check(rc_fence_test(get())) != RC_PENDING;
}

inline bool fence::wait(std::uint64_t timeout_ns) {
  return check(rc_fence_wait(get(), timeout_ns)) != RC_PENDING;
}

inline void fence::on_done(std::function<void(rc_status)> done) {
  using Done = std::function<void(rc_status)>;
  auto owned = std::make_unique<Done>(std::move(done));
  check(rc_fence_on_done(
      get(),
      [](void* p, rc_status result) noexcept {
        std::unique_ptr<Done> call(static_cast<Done*>(p));
        static_cast<void>(detail::guarded([&] { (*call)(result); }));
      },
      owned.get()));
  static_cast<void>(owned.release());
}

}  // namespace rcore

#endif  // RCORE_DETAIL_FENCE_HPP
