/* examples/gpt/forward.c: the forward of every submodule, written once: it is the replay too.
 *
 * Each `run_*` function fills the slots that region_alloc hands out. In the forward that is all of
 * them; in a replay it is what is missing, so the work behind a NULL is not done again. */
#include <stdlib.h>

#include "net.h"
#include "ops.h"

static const LayerParams* params_of(const LayerRun* run) {
  return &run->net->model->params.layers[run->layer];
}

static void run_norm(Region* region, const float* gamma, const float* beta, int rows, int width) {
  const float* x = region_view(region, NORM_IN);
  float* mean = region_alloc(region, NORM_MEAN, rows, 1);
  float* rstd = region_alloc(region, NORM_RSTD, rows, 1);
  float* y = region_alloc(region, NORM_OUT, rows, width);
  layernorm_forward(x, gamma, beta, y, mean, rstd, rows, width);
}

static void run_ln1(void* data, Region* region) {
  LayerRun* run = data;
  run_norm(region, params_of(run)->ln1_gamma, params_of(run)->ln1_beta, run->net->rows,
           run->net->model->sizes.width);
}

static void run_ln2(void* data, Region* region) {
  LayerRun* run = data;
  run_norm(region, params_of(run)->ln2_gamma, params_of(run)->ln2_beta, run->net->rows,
           run->net->model->sizes.width);
}

static void run_qkv(void* data, Region* region) {
  LayerRun* run = data;
  const int rows = run->net->rows, width = run->net->model->sizes.width;
  float* out = region_alloc(region, QKV_OUT, rows, 3 * width);
  if (out)
    linear_forward(region_view(region, QKV_IN), params_of(run)->qkv_w, params_of(run)->qkv_b, out,
                   rows, width, 3 * width);
}

static void run_attention(void* data, Region* region) {
  LayerRun* run = data;
  Net* net = run->net;
  const AttentionShape* shape = &net->attention;
  const int head_rows = shape->batch * shape->heads * shape->seq;
  run->attention_rng = region_rng(region, (uint64_t)head_rows * shape->seq);
  float *probs = NULL, *lse = NULL;
  if (net->model->sizes.fused)
    lse = region_alloc(region, ATTENTION_LSE, head_rows, 1);
  else
    probs = region_alloc(region, ATTENTION_PROBS, head_rows, shape->seq);
  float* out = region_alloc(region, ATTENTION_OUT, net->rows, net->model->sizes.width);
  attention_forward(shape, region_view(region, ATTENTION_IN), probs, lse, out, run->attention_rng,
                    net->scratch.attention);
}

static void run_projection(void* data, Region* region) {
  LayerRun* run = data;
  const int rows = run->net->rows, width = run->net->model->sizes.width;
  const size_t n = (size_t)rows * width;
  run->projection_rng = region_rng(region, n);
  float* out = region_alloc(region, PROJECTION_OUT, rows, width);
  if (!out) return;
  linear_forward(region_view(region, PROJECTION_IN), params_of(run)->proj_w, params_of(run)->proj_b,
                 out, rows, width, width);
  dropout_add(out, region_view(region, PROJECTION_RESIDUAL), n, run->net->dropout,
              run->projection_rng);
}

static void run_activation(void* data, Region* region) {
  LayerRun* run = data;
  const int rows = run->net->rows, width = 4 * run->net->model->sizes.width;
  float* out = region_alloc(region, ACTIVATION_OUT, rows, width);
  if (out) gelu_forward(region_view(region, ACTIVATION_IN), out, (size_t)rows * width);
}

/* `out` belongs to the layer: it is NULL where nobody wants it, and then the last GEMM does not
 * run. */
static void mlp_into(LayerRun* run, Region* region, float* out) {
  const int rows = run->net->rows, width = run->net->model->sizes.width;
  const LayerParams* p = params_of(run);
  const size_t n = (size_t)rows * width;
  run->mlp_rng = region_rng(region, n);
  float* fc1 = region_alloc(region, MLP_FC1, rows, 4 * width);
  if (fc1)
    linear_forward(region_view(region, MLP_IN), p->fc1_w, p->fc1_b, fc1, rows, width, 4 * width);

  region_begin(run->net->store, MARK_ACTIVATION, run->layer, run->microbatch, region, run,
               &run->activation);
  region_link(run->activation, ACTIVATION_IN, region, MLP_FC1);
  run_activation(run, run->activation);
  region_end(run->activation);

  if (out) {
    linear_forward(region_view(run->activation, ACTIVATION_OUT), p->fc2_w, p->fc2_b, out, rows,
                   4 * width, width);
    dropout_add(out, region_view(region, MLP_RESIDUAL), n, run->net->dropout, run->mlp_rng);
  }
  region_discard(run->activation);
}

static void run_mlp(void* data, Region* region) {
  mlp_into(data, region, NULL);
}

/* The attention branch: ln1, qkv, core attention, projection with dropout and the residual. */
static void attention_branch(LayerRun* run, Region* layer) {
  Store* store = run->net->store;
  const int l = run->layer, m = run->microbatch;
  region_begin(store, MARK_LN1, l, m, layer, run, &run->ln1);
  region_link(run->ln1, NORM_IN, layer, LAYER_IN);
  run_ln1(run, run->ln1);
  region_end(run->ln1);

  region_begin(store, MARK_QKV, l, m, layer, run, &run->qkv);
  region_link(run->qkv, QKV_IN, run->ln1, NORM_OUT);
  run_qkv(run, run->qkv);
  region_end(run->qkv);
  region_discard(run->ln1);

  region_begin(store, MARK_ATTENTION, l, m, layer, run, &run->attention);
  region_link(run->attention, ATTENTION_IN, run->qkv, QKV_OUT);
  run_attention(run, run->attention);
  region_end(run->attention);
  region_discard(run->qkv);

  region_begin(store, MARK_PROJECTION, l, m, layer, run, &run->projection);
  region_link(run->projection, PROJECTION_IN, run->attention, ATTENTION_OUT);
  region_link(run->projection, PROJECTION_RESIDUAL, layer, LAYER_IN);
  run_projection(run, run->projection);
  region_end(run->projection);
  region_discard(run->attention);
}

/* The whole layer; in the replay of a layer it begins its submodules anew, under the region that is
 * replayed. */
static void run_layer(void* data, Region* layer) {
  LayerRun* run = data;
  Store* store = run->net->store;
  const int l = run->layer, m = run->microbatch;
  float* out = region_alloc(layer, LAYER_OUT, run->net->rows, run->net->model->sizes.width);
  attention_branch(run, layer);

  region_begin(store, MARK_LN2, l, m, layer, run, &run->ln2);
  region_link(run->ln2, NORM_IN, run->projection, PROJECTION_OUT);
  run_ln2(run, run->ln2);
  region_end(run->ln2);

  region_begin(store, MARK_MLP, l, m, layer, run, &run->mlp);
  region_link(run->mlp, MLP_IN, run->ln2, NORM_OUT);
  region_link(run->mlp, MLP_RESIDUAL, run->projection, PROJECTION_OUT);
  mlp_into(run, run->mlp, out);
  region_end(run->mlp);
  region_discard(run->ln2);
  region_discard(run->projection);
}

static void run_embedding(void* data, Region* region) {
  MicrobatchRun* run = data;
  const Params* p = &run->net->model->params;
  const int rows = run->net->rows, width = run->net->model->sizes.width;
  const size_t n = (size_t)rows * width;
  run->embedding_rng = region_rng(region, n);
  float* out = region_alloc(region, EMBEDDING_OUT, rows, width);
  if (!out) return;
  embedding_forward(run->tokens, p->tokens, p->positions, out, rows, run->net->model->sizes.seq,
                    width);
  dropout_add(out, NULL, n, run->net->dropout, run->embedding_rng);
}

static void run_final_norm(void* data, Region* region) {
  MicrobatchRun* run = data;
  const Params* p = &run->net->model->params;
  run_norm(region, p->norm_gamma, p->norm_beta, run->net->rows, run->net->model->sizes.width);
}

/* Keeps the gradient of the logits instead of the logits; the loss is counted in the forward alone.
 */
static void run_head(void* data, Region* region) {
  MicrobatchRun* run = data;
  const int rows = run->net->rows, width = run->net->model->sizes.width;
  float* logits = region_alloc(region, HEAD_GRADIENT, rows, VOCABULARY);
  if (!logits) return;
  linear_forward(region_view(region, HEAD_IN), run->net->model->params.head_w, NULL, logits, rows,
                 width, VOCABULARY);
  const float scale = 1.0f / ((float)rows * (float)run->net->model->sizes.microbatches);
  const double loss = cross_entropy(logits, run->targets, rows, VOCABULARY, scale);
  if (region_is_forward(region)) run->loss = loss;
}

#define IN(name) {name, SLOT_INPUT, false}
#define SAVED(name) {name, SLOT_SAVED, false}
#define EITHER(name) {name, SLOT_SAVED, true}
#define OUT(name) {name, SLOT_OUTPUT, false}
#define NORM_SLOTS IN("in"), SAVED("mean"), SAVED("rstd"), OUT("out")

const Mark* net_marks(void) {
  static const Mark kMarks[MARKS] = {
      [MARK_LAYER] =
          {"layer", "layer", .per_layer = true, .n_slots = 2, {IN("in"), OUT("out")}, run_layer},
      [MARK_LN1] = {"layernorm", "ln1", .per_layer = true, .n_slots = 4, {NORM_SLOTS}, run_ln1},
      [MARK_QKV] =
          {"qkv_linear", "qkv", .per_layer = true, .n_slots = 2, {IN("in"), OUT("out")}, run_qkv},
      [MARK_ATTENTION] = {"core_attn",
                          "attention",
                          .per_layer = true,
                          .n_slots = 4,
                          {IN("in"), EITHER("probs"), EITHER("lse"), OUT("out")},
                          run_attention},
      [MARK_PROJECTION] = {"attn_proj",
                           "projection",
                           .per_layer = true,
                           .n_slots = 3,
                           {IN("in"), IN("residual"), OUT("out")},
                           run_projection},
      [MARK_LN2] = {"layernorm", "ln2", .per_layer = true, .n_slots = 4, {NORM_SLOTS}, run_ln2},
      [MARK_MLP] = {"mlp",
                    "mlp",
                    .per_layer = true,
                    .n_slots = 3,
                    {IN("in"), IN("residual"), SAVED("fc1")},
                    run_mlp},
      [MARK_ACTIVATION] = {"mlp_act",
                           "activation",
                           .host_kind = true,
                           .discards_output = true,
                           .per_layer = true,
                           .n_slots = 2,
                           {IN("in"), OUT("out")},
                           run_activation},
      [MARK_EMBEDDING] =
          {"embedding", "embedding", .host_kind = true, .n_slots = 1, {OUT("out")}, run_embedding},
      [MARK_FINAL_NORM] = {"final_norm",
                           "final_norm",
                           .host_kind = true,
                           .n_slots = 4,
                           {NORM_SLOTS},
                           run_final_norm},
      [MARK_HEAD] = {"head",
                     "head",
                     .host_kind = true,
                     .n_slots = 2,
                     {IN("in"), SAVED("gradient")},
                     run_head}};
  return kMarks;
}

void net_forward(MicrobatchRun* run) {
  Store* store = run->net->store;
  const int layers = run->net->model->sizes.layers, m = run->index;
  region_begin(store, MARK_EMBEDDING, 0, m, NULL, run, &run->embedding);
  run_embedding(run, run->embedding);
  region_end(run->embedding);

  Region* source = run->embedding;
  int source_slot = EMBEDDING_OUT;
  for (int l = 0; l < layers; l++) {
    LayerRun* layer = &run->layers[l];
    region_begin(store, MARK_LAYER, l, m, NULL, layer, &layer->region);
    region_link(layer->region, LAYER_IN, source, source_slot);
    run_layer(layer, layer->region);
    region_end(layer->region);
    region_discard(source);
    source = layer->region;
    source_slot = LAYER_OUT;
  }

  region_begin(store, MARK_FINAL_NORM, 0, m, NULL, run, &run->final_norm);
  region_link(run->final_norm, NORM_IN, source, source_slot);
  run_final_norm(run, run->final_norm);
  region_end(run->final_norm);
  region_discard(source);

  region_begin(store, MARK_HEAD, 0, m, NULL, run, &run->head);
  region_link(run->head, HEAD_IN, run->final_norm, NORM_OUT);
  run_head(run, run->head);
  region_end(run->head);
  region_discard(run->final_norm);
}
