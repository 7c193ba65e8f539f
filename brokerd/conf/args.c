/* The command line. */
#include <getopt.h>
#include <string.h>

#include "conf_internal.h"

enum {
    OPT_SET = 256,
    OPT_DATA,
    OPT_LISTEN,
    OPT_UNIX,
    OPT_CHECK,
    OPT_VERSION,
    OPT_HELP,
    OPT_HELP_CONFIG,
    OPT_PRINT_CONFIG,
    OPT_FSCK,
    OPT_QUARANTINE,
    OPT_JSON,
    OPT_PORT_FILE,
    OPT_READY_FILE,
    OPT_HTTP,
    OPT_HTTP_PORT_FILE
};

static const struct option long_options[] = {
    {"config", required_argument, NULL, 'c'},
    {"set", required_argument, NULL, OPT_SET},
    {"data", required_argument, NULL, OPT_DATA},
    {"listen", required_argument, NULL, OPT_LISTEN},
    {"unix", required_argument, NULL, OPT_UNIX},
    {"check", no_argument, NULL, OPT_CHECK},
    {"version", no_argument, NULL, OPT_VERSION},
    {"help", no_argument, NULL, OPT_HELP},
    {"help-config", no_argument, NULL, OPT_HELP_CONFIG},
    {"print-config", no_argument, NULL, OPT_PRINT_CONFIG},
    {"fsck", required_argument, NULL, OPT_FSCK},
    {"quarantine", no_argument, NULL, OPT_QUARANTINE},
    {"json", no_argument, NULL, OPT_JSON},
    {"port-file", required_argument, NULL, OPT_PORT_FILE},
    {"ready-file", required_argument, NULL, OPT_READY_FILE},
    {"http", required_argument, NULL, OPT_HTTP},
    {"http-port-file", required_argument, NULL, OPT_HTTP_PORT_FILE},
    {NULL, 0, NULL, 0},
};

void conf_usage(FILE *out)
{
    fputs(
        "usage: brokerd [OPTION]...\n"
        "       brokerd --fsck DIR [--quarantine] [--json]\n"
        "\n"
        "A durable message broker. Without options it keeps its data in /var/lib/brokerd and listens on "
        "127.0.0.1:7440\n"
        "and, for HTTP, on 127.0.0.1:7480.\n"
        "\n"
        "  -c, --config FILE          read a configuration; the options below override it\n"
        "      --set SECTION.OPTION=VALUE\n"
        "                             set any option of the configuration\n"
        "      --data DIR             broker.data_dir\n"
        "      --listen HOST:PORT     tcp.listen; may be given several times\n"
        "      --unix PATH            tcp.unix\n"
        "      --http HOST:PORT       http.listen; may be given several times; '' for no HTTP\n"
        "      --port-file FILE       write the TCP port there once it listens\n"
        "      --http-port-file FILE  the same of HTTP\n"
        "      --ready-file FILE      make this file once it is ready for clients\n"
        "\n"
        "      --check                check configuration and command line, then exit\n"
        "      --print-config         show what holds after file and command line, then exit\n"
        "      --help-config          show every option with its meaning, range and default, then exit\n"
        "      --fsck DIR             read a data directory without a broker, report damage, then exit: 0 no damage,\n"
        "                             1 damage, 2 it could not be read\n"
        "      --quarantine           with --fsck: move what is damaged to DIR/quarantine and keep the rest\n"
        "      --json                 with --fsck: one JSON object a line\n"
        "      --version, --help\n",
        out);
}

/* A step of the command line that waits until the file is read. */
struct given { /* whether the list was named on the command line already */
    bool listen, http;
};

static bool add_address(struct conf *c, const char *section, const char *value, bool *given, char *error)
{
    if (!*given && !conf_set_option(c, conf_find(section, "listen"), "", error))
        return false;
    *given = true;
    return !*value || conf_add_listen(c, section, value, error);
}

static bool apply(struct conf *c, int opt, const char *value, struct given *given, char *error)
{
    switch (opt) {
    case OPT_SET: return conf_set(c, value, error);
    case OPT_DATA: return conf_set_option(c, conf_find("broker", "data_dir"), value, error);
    case OPT_UNIX: return conf_set_option(c, conf_find("tcp", "unix"), value, error);
    case OPT_LISTEN: return add_address(c, "tcp", value, &given->listen, error);
    case OPT_HTTP: return add_address(c, "http", value, &given->http, error);
    }
    return true;
}

static void note(struct conf_args *args, int opt, char *value)
{
    switch (opt) {
    case OPT_CHECK: args->action = CONF_CHECK; break;
    case OPT_VERSION: args->action = CONF_VERSION; break;
    case OPT_HELP: args->action = CONF_HELP; break;
    case OPT_HELP_CONFIG: args->action = CONF_HELP_CONFIG; break;
    case OPT_PRINT_CONFIG: args->action = CONF_PRINT_CONFIG; break;
    case OPT_FSCK:
        args->action = CONF_FSCK;
        args->fsck_dir = value;
        break;
    case OPT_QUARANTINE: args->quarantine = true; break;
    case OPT_JSON: args->json = true; break;
    case OPT_PORT_FILE: args->port_file = value; break;
    case OPT_READY_FILE: args->ready_file = value; break;
    case OPT_HTTP_PORT_FILE: args->http_port_file = value; break;
    }
}

bool conf_args(struct conf *c, int argc, char **argv, struct conf_args *args, char *error)
{
    const char *file = NULL;
    struct given given = {false, false};
    int opt;
    *args = (struct conf_args){.action = CONF_RUN};
    opterr = 0;
    for (int pass = 0; pass < 2; pass++) { /* first the file's name, then what overrides it */
        optind = 0;
        while ((opt = getopt_long(argc, argv, "c:", long_options, NULL)) != -1) {
            if (opt == '?') {
                snprintf(error, CONF_ERROR_BYTES, "'%.100s' is unknown or lacks its value; see brokerd --help",
                         optind > 0 && optind <= argc ? argv[optind - 1] : "");
                return false;
            }
            if (pass == 0 && opt == 'c')
                file = optarg;
            if (pass == 0)
                note(args, opt, optarg);
            else if (!apply(c, opt, optarg, &given, error))
                return false;
        }
        if (optind < argc) {
            snprintf(error, CONF_ERROR_BYTES, "'%.100s' is not expected here; see brokerd --help", argv[optind]);
            return false;
        }
        if (pass == 0 && file && !conf_read(c, file, error))
            return false;
    }
    if ((args->quarantine || args->json) && args->action != CONF_FSCK) {
        snprintf(error, CONF_ERROR_BYTES, "--%s goes with --fsck DIR", args->quarantine ? "quarantine" : "json");
        return false;
    }
    return true;
}
