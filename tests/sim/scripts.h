/* The short histories of the enumeration. A variant is a script and a schedule of the writer and the workers. */
#ifndef SIM_SCRIPTS_H
#define SIM_SCRIPTS_H

#include "history.h"

void script_setup(struct history *h, uint64_t variant, bool trace);
/* Until it is over or the process dies. */
void script_run(struct history *h, uint64_t variant);
const char *script_name(uint64_t variant);

#endif
