/* abi_tests/install/consumer/main.c: a program that knows rcore only from its installed package. */
#include <rcore/rcore.h>
#include <stdio.h>
#include <string.h>

int main(void) {
  rc_context_desc desc = rc_context_desc_init();
  rc_context* context = NULL;
  rc_stats stats = rc_stats_init();
  if (rc_version() != RC_HEADER_VERSION) return 1;
  if (strcmp(rc_status_name(RC_E_ARGUMENT), "RC_E_ARGUMENT") != 0) return 2;
  if (rc_context_create(&desc, &context) != RC_OK) return 3;
  if (rc_stats_get(context, &stats) != RC_OK || stats.regions_live != 0) return 4;
  rc_context_release(context);
  printf("rcore %u\n", rc_version());
  return 0;
}
