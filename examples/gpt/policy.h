/* examples/gpt/policy.h: from what the command line says to an rc_policy, and to a Store that runs
 * under it. */
#ifndef EXAMPLES_GPT_POLICY_H
#define EXAMPLES_GPT_POLICY_H
#include <rcore/rcore.h>

#include "options.h"
#include "region.h"

/* NULL and one line in `error` where rcore refuses the policy or a file cannot be read. */
rc_policy* policy_create(const PolicySpec* spec, const Sizes* sizes, char* error, size_t capacity);

/* Prints what rcore finds worth saying about the policy: settings that do nothing, though one may
 * expect it. */
void policy_print_notes(const PolicySpec* spec, const rc_policy* policy);

/* What the last logged step would hold under the policy, its highest bytes; and what its replays
 * would take, if it was profiled, else 0. */
uint64_t policy_predict(Store* store, rc_policy* policy, double* replay_seconds);
/* rcore's answer to a budget, from the last profiled step; the budget in bytes goes to
 * `budget_bytes`. NULL and one line in `error` where nothing fits. */
rc_policy* policy_plan(Store* store, const PolicySpec* spec, uint64_t* budget_bytes, char* error,
                       size_t capacity);
/* Steps from now on run under it. */
void policy_apply(Store* store, rc_policy* policy);

#endif
