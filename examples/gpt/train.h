/* examples/gpt/train.h: a training run: model, network, text, and one optimizer step at a time. */
#ifndef EXAMPLES_GPT_TRAIN_H
#define EXAMPLES_GPT_TRAIN_H
#include "net.h"
#include "text.h"

typedef struct Trainer {
  Model* model;
  Net* net;
  const Text* text;
  float learning_rate, weight_decay;
  int step;
  uint8_t* tokens; /* [microbatches][batch * seq] */
  uint8_t* targets;
} Trainer;

/* The text is borrowed and must be longer than a sequence. */
Trainer* trainer_create(const Sizes* sizes, const Text* text, float learning_rate,
                        void (*trace)(void* data, const StoreEvent* event), void* trace_data);
void trainer_free(Trainer* trainer);

typedef struct StepResult {
  double loss; /* mean over the tokens, in nats */
  double seconds;
  StepReport report;
} StepResult;

/* Forward of all microbatches, backward of all microbatches, update. The gradients stay readable
 * until the next one. */
void trainer_step(Trainer* trainer, StepMode mode, StepResult* result);
/* Mean loss without dropout over `batches` microbatches of other windows. */
double trainer_evaluate(Trainer* trainer, int batches);

double seconds_now(void);

#endif
