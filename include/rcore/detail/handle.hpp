// rcore/detail/handle.hpp: the owner of one count of a C handle.
#ifndef RCORE_DETAIL_HANDLE_HPP
#define RCORE_DETAIL_HANDLE_HPP

#include <utility>

namespace rcore::detail {

// Release is a template argument, so that an owner is one pointer wide and the call is direct.
template <class T, void (*Release)(T*) noexcept>
class handle {
 public:
  handle() noexcept = default;
  explicit handle(T* owned) noexcept : p_(owned) {}
  handle(handle&& other) noexcept : p_(other.detach()) {}
  handle& operator=(handle&& other) noexcept {
    if (this != &other) reset(other.detach());
    return *this;
  }
  handle(const handle&) = delete;
  handle& operator=(const handle&) = delete;
  ~handle() { reset(); }

  T* get() const noexcept { return p_; }
  explicit operator bool() const noexcept { return p_ != nullptr; }
  T* detach() noexcept { return std::exchange(p_, nullptr); }
  // The old count goes last: its release may run a deleter that looks at this owner.
  void reset(T* owned = nullptr) noexcept {
    T* old = std::exchange(p_, owned);
    if (old != nullptr) Release(old);
  }

 private:
  T* p_ = nullptr;
};

}  // namespace rcore::detail

#endif  // RCORE_DETAIL_HANDLE_HPP
