// src/device/small_blocks.cc: slabs with a bitmap of free blocks.
#include "src/device/small_blocks.h"

#include <bit>
#include <new>

#include "src/device/pages.h"
#include "src/device/poison.h"

namespace rc {

struct SmallBlocks::Slab {
  static constexpr size_t kWords = kSlab / 256 / 64;
  Slab* previous;
  Slab* next;
  uint32_t index;       // its class
  uint32_t live;        // blocks handed out
  uint32_t capacity;    // blocks it has
  uint32_t first_word;  // no word before this one has a free block
  uint64_t free_blocks[kWords];
};

namespace {
constexpr size_t kHeader = 768;  // a multiple of the block alignment, so every block is aligned
}

size_t SmallBlocks::class_of(size_t bytes) {
  if (bytes <= 1024) return (bytes + 255) / 256 - 1;
  const size_t doubling =
      static_cast<size_t>(std::bit_width(bytes - 1)) - 11;  // 0 for (1024, 2048]
  const size_t step = size_t{256} << doubling;
  return 4 + doubling * 4 + (bytes - (size_t{1024} << doubling) + step - 1) / step - 1;
}

size_t SmallBlocks::class_bytes(size_t index) {
  if (index < 4) return (index + 1) * 256;
  const size_t doubling = (index - 4) / 4;
  return (size_t{1024} << doubling) + ((index - 4) % 4 + 1) * (size_t{256} << doubling);
}

size_t SmallBlocks::rounded(size_t bytes) {
  return class_bytes(class_of(bytes));
}

SmallBlocks::~SmallBlocks() {
  for (Slab* slab : slabs_) {
    forget_range(slab, kSlab);
    unmap_pages(reinterpret_cast<char*>(slab), kSlab);
  }
}

void SmallBlocks::unlink(Slab* slab, Slab** list) {
  if (slab->previous)
    slab->previous->next = slab->next;
  else
    *list = slab->next;
  if (slab->next) slab->next->previous = slab->previous;
  slab->previous = slab->next = nullptr;
}

void SmallBlocks::push(Slab* slab, Slab** list) {
  slab->previous = nullptr;
  slab->next = *list;
  if (slab->next) slab->next->previous = slab;
  *list = slab;
}

void SmallBlocks::start(Slab* slab, size_t index) {
  static_assert(sizeof(Slab) <= kHeader);
  slab->index = static_cast<uint32_t>(index);
  slab->live = 0;
  slab->capacity = static_cast<uint32_t>((kSlab - kHeader) / class_bytes(index));
  slab->first_word = 0;
  for (size_t word = 0; word < Slab::kWords; ++word) {
    const size_t below = word * 64;
    const size_t left = slab->capacity > below ? slab->capacity - below : 0;
    slab->free_blocks[word] = left >= 64 ? ~uint64_t{0} : (uint64_t{1} << left) - 1;
  }
}

SmallBlocks::Slab* SmallBlocks::slab_for(size_t index) {
  if (open_[index]) return open_[index];
  Slab* slab = empty_;
  if (slab) {
    unlink(slab, &empty_);
  } else {
    try {
      if (slabs_.size() == slabs_.capacity()) slabs_.reserve(2 * slabs_.size() + 8);
    } catch (const std::bad_alloc&) {
      return nullptr;
    }
    char* memory = map_aligned(kSlab, kSlab);
    if (!memory) return nullptr;
    slab = new (memory) Slab;
    slabs_.push_back(slab);
    ++slabs_mapped_;
    poison_range(memory + kHeader, kSlab - kHeader);
  }
  start(slab, index);
  push(slab, &open_[index]);
  return slab;
}

void* SmallBlocks::allocate(size_t bytes) {
  const size_t index = class_of(bytes);
  Slab* slab = slab_for(index);
  if (!slab) return nullptr;
  size_t word = slab->first_word;
  while (slab->free_blocks[word] == 0) ++word;
  slab->first_word = static_cast<uint32_t>(word);
  const size_t bit = static_cast<size_t>(std::countr_zero(slab->free_blocks[word]));
  slab->free_blocks[word] &= slab->free_blocks[word] - 1;
  if (++slab->live == slab->capacity) unlink(slab, &open_[index]);
  return reinterpret_cast<char*>(slab) + kHeader + (word * 64 + bit) * class_bytes(index);
}

bool SmallBlocks::free(void* pointer, size_t bytes) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(pointer);
  Slab* slab = reinterpret_cast<Slab*>(address & ~uintptr_t{kSlab - 1});
  const size_t index = class_of(bytes);
  const size_t offset = address - reinterpret_cast<uintptr_t>(slab) - kHeader;
  const size_t block = offset / class_bytes(index);
  if (slab->index != index || offset % class_bytes(index) != 0 || block >= slab->capacity)
    return false;
  const uint64_t bit = uint64_t{1} << (block % 64);
  if (slab->free_blocks[block / 64] & bit) return false;
  poison_range(pointer, class_bytes(index));
  slab->free_blocks[block / 64] |= bit;
  if (block / 64 < slab->first_word) slab->first_word = static_cast<uint32_t>(block / 64);
  if (slab->live-- == slab->capacity) push(slab, &open_[index]);
  if (slab->live == 0) {
    unlink(slab, &open_[index]);
    push(slab, &empty_);
  }
  return true;
}

void SmallBlocks::trim() {
  while (Slab* slab = empty_) {
    unlink(slab, &empty_);
    std::erase(slabs_, slab);
    forget_range(slab, kSlab);
    unmap_pages(reinterpret_cast<char*>(slab), kSlab);
  }
}

}  // namespace rc
