// rcore/detail/region.hpp: the owner of one count of a region.
#ifndef RCORE_DETAIL_REGION_HPP
#define RCORE_DETAIL_REGION_HPP
#ifndef RCORE_RCORE_HPP
#error "include <rcore/rcore.hpp>, which declares what this file defines"
#endif

namespace rcore {

inline region::region(region&& other) noexcept
    : region_ref(other.detach()), stream_(other.stream_) {}

inline region& region::operator=(region&& other) noexcept {
  std::swap(r_, other.r_);
  std::swap(stream_, other.stream_);
  return *this;
}

inline region::~region() {
  release(stream_);
}

inline region region::begin(context& c, const rc_region_desc& desc) {
  rc_region* out = nullptr;
  check(rc_region_begin(c.get(), &desc, &out));
  return region(out);
}

template <class T>
region region::begin(context& c, rc_region_desc desc, std::unique_ptr<T> data) {
  desc.user_data = data.get();
  desc.destroy = &detail::destroy<T>;
  region r = begin(c, desc);
  if (r) static_cast<void>(data.release());
  return r;
}

inline region region::find(context& c, std::uint64_t id) {
  rc_region* out = nullptr;
  check(rc_region_find(c.get(), id, &out));
  return region(out);
}

inline region region::lookup(context& c, const rc_region_key& key) {
  rc_region* out = nullptr;
  check(rc_region_lookup(c.get(), &key, &out));
  return region(out);
}

inline region region::share() const {
  check(rc_region_retain(r_));
  return region(r_);
}

inline rc_region* region::detach() noexcept {
  return std::exchange(r_, nullptr);
}

inline void region::release_on(rc_stream stream) noexcept {
  stream_ = stream;
}

inline void region::release(rc_stream stream) noexcept {
  rc_region_release(detach(), stream);
}

}  // namespace rcore

#endif  // RCORE_DETAIL_REGION_HPP
