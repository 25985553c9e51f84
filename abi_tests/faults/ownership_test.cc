// abi_tests/faults/ownership_test.cc: a call that fails for its arguments consumes nothing and
// destroys nothing.
#include <string>

#include "host.h"

namespace abi_tests {
namespace {

class Ownership : public ::testing::Test {
 protected:
  void SetUp() override {
    rc_status status = RC_OK;
    context_ = host_->make_context(&status);
    ASSERT_EQ(RC_OK, status);
    policy_ = recompute_layernorm(&status);
    ASSERT_EQ(RC_OK, status);
    ASSERT_EQ(RC_OK, rc_context_configure(context_, policy_));
    module_ = host_->make_module(context_, &status);
    ASSERT_EQ(RC_OK, status);
  }
  void TearDown() override {
    rc_module_release(module_);
    rc_policy_release(policy_);
    rc_context_release(context_);
    EXPECT_EQ(0, host_->blocks);
    EXPECT_EQ(0, host_->tokens);
    EXPECT_EQ(0, host_->tensors);
  }
  rc_region* begin() {
    rc_region_desc d = rc_region_desc_init();
    d.module = module_;
    d.user_data = host_.get();
    rc_region* out = nullptr;
    EXPECT_EQ(RC_OK, rc_region_begin(context_, &d, &out));
    return out;
  }
  rc_tensor* wrap() {
    const rc_tensor_spec s = floats(x_);
    rc_tensor* out = nullptr;
    EXPECT_EQ(RC_OK, rc_tensor_wrap(&s, Host::tensor_gone, host_.get(), &out));
    ++host_->tensors;
    return out;
  }
  static std::string field() {
    rc_error_info info = rc_error_info_init();
    EXPECT_EQ(RC_OK, rc_error_last(&info));
    EXPECT_NE('\0', info.message[0]);
    return info.field;
  }

  std::unique_ptr<Host> host_ = std::make_unique<Host>(Fault::kNone, 0);
  float x_[kN] = {};
  rc_context* context_ = nullptr;
  rc_policy* policy_ = nullptr;
  rc_module* module_ = nullptr;
};

TEST_F(Ownership, ASaveTakesAllTensorsOrNone) {
  rc_region* region = begin();
  rc_tensor* first = wrap();
  rc_save items[2] = {rc_save_init(), rc_save_init()};
  items[0].tensor = first;
  items[1].slot = 77;  // there is none
  items[1].tensor = wrap();
  EXPECT_EQ(RC_E_ARGUMENT, rc_region_save(region, items, 2, sizeof items[0], nullptr, nullptr));
  EXPECT_NE(std::string::npos, field().find("items[1]")) << field();
  EXPECT_EQ(2, host_->tensors) << "no deleter ran";
  EXPECT_EQ(RC_E_STATE,
            rc_region_view(region, 0, nullptr,
                           std::make_unique<rc_tensor_spec>(rc_tensor_spec_init()).get()));
  rc_tensor_release(items[1].tensor);
  EXPECT_LE(RC_OK, rc_region_save(region, items, 1, sizeof items[0], nullptr, nullptr));
  rc_region_release(region, nullptr);
  EXPECT_EQ(0, host_->tensors);
}

TEST_F(Ownership, ASaveItemIsExactlyOneOfTensorViewAndSource) {
  rc_region* region = begin();
  rc_save item = rc_save_init();
  EXPECT_EQ(RC_E_ARGUMENT, rc_region_save(region, &item, 1, sizeof item, nullptr, nullptr));
  const rc_tensor_spec view = floats(x_);
  item.view = &view;
  item.tensor = wrap();
  EXPECT_EQ(RC_E_ARGUMENT, rc_region_save(region, &item, 1, sizeof item, nullptr, nullptr));
  rc_tensor_release(item.tensor);
  rc_region_release(region, nullptr);
}

TEST_F(Ownership, ARegistrationThatFailsDestroysNoTable) {
  Host other(Fault::kNone, 0);
  rc_module_ops ops = rc_module_ops_init();
  ops.user_data = &other;
  ops.destroy = [](void* p) { ++Host::of(p)->module_gone; };
  ops.replay = Host::replay;
  rc_slot_desc slots[2] = {rc_slot_desc_init(), rc_slot_desc_init()};
  slots[0].name = slots[1].name = "same";
  slots[0].role = slots[1].role = RC_ROLE_INPUT;
  rc_module_desc d = rc_module_desc_init();
  d.kind = "layernorm";
  d.slots = slots;
  d.n_slots = 2;
  d.slot_stride = sizeof slots[0];
  d.ops = &ops;
  rc_module* out = module_;
  EXPECT_EQ(RC_E_ARGUMENT, rc_module_register(context_, &d, &out));
  EXPECT_EQ(nullptr, out);
  EXPECT_NE(std::string::npos, field().find("slots[1]")) << field();
  EXPECT_EQ(0, other.module_gone);
}

TEST_F(Ownership, AContextThatFailsDestroysNoTable) {
  Host other(Fault::kNone, 0);
  rc_allocator a = rc_allocator_init();
  a.user_data = &other;
  a.destroy = [](void* p) { ++Host::of(p)->allocator_gone; };
  a.alloc = Host::alloc;  // and no free
  rc_context_desc d = rc_context_desc_init();
  d.allocator = &a;
  rc_context* out = context_;
  EXPECT_EQ(RC_E_ARGUMENT, rc_context_create(&d, &out));
  EXPECT_EQ(nullptr, out);
  EXPECT_EQ(0, other.allocator_gone);
}

TEST_F(Ownership, ABeginThatFailsDoesNotDestroyTheRegionsData) {
  rc_region_desc d = rc_region_desc_init();
  d.user_data = host_.get();
  d.destroy = [](void* p) { ++Host::of(p)->region_gone; };
  rc_region* out = nullptr;
  EXPECT_GT(RC_OK, rc_region_begin(context_, &d, &out)) << "no module";
  EXPECT_EQ(nullptr, out);
  EXPECT_EQ(0, host_->region_gone);
}

TEST_F(Ownership, HandlesOfAnotherContextAreRefused) {
  rc_context_desc d = rc_context_desc_init();
  rc_context* other = nullptr;
  ASSERT_EQ(RC_OK, rc_context_create(&d, &other));
  rc_region_desc r = rc_region_desc_init();
  r.module = module_;
  rc_region* out = nullptr;
  EXPECT_EQ(RC_E_HANDLE, rc_region_begin(other, &r, &out));
  rc_step_desc sd = rc_step_desc_init();
  rc_step* step = nullptr;
  ASSERT_EQ(RC_OK, rc_step_begin(other, &sd, &step));
  r.step = step;
  EXPECT_EQ(RC_E_HANDLE, rc_region_begin(context_, &r, &out));
  EXPECT_LE(RC_OK, rc_step_end(step, nullptr, nullptr));
  rc_context_release(other);
}

TEST_F(Ownership, AContextOutlivesItsHostsCountWhileSomethingRefersToIt) {
  rc_region* region = begin();
  rc_save item = rc_save_init();
  const rc_tensor_spec x = floats(x_);
  item.view = &x;
  ASSERT_LE(RC_OK, rc_region_save(region, &item, 1, sizeof item, nullptr, nullptr));
  rc_tensor* kept = nullptr;
  ASSERT_EQ(RC_OK, rc_region_tensor(region, 0, nullptr, &kept));
  ASSERT_LE(RC_OK, rc_region_end(region, nullptr));
  rc_context_release(context_);
  rc_module_release(module_);
  EXPECT_EQ(0, host_->allocator_gone);
  rc_region_info info = rc_region_info_init();
  EXPECT_EQ(RC_OK, rc_region_query(region, &info));
  rc_region_release(region, nullptr);
  EXPECT_EQ(1, host_->module_gone);
  rc_tensor_spec view = rc_tensor_spec_init();
  EXPECT_EQ(RC_OK, rc_tensor_view(kept, &view));
  EXPECT_EQ(0, std::memcmp(view.data, x_, sizeof x_));
  rc_tensor_release(kept);
  EXPECT_EQ(1, host_->allocator_gone) << "the last reference took the core with it";
  context_ = nullptr;
  module_ = nullptr;
}

TEST_F(Ownership, AnOwnedTensorCanBeHandedOnToAnotherFramework) {
  rc_region* region = begin();
  rc_save item = rc_save_init();
  item.tensor = wrap();
  ASSERT_LE(RC_OK, rc_region_save(region, &item, 1, sizeof item, nullptr, nullptr));
  rc_tensor* kept = nullptr;
  EXPECT_EQ(RC_OK, rc_region_tensor(region, 0, nullptr, &kept));
  EXPECT_LE(RC_OK, rc_region_end(region, nullptr));
  rc_region_release(region, nullptr);
  if (kept != nullptr) {
    EXPECT_EQ(1, host_->tensors) << "the host's memory is held as long as the tensor";
  }
  rc_tensor_release(kept);
  EXPECT_EQ(0, host_->tensors);
}

TEST_F(Ownership, AStepThatEndsCancelsWhatIsLeftInIt) {
  const rc_step_desc d = rc_step_desc_init();
  rc_step* step = nullptr;
  ASSERT_EQ(RC_OK, rc_step_begin(context_, &d, &step));
  rc_region_desc r = rc_region_desc_init();
  r.module = module_;
  r.step = step;
  r.user_data = host_.get();
  r.destroy = [](void* p) { ++Host::of(p)->region_gone; };
  rc_region* region = nullptr;
  ASSERT_EQ(RC_OK, rc_region_begin(context_, &r, &region));
  rc_save item = rc_save_init();
  item.tensor = wrap();
  ASSERT_LE(RC_OK, rc_region_save(region, &item, 1, sizeof item, nullptr, nullptr));
  rc_step_report report = rc_step_report_init();
  EXPECT_LE(RC_OK, rc_step_end(step, nullptr, &report));
  EXPECT_EQ(1u, report.regions_purged);
  EXPECT_EQ(0, host_->tensors);
  rc_region_info info = rc_region_info_init();
  EXPECT_EQ(RC_OK, rc_region_query(region, &info));
  EXPECT_EQ(RC_REGION_CANCELLED, info.state);
  EXPECT_EQ(RC_E_STATE, rc_backward_replay(&region, 1, nullptr));
  rc_region_release(region, nullptr);
  EXPECT_EQ(1, host_->region_gone);
}

}  // namespace
}  // namespace abi_tests
