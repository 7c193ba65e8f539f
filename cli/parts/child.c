#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void close_end(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* In the child: what fails is told through `status`, which closes by itself when exec succeeds. */
static void run(char *const *argv, int in, int out, int status)
{
    signal(SIGPIPE, SIG_DFL);
    if (dup2(in, STDIN_FILENO) >= 0 && dup2(out, STDOUT_FILENO) >= 0)
        execvp(argv[0], argv);
    int error = errno;
    ssize_t written = write(status, &error, sizeof error);
    _exit(written == (ssize_t)sizeof error ? 127 : 126);
}

bool child_start(struct child *c, char *const *argv, const char *input, size_t len, size_t output_max)
{
    int in[2] = {-1, -1}, out[2] = {-1, -1}, status[2] = {-1, -1}, error = 0;
    *c = (struct child){.pid = -1, .in = -1, .out = -1, .input = input, .input_left = len, .output_max = output_max};
    if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 || pipe2(status, O_CLOEXEC) < 0)
        error = errno;
    if (!error && (c->pid = fork()) < 0)
        error = errno;
    if (!error && c->pid == 0)
        run(argv, in[0], out[1], status[1]);
    close_end(&in[0]);
    close_end(&out[1]);
    close_end(&status[1]);
    if (!error && read(status[0], &error, sizeof error) == (ssize_t)sizeof error)
        waitpid(c->pid, NULL, 0);
    close_end(&status[0]);
    c->in = in[1];
    c->out = out[0];
    if (error) {
        close_end(&c->in);
        close_end(&c->out);
        errno = error;
        return false;
    }
    fcntl(c->in, F_SETFL, O_NONBLOCK);
    fcntl(c->out, F_SETFL, O_NONBLOCK);
    return true;
}

static void write_input(struct child *c)
{
    ssize_t n = c->input_left ? write(c->in, c->input, c->input_left) : 0;
    if (n > 0) {
        c->input += n;
        c->input_left -= (size_t)n;
    }
    bool gone = n < 0 && errno != EAGAIN && errno != EINTR; /* it need not read its input */
    if (gone || c->input_left == 0)
        close_end(&c->in);
}

static bool read_output(struct child *c)
{
    char bytes[16384];
    ssize_t n = read(c->out, bytes, sizeof bytes);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    if ((size_t)n > c->output_max - c->output.len)
        c->too_long = true;
    else
        text_add(&c->output, bytes, (size_t)n);
    return n > 0;
}

bool child_turn(struct child *c, int wait_ms)
{
    struct pollfd fds[2] = {{.fd = c->out, .events = POLLIN}, {.fd = c->in, .events = POLLOUT}};
    if (poll(fds, 2, wait_ms) <= 0)
        return true;
    if (c->in >= 0 && fds[1].revents)
        write_input(c);
    return !fds[0].revents || read_output(c);
}

int child_end(struct child *c)
{
    int status = 0;
    close_end(&c->in);
    close_end(&c->out);
    while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void child_kill(struct child *c)
{
    kill(c->pid, SIGTERM);
}

void child_release(struct child *c)
{
    text_release(&c->output);
}
