// rcore/detail/module.hpp: slots and registered modules.
#ifndef RCORE_DETAIL_MODULE_HPP
#define RCORE_DETAIL_MODULE_HPP
#ifndef RCORE_RCORE_HPP
#error "include <rcore/rcore.hpp>, which declares what this file defines"
#endif

namespace rcore {

inline rc_slot_desc slot(const char* name, rc_role role, rc_flags flags) noexcept {
  rc_slot_desc s = rc_slot_desc_init();
  s.name = name;
  s.role = role;
  s.flags = flags;
  return s;
}

inline submodule submodule::add(context& c, rc_module_desc desc, replay_ops ops,
                                std::vector<side_state> states) {
  auto owned = std::make_unique<replay_ops>(std::move(ops));
  const rc_module_ops table = table_of(owned.get());
  std::vector<const rc_side_state*> tables;
  for (const side_state& s : states) tables.push_back(s.table());
  desc.ops = &table;
  if (!tables.empty()) {
    desc.states = tables.data();
    desc.n_states = static_cast<std::uint32_t>(tables.size());
  }
  submodule m = add(c, desc);
  static_cast<void>(owned.release());
  for (side_state& s : states) s.disown();
  return m;
}

inline submodule submodule::add(context& c, const rc_module_desc& desc) {
  rc_module* out = nullptr;
  check(rc_module_register(c.get(), &desc, &out));
  return submodule(out);
}

inline rc_module_ops submodule::table_of(replay_ops* ops) noexcept {
  rc_module_ops t = rc_module_ops_init();
  t.user_data = ops;
  t.destroy = &detail::destroy<replay_ops>;
  t.replay = [](const rc_replay_args* a) noexcept {
    return detail::guarded([&] { static_cast<replay_ops*>(a->module_data)->replay(*a); });
  };
  if (ops->drop) {
    t.drop = [](const rc_slot_args* a) noexcept {
      return detail::guarded([&] { static_cast<replay_ops*>(a->module_data)->drop(*a); });
    };
  }
  if (ops->refill) {
    t.refill = [](const rc_slot_args* a) noexcept {
      return detail::guarded([&] { static_cast<replay_ops*>(a->module_data)->refill(*a); });
    };
  }
  return t;
}

}  // namespace rcore

#endif  // RCORE_DETAIL_MODULE_HPP
