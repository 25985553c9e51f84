// rcore/detail/hooks.hpp: the C tables of a context's hooks.
#ifndef RCORE_DETAIL_HOOKS_HPP
#define RCORE_DETAIL_HOOKS_HPP
#ifndef RCORE_RCORE_HPP
#error "include <rcore/rcore.hpp>, which declares what this file defines"
#endif

namespace rcore::detail {

inline rc_allocator table_of(allocator* hook) noexcept {
  rc_allocator t = rc_allocator_init();
  t.user_data = hook;
  t.destroy = &destroy<allocator>;
  t.alloc = [](void* self, const rc_alloc_request* request, void** out) noexcept {
    return guarded([&] {
      *out = static_cast<allocator*>(self)->alloc(*request);
      return *out != nullptr ? RC_OK : RC_E_MEMORY;
    });
  };
  t.free = [](void* self, const rc_alloc_request* request, void* p) noexcept {
    static_cast<void>(guarded([&] { static_cast<allocator*>(self)->free(*request, p); }));
  };
  return t;
}

// An empty lambda stays NULL in the table: the library then spares itself the call.
inline rc_sink table_of(sink* hook) noexcept {
  rc_sink t = rc_sink_init();
  t.user_data = hook;
  t.destroy = &destroy<sink>;
  t.max_level = hook->max_level;
  t.trace_mask = hook->trace_mask;
  if (hook->log) {
    t.log = [](void* self, rc_level level, const char* where, const char* text) noexcept {
      static_cast<void>(guarded([&] { static_cast<sink*>(self)->log(level, where, text); }));
    };
  }
  if (hook->trace) {
    t.trace = [](void* self, const rc_trace_event* event) noexcept {
      static_cast<void>(guarded([&] { static_cast<sink*>(self)->trace(*event); }));
    };
  }
  return t;
}

// rc_parallel.run has no status to report a failure with: what run throws meets noexcept here.
inline rc_parallel table_of(parallel* hook) noexcept {
  rc_parallel t = rc_parallel_init();
  t.user_data = hook;
  t.destroy = &destroy<parallel>;
  t.width = hook->width;
  t.run = [](void* self, std::int64_t n, void(RC_CALL* task)(void*, std::int64_t),
             void* argument) noexcept {
    static_cast<parallel*>(self)->run(n, [task, argument](std::int64_t i) { task(argument, i); });
  };
  return t;
}

}  // namespace rcore::detail

#endif  // RCORE_DETAIL_HOOKS_HPP
