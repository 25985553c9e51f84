/* examples/gpt/store.h: the inside of a Store, for region.c and policy.c alone. */
#ifndef EXAMPLES_GPT_STORE_H
#define EXAMPLES_GPT_STORE_H
#include <rcore/rcore.h>

#include "region.h"

struct Store {
  rc_context* context;
  rc_module** modules; /* [mark][layer] */
  int n_marks, n_layers;
  rc_step* step;
  void (*trace)(void* data, const StoreEvent* event);
  void* trace_data;
};

/* Ends the program with the library's message if `status` is a failure. */
void store_must(rc_status status, const char* what);

#endif
