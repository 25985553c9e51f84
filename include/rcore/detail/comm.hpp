// rcore/detail/comm.hpp: communicator groups.
#ifndef RCORE_DETAIL_COMM_HPP
#define RCORE_DETAIL_COMM_HPP
#ifndef RCORE_RCORE_HPP
#error "include <rcore/rcore.hpp>, which declares what this file defines"
#endif

namespace rcore {

inline comm comm::create(context& c, const char* name, std::uint32_t rank, std::uint32_t size,
                         all_gather gather) {
  auto owned = std::make_unique<all_gather>(std::move(gather));
  rc_comm_ops ops = rc_comm_ops_init();
  ops.user_data = owned.get();
  ops.destroy = &detail::destroy<all_gather>;
  ops.all_gather = [](void* self, const void* send, void* recv, std::uint64_t bytes,
                      rc_stream s) noexcept {
    return detail::guarded([&] { (*static_cast<all_gather*>(self))(send, recv, bytes, s); });
  };
  rc_comm_desc desc = rc_comm_desc_init();
  desc.name = name;
  desc.backend = RC_BACKEND_HOST;
  desc.rank = rank;
  desc.size = size;
  desc.ops = &ops;
  comm made = create(c, desc);
  static_cast<void>(owned.release());
  return made;
}

inline comm comm::create(context& c, const rc_comm_desc& desc) {
  rc_comm* out = nullptr;
  check(rc_comm_create(c.get(), &desc, &out));
  return comm(out);
}

}  // namespace rcore

#endif  // RCORE_DETAIL_COMM_HPP
