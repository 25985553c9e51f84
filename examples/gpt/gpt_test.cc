// examples/gpt/gpt_test.cc: the trainer's loss and gradients against a slow double-precision
// reference.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "examples/gpt/reference.h"

extern "C" {
#include "examples/gpt/ops.h"
#include "examples/gpt/train.h"
}

namespace {

Sizes tiny(bool fused) {
  Sizes s = {};
  s.layers = 2;
  s.width = 24;
  s.heads = 3;
  s.seq = 20;
  s.batch = 2;
  s.microbatches = 1;
  s.dropout = 0.2f;
  s.fused = fused;
  s.seed = 7;
  return s;
}

class Trained {
 public:
  explicit Trained(const Sizes& sizes, int threads = 1) {
    ops_set_threads(threads);
    for (int i = 0; i < 500; ++i)
      bytes_.push_back(static_cast<uint8_t>("the quick brown fox jumps "[i * i % 26]));
    text_ = {bytes_.data(), bytes_.size()};
    trainer_ = trainer_create(&sizes, &text_, 1e-3f, nullptr, nullptr);
    trainer_->learning_rate = 0;  // the parameters stay what the gradients belong to
  }
  ~Trained() { trainer_free(trainer_); }
  StepResult step() {
    StepResult result;
    trainer_step(trainer_, STEP_TRAIN, &result);
    return result;
  }
  Trainer* operator->() { return trainer_; }

 private:
  std::vector<uint8_t> bytes_;
  Text text_;
  Trainer* trainer_;
};

class GptGradients : public testing::TestWithParam<bool> {};

TEST_P(GptGradients, AgreeWithFiniteDifferencesOfADoublePrecisionForward) {
  const Sizes sizes = tiny(GetParam());
  Trained trainer(sizes);
  Model* model = trainer->model;
  // Wider than GPT-2's start, so that attention is far from uniform and no gradient is tiny.
  for (size_t i = 0; i < model->params.n; ++i) model->params.flat[i] *= 4.0f;
  const StepResult result = trainer.step();
  std::vector<double> params(model->params.flat, model->params.flat + model->params.n);
  const auto loss = [&] {
    return gpt::reference_loss(sizes, params, trainer->tokens, trainer->targets);
  };
  EXPECT_NEAR(result.loss, loss(), 2e-5);

  // Every part of the model gets probes: the stride shares no factor with the widths.
  double worst = 0, largest = 0;
  int probes = 0;
  for (size_t i = 5; i < params.size(); i += 211) {
    const double at = params[i], step = 1e-4;
    params[i] = at + step;
    const double above = loss();
    params[i] = at - step;
    const double below = loss();
    params[i] = at;
    const double numeric = (above - below) / (2 * step);
    worst = std::max(worst, std::abs(numeric - model->grads.flat[i]));
    largest = std::max(largest, std::abs(numeric));
    ++probes;
  }
  EXPECT_GT(probes, 100);
  EXPECT_GT(largest, 1e-2);
  EXPECT_LT(worst, 2e-5 * std::max(1.0, largest)) << "largest gradient " << largest;
}

INSTANTIATE_TEST_SUITE_P(Gpt, GptGradients, testing::Values(false, true), [](const auto& info) {
  return std::string(info.param ? "fused" : "plain");
});

TEST(Gpt, GradientsOfMicrobatchesAddUpToTheirMean) {
  Sizes sizes = tiny(false);
  sizes.dropout = 0;
  sizes.microbatches = 2;
  Trained both(sizes);
  both.step();
  // The same four sequences as one microbatch of four.
  Sizes joined = sizes;
  joined.batch = 4;
  joined.microbatches = 1;
  Trained one(joined);
  const size_t half = static_cast<size_t>(sizes.batch) * sizes.seq;
  std::vector<uint8_t> tokens(both->tokens, both->tokens + 2 * half),
      targets(both->targets, both->targets + 2 * half);
  MicrobatchRun* run = &one->net->microbatches[0];
  run->tokens = tokens.data();
  run->targets = targets.data();
  store_step_begin(one->net->store, STEP_TRAIN);
  net_forward(run);
  net_backward(run);
  store_step_end(one->net->store, nullptr);
  for (size_t i = 0; i < one->model->grads.n; i += 17) {
    ASSERT_NEAR(one->model->grads.flat[i], both->model->grads.flat[i], 2e-6) << i;
  }
}

TEST(Gpt, RepeatsItsBitsInAnotherRun) {
  Trained first(tiny(false), 2), second(tiny(false), 2);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(first.step().loss, second.step().loss);
    EXPECT_EQ(digest_floats(1, first->model->grads.flat, first->model->grads.n),
              digest_floats(1, second->model->grads.flat, second->model->grads.n));
  }
}

TEST(Gpt, DropoutChangesTheLossAndEvaluationDoesNotDrop) {
  Sizes sizes = tiny(false);
  Trained dropped(sizes);
  sizes.dropout = 0;
  Trained whole(sizes);
  EXPECT_NE(dropped.step().loss, whole.step().loss);
  EXPECT_EQ(trainer_evaluate(&*dropped.operator->(), 2), trainer_evaluate(&*whole.operator->(), 2));
}

TEST(Gpt, LearnsAShortText) {
  Sizes sizes = tiny(false);
  sizes.dropout = 0.1f;
  Trained trainer(sizes);
  trainer->learning_rate = 3e-3f;
  const double first = trainer.step().loss;
  double last = first;
  for (int i = 0; i < 120; ++i) last = trainer.step().loss;
  EXPECT_GT(first, 5.0);
  EXPECT_LT(last, 2.5);
}

TEST(Text, BigramLossOfAnAlternatingTextIsZero) {
  std::string alternating;
  for (int i = 0; i < 100; ++i) alternating += "ab";
  const Text text = {reinterpret_cast<uint8_t*>(alternating.data()), alternating.size()};
  EXPECT_NEAR(text_bigram_loss(&text), 0.0, 1e-12);
}

TEST(Text, BigramLossOfAFairCoinIsOneBit) {
  // Each of a and b is followed by each of them equally often: a de Bruijn cycle of pairs.
  std::string cycle;
  for (int i = 0; i < 100; ++i) cycle += "aabb";
  cycle += "a";
  const Text text = {reinterpret_cast<uint8_t*>(cycle.data()), cycle.size()};
  EXPECT_NEAR(text_bigram_loss(&text), std::log(2.0), 1e-12);
}

TEST(Text, WindowsDependOnStepAndMicrobatchAlone) {
  std::vector<uint8_t> bytes(1000);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * 37 % 251);
  const Text text = {bytes.data(), bytes.size()};
  uint8_t a[32], b[32], targets[32];
  text_batch(&text, 1, 5, 1, 2, 16, a, targets);
  for (int i = 0; i < 15; ++i) EXPECT_EQ(targets[i], a[i + 1]);
  text_batch(&text, 1, 5, 1, 2, 16, b, targets);
  EXPECT_EQ(std::vector<uint8_t>(a, a + 32), std::vector<uint8_t>(b, b + 32));
  text_batch(&text, 1, 6, 1, 2, 16, b, targets);
  EXPECT_NE(std::vector<uint8_t>(a, a + 32), std::vector<uint8_t>(b, b + 32));
}

}  // namespace
