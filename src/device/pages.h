// src/device/pages.h: anonymous pages of this process: map, unmap, and move them between address
// ranges.
#pragma once

#include <cstddef>

namespace rc {

inline constexpr size_t kHugePage = size_t{2} << 20;

size_t page_bytes();

// How a block can lose its pages while its address range stays reserved.
enum class Parking {
  kOff,   // not at all
  kDrop,  // MADV_DONTNEED: the pages go back to the system, the next use faults new ones in
  kMove,  // mremap with MREMAP_DONTUNMAP: the pages go to another range, and come back without a
          // fault
};
// Tried once per process on a scratch mapping. kMove needs Linux 5.7 and is refused under valgrind,
// which does not know the flag; kDrop is what is left there. Anything else than Linux: kOff.
Parking probed_parking();

// Half of vm.max_map_count, read once: mappings that this library may hold; the rest is the host's.
size_t mapping_limit();

// `bytes` (a multiple of the page size) of new, untouched, private memory; nullptr when the system
// refuses. Large ranges are aligned to kHugePage if `align_huge`, and always ask for huge pages
// then.
char* map_pages(size_t bytes, bool align_huge);
// Aligned to `alignment`, a power of two and a multiple of the page size.
char* map_aligned(size_t bytes, size_t alignment);
void unmap_pages(char* address, size_t bytes);

// Moves the pages behind `source` to `destination`, both mapped, each one whole mapping. What was
// behind the destination is dropped; the source stays mapped and has no pages, so no other thread's
// mmap can take its addresses. A failure is rare (no memory for a kernel object, too many
// mappings); it leaves the source as it was. `destination_lost` says that the destination may have
// been unmapped: its addresses may then be somebody else's.
bool move_pages(char* destination, char* source, size_t bytes, bool* destination_lost);
// The pages go back to the system; the range stays mapped.
bool drop_pages(char* address, size_t bytes);

}  // namespace rc
