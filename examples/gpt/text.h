/* examples/gpt/text.h: the training text, the windows that a step reads, and the byte-bigram model
 * to beat. */
#ifndef EXAMPLES_GPT_TEXT_H
#define EXAMPLES_GPT_TEXT_H
#include <stddef.h>
#include <stdint.h>

typedef struct Text {
  uint8_t* bytes;
  size_t n;
} Text;

/* The whole file; returns NULL, or what is wrong in one line. */
const char* text_read(const char* path, Text* text);
void text_free(Text* text);

/* `batch` windows of `seq` bytes and the bytes that follow each, at places drawn from (seed, step,
 * microbatch). */
void text_batch(const Text* text, uint64_t seed, int step, int microbatch, int batch, int seq,
                uint8_t* tokens, uint8_t* targets);

/* Mean loss in nats of the best byte-bigram model of this text on this text: its conditional
 * entropy. */
double text_bigram_loss(const Text* text);

#endif
