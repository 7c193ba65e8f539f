#include "process.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STOP_MS = 30000, STEP_MS = 10, LOG_TAIL = 3000 };

static int free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), port = -1;

    if (fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0 && getsockname(fd, (struct sockaddr *)&a, &len) == 0)
        port = ntohs(a.sin_port);
    if (fd >= 0)
        close(fd);
    return port;
}

bool process_init(struct process *p, const char *program, const char *folder)
{
    *p = (struct process){.program = program, .port = free_port()};
    if (access(program, X_OK) != 0) {
        fprintf(stderr, "soak: %s is no program; give --brokerd PATH\n", program);
        return false;
    }
    if (p->port < 0 || snprintf(p->folder, sizeof(p->folder), "%s", folder) >= (int)sizeof(p->folder)) {
        fprintf(stderr, "soak: no free port, or the folder's name is too long: %s\n", folder);
        return false;
    }
    snprintf(p->tcp_url, sizeof(p->tcp_url), "broker://127.0.0.1:%d", p->port);
    snprintf(p->unix_url, sizeof(p->unix_url), "unix:%s/socket", p->folder);
    return true;
}

static void run_child(const struct process *p, const char *const argv[])
{
    char log[256];

    snprintf(log, sizeof(log), "%s/broker.log", p->folder);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* no broker outlives its test */
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0644);
    if (fd >= 0) {
        dup2(fd, 1);
        dup2(fd, 2);
    }
    execv(p->program, (char *const *)argv); /* it writes to none of them (POSIX, exec, rationale) */
    fprintf(stderr, "cannot run %s: %s\n", p->program, strerror(errno));
    _exit(127);
}

static pid_t spawn(const struct process *p, const char *const argv[])
{
    pid_t pid = fork();

    if (pid == 0)
        run_child(p, argv);
    if (pid < 0)
        fprintf(stderr, "soak: cannot fork: %s\n", strerror(errno));
    return pid;
}

bool process_start(struct process *p)
{
    char data[256], socket_path[256], listen_on[32];

    snprintf(data, sizeof(data), "%s/data", p->folder);
    snprintf(socket_path, sizeof(socket_path), "%s/socket", p->folder);
    snprintf(listen_on, sizeof(listen_on), "127.0.0.1:%d", p->port);
    mkdir(data, 0755);
    /* Small segments: rolling, sealing, checkpoints and cleaning go on all the time. */
    const char *const argv[] = {p->program,
                                "--data",
                                data,
                                "--listen",
                                listen_on,
                                "--http",
                                "",
                                "--unix",
                                socket_path,
                                "--set",
                                "store.segment=1MiB",
                                "--set",
                                "store.checkpoint=1MiB",
                                "--set",
                                "limits.max_message=512KiB",
                                NULL};
    p->pid = spawn(p, argv);
    return p->pid > 0;
}

static bool died_well(const struct process *p, int status, int signal)
{
    if (signal ? WIFSIGNALED(status) && WTERMSIG(status) == signal : WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    fprintf(stderr, "soak: the broker ended by itself: %s %d\n", WIFSIGNALED(status) ? "signal" : "exit status",
            WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    process_show_log(p);
    return false;
}

bool process_ended(struct process *p)
{
    int status = 0;

    if (p->pid == 0 || waitpid(p->pid, &status, WNOHANG) != p->pid)
        return false;
    p->pid = 0;
    died_well(p, status, SIGKILL);
    return true;
}

bool process_kill(struct process *p)
{
    int status = 0;

    kill(p->pid, SIGKILL);
    waitpid(p->pid, &status, 0);
    p->pid = 0;
    return died_well(p, status, SIGKILL);
}

bool process_stop(struct process *p)
{
    int status = 0;

    kill(p->pid, SIGTERM);
    for (int waited = 0; waited < STOP_MS; waited += STEP_MS) {
        if (waitpid(p->pid, &status, WNOHANG) == p->pid) {
            p->pid = 0;
            return died_well(p, status, 0);
        }
        poll(NULL, 0, STEP_MS);
    }
    fprintf(stderr, "soak: the broker did not stop within %d s of SIGTERM\n", STOP_MS / 1000);
    process_kill(p);
    return false;
}

bool process_fsck(struct process *p)
{
    char data[256];
    int status = 0;

    snprintf(data, sizeof(data), "%s/data", p->folder);
    const char *const argv[] = {p->program, "--fsck", data, NULL};
    pid_t pid = spawn(p, argv);
    if (pid <= 0 || waitpid(pid, &status, 0) != pid)
        return false;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    fprintf(stderr, "soak: fsck is not content\n");
    process_show_log(p);
    return false;
}

void process_show_log(const struct process *p)
{
    char path[256], text[LOG_TAIL + 1];

    snprintf(path, sizeof(path), "%s/broker.log", p->folder);
    FILE *f = fopen(path, "r");
    if (!f)
        return;
    if (fseek(f, -LOG_TAIL, SEEK_END) != 0)
        rewind(f);
    size_t n = fread(text, 1, LOG_TAIL, f);
    text[n] = '\0';
    fclose(f);
    fprintf(stderr, "the end of %s:\n%s\n", path, text);
}
