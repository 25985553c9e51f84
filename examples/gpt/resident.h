/* examples/gpt/resident.h: peak resident memory as the operating system reports it. */
#ifndef EXAMPLES_GPT_RESIDENT_H
#define EXAMPLES_GPT_RESIDENT_H
#include <stdbool.h>
#include <stdint.h>

/* Sets the high-water mark to what is resident now; false where the system refuses. */
bool resident_reset_peak(void);
/* The high-water mark in bytes; 0 where the system does not tell. */
uint64_t resident_peak(void);

#endif
