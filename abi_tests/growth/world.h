// abi_tests/growth/world.h: one of every object that a struct can be passed to, and memory that
// ends at a guard page.
#pragma once
#include <gtest/gtest.h>
#include <rcore/rcore.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

namespace abi_tests {

// A buffer whose last byte is followed by a page that may not be touched: any over-read or
// over-write is a crash, in every build, not only under ASan.
class Guarded {
 public:
  explicit Guarded(std::size_t n) : n_(n) {
    const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    mapped_ = (n + page - 1) / page * page + page;
    base_ = static_cast<char*>(
        mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (base_ == MAP_FAILED || mprotect(base_ + mapped_ - page, page, PROT_NONE) != 0)
      throw std::bad_alloc();
    data_ = base_ + mapped_ - page - n;
  }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  ~Guarded() { munmap(base_, mapped_); }
  char* data() { return data_; }
  std::size_t size() const { return n_; }

 private:
  std::size_t n_, mapped_ = 0;
  char *base_ = nullptr, *data_ = nullptr;
};

inline rc_tensor_spec floats(void* data, const std::int64_t* shape, int ndim) {
  rc_tensor_spec s = rc_tensor_spec_init();
  s.data = data;
  s.dtype_code = 2;
  s.dtype_bits = 32;
  s.dtype_lanes = 1;
  s.ndim = ndim;
  s.shape = shape;
  return s;
}

// A context with a policy that recomputes `layernorm`, one module of that kind, a profiled step
// that has ended, an open step, a replayed region and an open one.
struct World {
  World() {
    rc_context_desc c = rc_context_desc_init();
    EXPECT_EQ(RC_OK, rc_context_create(&c, &context));
    rc_policy_rule rule = rc_policy_rule_init();
    rule.kind = "layernorm";
    rule.action = RC_ACTION_RECOMPUTE;
    rc_policy_desc p = rc_policy_desc_init();
    p.num_layers = 2;
    p.rules = &rule;
    p.n_rules = 1;
    p.rule_stride = sizeof rule;
    EXPECT_EQ(RC_OK, rc_policy_create(&p, &policy));
    EXPECT_EQ(RC_OK, rc_context_configure(context, policy));
    ops = rc_module_ops_init();
    ops.replay = replay;
    slots[0] = slots[1] = rc_slot_desc_init();
    slots[0].name = "x";
    slots[0].role = RC_ROLE_INPUT;
    slots[1].name = "y";
    slots[1].role = RC_ROLE_OUTPUT;
    rc_module_desc m = module_desc();
    EXPECT_EQ(RC_OK, rc_module_register(context, &m, &module));
    rc_step_desc s = rc_step_desc_init();
    s.flags = RC_STEP_PROFILE;
    rc_step* logged = nullptr;
    EXPECT_EQ(RC_OK, rc_step_begin(context, &s, &logged));
    rc_region* r = full_region(logged);
    rc_region_release(r, nullptr);
    EXPECT_LE(RC_OK, rc_step_end(logged, nullptr, nullptr));
    s.flags = 0;
    EXPECT_EQ(RC_OK, rc_step_begin(context, &s, &step));
    ready = full_region(step);
    open = begin(step);
  }
  ~World() {
    rc_region_release(open, nullptr);
    rc_region_release(ready, nullptr);
    EXPECT_LE(RC_OK, rc_step_end(step, nullptr, nullptr));
    rc_module_release(module);
    rc_policy_release(policy);
    rc_context_release(context);
  }

  rc_module_desc module_desc() const {
    rc_module_desc m = rc_module_desc_init();
    m.kind = "layernorm";
    m.slots = slots;
    m.n_slots = 2;
    m.slot_stride = sizeof slots[0];
    m.ops = &ops;
    return m;
  }
  rc_region* begin(rc_step* in) {
    rc_region_desc d = rc_region_desc_init();
    d.module = module;
    d.step = in;
    rc_region* r = nullptr;
    EXPECT_EQ(RC_OK, rc_region_begin(context, &d, &r));
    return r;
  }
  rc_region* full_region(rc_step* in) {
    rc_region* r = begin(in);
    rc_save item = rc_save_init();
    const rc_tensor_spec view = floats(data, shape, 1);
    item.view = &view;
    EXPECT_LE(RC_OK, rc_region_save(r, &item, 1, sizeof item, nullptr, nullptr));
    rc_tensor_spec out = rc_tensor_spec_init();
    const rc_tensor_spec like = floats(nullptr, shape, 1);
    EXPECT_LE(RC_OK, rc_region_alloc(r, 1, &like, nullptr, &out));
    std::memcpy(out.data, data, sizeof data);
    EXPECT_LE(RC_OK, rc_region_end(r, nullptr));
    EXPECT_LE(RC_OK, rc_region_discard(r, nullptr));
    EXPECT_LE(RC_OK, rc_backward_replay(&r, 1, nullptr));
    return r;
  }
  static rc_status replay(const rc_replay_args* args) {
    static const std::int64_t shape[1] = {64};
    const rc_tensor_spec like = floats(nullptr, shape, 1);
    rc_tensor_spec in = rc_tensor_spec_init(), out = rc_tensor_spec_init();
    rc_status status = rc_region_view(args->region, 0, nullptr, &in);
    if (status < RC_OK) return status;
    status = rc_region_alloc(args->region, 1, &like, nullptr, &out);
    if (status >= RC_OK && out.data != nullptr) std::memcpy(out.data, in.data, sizeof(float) * 64);
    return status < RC_OK ? status : RC_OK;
  }

  float data[64] = {};
  std::int64_t shape[1] = {64};
  rc_module_ops ops;
  rc_slot_desc slots[2];
  rc_context* context = nullptr;
  rc_policy* policy = nullptr;
  rc_module* module = nullptr;
  rc_step* step = nullptr;
  rc_region *ready = nullptr, *open = nullptr;
};

}  // namespace abi_tests
