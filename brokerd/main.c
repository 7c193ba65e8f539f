/* A table of contents: what the command line asks for. The daemon itself is daemon.c. */
#include <broker/broker.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon.h"
#include "log.h"
#include "service.h"

enum { EXIT_USAGE = 2 };

static int serve(const struct conf *conf, const struct conf_args *args)
{
    bool journal =
        conf->log.journal == CONF_JOURNAL_YES || (conf->log.journal == CONF_JOURNAL_AUTO && service_journal());
    log_setup((enum log_level)conf->log.level, journal);
    return daemon_run(conf, args);
}

static int act(const struct conf *conf, const struct conf_args *args)
{
    switch (args->action) {
    case CONF_RUN: return serve(conf, args);
    case CONF_CHECK: return EXIT_SUCCESS; /* it was: nothing to say */
    case CONF_HELP: conf_usage(stdout); return EXIT_SUCCESS;
    case CONF_HELP_CONFIG: conf_print(conf, true, stdout); return EXIT_SUCCESS;
    case CONF_PRINT_CONFIG: conf_print(conf, false, stdout); return EXIT_SUCCESS;
    case CONF_VERSION: puts("brokerd " BROKER_VERSION_STRING); return EXIT_SUCCESS;
    case CONF_FSCK: return fsck_run(args);
    }
    return EXIT_USAGE;
}

int main(int argc, char **argv)
{
    struct conf conf;
    struct conf_args args;
    char error[CONF_ERROR_BYTES] = "";
    bool good = conf_init(&conf, error) && conf_args(&conf, argc, argv, &args, error) && conf_check(&conf, error);
    int status = EXIT_USAGE;
    if (good)
        status = act(&conf, &args);
    else
        fprintf(stderr, "brokerd: %s\n", error);
    conf_release(&conf);
    return status;
}
