// abi_tests/growth/probes.cc: a good example of every struct, and the call that takes it.
#include "probes.h"

namespace abi_tests {
namespace {

template <class T>
std::vector<char> bytes_of(const T& value) {
  const char* p = reinterpret_cast<const char*>(&value);
  return std::vector<char>(p, p + sizeof value);
}

// Checks the rule "on failure the out handle is NULL", and cleans up on success.
template <class T, class Release>
rc_status made(rc_status status, T* handle, Release release) {
  EXPECT_TRUE(status >= RC_OK || handle == nullptr);
  EXPECT_TRUE(status != RC_OK || handle != nullptr);
  if (handle != nullptr) release(handle);
  return status;
}

template <class T>
T* not_null() {  // what an out handle holds before the call
  static int anything;
  return reinterpret_cast<T*>(&anything);
}

rc_status create_context(const rc_context_desc* desc) {
  rc_context* out = not_null<rc_context>();
  const rc_status status = rc_context_create(desc, &out);
  return made(status, out, rc_context_release);
}
rc_status create_policy(const rc_policy_desc* desc) {
  rc_policy* out = not_null<rc_policy>();
  const rc_status status = rc_policy_create(desc, &out);
  return made(status, out, rc_policy_release);
}
rc_status register_module(World& w, const rc_module_desc* desc) {
  rc_module* out = not_null<rc_module>();
  const rc_status status = rc_module_register(w.context, desc, &out);
  return made(status, out, rc_module_release);
}
rc_status create_comm(World& w, const rc_comm_desc* desc) {
  rc_comm* out = not_null<rc_comm>();
  const rc_status status = rc_comm_create(w.context, desc, &out);
  return made(status, out, rc_comm_release);
}

rc_status host_alloc(void*, const rc_alloc_request* request, void** out) {
  *out = aligned_alloc(request->alignment, (request->bytes + request->alignment - 1) /
                                               request->alignment * request->alignment);
  return *out != nullptr ? RC_OK : RC_E_MEMORY;
}
void host_free(void*, const rc_alloc_request*, void* p) {
  free(p);
}
void host_run(void*, std::int64_t n, void (*task)(void*, std::int64_t), void* argument) {
  for (std::int64_t i = 0; i < n; ++i) task(argument, i);
}
rc_status gather_alone(void*, const void* send, void* recv, std::uint64_t bytes, rc_stream) {
  std::memcpy(recv, send, bytes);
  return RC_OK;
}
rc_status capture_nothing(void*, rc_context*, rc_region*, void*, rc_stream, void** token) {
  *token = nullptr;
  return RC_OK;
}
rc_status swap_nothing(void*, rc_context*, rc_region*, void*, rc_stream, void*, void** previous) {
  *previous = nullptr;
  return RC_OK;
}

template <class T, class Make, class Call>
Probe input(const char* name, rc_type tag, Make make, Call call) {
  return {name,
          tag,
          sizeof(T),
          Direction::kIn,
          [make](World& w) { return bytes_of<T>(make(w)); },
          [call](World& w, void* raw, std::uint32_t stride) {
            return call(w, static_cast<T*>(raw), stride);
          }};
}
template <class T, class Init, class Call>
Probe output(const char* name, rc_type tag, Init init, Call call) {
  return {name,
          tag,
          sizeof(T),
          Direction::kOut,
          [init](World&) { return bytes_of<T>(init()); },
          [call](World& w, void* raw, std::uint32_t stride) {
            return call(w, static_cast<T*>(raw), stride);
          }};
}

void context_inputs(std::vector<Probe>& all) {
  all.push_back(input<rc_context_desc>(
      "context_desc", RC_TYPE_CONTEXT_DESC, [](World&) { return rc_context_desc_init(); },
      [](World&, rc_context_desc* d, std::uint32_t) { return create_context(d); }));
  all.push_back(input<rc_allocator>(
      "allocator", RC_TYPE_ALLOCATOR,
      [](World&) {
        rc_allocator a = rc_allocator_init();
        a.alloc = host_alloc;
        a.free = host_free;
        return a;
      },
      [](World&, rc_allocator* a, std::uint32_t) {
        rc_context_desc d = rc_context_desc_init();
        d.allocator = a;
        return create_context(&d);
      }));
  all.push_back(input<rc_sink>(
      "sink", RC_TYPE_SINK, [](World&) { return rc_sink_init(); },
      [](World&, rc_sink* s, std::uint32_t) {
        rc_context_desc d = rc_context_desc_init();
        d.sink = s;
        return create_context(&d);
      }));
  all.push_back(input<rc_parallel>(
      "parallel", RC_TYPE_PARALLEL,
      [](World&) {
        rc_parallel p = rc_parallel_init();
        p.run = host_run;
        p.width = 1;
        return p;
      },
      [](World&, rc_parallel* p, std::uint32_t) {
        rc_context_desc d = rc_context_desc_init();
        d.parallel = p;
        return create_context(&d);
      }));
  all.push_back(input<rc_comm_ops>(
      "comm_ops", RC_TYPE_COMM_OPS,
      [](World&) {
        rc_comm_ops o = rc_comm_ops_init();
        o.all_gather = gather_alone;
        return o;
      },
      [](World& w, rc_comm_ops* o, std::uint32_t) {
        rc_comm_desc d = rc_comm_desc_init();
        d.name = "tp";
        d.size = 1;
        d.ops = o;
        return create_comm(w, &d);
      }));
  all.push_back(input<rc_comm_desc>(
      "comm_desc", RC_TYPE_COMM_DESC,
      [](World&) {
        rc_comm_desc d = rc_comm_desc_init();
        d.name = "tp";
        d.backend = RC_BACKEND_SELF;
        d.size = 1;
        return d;
      },
      [](World& w, rc_comm_desc* d, std::uint32_t) { return create_comm(w, d); }));
  all.push_back(input<rc_step_desc>(
      "step_desc", RC_TYPE_STEP_DESC, [](World&) { return rc_step_desc_init(); },
      [](World& w, rc_step_desc* d, std::uint32_t) {
        rc_step* out = not_null<rc_step>();
        const rc_status status = rc_step_begin(w.context, d, &out);
        return made(status, out,
                    [](rc_step* s) { EXPECT_LE(RC_OK, rc_step_end(s, nullptr, nullptr)); });
      }));
}

void policy_inputs(std::vector<Probe>& all) {
  all.push_back(input<rc_plan_budget>(
      "plan_budget", RC_TYPE_PLAN_BUDGET,
      [](World&) {
        rc_plan_budget b = rc_plan_budget_init();
        b.bytes = 1u << 30;
        return b;
      },
      [](World& w, rc_plan_budget* b, std::uint32_t) {
        rc_plan* out = not_null<rc_plan>();
        const rc_status status = rc_plan_measured(w.context, b, &out);
        return made(status, out, rc_plan_release);
      }));
  all.push_back(input<rc_policy_desc>(
      "policy_desc", RC_TYPE_POLICY_DESC,
      [](World&) {
        rc_policy_desc d = rc_policy_desc_init();
        d.granularity = RC_GRANULARITY_FULL;
        d.method = RC_METHOD_UNIFORM;
        d.recompute_num_layers = 2;
        d.num_layers = 4;
        return d;
      },
      [](World&, rc_policy_desc* d, std::uint32_t) { return create_policy(d); }));
  all.push_back(input<rc_policy_rule>(
      "policy_rule", RC_TYPE_POLICY_RULE,
      [](World&) {
        rc_policy_rule r = rc_policy_rule_init();
        r.kind = "mlp";
        r.action = RC_ACTION_RECOMPUTE;
        return r;
      },
      [](World&, rc_policy_rule* r, std::uint32_t stride) {
        rc_policy_desc d = rc_policy_desc_init();
        d.num_layers = 4;
        d.rules = r;
        d.n_rules = 1;
        d.rule_stride = stride;
        return create_policy(&d);
      }));
  all.push_back(input<rc_kind_desc>(
      "kind_desc", RC_TYPE_KIND_DESC,
      [](World&) {
        rc_kind_desc k = rc_kind_desc_init();
        k.name = "my_kind";
        return k;
      },
      [](World&, rc_kind_desc* k, std::uint32_t stride) {
        rc_policy_desc d = rc_policy_desc_init();
        d.kinds = k;
        d.n_kinds = 1;
        d.kind_stride = stride;
        return create_policy(&d);
      }));
  all.push_back(input<rc_site>(
      "site", RC_TYPE_SITE,
      [](World&) {
        rc_site s = rc_site_init();
        s.kind = "layernorm";
        s.slot_role = RC_ROLE_OUTPUT;
        return s;
      },
      [](World& w, rc_site* s, std::uint32_t) {
        rc_decision out = rc_decision_init();
        return rc_policy_decide(w.policy, s, &out);
      }));
}

void module_inputs(std::vector<Probe>& all) {
  all.push_back(input<rc_module_desc>(
      "module_desc", RC_TYPE_MODULE_DESC, [](World& w) { return w.module_desc(); },
      [](World& w, rc_module_desc* d, std::uint32_t) { return register_module(w, d); }));
  all.push_back(input<rc_module_ops>(
      "module_ops", RC_TYPE_MODULE_OPS, [](World& w) { return w.ops; },
      [](World& w, rc_module_ops* o, std::uint32_t) {
        rc_module_desc d = w.module_desc();
        d.ops = o;
        return register_module(w, &d);
      }));
  all.push_back(input<rc_slot_desc>(
      "slot_desc", RC_TYPE_SLOT_DESC, [](World& w) { return w.slots[0]; },
      [](World& w, rc_slot_desc* s, std::uint32_t stride) {
        rc_module_desc d = w.module_desc();
        d.slots = s;
        d.n_slots = 1;
        d.slot_stride = stride;
        return register_module(w, &d);
      }));
  all.push_back(input<rc_slot_desc>(
      "slot_desc_added", RC_TYPE_SLOT_DESC,
      [](World& w) {
        rc_slot_desc s = w.slots[0];
        s.name = "late";
        return s;
      },
      [](World& w, rc_slot_desc* s, std::uint32_t) {
        rc_region* r = w.begin(w.step);
        std::uint32_t slot = 77;
        const rc_status status = rc_region_slot_add(r, s, &slot);
        EXPECT_EQ(status == RC_OK ? 2u : 0u, slot);
        rc_region_release(r, nullptr);
        return status;
      }));
  all.push_back(input<rc_side_state>(
      "side_state", RC_TYPE_SIDE_STATE,
      [](World&) {
        rc_side_state s = rc_side_state_init();
        s.capture = capture_nothing;
        s.swap = swap_nothing;
        return s;
      },
      [](World& w, rc_side_state* s, std::uint32_t) {
        const rc_side_state* const states[1] = {s};
        rc_module_desc d = w.module_desc();
        d.states = states;
        d.n_states = 1;
        return register_module(w, &d);
      }));
  all.push_back(input<rc_kernel_desc>(
      "kernel_desc", RC_TYPE_KERNEL_DESC,
      [](World&) {
        rc_kernel_desc k = rc_kernel_desc_init();
        k.kernel = RC_KERNEL_GELU;
        return k;
      },
      [](World& w, rc_kernel_desc* k, std::uint32_t) {
        rc_module_desc d = rc_module_desc_init();
        d.kind = "moe_act";
        d.kernel = k;
        return register_module(w, &d);
      }));
}

void region_inputs(std::vector<Probe>& all) {
  all.push_back(input<rc_region_desc>(
      "region_desc", RC_TYPE_REGION_DESC,
      [](World& w) {
        rc_region_desc d = rc_region_desc_init();
        d.module = w.module;
        return d;
      },
      [](World& w, rc_region_desc* d, std::uint32_t) {
        rc_region* out = not_null<rc_region>();
        const rc_status status = rc_region_begin(w.context, d, &out);
        return made(status, out, [](rc_region* r) { rc_region_release(r, nullptr); });
      }));
  all.push_back(input<rc_region_key>(
      "region_key", RC_TYPE_REGION_KEY,
      [](World& w) {
        rc_region_key k = rc_region_key_init();
        k.step = w.step;
        k.module = w.module;
        return k;
      },
      [](World& w, rc_region_key* k, std::uint32_t) {
        rc_region* out = not_null<rc_region>();
        const rc_status status = rc_region_lookup(w.context, k, &out);
        return made(status, out, [](rc_region* r) { rc_region_release(r, nullptr); });
      }));
  all.push_back(input<rc_save>(
      "save", RC_TYPE_SAVE,
      [](World& w) {
        static rc_tensor_spec view;
        view = floats(w.data, w.shape, 1);
        rc_save s = rc_save_init();
        s.view = &view;
        return s;
      },
      [](World& w, rc_save* s, std::uint32_t stride) {
        rc_region* r = w.begin(w.step);
        const rc_status status = rc_region_save(r, s, 1, stride, nullptr, nullptr);
        rc_region_release(r, nullptr);
        return status;
      }));
}

void spec_inputs(std::vector<Probe>& all) {
  const auto view = [](World& w) { return floats(w.data, w.shape, 1); };
  all.push_back(input<rc_tensor_spec>(
      "spec_saved", RC_TYPE_TENSOR_SPEC, view, [](World& w, rc_tensor_spec* s, std::uint32_t) {
        rc_region* r = w.begin(w.step);
        rc_save item = rc_save_init();
        item.view = s;
        const rc_status status = rc_region_save(r, &item, 1, sizeof item, nullptr, nullptr);
        rc_region_release(r, nullptr);
        return status;
      }));
  all.push_back(input<rc_tensor_spec>(
      "spec_wrapped", RC_TYPE_TENSOR_SPEC, view, [](World&, rc_tensor_spec* s, std::uint32_t) {
        rc_tensor* out = not_null<rc_tensor>();
        const rc_status status = rc_tensor_wrap(s, nullptr, nullptr, &out);
        return made(status, out, rc_tensor_release);
      }));
  all.push_back(input<rc_tensor_spec>(
      "spec_allocated", RC_TYPE_TENSOR_SPEC, view, [](World& w, rc_tensor_spec* s, std::uint32_t) {
        rc_region* r = w.begin(w.step);
        rc_tensor_spec out = rc_tensor_spec_init();
        const rc_status status = rc_region_alloc(r, 1, s, nullptr, &out);
        EXPECT_EQ(status >= RC_OK, out.data != nullptr);
        rc_region_release(r, nullptr);
        return status;
      }));
  all.push_back(input<rc_tensor_spec>(
      "spec_declared", RC_TYPE_TENSOR_SPEC, view, [](World& w, rc_tensor_spec* s, std::uint32_t) {
        rc_region* r = w.begin(w.step);
        const rc_status status = rc_region_output(r, 1, RC_OUTPUT_KEEP, s, nullptr);
        rc_region_release(r, nullptr);
        return status;
      }));
  all.push_back(input<rc_tensor_spec>("spec_restored", RC_TYPE_TENSOR_SPEC, view,
                                      [](World& w, rc_tensor_spec* s, std::uint32_t) {
                                        return rc_region_restore(w.ready, 0, nullptr, s);
                                      }));
}

void outputs(std::vector<Probe>& all) {
  all.push_back(output<rc_error_info>("error_info", RC_TYPE_ERROR_INFO, rc_error_info_init,
                                      [](World&, rc_error_info* o, std::uint32_t) {
                                        EXPECT_EQ(RC_E_ARGUMENT, create_context(nullptr));
                                        return rc_error_last(o);
                                      }));
  all.push_back(output<rc_decision>("decision", RC_TYPE_DECISION, rc_decision_init,
                                    [](World& w, rc_decision* o, std::uint32_t) {
                                      rc_site s = rc_site_init();
                                      s.kind = "layernorm";
                                      return rc_policy_decide(w.policy, &s, o);
                                    }));
  all.push_back(output<rc_note>(
      "note", RC_TYPE_NOTE, rc_note_init,
      [](World& w, rc_note* o, std::uint32_t) { return rc_policy_note(w.policy, 0, o); }));
  all.push_back(output<rc_step_report>("step_report", RC_TYPE_STEP_REPORT, rc_step_report_init,
                                       [](World& w, rc_step_report* o, std::uint32_t) {
                                         const rc_step_desc d = rc_step_desc_init();
                                         rc_step* s = nullptr;
                                         EXPECT_EQ(RC_OK, rc_step_begin(w.context, &d, &s));
                                         const rc_status status = rc_step_end(s, nullptr, o);
                                         if (status < RC_OK) {  // a refused report leaves it open
                                           EXPECT_LE(RC_OK, rc_step_end(s, nullptr, nullptr));
                                         }
                                         return status;
                                       }));
  all.push_back(output<rc_tensor_spec>("spec_of_view", RC_TYPE_TENSOR_SPEC, rc_tensor_spec_init,
                                       [](World& w, rc_tensor_spec* o, std::uint32_t) {
                                         return rc_region_view(w.ready, 1, nullptr, o);
                                       }));
  all.push_back(output<rc_tensor_spec>(
      "spec_passed_through", RC_TYPE_TENSOR_SPEC, rc_tensor_spec_init,
      [](World& w, rc_tensor_spec* o, std::uint32_t) {
        rc_region* r = w.begin(w.step);
        const rc_tensor_spec view = floats(w.data, w.shape, 1);
        rc_save item = rc_save_init();
        item.view = &view;
        const rc_status status = rc_region_save(r, &item, 1, sizeof item, nullptr, o);
        rc_region_release(r, nullptr);
        return status;
      }));
  all.push_back(output<rc_rng>(
      "rng", RC_TYPE_RNG, rc_rng_init,
      [](World& w, rc_rng* o, std::uint32_t) { return rc_region_rng(w.open, 1, o); }));
  all.push_back(output<rc_region_info>(
      "region_info", RC_TYPE_REGION_INFO, rc_region_info_init,
      [](World& w, rc_region_info* o, std::uint32_t) { return rc_region_query(w.ready, o); }));
  all.push_back(output<rc_slot_info>("slot_info", RC_TYPE_SLOT_INFO, rc_slot_info_init,
                                     [](World& w, rc_slot_info* o, std::uint32_t) {
                                       return rc_region_slot_query(w.ready, 1, o);
                                     }));
  all.push_back(output<rc_stats>(
      "stats", RC_TYPE_STATS, rc_stats_init,
      [](World& w, rc_stats* o, std::uint32_t) { return rc_stats_get(w.context, o); }));
  all.push_back(output<rc_prediction>("prediction", RC_TYPE_PREDICTION, rc_prediction_init,
                                      [](World& w, rc_prediction* o, std::uint32_t) {
                                        return rc_predict(w.context, w.policy, o);
                                      }));
}

}  // namespace

std::vector<Probe> probes() {
  std::vector<Probe> all;
  context_inputs(all);
  policy_inputs(all);
  module_inputs(all);
  region_inputs(all);
  spec_inputs(all);
  outputs(all);
  return all;
}

}  // namespace abi_tests
