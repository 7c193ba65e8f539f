#include "program.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOT_FOUND 127 /* as shells say it */

void program_exec_brokerd(char **argv)
{
    static const char *const places[] = {"brokerd", "../sbin/brokerd", "../brokerd/brokerd"};
    char self[PATH_MAX], path[PATH_MAX + 32];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(self, '/');
    for (size_t i = 0; slash && i < sizeof places / sizeof *places; i++) {
        snprintf(path, sizeof path, "%.*s/%s", (int)(slash - self), self, places[i]);
        execv(path, argv);
    }
    execvp("brokerd", argv);
    execv("/usr/local/sbin/brokerd", argv); /* an ordinary user's PATH has no sbin */
    execv("/usr/sbin/brokerd", argv);
}

int program_run_brokerd(char **argv)
{
    pid_t pid = fork();
    if (pid < 0)
        return -1;
    if (pid == 0) {
        dup2(STDERR_FILENO, STDOUT_FILENO);
        program_exec_brokerd(argv);
        _exit(NOT_FOUND);
    }
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    if (!WIFEXITED(status))
        return 128 + WTERMSIG(status);
    return WEXITSTATUS(status) == NOT_FOUND ? -1 : WEXITSTATUS(status);
}
