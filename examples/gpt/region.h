/* examples/gpt/region.h: the trainer's use of rcore in its own terms, float matrices in slots of
 * regions.
 *
 * region.c implements it over rcore.h; region_bare.c keeps the same slots in plain arrays, for the
 * build without rcore that the benchmark compares with. Nothing here or above it depends on the
 * policy. A failure ends the program with the library's message: a trainer has nothing better to do
 * with it. */
#ifndef EXAMPLES_GPT_REGION_H
#define EXAMPLES_GPT_REGION_H
#include <stdbool.h>
#include <stdint.h>

#include "philox.h"

#ifdef GPT_NO_RCORE
typedef struct Region Region;
#else
typedef struct rc_region Region;
#endif
typedef struct Store Store; /* one context and its registered modules */

typedef enum SlotRole { SLOT_INPUT, SLOT_SAVED, SLOT_OUTPUT } SlotRole;
enum { SLOTS_MAX = 5 };

/* A kind of submodule, marked once. `run` computes whatever slots region_alloc hands out; it is the
 * forward and the replay. */
typedef struct Mark {
  const char* kind;
  const char* name;
  bool host_kind;       /* the trainer's own, declared with every policy; rcore knows the others */
  bool discards_output; /* of a host kind: its outputs can be made again                         */
  bool per_layer;
  int n_slots;
  struct {
    const char* name;
    SlotRole role;
    bool optional;
  } slots[SLOTS_MAX];
  void (*run)(void* data, Region* region);
} Mark;

/* What happened to a region, as the trace tells it. */
typedef struct StoreEvent {
  char name[24]; /* begin, alloc, ... */
  char kind[24];
  uint32_t layer, microbatch;
  uint64_t bytes, live_bytes, begin_ns, end_ns;
} StoreEvent;

typedef struct StoreDesc {
  const Mark* marks;
  int n_marks;
  int n_layers;
  uint64_t seed;
  void (*trace)(void* data, const StoreEvent* event); /* NULL = none */
  void* trace_data;
} StoreDesc;

Store* store_create(const StoreDesc* desc);
void store_free(Store* store);

typedef enum StepMode {
  STEP_TRAIN,
  STEP_TRAIN_LOGGED,
  STEP_TRAIN_PROFILED, /* logged, and every replay is timed */
  STEP_EVALUATE
} StepMode;
typedef struct StepReport {
  uint64_t peak_bytes, replays, allocations, arena_bytes, arena_bound, arena_misses;
} StepReport;
void store_step_begin(Store* store, StepMode mode);
void store_step_end(Store* store, StepReport* report);

/* Opens a region of mark `mark` within `parent` (may be NULL); `data` reaches `run` in a replay. A
 * handle that *region still has is released first. */
void region_begin(Store* store, int mark, int layer, int microbatch, Region* parent, void* data,
                  Region** region);
/* A matrix for the slot, or NULL where a replay does not want it. */
float* region_alloc(Region* region, int slot, int rows, int columns);
/* The slot is another region's slot; no copy. */
void region_link(Region* region, int slot, Region* source, int source_slot);
/* The slot's content. */
float* region_view(Region* region, int slot);
/* Counter blocks for n random elements: in a replay those that the forward had. */
Rng region_rng(Region* region, uint64_t n);
bool region_is_forward(Region* region);
void region_end(Region* region);
/* The forward readers of the outputs are done. */
void region_discard(Region* region);
/* Makes what backward needs available. */
void region_replay(Region* region);
/* Backward has read the slot for the last time. */
void region_done(Region* region, int slot);
void region_release(Region** region);

#endif
