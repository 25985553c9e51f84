/* examples/gpt/backward.c: the backward of every submodule: replay, read the slots, add gradients,
 * let go. */
#include <string.h>

#include "net.h"
#include "ops.h"

/* Each function takes the gradient of its output and leaves that of its input where its comment
 * says. */

/* dx (the residual stream) += the gradient through the norm of `dnorm`. */
static void norm_backward(Region* region, const float* dnorm, const float* gamma, float* dgamma,
                          float* dbeta, float* dx, int rows, int width) {
  region_replay(region);
  layernorm_backward(dnorm, region_view(region, NORM_IN), gamma, region_view(region, NORM_MEAN),
                     region_view(region, NORM_RSTD), dx, dgamma, dbeta, rows, width);
}

/* scratch.dnorm = gradient of the MLP's input, from scratch.dx. */
static void mlp_backward(LayerRun* run) {
  Net* net = run->net;
  Scratch* s = &net->scratch;
  const LayerParams *p = &net->model->params.layers[run->layer],
                    *g = &net->model->grads.layers[run->layer];
  const int rows = net->rows, width = net->model->sizes.width;
  region_replay(run->mlp);
  region_replay(run->activation);
  dropout_backward(s->dx, s->dbranch, (size_t)rows * width, net->dropout, run->mlp_rng);
  linear_backward(s->dbranch, region_view(run->activation, ACTIVATION_OUT), p->fc2_w, s->dwide,
                  g->fc2_w, g->fc2_b, rows, 4 * width, width);
  region_done(run->activation, ACTIVATION_OUT);
  gelu_backward(region_view(run->activation, ACTIVATION_IN), s->dwide, (size_t)rows * 4 * width);
  region_release(&run->activation);
  linear_backward(s->dwide, region_view(run->mlp, MLP_IN), p->fc1_w, s->dnorm, g->fc1_w, g->fc1_b,
                  rows, width, 4 * width);
  region_release(&run->mlp);
}

/* scratch.dnorm = gradient of the attention branch's input, from scratch.dx. */
static void attention_branch_backward(LayerRun* run) {
  Net* net = run->net;
  Scratch* s = &net->scratch;
  const LayerParams *p = &net->model->params.layers[run->layer],
                    *g = &net->model->grads.layers[run->layer];
  const int rows = net->rows, width = net->model->sizes.width;
  region_replay(run->projection);
  dropout_backward(s->dx, s->dbranch, (size_t)rows * width, net->dropout, run->projection_rng);
  linear_backward(s->dbranch, region_view(run->projection, PROJECTION_IN), p->proj_w, s->dnorm,
                  g->proj_w, g->proj_b, rows, width, width);
  region_release(&run->projection);

  region_replay(run->attention);
  const bool fused = net->model->sizes.fused;
  attention_backward(&net->attention, region_view(run->attention, ATTENTION_IN),
                     fused ? NULL : region_view(run->attention, ATTENTION_PROBS),
                     fused ? region_view(run->attention, ATTENTION_LSE) : NULL, s->dnorm, s->dwide,
                     run->attention_rng, s->attention);
  region_release(&run->attention);

  region_replay(run->qkv);
  linear_backward(s->dwide, region_view(run->qkv, QKV_IN), p->qkv_w, s->dnorm, g->qkv_w, g->qkv_b,
                  rows, width, 3 * width);
  region_release(&run->qkv);
}

static void layer_backward(LayerRun* run) {
  Net* net = run->net;
  Scratch* s = &net->scratch;
  const LayerParams *p = &net->model->params.layers[run->layer],
                    *g = &net->model->grads.layers[run->layer];
  const int rows = net->rows, width = net->model->sizes.width;
  region_replay(run->region);
  mlp_backward(run);
  norm_backward(run->ln2, s->dnorm, p->ln2_gamma, g->ln2_gamma, g->ln2_beta, s->dx, rows, width);
  region_release(&run->ln2);
  attention_branch_backward(run);
  norm_backward(run->ln1, s->dnorm, p->ln1_gamma, g->ln1_gamma, g->ln1_beta, s->dx, rows, width);
  region_release(&run->ln1);
  region_release(&run->region);
}

void net_backward(MicrobatchRun* run) {
  Net* net = run->net;
  Scratch* s = &net->scratch;
  const Params *p = &net->model->params, *g = &net->model->grads;
  const int rows = net->rows, width = net->model->sizes.width;
  region_replay(run->head);
  linear_backward(region_view(run->head, HEAD_GRADIENT), region_view(run->head, HEAD_IN), p->head_w,
                  s->dnorm, g->head_w, NULL, rows, width, VOCABULARY);
  region_release(&run->head);
  memset(s->dx, 0, (size_t)rows * width * sizeof(float));
  norm_backward(run->final_norm, s->dnorm, p->norm_gamma, g->norm_gamma, g->norm_beta, s->dx, rows,
                width);
  region_release(&run->final_norm);
  for (int l = net->model->sizes.layers - 1; l >= 0; l--) layer_backward(&run->layers[l]);
  dropout_backward(s->dx, s->dbranch, (size_t)rows * width, net->dropout, run->embedding_rng);
  embedding_backward(run->tokens, s->dbranch, g->tokens, g->positions, rows, net->model->sizes.seq,
                     width);
  region_release(&run->embedding);
}

void net_drop(MicrobatchRun* run) {
  for (int l = 0; l < run->net->model->sizes.layers; l++) {
    LayerRun* r = &run->layers[l];
    Region** const all[] = {&r->ln1, &r->qkv,        &r->attention, &r->projection,
                            &r->ln2, &r->activation, &r->mlp,       &r->region};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) region_release(all[i]);
  }
  region_release(&run->head);
  region_release(&run->final_norm);
  region_release(&run->embedding);
}
