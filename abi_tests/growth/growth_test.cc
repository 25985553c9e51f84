// abi_tests/growth/growth_test.cc: every public struct, at every size that an older or newer caller
// can give it.
//
// Each probe passes one struct to a function that takes it. The struct lies at the end of a page,
// cut to exactly struct_size bytes. An input cut short must act as if the rest were zero; a longer
// one acts the same while its tail is zero and is RC_E_VERSION otherwise; nonsense heads are
// refused. An output is written up to struct_size and no further.
#include <ostream>

#include "probes.h"

namespace abi_tests {

std::ostream& operator<<(std::ostream& out, const Probe& p) {
  return out << p.name;
}

namespace {

class Growth : public ::testing::TestWithParam<Probe> {
 protected:
  // Calls with a buffer of exactly `size` bytes: the good struct cut or padded with `tail`.
  rc_status call_with(std::uint32_t size, char tail = 0, std::vector<char>* after = nullptr) {
    const std::vector<char> good = GetParam().good(world_);
    Guarded raw(size);
    std::memset(raw.data(), tail, size);
    std::memcpy(raw.data(), good.data(), std::min<std::size_t>(size, good.size()));
    if (size >= 4) std::memcpy(raw.data(), &size, 4);
    const rc_status status = GetParam().call(world_, raw.data(), size);
    if (after != nullptr) after->assign(raw.data(), raw.data() + size);
    return status;
  }
  // A full-size struct whose bytes from `cut` on are zero.
  rc_status call_zeroed(std::uint32_t cut) {
    std::vector<char> good = GetParam().good(world_);
    std::memset(good.data() + cut, 0, good.size() - cut);
    return GetParam().call(world_, good.data(), GetParam().size);
  }
  // The good struct with another value in its head.
  rc_status call_with_head(std::uint32_t size, std::uint32_t type, const void* next) {
    std::vector<char> good = GetParam().good(world_);
    Guarded raw(good.size());
    std::memcpy(raw.data(), good.data(), good.size());
    std::memcpy(raw.data(), &size, 4);
    std::memcpy(raw.data() + 4, &type, 4);
    std::memcpy(raw.data() + 8, &next, 8);
    return GetParam().call(world_, raw.data(), GetParam().size);
  }
  World world_;
};

TEST_P(Growth, AcceptsTheStructOfToday) {
  EXPECT_LE(RC_OK, call_with(GetParam().size));
}

TEST_P(Growth, ReadsAShorterStructAsZeroFilled) {
  for (std::uint32_t cut = sizeof(rc_head); cut < GetParam().size; cut += 8) {
    if (GetParam().direction == Direction::kIn) {
      const rc_status expected = call_zeroed(cut);
      EXPECT_EQ(expected, call_with(cut)) << "cut at " << cut;
    } else {
      EXPECT_EQ(call_with(GetParam().size), call_with(cut)) << "cut at " << cut;
    }
  }
}

TEST_P(Growth, AcceptsALongerStructWithAZeroTail) {
  for (const std::uint32_t extra : {8u, 64u, 4096u, 40000u}) {
    std::vector<char> after;
    EXPECT_LE(RC_OK, call_with(GetParam().size + extra, 0, &after)) << extra;
  }
}

TEST_P(Growth, TreatsALongerStructWithATailAsItsDirectionAsks) {
  for (const std::uint32_t extra : {8u, 64u}) {
    std::vector<char> after;
    const rc_status status = call_with(GetParam().size + extra, 0x5a, &after);
    if (GetParam().direction == Direction::kIn) {
      EXPECT_EQ(RC_E_VERSION, status) << extra;
    } else {
      EXPECT_LE(RC_OK, status) << extra;
      for (std::uint32_t i = GetParam().size; i < after.size(); ++i)
        ASSERT_EQ(0, after[i]) << "unknown tail at " << i;
    }
  }
}

TEST_P(Growth, RefusesHeadsThatAreNoStruct) {
  const std::uint32_t size = GetParam().size;
  const std::uint32_t tag = GetParam().tag;
  for (const std::uint32_t wrong : {0u, 1u, 8u, 15u, 0x10001u, 0x7fffffffu, 0xffffffffu}) {
    EXPECT_EQ(RC_E_ARGUMENT, call_with_head(wrong, tag, nullptr)) << "struct_size " << wrong;
  }
  for (const std::uint32_t wrong :
       {0u, tag + 1, tag == 1 ? 2u : tag - 1, 0x40000000u, 0xffffffffu}) {
    EXPECT_EQ(RC_E_ARGUMENT, call_with_head(size, wrong, nullptr)) << "struct_type " << wrong;
  }
  rc_head unknown = {sizeof(rc_head), static_cast<rc_type>(0x40000001), nullptr};
  EXPECT_EQ(RC_E_VERSION, call_with_head(size, tag, &unknown));
  rc_head cyclic = {sizeof(rc_head), static_cast<rc_type>(0x40000001), nullptr};
  cyclic.next = &cyclic;
  EXPECT_EQ(RC_E_VERSION, call_with_head(size, tag, &cyclic));
  EXPECT_LE(RC_OK, call_with_head(size, tag, nullptr)) << "and works again afterwards";
}

INSTANTIATE_TEST_SUITE_P(EveryStruct, Growth, ::testing::ValuesIn(probes()),
                         [](const auto& i) { return std::string(i.param.name); });

// A struct that rcore.h gains must gain a probe.
TEST(GrowthProbes, CoverEveryStructThatACallerPasses) {
  std::vector<bool> seen(64);
  for (const Probe& p : probes()) seen[p.tag] = true;
  for (const rc_type made_by_library :
       {RC_TYPE_ALLOC_REQUEST, RC_TYPE_TRACE_EVENT, RC_TYPE_REPLAY_ARGS, RC_TYPE_SLOT_ARGS}) {
    seen[made_by_library] = true;
  }
  for (int tag = RC_TYPE_ERROR_INFO; tag <= RC_TYPE_SLOT_INFO; ++tag)
    EXPECT_TRUE(seen[tag]) << "struct type " << tag;
}

}  // namespace
}  // namespace abi_tests
