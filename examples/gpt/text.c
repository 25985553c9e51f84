/* examples/gpt/text.c: reads the text, draws windows, and measures the byte-bigram model. */
#include "text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "philox.h"

const char* text_read(const char* path, Text* text) {
  text->bytes = NULL;
  text->n = 0;
  FILE* file = fopen(path, "rb");
  if (!file) return "cannot be opened";
  size_t capacity = 1 << 16;
  text->bytes = malloc(capacity);
  size_t got;
  while ((got = fread(text->bytes + text->n, 1, capacity - text->n, file)) > 0) {
    text->n += got;
    if (text->n == capacity) text->bytes = realloc(text->bytes, capacity *= 2);
  }
  const int failed = ferror(file);
  fclose(file);
  return failed ? "cannot be read" : NULL;
}

void text_free(Text* text) {
  free(text->bytes);
}

void text_batch(const Text* text, uint64_t seed, int step, int microbatch, int batch, int seq,
                uint8_t* tokens, uint8_t* targets) {
  const Rng rng = {seed ^ 0x77696e646f777321ull,
                   ((uint64_t)(uint32_t)step << 32) | ((uint64_t)microbatch << 16)};
  for (int b = 0; b < batch; b++) {
    const size_t at = philox_word(rng, (uint64_t)b) % (text->n - (size_t)seq);
    memcpy(tokens + (size_t)b * seq, text->bytes + at, (size_t)seq);
    memcpy(targets + (size_t)b * seq, text->bytes + at + 1, (size_t)seq);
  }
}

double text_bigram_loss(const Text* text) {
  static uint32_t pairs[256][256], firsts[256];
  memset(pairs, 0, sizeof pairs);
  memset(firsts, 0, sizeof firsts);
  for (size_t i = 0; i + 1 < text->n; i++) {
    pairs[text->bytes[i]][text->bytes[i + 1]]++;
    firsts[text->bytes[i]]++;
  }
  double bits = 0.0;
  for (int a = 0; a < 256; a++)
    for (int b = 0; b < 256; b++)
      if (pairs[a][b]) bits -= pairs[a][b] * log((double)pairs[a][b] / firsts[a]);
  return bits / (double)(text->n - 1);
}
