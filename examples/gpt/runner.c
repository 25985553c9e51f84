/* examples/gpt/runner.c: starts this program again for each policy, reads its pipe, and draws the
 * progress. */
#include "runner.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void draw(const Options* options, int index, int done, int total) {
  enum { WIDTH = 32 };
  if (!isatty(STDERR_FILENO)) {
    if (done == total)
      fprintf(stderr, "[%d/%d] %s: %d steps\n", index + 1, options->n_policies,
              options->policies[index].name, total);
    return;
  }
  const int filled = WIDTH * (index * total + done) / (options->n_policies * total);
  char bar[WIDTH + 1];
  for (int i = 0; i < WIDTH; i++) bar[i] = i < filled ? '#' : '.';
  bar[WIDTH] = '\0';
  fprintf(stderr, "\r\033[K[%s] %d/%d %s, step %d of %d", bar, index + 1, options->n_policies,
          options->policies[index].name, done, total);
  if (done == total && index + 1 == options->n_policies) fputs("\r\033[K", stderr);
  fflush(stderr);
}

/* A process that measures one policy. */
typedef struct Child {
  pid_t pid;
  FILE* in; /* its lines */
  int go;   /* a byte starts its next measured step; -1 = it does not wait */
  int done, total;
} Child;

/* Becomes the child; a fresh program, so that its resident memory is its own. */
static void exec_child(int argc, char** argv, int index, int fd, int go) {
  char numbers[3][32];
  char** arguments = calloc((size_t)argc + 4, sizeof *arguments);
  snprintf(numbers[0], sizeof numbers[0], "--child=%d", index);
  snprintf(numbers[1], sizeof numbers[1], "--child-fd=%d", fd);
  snprintf(numbers[2], sizeof numbers[2], "--go-fd=%d", go);
  memcpy(arguments, argv, sizeof *arguments * (size_t)argc);
  for (int i = 0; i < (go < 0 ? 2 : 3); i++) arguments[argc + i] = numbers[i];
  execv("/proc/self/exe", arguments);
  fprintf(stderr, "gpt: cannot start a process: %s\n", strerror(errno));
  _exit(127);
}

static bool start(Child* child, bool in_turns, int argc, char** argv, int index) {
  int lines[2], go[2] = {-1, -1};
  *child = (Child){.pid = -1, .go = -1};
  if (pipe(lines) != 0 || (in_turns && pipe(go) != 0)) {
    fprintf(stderr, "gpt: pipe: %s\n", strerror(errno));
    return false;
  }
  /* Only this child may hold its ends: another one's copy would keep it waiting for ever. */
  fcntl(lines[0], F_SETFD, FD_CLOEXEC);
  if (in_turns) fcntl(go[1], F_SETFD, FD_CLOEXEC);
  child->pid = fork();
  if (child->pid < 0) {
    fprintf(stderr, "gpt: fork: %s\n", strerror(errno));
    return false;
  }
  if (child->pid == 0) exec_child(argc, argv, index, lines[1], go[0]);
  close(lines[1]);
  if (in_turns) close(go[0]);
  child->in = fdopen(lines[0], "r");
  child->go = go[1];
  return true;
}

/* Reads the child's lines until `steps` steps are done; 0 = to their end. */
static void follow(Child* child, const Options* options, int index, int steps,
                   PolicyResult* result) {
  char* line = NULL;
  size_t capacity = 0;
  while (child->in && (steps == 0 || child->done < steps) &&
         getline(&line, &capacity, child->in) > 0)
    if (result_read_line(line, result, &child->done, &child->total) &&
        strncmp(line, "progress", 8) == 0)
      draw(options, index, child->done, child->total);
  free(line);
}

static bool finish(Child* child, const Options* options, int index, PolicyResult* result) {
  if (child->pid < 0) return false;
  follow(child, options, index, 0, result);
  fclose(child->in);
  if (child->go >= 0) close(child->go);
  int status = 0;
  while (waitpid(child->pid, &status, 0) < 0 && errno == EINTR) continue;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0 && result->ok) return true;
  if (WIFSIGNALED(status))
    fprintf(stderr, "gpt: policy %s: its process ended by signal %d\n",
            options->policies[index].name, WTERMSIG(status));
  else
    fprintf(stderr, "gpt: policy %s: its process failed\n", options->policies[index].name);
  return false;
}

/* One after another. */
static bool measure_in_sequence(const Options* options, int argc, char** argv,
                                PolicyResult* results) {
  bool all = true;
  for (int i = 0; i < options->n_policies; i++) {
    Child child;
    all = start(&child, false, argc, argv, i) && all;
    all = finish(&child, options, i, &results[i]) && all;
  }
  return all;
}

/* All settle one after another, then take their measured steps in turns, so that what disturbs the
 * machine disturbs each of them. */
static bool measure_in_turns(const Options* options, int argc, char** argv, PolicyResult* results) {
  Child children[POLICIES_MAX];
  bool all = true;
  for (int i = 0; i < options->n_policies; i++) {
    all = start(&children[i], true, argc, argv, i) && all;
    follow(&children[i], options, i, 1 + options->warmup, &results[i]);
  }
  for (int step = 1; step <= options->steps; step++)
    for (int i = 0; i < options->n_policies; i++) {
      if (children[i].go < 0 || write(children[i].go, "g", 1) != 1) continue;
      follow(&children[i], options, i, 1 + options->warmup + step, &results[i]);
    }
  for (int i = 0; i < options->n_policies; i++)
    all = finish(&children[i], options, i, &results[i]) && all;
  return all;
}

static int by_value(const void* a, const void* b) {
  const double x = *(const double*)a, y = *(const double*)b;
  return (x > y) - (x < y);
}

/* The median of the ratios of steps that were taken side by side. */
static double ratio_in_turns(const PolicyResult* r, const PolicyResult* none) {
  const int n = r->n_seconds < none->n_seconds ? r->n_seconds : none->n_seconds;
  if (n == 0) return 0.0;
  double* ratios = malloc((size_t)n * sizeof *ratios);
  for (int i = 0; i < n; i++) ratios[i] = r->seconds[i] / none->seconds[i];
  qsort(ratios, (size_t)n, sizeof *ratios, by_value);
  const double median = n % 2 ? ratios[n / 2] : 0.5 * (ratios[n / 2 - 1] + ratios[n / 2]);
  free(ratios);
  return median;
}

bool runner_measure_all(const Options* options, int argc, char** argv, PolicyResult* results) {
  const bool in_turns = options->budgets > 0;
  signal(SIGPIPE, SIG_IGN); /* a child that has failed is told by its exit */
  for (int i = 0; i < options->n_policies; i++) {
    memset(&results[i], 0, sizeof results[i]);
    snprintf(results[i].policy, sizeof results[i].policy, "%s", options->policies[i].name);
  }
  const bool all = in_turns ? measure_in_turns(options, argc, argv, results)
                            : measure_in_sequence(options, argc, argv, results);
  for (int i = 0; i < options->n_policies; i++)
    if (results[i].ok && results[0].ok)
      results[i].step_ratio = in_turns ? ratio_in_turns(&results[i], &results[0])
                                       : results[i].step_seconds / results[0].step_seconds;
  return all;
}
