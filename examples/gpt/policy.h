/* examples/gpt/policy.h: from what the command line says to an rc_policy, and to a Store that runs
 * under it. */
#ifndef EXAMPLES_GPT_POLICY_H
#define EXAMPLES_GPT_POLICY_H
#include <rcore/rcore.h>

#include "options.h"
#include "region.h"

/* NULL and one line in `error` where rcore refuses the policy or a file cannot be read. */
rc_policy* policy_create(const PolicySpec* spec, const Sizes* sizes, char* error, size_t capacity);

/* What the last logged step would hold under the policy: its highest bytes. */
uint64_t policy_predict(Store* store, rc_policy* policy);
/* Steps from now on run under it. */
void policy_apply(Store* store, rc_policy* policy);

#endif
