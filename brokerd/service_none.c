/* A build without libsystemd. */
#include "service.h"

void service_notify(const char *state)
{
    (void)state;
}
uint64_t service_watchdog_ms(void)
{
    return 0;
}
int service_sockets(int *first)
{
    *first = -1;
    return 0;
}
const char *service_socket_name(int i)
{
    (void)i;
    return "";
}
int service_journal(void)
{
    return 0;
}
