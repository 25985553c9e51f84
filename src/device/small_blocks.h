// src/device/small_blocks.h: blocks of up to 64 KiB, cut from 1 MiB slabs of one size class each.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace rc {

// Not thread-safe: the device holds its lock. Every block is aligned to 256 bytes. The bookkeeping
// stands in the first bytes of each slab, so allocate and free never touch the heap; only a new
// slab does.
class SmallBlocks {
 public:
  static constexpr size_t kLargest = size_t{64} << 10;
  static constexpr size_t kSlab = size_t{1} << 20;

  SmallBlocks() = default;
  SmallBlocks(const SmallBlocks&) = delete;
  SmallBlocks& operator=(const SmallBlocks&) = delete;
  ~SmallBlocks();

  // 0 < bytes <= kLargest. nullptr when the system refuses a slab. The block is poisoned.
  void* allocate(size_t bytes);
  // False for a pointer that is not a live block of that size: nothing changed.
  bool free(void* pointer, size_t bytes);
  void trim();

  size_t slabs() const { return slabs_.size(); }
  uint64_t slabs_mapped() const { return slabs_mapped_; }

  static size_t rounded(size_t bytes);  // what a block of that size really takes

 private:
  struct Slab;
  // 256, 512, 768, 1024, then four steps per doubling: at most a fifth of a block is padding.
  static constexpr size_t kClasses = 4 + 4 * 6;
  static size_t class_of(size_t bytes);
  static size_t class_bytes(size_t index);
  static void unlink(Slab* slab, Slab** list);
  static void push(Slab* slab, Slab** list);
  Slab* slab_for(size_t index);
  void start(Slab* slab, size_t index);

  std::array<Slab*, kClasses> open_{};  // slabs of a class with a free block
  Slab* empty_ = nullptr;               // slabs without a block, of no class
  std::vector<Slab*> slabs_;
  uint64_t slabs_mapped_ = 0;
};

}  // namespace rc
