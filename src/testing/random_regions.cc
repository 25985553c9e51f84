// src/testing/random_regions.cc: fuzz_regions on inputs made of whole operations, most of them
// legal: these go deeper than bytes that are mutated one by one.
//
// usage: random_regions INPUTS [FIRST]    input FIRST alone is what a failure names
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "src/testing/effort.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

volatile std::sig_atomic_t current = 0;

// Numbers are those of Driver::step; an operation's bytes are what it reads, in its order.
class InputMaker {
 public:
  explicit InputMaker(uint32_t seed) : random_(seed) {}

  std::vector<uint8_t> make() {
    put(below(128));  // of the context
    put(below(8));    // its policy
    const uint32_t operations = 10 + below(150);
    std::discrete_distribution<int> kinds(std::begin(kWeights), std::end(kWeights));
    for (uint32_t i = 0; i < operations; ++i) operation(kinds(random_));
    return std::move(bytes_);
  }

 private:
  enum Kind {
    kBegin,
    kSaveTensor,
    kSaveView,
    kLink,
    kLinkByAddress,
    kAlloc,
    kOutput,
    kDecide,
    kRng,
    kEnd,
    kDiscard,
    kReplay,
    kDone,
    kCancel,
    kRelease,
    kRestore,
    kExport,
    kStepBegin,
    kStepEnd,
    kLookUp,
    kAsk,
    kConfigure,
    kKinds
  };
  static constexpr uint8_t kCodes[kKinds] = {0,  3,  4,  5,  7,  8,  10, 11, 12, 13, 15,
                                             16, 19, 20, 21, 23, 24, 25, 26, 27, 28, 30};
  static constexpr int kWeights[kKinds] = {8, 4, 3, 5, 2, 7, 3, 3, 3, 8, 5,
                                           8, 3, 1, 4, 2, 3, 3, 1, 1, 3, 1};

  void put(uint32_t byte) { bytes_.push_back(static_cast<uint8_t>(byte)); }
  uint32_t below(uint32_t n) { return static_cast<uint32_t>(random_() % n); }
  uint32_t region() {  // the newest most often
    uint32_t back = 0;
    while (back < 23 && below(5) < 3) ++back;
    return back;
  }
  void region_and_slot(uint32_t sizes) {
    put(region());
    put(below(5));
    if (sizes) put(below(sizes));
  }

  void operation(int kind) {
    put(kCodes[kind]);
    switch (kind) {
      case kBegin: {
        static constexpr uint32_t kSteps[] = {0, 1, 1, 2};
        uint32_t choice = below(16) | kSteps[below(4)] << 4;
        const bool nested = below(2), may_pass = below(10) == 0;
        if (nested) choice |= 0x80;
        if (may_pass) choice |= 0x48;
        put(choice);
        if (nested) put(region());
        return;
      }
      case kSaveTensor:
        return region_and_slot(14);
      case kSaveView:
      case kAlloc:
        return region_and_slot(16);
      case kLink:
      case kLinkByAddress:
        put(region());
        put(region());
        put(below(2) ? 3 : below(5));  // an output, mostly
        return put(below(4));
      case kOutput:
        put(region());
        put(3);
        put(below(4));
        return put(below(8));
      case kDecide:
        put(region());
        put(1);
        return put(below(8));
      case kRng:
        put(region());
        return put(below(9));
      case kReplay: {
        const uint32_t more = below(3) ? 0 : below(3);
        put(more);
        for (uint32_t i = 0; i <= more; ++i) put(region());
        put(region());
        return put(below(3) ? 0 : below(12));
      }
      case kDone:
      case kRestore:
        return region_and_slot(0);
      case kRelease:
        put(region());
        return put(below(5) ? 1 : 0);
      case kExport:
        put(below(6));
        return region_and_slot(0);
      case kStepBegin: {
        static constexpr uint32_t kFlags[] = {0, 0x20, 0x30, 0x20, 3, 0x23, 0x10, 0x20};
        put(below(2));
        return put(kFlags[below(8)]);
      }
      case kStepEnd:
        return put(below(2));
      case kAsk: {
        const uint32_t slot = below(5);
        put(region());
        put(slot);
        put(below(8));
        if (slot == 0) put(below(16));
        return;
      }
      case kConfigure:
        return put(below(8));
      default:  // kEnd, kDiscard, kCancel, kLookUp
        return put(region());
    }
  }

  std::mt19937 random_;
  std::vector<uint8_t> bytes_;
};

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGABRT, [](int) { std::fprintf(stderr, "random input %d\n", int(current)); });
  const int inputs = argc > 1 ? rc::testing::rounds(std::atoi(argv[1])) : 1;
  const int first = argc > 2 ? std::atoi(argv[2]) : 1;
  for (int i = first; i < first + inputs; ++i) {
    current = i;
    const std::vector<uint8_t> bytes = InputMaker(static_cast<uint32_t>(i)).make();
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  }
  std::printf("%d inputs\n", inputs);
  return inputs > 0 ? 0 : 1;
}
