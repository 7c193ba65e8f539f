/*
 * Owns:            the running daemon: its rooms, how they are wired, the order of a turn, start and stop.
 * May use:         every room.
 * Never knows:     what happens inside of one.
 * Start reading at daemon_run.
 */
#ifndef DAEMON_H
#define DAEMON_H

#include "conf.h"

/* Start, serve, stop. Returns the exit status: 0 after an orderly stop, 1 otherwise (the reason is logged). */
int daemon_run(const struct conf *conf, const struct conf_args *args);

/* `brokerd --fsck DIR`: 0 no damage, 1 damage, 2 it could not be read. */
int fsck_run(const struct conf_args *args);

#endif
