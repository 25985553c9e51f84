/* examples/gpt/measure.h: the work of one process: one policy measured, or one long run. */
#ifndef EXAMPLES_GPT_MEASURE_H
#define EXAMPLES_GPT_MEASURE_H
#include <stdio.h>

#include "options.h"

/* Measures options->policies[index] and writes its lines to `out`. Returns the process's exit code.
 */
int measure_policy(const Options* options, int index, FILE* out);

/* Trains for options->train_steps under the last policy asked for, beside the byte-bigram model. */
int measure_long_run(const Options* options);

#endif
