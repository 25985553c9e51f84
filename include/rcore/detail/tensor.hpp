// rcore/detail/tensor.hpp: views and owned tensors.
#ifndef RCORE_DETAIL_TENSOR_HPP
#define RCORE_DETAIL_TENSOR_HPP
#ifndef RCORE_RCORE_HPP
#error "include <rcore/rcore.hpp>, which declares what this file defines"
#endif

namespace rcore {

inline rc_tensor_spec spec(void* data, const std::int64_t* shape, std::int32_t ndim,
                           std::uint8_t code, std::uint8_t bits) noexcept {
  rc_tensor_spec s = rc_tensor_spec_init();
  s.data = data;
  s.shape = shape;
  s.ndim = ndim;
  s.dtype_code = code;
  s.dtype_bits = bits;
  s.dtype_lanes = 1;
  return s;
}

inline tensor tensor::wrap(const rc_tensor_spec& s, std::function<void()> release) {
  auto owned = release ? std::make_unique<std::function<void()>>(std::move(release)) : nullptr;
  rc_tensor* out = nullptr;
  check(rc_tensor_wrap(&s, owned ? &run : nullptr, owned.get(), &out));
  static_cast<void>(owned.release());  // run deletes it
  return tensor(out);
}

inline rc_tensor_spec tensor::view() const {
  rc_tensor_spec s = rc_tensor_spec_init();
  check(rc_tensor_view(get(), &s));
  return s;
}

inline void RC_CALL tensor::run(void* p) noexcept {
  std::unique_ptr<std::function<void()>> release(static_cast<std::function<void()>*>(p));
  (*release)();
}

}  // namespace rcore

#endif  // RCORE_DETAIL_TENSOR_HPP
