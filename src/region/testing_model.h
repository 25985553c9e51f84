// src/region/testing_model.h: a two-level model for tests, whose every byte depends on all that
// came before it.
//
// A layer holds layernorm -> core_attn -> mlp. The forward code of each module is also its replay;
// it reads its inputs through the region, draws random numbers, takes a decision, and writes slots
// of the core. In backward every slot that a gradient would read is compared with what forward had
// there.
#pragma once

#include <array>
#include <map>
#include <tuple>

#include "src/region/testing_host.h"

namespace rc::testing {

struct ModelSizes {
  uint64_t x = 1000, norm = 1100, probs = 5000, attention = 1200, hidden = 4100, choice = 40;
};

class Model {
 public:
  enum Kind { kLayer, kNorm, kAttention, kMlp, kKinds };
  // Slots: layer x, y; norm x, y; attention x, probs, y; mlp x, hidden, y, choice.
  // `chunk_layers` layers are a virtual chunk; the first layer of chunk c is number c * stride.
  Model(Host& host, uint32_t layers, ModelSizes sizes = {}, uint32_t chunk_layers = 0,
        uint32_t stride = 0)
      : host_(host), sizes_(sizes), chunk_layers_(chunk_layers ? chunk_layers : layers) {
    for (uint32_t place = 0; place < layers; ++place) {
      const uint32_t l = chunk_of(place) * (stride ? stride : layers) + place % chunk_layers_;
      std::array<TestModule*, kKinds> m;
      m[kLayer] = &host.module("layer", l, {in("x"), out("y")}, again(&Model::layer));
      m[kNorm] = &host.module("layernorm", l, {in("x"), out("y")}, again(&Model::norm));
      m[kAttention] = &host.module("core_attn", l, {in("x"), saved("probs"), out("y")},
                                   again(&Model::attention));
      m[kMlp] = &host.module("mlp", l, {in("x"), saved("hidden"), out("y"), decision("choice")},
                             again(&Model::mlp));
      modules.push_back(m);
    }
  }

  void forward(rc_step* step, uint32_t microbatch, int seed, rc_stream stream = nullptr) {
    forward_of(step, 0, uint32_t(modules.size()), microbatch, seed, stream);
  }
  void forward_chunk(rc_step* step, uint32_t chunk, uint32_t microbatch, int seed) {
    forward_of(step, chunk * chunk_layers_, chunk_layers_, microbatch, seed, nullptr);
  }
  void backward_chunk(uint32_t chunk, uint32_t microbatch) {
    backward_of(chunk * chunk_layers_, chunk_layers_, microbatch, nullptr);
  }
  void backward(uint32_t microbatch, rc_stream stream = nullptr) {
    backward_of(0, uint32_t(modules.size()), microbatch, stream);
  }

  // Drops what forward kept without a backward.
  void abandon(uint32_t microbatch, rc_stream stream = nullptr) {
    for (uint32_t l = 0; l < modules.size(); ++l)
      for (Kind kind : {kMlp, kAttention, kNorm, kLayer}) release({microbatch, l, kind}, stream);
  }

  // Called by a replay, in the middle of a layer.
  std::function<void()> in_replay;
  std::vector<std::array<TestModule*, kKinds>> modules;
  std::map<std::tuple<uint32_t, uint32_t, int>, rc_region*> regions;
  std::vector<uint64_t> draws;  // of the forward, in order
  uint64_t checked = 0;         // slots compared in backward
  int replays(Kind kind) const {
    int n = 0;
    for (const auto& m : modules) n += m[kind]->calls;
    return n;
  }

 private:
  using Body = void (Model::*)(rc_region*, uint32_t, uint32_t, rc_stream);
  using Key = std::tuple<uint32_t, uint32_t, int>;

  uint32_t chunk_of(uint32_t place) const { return chunk_layers_ ? place / chunk_layers_ : 0; }

  void forward_of(rc_step* step, uint32_t first, uint32_t layers, uint32_t microbatch, int seed,
                  rc_stream stream) {
    std::vector<char> input(sizes_.x);
    fill(input.data(), input.size(), seed);
    rc_region* before = nullptr;
    for (uint32_t l = first; l < first + layers; ++l) {
      rc_region* r = begin(step, kLayer, l, microbatch, nullptr, stream);
      if (before) {
        expect(save_link(r, 0, before, 1));
        expect(rc_region_discard(before, stream));
      } else {
        expect(save_bytes(r, 0, input.data(), sizes_.x, stream));
      }
      layer(r, l, microbatch, stream);
      expect(rc_region_end(r, stream));
      before = r;
    }
    if (before) expect(rc_region_discard(before, stream));
    if (device_of(host_)) (void)device_of(host_)->synchronize(stream).ok();  // `input` goes
  }

  void backward_of(uint32_t first, uint32_t layers, uint32_t microbatch, rc_stream stream) {
    for (uint32_t l = first + layers; l-- > first;) {
      expect(replay(regions.at({microbatch, l, kLayer}), stream));
      for (Kind kind : {kMlp, kAttention, kNorm}) {
        rc_region* r = regions.at({microbatch, l, kind});
        expect(replay(r, stream));  // for dI ...
        expect(replay(r, stream));  // ... and for dW
        check(r, kind, l, microbatch, stream);
        for (uint32_t s = 0; s < info(r).n_slots; ++s) expect(rc_region_done(r, s, stream));
      }
      check(regions.at({microbatch, l, kLayer}), kLayer, l, microbatch, stream);
      for (Kind kind : {kMlp, kAttention, kNorm, kLayer}) release({microbatch, l, kind}, stream);
    }
  }

  static void expect(rc_status status) { ASSERT_GE(status, 0) << last_message(); }
  static FakeDevice* device_of(Host& host) { return host.fake; }

  ReplayFunction again(Body body) {
    return [this, body](const rc_replay_args* args) {
      const rc_region_info i = info(args->region);
      uint32_t l = 0;
      while (l < modules.size() &&
             (modules[l][0] != args->module_data && modules[l][1] != args->module_data &&
              modules[l][2] != args->module_data && modules[l][3] != args->module_data))
        ++l;
      (this->*body)(args->region, l, i.microbatch, args->stream);
      return RC_OK;
    };
  }

  rc_region* begin(rc_step* step, Kind kind, uint32_t l, uint32_t mb, rc_region* parent,
                   rc_stream stream) {
    release({mb, l, kind}, stream);  // an instance of the forward, where a parent begins it anew
    rc_region* r = host_.begin(
        *modules[l][kind],
        {.step = step, .parent = parent, .chunk = chunk_of(l), .microbatch = mb, .stream = stream});
    regions[{mb, l, kind}] = r;
    return r;
  }
  void release(Key key, rc_stream stream) {
    const auto it = regions.find(key);
    if (it == regions.end()) return;
    rc_region_release(it->second, stream);
    regions.erase(it);
  }

  // Writes `slot` if it is wanted: every byte from `from` and a number.
  void compute(rc_region* r, uint32_t slot, uint64_t bytes, const char* from, uint64_t from_bytes,
               int salt, rc_stream stream) {
    char* to = alloc(r, slot, bytes, stream);
    if (!to) {
      EXPECT_EQ(rc_region_wants(r, slot), RC_PASS);
      return;
    }
    const auto kernel = [=] {
      unsigned sum = static_cast<unsigned>(salt);
      for (uint64_t i = 0; i < bytes; ++i) {
        sum = sum * 31 + static_cast<unsigned char>(from[i % from_bytes]);
        to[i] = static_cast<char>(sum >> 3);
      }
    };
    if (FakeDevice* fake = device_of(host_))
      fake->launch(stream, {{from, from_bytes, false}, {to, bytes, true}}, kernel);
    else
      kernel();
  }

  void norm(rc_region* r, uint32_t l, uint32_t, rc_stream stream) {
    compute(r, 1, sizes_.norm, view(r, 0, stream), sizes_.x, static_cast<int>(l), stream);
  }
  void attention(rc_region* r, uint32_t, uint32_t, rc_stream stream) {
    rc_rng rng = rc_rng_init();
    expect(rc_region_rng(r, 3, &rng));
    note(r, rng.offset);
    // The saved slot and the output both come from the input, so that a replay may skip either.
    const char* x = view(r, 0, stream);
    compute(r, 1, sizes_.probs, x, sizes_.norm, static_cast<int>(rng.offset), stream);
    compute(r, 2, sizes_.attention, x, sizes_.norm, static_cast<int>(rng.offset) + 7, stream);
  }
  void mlp(rc_region* r, uint32_t, uint32_t, rc_stream stream) {
    rc_rng rng = rc_rng_init();
    expect(rc_region_rng(r, 2, &rng));
    note(r, rng.offset);
    std::vector<char> choice(sizes_.choice,
                             static_cast<char>(++choices_));  // another one at each call
    Bytes value(sizes_.choice, choice.data());
    expect(rc_region_decide(r, 3, &value.spec, stream));
    if (FakeDevice* fake = device_of(host_)) (void)fake->synchronize(stream).ok();
    const char* x = view(r, 0, stream);
    compute(r, 1, sizes_.hidden, x, sizes_.attention, static_cast<int>(rng.offset) + choice[0],
            stream);
    compute(r, 2, sizes_.x, x, sizes_.attention, static_cast<int>(rng.offset) + choice[0] + 1,
            stream);
  }
  void layer(rc_region* r, uint32_t l, uint32_t mb, rc_stream stream) {
    rc_region* n = begin(nullptr, kNorm, l, mb, r, stream);
    expect(save_bytes(n, 0, view(r, 0, stream), sizes_.x, stream));  // recognised, not copied
    norm(n, l, mb, stream);
    end(n, kNorm, l, mb, stream);
    rc_region* a = begin(nullptr, kAttention, l, mb, r, stream);
    expect(save_link(a, 0, n, 1));
    expect(rc_region_discard(n, stream));
    if (rc_region_phase(a) == RC_PHASE_REPLAY && in_replay) in_replay();
    attention(a, l, mb, stream);
    end(a, kAttention, l, mb, stream);
    rc_region* m = begin(nullptr, kMlp, l, mb, r, stream);
    expect(save_link(m, 0, a, 2));
    mlp(m, l, mb, stream);
    if (rc_region_wants(r, 1) == RC_OK)
      compute(r, 1, sizes_.x, view(m, 2, stream), sizes_.x, 5, stream);
    remember(r, kLayer, l, mb, stream);
    end(m, kMlp, l, mb, stream);
    expect(rc_region_discard(a, stream));
    expect(rc_region_discard(m, stream));
  }
  void end(rc_region* r, Kind kind, uint32_t l, uint32_t mb, rc_stream stream) {
    remember(r, kind, l, mb, stream);
    expect(rc_region_end(r, stream));
  }
  // What each slot held in forward.
  void remember(rc_region* r, Kind kind, uint32_t l, uint32_t mb, rc_stream stream) {
    if (rc_region_phase(r) != RC_PHASE_FORWARD) return;
    if (FakeDevice* fake = device_of(host_)) (void)fake->synchronize(stream).ok();
    const uint32_t n = info(r).n_slots;
    for (uint32_t s = 0; s < n; ++s) {
      if (!slot_info(r, s).present) continue;
      expected_[{mb, l, kind, s}].assign(view(r, s, stream), slot_info(r, s).bytes);
    }
  }
  void check(rc_region* r, Kind kind, uint32_t l, uint32_t mb, rc_stream stream) {
    if (FakeDevice* fake = device_of(host_)) (void)fake->synchronize(stream).ok();
    const uint32_t n = info(r).n_slots;
    for (uint32_t s = 0; s < n; ++s) {
      const rc_slot_info i = slot_info(r, s);
      if (i.role == RC_ROLE_OUTPUT && !i.present) continue;  // nobody reads it in backward
      const char* data = view(r, s, stream);
      ASSERT_NE(data, nullptr) << i.name;
      ++checked;
      EXPECT_TRUE(std::string(data, i.bytes) == (expected_[{mb, l, kind, s}]))
          << i.name << " of kind " << kind << ", layer " << l << ", microbatch " << mb;
    }
  }
  void note(rc_region* r, uint64_t offset) {
    if (rc_region_phase(r) == RC_PHASE_FORWARD) draws.push_back(offset);
  }

  Host& host_;
  ModelSizes sizes_;
  uint32_t chunk_layers_;
  int choices_ = 0;
  std::map<std::tuple<uint32_t, uint32_t, int, uint32_t>, std::string> expected_;
};

}  // namespace rc::testing
