/* examples/gpt/net.c: puts a network together: its store, its microbatches and the memory of its
 * backward. */
#include "net.h"

#include <stdlib.h>

/* Touched here, so that the first step does not change what is resident. */
static float* scratch_floats(size_t n) {
  float* x = malloc(n * sizeof(float));
  for (size_t i = 0; i < n; i++) x[i] = 0.0f;
  return x;
}

void net_set_dropout(Net* net, float dropout) {
  net->dropout = dropout;
  net->attention.dropout = dropout;
}

Net* net_create(Model* model, void (*trace)(void* data, const StoreEvent* event),
                void* trace_data) {
  const Sizes* s = &model->sizes;
  Net* net = calloc(1, sizeof *net);
  net->model = model;
  net->rows = s->batch * s->seq;
  net->attention = (AttentionShape){
      .batch = s->batch, .heads = s->heads, .seq = s->seq, .head_width = s->width / s->heads};
  net_set_dropout(net, s->dropout);
  const StoreDesc desc = {.marks = net_marks(),
                          .n_marks = MARKS,
                          .n_layers = s->layers,
                          .seed = s->seed,
                          .trace = trace,
                          .trace_data = trace_data};
  net->store = store_create(&desc);
  net->microbatches = calloc((size_t)s->microbatches, sizeof *net->microbatches);
  for (int m = 0; m < s->microbatches; m++) {
    MicrobatchRun* run = &net->microbatches[m];
    run->net = net;
    run->index = m;
    run->layers = calloc((size_t)s->layers, sizeof *run->layers);
    for (int l = 0; l < s->layers; l++)
      run->layers[l] = (LayerRun){.net = net, .layer = l, .microbatch = m};
  }
  const size_t n = (size_t)net->rows * s->width;
  net->scratch.dx = scratch_floats(n);
  net->scratch.dbranch = scratch_floats(n);
  net->scratch.dnorm = scratch_floats(n);
  net->scratch.dwide = scratch_floats(4 * n);
  net->scratch.attention = scratch_floats(attention_workspace(&net->attention));
  return net;
}

void net_free(Net* net) {
  for (int m = 0; m < net->model->sizes.microbatches; m++) {
    net_drop(&net->microbatches[m]);
    free(net->microbatches[m].layers);
  }
  free(net->microbatches);
  store_free(net->store);
  free(net->scratch.dx);
  free(net->scratch.dbranch);
  free(net->scratch.dnorm);
  free(net->scratch.dwide);
  free(net->scratch.attention);
  free(net);
}
