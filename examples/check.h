/* examples/check.h: what every example does with a status and with a claim: a false one ends it
 * with code 1. */
#ifndef EXAMPLES_CHECK_H
#define EXAMPLES_CHECK_H
#include <rcore/rcore.h>
#include <stdio.h>
#include <stdlib.h>

/* A failure has left its record in this thread. */
static inline rc_status must_at(rc_status status, const char* call, const char* file, int line) {
  if (status >= 0) return status;
  rc_error_info error = rc_error_info_init();
  const int known = rc_error_last(&error) == RC_OK;
  fprintf(stderr, "%s:%d: %s: %s: %s: %s\n", file, line, call, rc_status_name(status),
          known ? error.field : "", known ? error.message : "no record");
  exit(1);
}
#define MUST(call) must_at((call), #call, __FILE__, __LINE__)

#define CHECK(claim)                                                      \
  do {                                                                    \
    if (!(claim)) {                                                       \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #claim); \
      exit(1);                                                            \
    }                                                                     \
  } while (0)

static inline rc_tensor_spec float_matrix(const int64_t shape[2]) {
  rc_tensor_spec spec = rc_tensor_spec_init();
  spec.dtype_code = 2; /* DLPack: 2 = float */
  spec.dtype_bits = 32;
  spec.ndim = 2;
  spec.shape = shape;
  return spec;
}

static inline rc_slot_desc slot_desc(const char* name, rc_role role) {
  rc_slot_desc slot = rc_slot_desc_init();
  slot.name = name;
  slot.role = role;
  return slot;
}

#endif
