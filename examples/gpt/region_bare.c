/* examples/gpt/region_bare.c: region.h over plain arrays that live for the whole run, without
 * rcore. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "region.h"

enum { MICROBATCHES_MAX = 64 };

struct Region {
  Store* store;
  float* slots[SLOTS_MAX];
  float* owned[SLOTS_MAX];
};

struct Store {
  int n_marks, n_layers;
  uint64_t seed, next_block;
  Region* regions; /* [mark][layer][microbatch] */
};

Store* store_create(const StoreDesc* desc) {
  Store* store = calloc(1, sizeof *store);
  store->n_marks = desc->n_marks;
  store->n_layers = desc->n_layers;
  store->seed = desc->seed;
  store->regions =
      calloc((size_t)desc->n_marks * desc->n_layers * MICROBATCHES_MAX, sizeof(Region));
  return store;
}

void store_free(Store* store) {
  for (int i = 0; i < store->n_marks * store->n_layers * MICROBATCHES_MAX; i++)
    for (int slot = 0; slot < SLOTS_MAX; slot++) free(store->regions[i].owned[slot]);
  free(store->regions);
  free(store);
}

void store_step_begin(Store* store, StepMode mode) {
  (void)store, (void)mode;
}
void store_step_end(Store* store, StepReport* report) {
  (void)store;
  if (report) memset(report, 0, sizeof *report);
}

void region_begin(Store* store, int mark, int layer, int microbatch, Region* parent, void* data,
                  Region** region) {
  (void)parent, (void)data;
  *region = &store->regions[(mark * store->n_layers + layer) * MICROBATCHES_MAX + microbatch];
  (*region)->store = store;
}

float* region_alloc(Region* region, int slot, int rows, int columns) {
  if (!region->owned[slot]) {
    const size_t bytes = ((size_t)rows * columns * sizeof(float) + 255) / 256 * 256;
    region->owned[slot] = aligned_alloc(256, bytes);
  }
  return region->slots[slot] = region->owned[slot];
}

void region_link(Region* region, int slot, Region* source, int source_slot) {
  region->slots[slot] = source->slots[source_slot];
}

float* region_view(Region* region, int slot) {
  return region->slots[slot];
}

Rng region_rng(Region* region, uint64_t n) {
  const Rng rng = {region->store->seed, region->store->next_block};
  region->store->next_block += philox_blocks(n);
  return rng;
}

bool region_is_forward(Region* region) {
  (void)region;
  return true;
}
void region_end(Region* region) {
  (void)region;
}
void region_discard(Region* region) {
  (void)region;
}
void region_replay(Region* region) {
  (void)region;
}
void region_done(Region* region, int slot) {
  (void)region, (void)slot;
}
void region_release(Region** region) {
  *region = NULL;
}
