// src/device/pages.cc: anonymous pages through mmap, mremap and madvise.
#include "src/device/pages.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>

// Linux 5.7; glibc shows it only since 2.32.
#if defined(__linux__) && !defined(MREMAP_DONTUNMAP)
#define MREMAP_DONTUNMAP 4
#endif

namespace rc {
namespace {

constexpr int kProtection = PROT_READ | PROT_WRITE;
constexpr int kKind = MAP_PRIVATE | MAP_ANONYMOUS;

Parking probe() {
#if defined(__linux__)
  const size_t bytes = page_bytes();
  char* from = map_pages(bytes, false);
  char* to = map_pages(bytes, false);
  Parking found = Parking::kOff;
  if (from && to) {
    from[0] = 1;
    bool lost = false;
    if (move_pages(to, from, bytes, &lost)) {
      // Both halves of the promise: the content travelled, and the old range is still there and
      // empty.
      found = to[0] == 1 && from[0] == 0 ? Parking::kMove : Parking::kOff;
    } else if (drop_pages(from, bytes) && from[0] == 0) {
      found = Parking::kDrop;
    }
    if (lost) to = nullptr;
  }
  if (from) unmap_pages(from, bytes);
  if (to) unmap_pages(to, bytes);
  return found;
#else
  return Parking::kOff;
#endif
}

size_t read_mapping_limit() {
  size_t limit = 65530;  // the kernel's default
#if defined(__linux__)
  if (FILE* file = std::fopen("/proc/sys/vm/max_map_count", "re")) {
    size_t value = 0;
    if (std::fscanf(file, "%zu", &value) == 1 && value > 0) limit = value;
    std::fclose(file);
  }
#endif
  return limit / 2;
}

}  // namespace

size_t page_bytes() {
  static const size_t bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

Parking probed_parking() {
  static const Parking parking = probe();
  return parking;
}

size_t mapping_limit() {
  static const size_t limit = read_mapping_limit();
  return limit;
}

char* map_aligned(size_t bytes, size_t alignment) {
  if (bytes > SIZE_MAX - alignment) return nullptr;
  void* got = mmap(nullptr, bytes, kProtection, kKind, -1, 0);
  if (got == MAP_FAILED) return nullptr;
  if (reinterpret_cast<uintptr_t>(got) % alignment == 0) return static_cast<char*>(got);
  munmap(got, bytes);
  got = mmap(nullptr, bytes + alignment, kProtection, kKind, -1, 0);
  if (got == MAP_FAILED) return nullptr;
  char* start = static_cast<char*>(got);
  const size_t head = (alignment - reinterpret_cast<uintptr_t>(start) % alignment) % alignment;
  if (head) munmap(start, head);
  if (alignment > head) munmap(start + head + bytes, alignment - head);
  return start + head;
}

char* map_pages(size_t bytes, bool align_huge) {
  char* start = map_aligned(bytes, align_huge && bytes >= kHugePage ? kHugePage : page_bytes());
#if defined(MADV_HUGEPAGE)
  // Refused where the kernel has no huge pages: then small ones it is.
  if (start && align_huge && bytes >= kHugePage) (void)madvise(start, bytes, MADV_HUGEPAGE);
#endif
  return start;
}

void unmap_pages(char* address, size_t bytes) {
  munmap(address, bytes);
}

bool move_pages(char* destination, char* source, size_t bytes, bool* destination_lost) {
  *destination_lost = false;
#if defined(__linux__)
  void* got =
      mremap(source, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, destination);
  if (got != MAP_FAILED) return true;
  if (errno == EINVAL) return false;  // arguments are checked first
  // Any other failure may come after the kernel unmapped the destination. Without a way to ask,
  // only a range that can be mapped again is known to be ours; NOREPLACE never takes what another
  // thread mapped in between.
  void* again = mmap(destination, bytes, kProtection, kKind | MAP_FIXED_NOREPLACE, -1, 0);
  if (again == destination) return false;
  if (again != MAP_FAILED)
    munmap(again, bytes);  // a kernel before 4.17 took the address for a hint
  *destination_lost = true;
  return false;
#else
  (void)destination, (void)source, (void)bytes;
  return false;
#endif
}

bool drop_pages(char* address, size_t bytes) {
  return madvise(address, bytes, MADV_DONTNEED) == 0;
}

}  // namespace rc
