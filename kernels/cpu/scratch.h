// kernels/cpu/scratch.h: float32 working memory of the calling thread, kept between launches.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <new>

namespace rc::cpu {

// At least n floats, aligned to a cache line, contents undefined. Valid until the thread's next
// call with the same Slot. Grows only, to the largest size a kernel asked for on this thread (at
// most 2.5 MiB for a GEMM or fused attention, one row for the norms), and is freed with the thread.
template <int Slot>
float* scratch(int64_t n) {
  struct Block {
    ~Block() { std::free(data); }
    float* data = nullptr;
    int64_t size = 0;
  };
  static thread_local Block block;
  if (n > block.size) {
    std::free(block.data);
    const size_t bytes = (static_cast<size_t>(n) * sizeof(float) + 63) / 64 * 64;
    block.data = static_cast<float*>(std::aligned_alloc(64, bytes));
    block.size = block.data ? n : 0;
    if (!block.data) throw std::bad_alloc();
  }
  return block.data;
}

}  // namespace rc::cpu
