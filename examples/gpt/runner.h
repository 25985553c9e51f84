/* examples/gpt/runner.h: runs each policy in a process of its own and collects what it tells. */
#ifndef EXAMPLES_GPT_RUNNER_H
#define EXAMPLES_GPT_RUNNER_H
#include "options.h"
#include "result.h"

/* Measures all policies, one after another, or where budgets are compared step by step in turns,
 * with progress on stderr; results[i] belongs to options->policies[i]. False if a process failed;
 * it has said why. */
bool runner_measure_all(const Options* options, int argc, char** argv, PolicyResult* results);

#endif
