/*
 * Owns:            what a service manager and the daemon tell each other: readiness, watchdog, sockets handed over.
 * May use:         libsystemd (service_systemd.c), or nothing (service_none.c): the build chooses.
 * Never knows:     what the daemon does.
 * Start reading at service_notify.
 */
#ifndef SERVICE_H
#define SERVICE_H

#include <stdint.h>

/* `state` as in sd_notify(3): "READY=1", "STOPPING=1", "WATCHDOG=1", "STATUS=...". Without a manager: nothing happens. */
void service_notify(const char *state);
/* How often the manager wants to hear WATCHDOG=1, in ms; 0: not at all. */
uint64_t service_watchdog_ms(void);
/* Sockets handed over: how many, and the first descriptor; the others follow it. */
int service_sockets(int *first);
/* FileDescriptorName= of the i-th of them; "" if it has none. Valid until the process ends. */
const char *service_socket_name(int i);
/* Is standard error the journal? */
int service_journal(void);

#endif
