/* examples/gpt/report.h: the results as a table, as JSON, and against an older JSON. */
#ifndef EXAMPLES_GPT_REPORT_H
#define EXAMPLES_GPT_REPORT_H
#include "options.h"
#include "result.h"

/* Prints the table and what the results must satisfy; false if they do not. */
bool report_print(const Options* options, const PolicyResult* results);
/* False, with a line on stderr, where the file cannot be written. */
bool report_write(const char* path, const Options* options, const PolicyResult* results);

/* Reads an older report; NULL, with a line on stderr, if it is none. */
typedef struct OldReport OldReport;
OldReport* report_read(const char* path);
void report_free(OldReport* old);
/* Prints what grew by more than 5 %; returns how much did. */
int report_compare(const OldReport* old, const PolicyResult* results, int n);

#endif
