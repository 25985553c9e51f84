// src/region/region_tensors_test.cc: owned tensors, borrowed views, links, exports and restores.
#include "src/region/testing_host.h"

namespace rc::testing {
namespace {

constexpr uint64_t kBytes = 4000;

struct RegionTensors : ::testing::Test {
  // `norm` discards its output y, `mlp` recomputes h; `keep` is of a kind that nobody speaks about.
  RegionTensors() {
    host.recompute({"layernorm", "mlp"});
    norm = &host.module("layernorm", 0, {in("x"), out("y")}, [](const rc_replay_args* args) {
      for (uint32_t i = 0; i < args->n_missing; ++i)
        fill(alloc(args->region, args->missing[i], kBytes), kBytes, 5);
      return RC_OK;
    });
    mlp = &host.module("mlp", 0, {in("x"), saved("h"), out("y")}, [](const rc_replay_args* args) {
      for (uint32_t i = 0; i < args->n_missing; ++i)
        fill(alloc(args->region, args->missing[i], kBytes), kBytes, 6);
      return RC_OK;
    });
    keep = &host.module("core_attn", 0, {in("a"), in("b"), in("c"), saved("s"), out("o")});
  }
  ~RegionTensors() override {
    EXPECT_EQ(host.live(), 0u);
    EXPECT_EQ(host.stats().regions_live, 0u);
  }
  // A norm with content in y, not yet ended.
  rc_region* open_norm() {
    rc_region* r = host.begin(*norm);
    EXPECT_EQ(save_bytes(r, 0, input, kBytes), RC_OK);
    fill(alloc(r, 1, kBytes), kBytes, 5);
    return r;
  }
  rc_region* ended_norm() {
    rc_region* r = open_norm();
    EXPECT_EQ(rc_region_end(r, nullptr), RC_OK);
    return r;
  }
  void discard(rc_region* r) { EXPECT_EQ(rc_region_discard(r, nullptr), RC_OK) << last_message(); }

  Host host;
  TestModule *norm, *mlp, *keep;
  char input[kBytes] = {};
  int deleted = 0;
};

TEST_F(RegionTensors, OwnedTensorsAreDeletedOnce) {
  rc_region* r = host.begin(*keep);
  EXPECT_EQ(save_tensor(r, 0, wrap(input, kBytes, &deleted)), RC_OK);
  EXPECT_EQ(host.live(), kBytes);
  EXPECT_EQ(view(r, 0), input);
  EXPECT_EQ(rc_region_end(r, nullptr), RC_OK);
  EXPECT_EQ(rc_region_done(r, 0, nullptr), RC_OK);
  EXPECT_EQ(deleted, 1);
  EXPECT_EQ(host.live(), 0u);
  EXPECT_GE(rc_region_done(r, 0, nullptr), 0);
  EXPECT_EQ(try_view(r, 0), RC_E_STATE);
  rc_region_release(r, nullptr);
  EXPECT_EQ(deleted, 1);
  for (int i = 0; i < 2; ++i) {  // by release, by cancel
    r = host.begin(*keep);
    EXPECT_EQ(save_tensor(r, 0, wrap(input, kBytes, &deleted)), RC_OK);
    if (i) EXPECT_EQ(rc_region_cancel(r, nullptr), RC_OK);
    rc_region_release(r, nullptr);
    EXPECT_EQ(deleted, 2 + i);
  }
}

TEST_F(RegionTensors, AFailedSaveConsumesNothing) {
  rc_region* r = host.begin(*keep);
  rc_tensor* first = wrap(input, kBytes, &deleted);
  rc_tensor* second = wrap(input, kBytes, &deleted);
  const auto try_save = [&](uint32_t slot_a, rc_tensor* a, uint32_t slot_b, rc_tensor* b) {
    rc_save items[2] = {rc_save_init(), rc_save_init()};
    items[0].slot = slot_a;
    items[0].tensor = a;
    items[1].slot = slot_b;
    items[1].tensor = b;
    return rc_region_save(r, items, 2, sizeof items[0], nullptr, nullptr);
  };
  EXPECT_EQ(try_save(0, first, 9, second), RC_E_ARGUMENT);  // no such slot
  EXPECT_NE(std::string(last_error().field).find("items[1]"), std::string::npos);
  EXPECT_EQ(host.live(), 0u);
  EXPECT_EQ(try_save(0, first, 0, second), RC_E_ARGUMENT);  // the same slot
  EXPECT_EQ(host.live(), 0u);
  EXPECT_EQ(try_save(0, first, 1, first), RC_E_ARGUMENT);  // the same tensor
  EXPECT_EQ(host.live(), 0u);
  EXPECT_EQ(deleted, 0);
  EXPECT_EQ(slot_info(r, 0).present, 0u);
  EXPECT_EQ(try_save(0, first, 1, second), RC_OK);
  EXPECT_EQ(host.live(), 2 * kBytes);
  rc_tensor* third = wrap(input, kBytes, &deleted);
  EXPECT_EQ(save_tensor(r, 0, third), RC_E_STATE);
  rc_tensor_release(third);
  EXPECT_EQ(deleted, 1);
  rc_region_release(r, nullptr);
  EXPECT_EQ(deleted, 3);
}

TEST_F(RegionTensors, ACapPassedByTheSecondItemUndoesTheFirst) {
  rc_step* step = host.step(RC_PHASE_FORWARD, 0, 3 * kBytes / 2);
  rc_region* r = host.begin(*keep, {.step = step});
  rc_tensor* owned = wrap(input, kBytes, &deleted);
  Bytes borrowed(kBytes, input);
  for (int order = 0; order < 2; ++order) {
    rc_save items[2] = {rc_save_init(), rc_save_init()};
    items[order].slot = 0;
    items[order].tensor = owned;
    items[1 - order].slot = 1;
    items[1 - order].view = &borrowed.spec;
    EXPECT_EQ(rc_region_save(r, items, 2, sizeof items[0], nullptr, nullptr), RC_E_BUDGET);
    EXPECT_EQ(deleted, 0);
    EXPECT_EQ(host.live(), 0u);
  }
  EXPECT_EQ(save_tensor(r, 0, owned), RC_OK);
  EXPECT_EQ(try_alloc(r, 3, kBytes), RC_E_BUDGET);
  EXPECT_EQ(try_alloc(r, 3, kBytes / 2), RC_OK);
  rc_region_release(r, nullptr);
  host.end_step(step);
  rc_region* free_again = host.begin(*keep);
  EXPECT_EQ(try_alloc(free_again, 3, 10 * kBytes), RC_OK);  // the cap went with the step
  rc_region_release(free_again, nullptr);
}

TEST_F(RegionTensors, ExactlyOneOriginMustBeGiven) {
  rc_region* r = host.begin(*keep);
  rc_region* other = open_norm();
  rc_save item = rc_save_init();
  EXPECT_EQ(rc_region_save(r, &item, 1, sizeof item, nullptr, nullptr), RC_E_ARGUMENT);
  item.view = Bytes(kBytes, input).get();
  Bytes stays(kBytes, input);
  item.view = &stays.spec;
  item.source = other;
  EXPECT_EQ(rc_region_save(r, &item, 1, sizeof item, nullptr, nullptr), RC_E_ARGUMENT);
  EXPECT_EQ(save_link(r, 0, r, 3), RC_E_ARGUMENT);
  EXPECT_EQ(save_link(r, 0, other, 7), RC_E_ARGUMENT);
  EXPECT_EQ(save_bytes(r, 0, nullptr, kBytes), RC_E_ARGUMENT);
  EXPECT_EQ(save_bytes(r, 0, nullptr, 0), RC_OK);  // nothing to read
  EXPECT_EQ(slot_info(r, 0).present, 1u);
  rc_region_release(r, nullptr);
  rc_region_release(other, nullptr);
}

TEST_F(RegionTensors, BorrowedViewsAreCopiedAtOnce) {
  rc_region* r = host.begin(*keep);
  fill(input, kBytes, 3);
  rc_save item = rc_save_init();
  Bytes bytes(kBytes, input);
  item.view = &bytes.spec;
  rc_tensor_spec through = rc_tensor_spec_init();
  EXPECT_EQ(rc_region_save(r, &item, 1, sizeof item, nullptr, &through), RC_OK);
  fill(input, kBytes, 4);
  EXPECT_NE(through.data, input);
  EXPECT_EQ(through.bytes, kBytes);
  EXPECT_EQ(through.shape[0], static_cast<int64_t>(kBytes));
  EXPECT_EQ(view(r, 0), through.data);
  EXPECT_TRUE(filled(view(r, 0), kBytes, 3));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(through.data) % 256, 0u);
  rc_region_release(r, nullptr);
}

TEST_F(RegionTensors, StridedViewsAreCopiedRowMajor) {
  int32_t matrix[3][5];
  for (int i = 0; i < 15; ++i) matrix[i / 5][i % 5] = i;
  const int64_t shape[] = {5, 3}, strides[] = {1, 5};
  rc_tensor_spec spec = rc_tensor_spec_init();
  spec.data = matrix;
  spec.dtype_bits = 32;
  spec.ndim = 2;
  spec.shape = shape;
  spec.strides = strides;
  rc_region* r = host.begin(*keep);
  EXPECT_EQ(save_view(r, 0, spec), RC_OK);
  EXPECT_EQ(host.live(), 60u);
  const int32_t* copy = reinterpret_cast<int32_t*>(view(r, 0));
  for (int i = 0; i < 15; ++i) EXPECT_EQ(copy[i], matrix[i % 3][i / 3]);
  int32_t back[3][5] = {};
  spec.data = back;  // and restored into the same strides
  EXPECT_EQ(rc_region_restore(r, 0, nullptr, &spec), RC_OK);
  EXPECT_EQ(std::memcmp(back, matrix, sizeof back), 0);
  const int64_t other[] = {3, 5};
  spec.shape = other;
  spec.strides = nullptr;
  EXPECT_EQ(rc_region_restore(r, 0, nullptr, &spec), RC_E_ARGUMENT);
  rc_region_release(r, nullptr);
}

TEST_F(RegionTensors, MemoryOfTheCoreIsRecognisedAndNotCopied) {
  rc_region* producer = ended_norm();
  const uint64_t before = host.live();
  rc_region* r = host.begin(*keep);
  char* y = view(producer, 1);
  EXPECT_EQ(save_bytes(r, 0, y, kBytes), RC_OK);
  EXPECT_EQ(save_bytes(r, 1, y + 100, 200), RC_OK);  // a part of it
  const int64_t shape[] = {10, 4}, strides[] = {40, 2};
  rc_tensor_spec strided = rc_tensor_spec_init();  // a strided part of it
  strided.data = y + 7;
  strided.dtype_code = 1;
  strided.dtype_bits = 8;
  strided.ndim = 2;
  strided.shape = shape;
  strided.strides = strides;
  EXPECT_EQ(save_view(r, 2, strided), RC_OK);
  EXPECT_EQ(host.live(), before);
  EXPECT_EQ(rc_region_end(r, nullptr), RC_OK);
  for (uint32_t i = 0; i < 3; ++i) {
    EXPECT_EQ(slot_info(r, i).linked, 1u);
    EXPECT_EQ(slot_info(r, i).source_id, info(producer).id);
  }
  discard(producer);
  EXPECT_EQ(host.live(), before - kBytes);
  EXPECT_EQ(slot_info(r, 0).present, 0u);
  EXPECT_EQ(state(r), RC_REGION_EMPTY);
  EXPECT_EQ(replay(r), RC_OK) << last_message();
  EXPECT_EQ(norm->calls, 1);
  char* again = view(producer, 1);
  EXPECT_EQ(view(r, 0), again);
  EXPECT_EQ(view(r, 1), again + 100);
  rc_tensor_spec got = rc_tensor_spec_init();
  EXPECT_EQ(rc_region_view(r, 2, nullptr, &got), RC_OK);
  EXPECT_EQ(got.data, again + 7);
  ASSERT_NE(got.strides, nullptr);
  EXPECT_EQ(got.strides[0], 40);
  EXPECT_TRUE(filled(again, kBytes, 5));
  // One byte past the end is nobody's slot any more: copied.
  rc_region* past = host.begin(*keep);
  rc_region_release(producer, nullptr);
  EXPECT_EQ(view(r, 0), again);  // r still refers to it
  rc_region_release(past, nullptr);
  rc_region_release(r, nullptr);
}

TEST_F(RegionTensors, ChainsOfLinksAreReplayedFromTheirOrigin) {
  // norm.y -> a.in -> b.in: only norm holds the bytes.
  rc_region* origin = ended_norm();
  const uint64_t held = host.live();
  rc_region* a = host.begin(*keep);
  EXPECT_EQ(save_link(a, 0, origin, 1), RC_OK);
  EXPECT_EQ(rc_region_end(a, nullptr), RC_OK);
  rc_region* b = host.begin(*keep);
  EXPECT_EQ(save_link(b, 0, a, 0), RC_OK);
  EXPECT_EQ(rc_region_end(b, nullptr), RC_OK);
  EXPECT_EQ(host.live(), held);
  discard(origin);
  EXPECT_EQ(host.live(), held - kBytes);
  EXPECT_EQ(replay(b), RC_OK) << last_message();
  EXPECT_EQ(norm->calls, 1);
  EXPECT_TRUE(filled(view(b, 0), kBytes, 5));
  EXPECT_EQ(replay(a), RC_OK);
  EXPECT_EQ(norm->calls, 1);
  EXPECT_EQ(rc_region_done(a, 0, nullptr), RC_OK);  // a needs it no more, b does
  EXPECT_TRUE(filled(view(b, 0), kBytes, 5));
  rc_region_release(a, nullptr);
  rc_region_release(origin, nullptr);
  EXPECT_TRUE(filled(view(b, 0), kBytes, 5));
  rc_region_release(b, nullptr);
}

TEST_F(RegionTensors, AChainSurvivesTheDoneOfItsMiddleBeforeTheReplay) {
  rc_region* origin = ended_norm();
  rc_region* a = host.begin(*keep);
  EXPECT_EQ(save_link(a, 0, origin, 1), RC_OK);
  EXPECT_EQ(rc_region_end(a, nullptr), RC_OK);
  rc_region* b = host.begin(*keep);
  EXPECT_EQ(save_link(b, 0, a, 0), RC_OK);
  EXPECT_EQ(rc_region_end(b, nullptr), RC_OK);
  discard(origin);
  EXPECT_EQ(rc_region_done(a, 0, nullptr), RC_OK);
  rc_region_release(a, nullptr);
  rc_region_release(origin, nullptr);
  EXPECT_EQ(replay(b), RC_OK) << last_message();
  EXPECT_TRUE(filled(view(b, 0), kBytes, 5));
  rc_region_release(b, nullptr);
}

TEST_F(RegionTensors, ACancelledSourceKeepsWhatIsPresentAndFailsWhatIsNot) {
  rc_region* origin = ended_norm();
  rc_region* present = host.begin(*keep);
  EXPECT_EQ(save_link(present, 0, origin, 1), RC_OK);
  EXPECT_EQ(rc_region_end(present, nullptr), RC_OK);
  EXPECT_EQ(rc_region_cancel(origin, nullptr), RC_OK);
  EXPECT_TRUE(filled(view(present, 0), kBytes, 5));
  EXPECT_EQ(replay(present), RC_OK);
  rc_region_release(origin, nullptr);
  rc_region_release(present, nullptr);
  EXPECT_EQ(host.live(), 0u);

  origin = ended_norm();
  rc_region* late = host.begin(*keep);
  EXPECT_EQ(save_link(late, 0, origin, 1), RC_OK);
  EXPECT_EQ(rc_region_end(late, nullptr), RC_OK);
  discard(origin);
  EXPECT_EQ(rc_region_cancel(origin, nullptr), RC_OK);
  EXPECT_EQ(replay(late), RC_E_STATE);
  EXPECT_EQ(try_view(late, 0), RC_E_STATE);
  EXPECT_EQ(host.live(), 0u);
  rc_region_release(origin, nullptr);
  rc_region_release(late, nullptr);
}

TEST_F(RegionTensors, AnExportedTensorOutlivesRegionStepAndContextHandle) {
  Host other;
  other.recompute({"mlp"});
  TestModule& module = other.module("mlp", 0, {saved("h")});
  rc_step* step = other.step();
  rc_region* r = other.begin(module, {.step = step});
  fill(alloc(r, 0, kBytes), kBytes, 9);
  rc_tensor* tensor = nullptr;
  EXPECT_EQ(rc_region_tensor(r, 0, nullptr, &tensor), RC_OK);
  EXPECT_EQ(rc_region_end(r, nullptr), RC_OK);
  EXPECT_EQ(other.live(), kBytes);  // counts as kept
  EXPECT_EQ(replay(r), RC_OK);
  EXPECT_EQ(module.calls, 0);
  rc_region_release(r, nullptr);
  other.end_step(step);
  EXPECT_EQ(other.live(), kBytes);
  other.close();
  rc_tensor_spec got = rc_tensor_spec_init();
  EXPECT_EQ(rc_tensor_view(tensor, &got), RC_OK);
  EXPECT_TRUE(filled(static_cast<char*>(got.data), kBytes, 9));
  rc_tensor_release(tensor);
}

TEST_F(RegionTensors, WhatOnlyAnExportKeptStaysAfterAReplay) {
  host.recompute({"mlp"});
  TestModule& module = host.module("mlp", 0, {saved("h")});
  rc_region* r = host.begin(module);
  fill(alloc(r, 0, kBytes), kBytes, 9);
  rc_tensor* tensor = nullptr;
  EXPECT_EQ(rc_region_tensor(r, 0, nullptr, &tensor), RC_OK);
  EXPECT_EQ(rc_region_end(r, nullptr), RC_OK);
  rc_region* reader = host.begin(*keep);
  EXPECT_EQ(save_link(reader, 0, r, 0), RC_OK);
  EXPECT_EQ(rc_region_end(reader, nullptr), RC_OK);
  EXPECT_EQ(replay(r), RC_OK);
  rc_tensor_release(tensor);
  EXPECT_TRUE(filled(view(r, 0), kBytes, 9));
  EXPECT_TRUE(filled(view(reader, 0), kBytes, 9));
  EXPECT_EQ(module.calls, 0);
  rc_region_release(reader, nullptr);
  rc_region_release(r, nullptr);
}

TEST_F(RegionTensors, AnOutputThatOnlyAnExportKeptStaysForItsReaderAfterAReplay) {
  host.recompute({"layernorm"});
  TestModule& norm = host.module("layernorm", 0, {in("x"), out("y")});
  for (const bool replay_reader : {false, true}) {
    rc_region* r = host.begin(norm);
    fill(alloc(r, 1, kBytes), kBytes, 9);
    rc_region* reader = host.begin(*keep);
    EXPECT_EQ(save_link(reader, 0, r, 1), RC_OK);
    EXPECT_EQ(rc_region_end(reader, nullptr), RC_OK);
    rc_tensor* tensor = nullptr;
    EXPECT_EQ(rc_region_tensor(r, 1, nullptr, &tensor), RC_OK);
    EXPECT_EQ(rc_region_end(r, nullptr), RC_OK);
    EXPECT_EQ(rc_region_discard(r, nullptr), RC_OK);
    EXPECT_GE(replay(replay_reader ? reader : r), 0);
    rc_tensor_release(tensor);
    EXPECT_TRUE(filled(view(reader, 0), kBytes, 9)) << replay_reader;
    EXPECT_EQ(norm.calls, 0);
    rc_region_release(reader, nullptr);
    rc_region_release(r, nullptr);
    EXPECT_EQ(host.live(), 0u);
  }
}

TEST_F(RegionTensors, AReplayOfAReaderDoesNotProlongWhatTheReaderHolds) {
  host.full(RC_METHOD_UNIFORM, 1, 2);
  const auto produce = [](const rc_replay_args* args) {
    for (uint32_t i = 0; i < args->n_missing; ++i)
      fill(alloc(args->region, args->missing[i], kBytes), kBytes, 6);
    return RC_OK;
  };
  rc_region* r = host.begin(host.module("layer", 0, {saved("h"), out("y")}, produce));
  fill(alloc(r, 1, kBytes), kBytes, 9);
  rc_region* reader = host.begin(host.module("layer", 1, {in("x"), saved("h")}, produce));
  EXPECT_EQ(save_link(reader, 0, r, 1), RC_OK);
  fill(alloc(reader, 1, kBytes), kBytes, 6);
  EXPECT_EQ(rc_region_end(r, nullptr), RC_OK);
  EXPECT_GE(rc_region_discard(r, nullptr), 0);
  EXPECT_EQ(rc_region_end(reader, nullptr), RC_OK);
  EXPECT_EQ(host.live(), kBytes);  // y, which the reader holds
  EXPECT_EQ(replay(reader), RC_OK);
  rc_region_release(reader, nullptr);
  EXPECT_EQ(host.live(), 0u);
  rc_region_release(r, nullptr);
}

TEST_F(RegionTensors, AnExportedTensorCanBeSavedAgain) {
  rc_region* r = host.begin(*keep);
  fill(alloc(r, 3, kBytes), kBytes, 9);
  rc_tensor* tensor = nullptr;
  EXPECT_EQ(rc_region_tensor(r, 3, nullptr, &tensor), RC_OK);
  rc_region* next = host.begin(*keep);
  EXPECT_EQ(save_tensor(next, 0, tensor), RC_OK);
  rc_region_release(r, nullptr);
  EXPECT_TRUE(filled(view(next, 0), kBytes, 9));
  rc_region_release(next, nullptr);
}

TEST_F(RegionTensors, OutputsInTheHostsMemoryAreEmptiedAndRefilled) {
  std::vector<char> storage(kBytes, 1);
  std::string order;
  TestModule& act = host.module("moe_act", 0, {in("x"), out("y")}, nullptr, {});
  TestModule* hosted = nullptr;
  host.recompute({"moe_act", "layernorm", "mlp"});
  hosted = &host.module("moe_act", 1, {in("x"), out("y"), out("z")}, nullptr, {.host_slots = true});
  hosted->drop = [&](const rc_slot_args* a) {
    order += format("drop%u ", a->slot);
    return RC_OK;
  };
  hosted->refill = [&](const rc_slot_args* a) {
    order += format("refill%u ", a->slot);
    return RC_OK;
  };
  hosted->replay = [&](const rc_replay_args* a) {
    order += format("replay%u ", a->n_missing);
    return RC_OK;
  };
  rc_region* plain = host.begin(act);
  EXPECT_EQ(rc_region_output(plain, 1, RC_OUTPUT_HOST, Bytes(kBytes).get(), nullptr),
            RC_E_UNSUPPORTED);
  EXPECT_EQ(
      rc_region_output(plain, 0, RC_OUTPUT_KEEP, Bytes(kBytes, storage.data()).get(), nullptr),
      RC_E_ARGUMENT);
  rc_region_release(plain, nullptr);
  rc_region* r = host.begin(*hosted);
  EXPECT_EQ(rc_region_output(r, 1, RC_OUTPUT_HOST, Bytes(kBytes, storage.data()).get(), nullptr),
            RC_OK);
  EXPECT_EQ(rc_region_output(r, 2, RC_OUTPUT_KEEP, Bytes(kBytes, storage.data()).get(), nullptr),
            RC_OK);
  EXPECT_EQ(rc_region_end(r, nullptr), RC_OK);
  discard(r);
  EXPECT_EQ(state(r), RC_REGION_EMPTY);
  EXPECT_EQ(rc_region_discard(r, nullptr), RC_PASS);
  EXPECT_EQ(try_view(r, 1), RC_E_STATE);
  EXPECT_EQ(view(r, 2), storage.data());
  EXPECT_EQ(replay(r), RC_OK) << last_message();
  EXPECT_EQ(order, "drop1 refill1 replay1 ");
  EXPECT_EQ(view(r, 1), storage.data());
  rc_region_release(r, nullptr);
}

TEST_F(RegionTensors, ADropThatFailsLeavesWhatWasDroppedReplayable) {
  host.recompute({"moe_act", "layernorm", "mlp"});
  std::vector<char> storage(kBytes, 1);
  TestModule& m = host.module("moe_act", 1, {out("y"), out("z")}, nullptr, {.host_slots = true});
  bool fails = true, releases = false;
  m.drop = [&](const rc_slot_args* a) {
    if (releases) rc_region_release(a->region, nullptr);
    releases = false;
    return a->slot == 1 && fails ? static_cast<rc_status>(-1234) : RC_OK;
  };
  rc_region* r = host.begin(m);
  for (uint32_t i = 0; i < 2; ++i)
    EXPECT_EQ(rc_region_output(r, i, RC_OUTPUT_HOST, Bytes(kBytes, storage.data()).get(), nullptr),
              RC_OK);
  EXPECT_EQ(rc_region_end(r, nullptr), RC_OK);
  EXPECT_EQ(static_cast<int>(rc_region_discard(r, nullptr)), -1234);
  EXPECT_EQ(missing(r), std::vector<uint32_t>{0});
  EXPECT_EQ(state(r), RC_REGION_EMPTY);
  fails = false;
  discard(r);
  EXPECT_EQ(missing(r).size(), 2u);
  EXPECT_EQ(replay(r), RC_OK);
  rc_region_release(r, nullptr);
  r = host.begin(m);
  EXPECT_EQ(rc_region_output(r, 0, RC_OUTPUT_HOST, Bytes(kBytes, storage.data()).get(), nullptr),
            RC_OK);
  EXPECT_EQ(rc_region_end(r, nullptr), RC_OK);
  releases = true;
  EXPECT_EQ(rc_region_discard(r, nullptr), RC_OK);  // its last handle went within
}

TEST_F(RegionTensors, TwoRegionsCannotKeepEachOtherAlive) {
  rc_region* first = open_norm();
  rc_region* second = host.begin(*mlp);
  EXPECT_EQ(save_link(second, 0, first, 1), RC_OK);
  fill(alloc(second, 1, kBytes), kBytes, 6);
  rc_region* third = host.begin(*keep);
  EXPECT_EQ(save_link(third, 0, second, 1), RC_OK);
  fill(alloc(third, 3, kBytes), kBytes, 7);
  // The norm's region is still open, and another slot of it would refer back, over two regions.
  rc_slot_desc desc = saved("back");
  uint32_t back = 0;
  ASSERT_EQ(rc_region_slot_add(first, &desc, &back), RC_OK);
  EXPECT_EQ(save_link(first, back, third, 3), RC_E_ARGUMENT);
  EXPECT_NE(last_message().find("each other alive"), std::string::npos) << last_message();
  // By its address the same memory is copied.
  char* theirs = view(third, 3);
  EXPECT_EQ(save_bytes(first, back, theirs, kBytes), RC_OK);
  EXPECT_NE(view(first, back), theirs);
  EXPECT_TRUE(filled(view(first, back), kBytes, 7));
  for (rc_region* r : {first, second, third}) rc_region_release(r, nullptr);
}

}  // namespace
}  // namespace rc::testing
