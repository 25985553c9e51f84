/* examples/gpt/front.h: budgets beside hand-written policies: what was held, what it took, and the
 * Pareto front. */
#ifndef EXAMPLES_GPT_FRONT_H
#define EXAMPLES_GPT_FRONT_H
#include <stdbool.h>

#include "result.h"

/* Prints budget, prediction and measure of each budget and the front of all policies, if there are
 * budgets at all. False where more than the budget was held, where more than 2 % lie between
 * prediction and measure, or where no plan was found though a hand-written policy fits. */
bool front_print(const PolicyResult* results, int n);
/* Memory and step time of every policy as an SVG. False, with a line on stderr, where the file
 * cannot be written. */
bool front_write(const char* path, const PolicyResult* results, int n);

#endif
