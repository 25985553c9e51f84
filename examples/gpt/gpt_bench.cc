// examples/gpt/gpt_bench.cc: what rcore costs a trainer that recomputes nothing, against the same
// trainer without rcore.
//
// Both variants live in this process and alternate step by step; an A/A pair of the bare one shows
// the noise.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <vector>

#include "examples/gpt/gpt_variant.h"

namespace {

struct Spread {
  double low, median, high;
};

// Median and quartiles.
Spread spread_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return {values[n / 4], values[n / 2], values[n - 1 - n / 4]};
}

class Run {
 public:
  Run(const GptVariant& variant, const Sizes& sizes, const Text& text, int threads)
      : variant_(variant), trainer_(variant.create(&sizes, &text, threads)) {}
  ~Run() { variant_.free(trainer_); }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;
  double step() { return variant_.step(trainer_); }
  uint64_t digest() { return variant_.gradient_digest(trainer_); }

 private:
  const GptVariant& variant_;
  void* trainer_;
};

// Of all threads of this process: it does not see who else uses the machine.
double cpu_seconds() {
  timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

struct Times {
  double wall = 0, cpu = 0;
};

Times timed_step(Run* run) {
  const double begin = cpu_seconds();
  const double wall = run->step();
  return {wall, cpu_seconds() - begin};
}

void print(const char* name, const std::vector<double>& ratios) {
  const Spread s = spread_of(ratios);
  std::printf("%-18s median %.4f, quartiles %.4f to %.4f, %zu pairs\n", name, s.median, s.low,
              s.high, ratios.size());
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 40;
  const bool fused = argc > 2 && std::string(argv[2]) == "fused";
  if (rounds < 4) {
    std::fprintf(stderr, "gpt_bench [ROUNDS >= 4] [plain|fused]\n");
    return 2;
  }
  Sizes sizes = {};
  sizes.layers = 8;
  sizes.width = 128;
  sizes.heads = 4;
  sizes.seq = 256;
  sizes.batch = 2;
  sizes.microbatches = 2;
  sizes.dropout = 0.1f;
  sizes.fused = fused;
  sizes.seed = 1;
  std::vector<uint8_t> bytes(1 << 16);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * i % 251);
  const Text text = {bytes.data(), bytes.size()};
  Run bare(gpt_variant_bare, sizes, text, 2);
  Run with_rcore(gpt_variant_rcore, sizes, text, 2);
  Run bare_again(gpt_variant_bare, sizes, text, 2);
  for (int i = 0; i < 3; ++i) {
    bare.step();
    with_rcore.step();
    bare_again.step();
  }
  std::vector<double> ratios, noise, cpu_ratios, cpu_noise;
  Run* const runs[] = {&bare, &with_rcore, &bare_again};
  for (int i = 0; i < rounds; ++i) {
    // Each comes first, second and third equally often.
    Times times[3];
    for (int turn = 0; turn < 3; ++turn) times[(turn + i) % 3] = timed_step(runs[(turn + i) % 3]);
    ratios.push_back(times[1].wall / times[0].wall);
    noise.push_back(times[2].wall / times[0].wall);
    cpu_ratios.push_back(times[1].cpu / times[0].cpu);
    cpu_noise.push_back(times[2].cpu / times[0].cpu);
  }
  print("rcore / bare, time", ratios);
  print("bare / bare, time", noise);
  print("rcore / bare, CPU", cpu_ratios);
  print("bare / bare, CPU", cpu_noise);
  const bool same = bare.digest() == with_rcore.digest() && bare.digest() == bare_again.digest();
  std::printf("gradients after %d steps: %s\n", rounds + 3, same ? "bit-identical" : "DIFFERENT");
  return same ? 0 : 1;
}
