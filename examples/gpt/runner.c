/* examples/gpt/runner.c: starts this program again for each policy, reads its pipe, and draws the
 * progress. */
#include "runner.h"

#include <errno.h>
#include <fcntl.h>
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

/* Becomes the child; a fresh program, so that its resident memory is its own. */
static void exec_child(int argc, char** argv, int index, int fd) {
  char child[32], child_fd[32];
  char** arguments = calloc((size_t)argc + 3, sizeof *arguments);
  snprintf(child, sizeof child, "--child=%d", index);
  snprintf(child_fd, sizeof child_fd, "--child-fd=%d", fd);
  memcpy(arguments, argv, sizeof *arguments * (size_t)argc);
  arguments[argc] = child;
  arguments[argc + 1] = child_fd;
  execv("/proc/self/exe", arguments);
  fprintf(stderr, "gpt: cannot start a process: %s\n", strerror(errno));
  _exit(127);
}

static bool measure_one(const Options* options, int argc, char** argv, int index,
                        PolicyResult* result) {
  int ends[2];
  if (pipe(ends) != 0) {
    fprintf(stderr, "gpt: pipe: %s\n", strerror(errno));
    return false;
  }
  const pid_t pid = fork();
  if (pid < 0) {
    fprintf(stderr, "gpt: fork: %s\n", strerror(errno));
    return false;
  }
  if (pid == 0) {
    close(ends[0]);
    exec_child(argc, argv, index, ends[1]);
  }
  close(ends[1]);
  FILE* in = fdopen(ends[0], "r");
  char* line = NULL;
  size_t capacity = 0;
  int done = 0, total = 0;
  while (getline(&line, &capacity, in) > 0)
    if (result_read_line(line, result, &done, &total) && strncmp(line, "progress", 8) == 0)
      draw(options, index, done, total);
  free(line);
  fclose(in);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0 && result->ok) return true;
  if (WIFSIGNALED(status))
    fprintf(stderr, "gpt: policy %s: its process ended by signal %d\n",
            options->policies[index].name, WTERMSIG(status));
  else
    fprintf(stderr, "gpt: policy %s: its process failed\n", options->policies[index].name);
  return false;
}

bool runner_measure_all(const Options* options, int argc, char** argv, PolicyResult* results) {
  bool all = true;
  for (int i = 0; i < options->n_policies; i++) {
    memset(&results[i], 0, sizeof results[i]);
    snprintf(results[i].policy, sizeof results[i].policy, "%s", options->policies[i].name);
    all = measure_one(options, argc, argv, i, &results[i]) && all;
    if (results[i].ok && results[0].ok)
      results[i].step_ratio = results[i].step_seconds / results[0].step_seconds;
  }
  return all;
}
