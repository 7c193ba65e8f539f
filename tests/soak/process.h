/* The real broker as a child process: started, killed, stopped. */
#ifndef PROCESS_H
#define PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

struct process {
    const char *program; /* path of brokerd */
    char folder[200];    /* everything of this run: data/, socket, broker.log */
    char tcp_url[64], unix_url[256];
    int port;
    pid_t pid; /* 0: not running */
};

bool process_init(struct process *p, const char *program, const char *folder); /* picks a free port; false: said why */
bool process_start(struct process *p);
/* process_ended: has it ended of its own accord? Says how, with the end of its log. */
bool process_ended(struct process *p);
/* process_kill: SIGKILL. False if it had died already of its own accord, which is told. */
bool process_kill(struct process *p);
/* process_stop: SIGTERM; false unless it ends with status 0 within 30 s. */
bool process_stop(struct process *p);
bool process_fsck(struct process *p); /* of the stopped broker's data: true if it finds nothing */
void process_show_log(const struct process *p);

#endif
