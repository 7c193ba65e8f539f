/*
 * Owns:            finding and running brokerd, which does what only the daemon's code can.
 * May use:         libc.
 * Never knows:     why.
 * Start reading at program_exec_brokerd.
 */
#ifndef CLI_PROGRAM_H
#define CLI_PROGRAM_H

/* program_exec_brokerd: brokerd as installed beside us, as in a build folder, or on the PATH. Returns if there is none. */
void program_exec_brokerd(char **argv);
/* program_run_brokerd: run it with its standard output on our standard error; its exit status, or -1: there is none. */
int program_run_brokerd(char **argv);

#endif
