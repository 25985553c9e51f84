/* examples/gpt/net.h: the network: its marks, what one microbatch has in flight, forward and
 * backward. */
#ifndef EXAMPLES_GPT_NET_H
#define EXAMPLES_GPT_NET_H
#include "attention.h"
#include "model.h"
#include "region.h"

/* The submodules that are marked, once each (per layer where they are layers'). */
enum {
  MARK_LAYER,
  MARK_LN1,
  MARK_QKV,
  MARK_ATTENTION,
  MARK_PROJECTION,
  MARK_LN2,
  MARK_MLP,
  MARK_ACTIVATION,
  MARK_EMBEDDING,
  MARK_FINAL_NORM,
  MARK_HEAD,
  MARKS
};

/* Slots, in the order of the marks' tables in forward.c. */
enum { LAYER_IN, LAYER_OUT };
enum { NORM_IN, NORM_MEAN, NORM_RSTD, NORM_OUT };
enum { QKV_IN, QKV_OUT };
enum { ATTENTION_IN, ATTENTION_PROBS, ATTENTION_LSE, ATTENTION_OUT };
enum { PROJECTION_IN, PROJECTION_RESIDUAL, PROJECTION_OUT };
enum { MLP_IN, MLP_RESIDUAL, MLP_FC1 };
enum { ACTIVATION_IN, ACTIVATION_OUT };
enum { EMBEDDING_OUT };
enum { HEAD_IN, HEAD_GRADIENT };

typedef struct Net Net;

/* One layer of one microbatch in flight. */
typedef struct LayerRun {
  Net* net;
  int layer, microbatch;
  Region *region, *ln1, *qkv, *attention, *projection, *ln2, *mlp, *activation;
  Rng attention_rng, projection_rng, mlp_rng;
} LayerRun;

typedef struct MicrobatchRun {
  Net* net;
  int index;
  const uint8_t* tokens; /* [batch * seq] */
  const uint8_t* targets;
  Region *embedding, *final_norm, *head;
  Rng embedding_rng;
  LayerRun* layers;
  double loss; /* sum over the tokens */
} MicrobatchRun;

/* Memory of the backward pass, the trainer's own, taken once. */
typedef struct Scratch {
  float* dx;      /* [rows, width]: gradient of the residual stream */
  float* dbranch; /* [rows, width]: gradient of a branch            */
  float* dnorm;   /* [rows, width]: gradient of a norm's output     */
  float* dwide;   /* [rows, 4 * width]: of qkv and of the MLP       */
  float* attention;
} Scratch;

struct Net {
  Model* model;
  Store* store;
  int rows;      /* tokens of a microbatch */
  float dropout; /* 0 in evaluation */
  AttentionShape attention;
  MicrobatchRun* microbatches;
  Scratch scratch;
};

Net* net_create(Model* model, void (*trace)(void* data, const StoreEvent* event), void* trace_data);
void net_free(Net* net);
/* The table that a Store registers. */
const Mark* net_marks(void);
void net_set_dropout(Net* net, float dropout);

/* Runs the microbatch forward; its loss lands in run->loss, its regions stay open for backward. */
void net_forward(MicrobatchRun* run);
/* Adds the microbatch's gradients to the model's and lets its regions go. */
void net_backward(MicrobatchRun* run);
/* Lets the regions go without a backward. */
void net_drop(MicrobatchRun* run);

#endif
