/* The table of commands, help, and the way from argv to a command. */
#include "cli.h"

#include <ctype.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static const struct arg_option common_options[] = {
    {"url", 0, ARG_TEXT, "URL", NULL, "the broker: broker://HOST:PORT or unix:/PATH; else BROKER_URL",
     offsetof(struct cli_common, url), 0, 0},
    {"timeout", 0, ARG_DURATION, "TIME", "30s", "deadline of each request", offsetof(struct cli_common, timeout_ms), 1,
     3600000},
    {"connect", 0, ARG_DURATION, "TIME", "0", "keep trying to connect for this long",
     offsetof(struct cli_common, connect_ms), 0, 86400000},
    {"json", 0, ARG_FLAG, NULL, NULL, "results (and errors, on stderr) as JSON", offsetof(struct cli_common, json), 0,
     0},
    {"help", 'h', ARG_FLAG, NULL, NULL, "this help", offsetof(struct cli_common, help), 0, 0},
    {0},
};

static const struct command *const tables[] = {
    pub_commands,         sub_commands,       queue_commands,  group_commands,  bind_commands,
    peek_commands,        scheduled_commands, dead_commands,   mend_commands,   pipe_commands,
    definitions_commands, backup_commands,    settle_commands, status_commands, bench_commands,
};
#define TABLE_COUNT  (sizeof tables / sizeof *tables)
#define COMMANDS_MAX 64

static size_t all_commands(const struct command **out)
{
    size_t count = 0;
    for (size_t t = 0; t < TABLE_COUNT; t++) {
        for (const struct command *c = tables[t]; c->name && count < COMMANDS_MAX; c++)
            out[count++] = c;
    }
    return count;
}

static const char exit_codes[] =
    "Exit codes: 0 done; 1 the broker refused or something failed; 2 the command line is wrong;\n"
    "            3 no connection; 4 a deadline passed or nothing came.\n";

/* Overview, or only the commands that begin with `group` ("queue"). */
static void print_overview(FILE *out, const char *group)
{
    const struct command *commands[COMMANDS_MAX];
    size_t count = all_commands(commands);
    fprintf(out, "usage: broker [--url URL] [--json] COMMAND [options] [operands]\n\n");
    for (size_t i = 0; i < count; i++) {
        if (group && (strncmp(commands[i]->name, group, strlen(group)) != 0 || commands[i]->name[strlen(group)] != ' '))
            continue;
        char left[64];
        snprintf(left, sizeof left, "%s %s", commands[i]->name, commands[i]->operands);
        fprintf(out, "  %-34s %s\n", left, commands[i]->summary);
    }
    fprintf(out, "  %-34s %s\n\nOptions of every command:\n", "help [COMMAND]", "this, or how to use a command");
    args_print_help(out, common_options, NULL);
    fprintf(out, "\n%s", exit_codes);
}

static void print_command_help(FILE *out, const struct command *c)
{
    fprintf(out, "usage: broker %s [options]%s%s\n\n%c%s.\n\n", c->name, *c->operands ? " " : "", c->operands,
            toupper((unsigned char)*c->summary), c->summary + 1);
    if (c->options) {
        fprintf(out, "Options:\n");
        args_print_help(out, c->options, NULL);
        fputc('\n', out);
    }
    fprintf(out, "Options of every command:\n");
    args_print_help(out, common_options, c->options);
    if (c->details)
        fprintf(out, "\n%s", c->details);
    fprintf(out, "\n%s", exit_codes);
}

/*
 * The command that argv begins with, one word or two; *words says how many. *is_group: it names a group such as
 * "queue".
 */
static const struct command *find_command(int argc, char **argv, int *words, bool *is_group)
{
    const struct command *commands[COMMANDS_MAX];
    size_t count = all_commands(commands);
    *is_group = false;
    for (size_t i = 0; i < count; i++) {
        const char *name = commands[i]->name, *space = strchr(name, ' ');
        if (!space && strcmp(name, argv[0]) == 0) {
            *words = 1;
            return commands[i];
        }
        if (!space || strncmp(name, argv[0], (size_t)(space - name)) != 0 || argv[0][space - name] != '\0')
            continue;
        *is_group = true;
        if (argc > 1 && strcmp(space + 1, argv[1]) == 0) {
            *words = 2;
            return commands[i];
        }
    }
    return NULL;
}

static enum cli_exit refuse_command(struct cli *cli, int argc, char **argv, bool is_group)
{
    if (is_group && (argc < 2 || argv[1][0] == '-')) {
        print_overview(stderr, argv[0]);
        return CLI_USAGE;
    }
    char wanted[128];
    snprintf(wanted, sizeof wanted, "%s%s%s", argv[0], is_group ? " " : "", is_group ? argv[1] : "");
    const struct command *commands[COMMANDS_MAX];
    const char *names[COMMANDS_MAX + 1] = {"help"};
    size_t count = all_commands(commands);
    for (size_t i = 0; i < count; i++)
        names[i + 1] = commands[i]->name;
    const char *nearest = args_nearest(wanted, names, count + 1);
    if (nearest)
        return cli_complain(cli, CLI_USAGE, "unknown command '%s': did you mean '%s'?", wanted, nearest);
    return cli_complain(cli, CLI_USAGE, "unknown command '%s'", wanted);
}

static enum cli_exit help(struct cli *cli, int argc, char **argv)
{
    if (argc == 0) {
        print_overview(stdout, NULL);
        return CLI_OK;
    }
    int words;
    bool is_group;
    const struct command *c = find_command(argc, argv, &words, &is_group);
    if (c)
        print_command_help(stdout, c);
    else if (is_group && argc == 1)
        print_overview(stdout, argv[0]);
    else
        return refuse_command(cli, argc, argv, is_group);
    return CLI_OK;
}

/* argv[0] is the command's last word. */
static enum cli_exit run_command(struct cli *cli, int argc, char **argv)
{
    const struct command *c = cli->command;
    char error[256];
    int first;
    void *options = calloc(1, c->options_bytes ? c->options_bytes : 1);
    if (!options)
        return cli_complain(cli, CLI_FAILED, "out of memory");
    enum cli_exit code;
    struct arg_set own = {c->options, options}, common = {common_options, &cli->common};
    struct cli_common fallback = {0};
    struct arg_set fresh[] = {own, {common_options, &fallback}}, both[] = {own, common};
    /* The common options may stand before the command too, so their fallbacks are not applied again. */
    if (!args_parse(fresh, 2, 1, argv, false, true, &first, error, sizeof error) ||
        !args_parse(both, 2, argc, argv, false, false, &first, error, sizeof error)) {
        code = cli_complain(cli, CLI_USAGE, "%s", error);
    } else if (cli->common.help) {
        print_command_help(stdout, c);
        code = CLI_OK;
    } else if (argc - first < c->operands_min || argc - first > c->operands_max) {
        code = cli_complain(cli, CLI_USAGE, "%s operands: usage is broker %s [options] %s",
                            argc - first < c->operands_min ? "missing" : "too many", c->name, c->operands);
    } else {
        code = c->run(cli, options, argc - first, argv + first);
    }
    free(options);
    if (cli->broker)
        broker_close(cli->broker);
    return code;
}

int main(int argc, char **argv)
{
    struct cli cli = {0};
    char error[256];
    int first;
    struct arg_set common = {common_options, &cli.common};
    signal(SIGPIPE, SIG_IGN); /* write errors are looked at */
    if (!args_parse(&common, 1, argc, argv, true, true, &first, error, sizeof error))
        return cli_complain(&cli, CLI_USAGE, "%s", error);
    argc -= first;
    argv += first;
    if (argc == 0) {
        print_overview(cli.common.help ? stdout : stderr, NULL);
        return cli.common.help ? CLI_OK : CLI_USAGE;
    }
    if (strcmp(argv[0], "help") == 0)
        return help(&cli, argc - 1, argv + 1);
    if (cli.common.help)
        return help(&cli, argc, argv);
    int words;
    bool is_group;
    cli.command = find_command(argc, argv, &words, &is_group);
    if (!cli.command) {
        if (is_group && argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0))
            return help(&cli, 1, argv);
        return refuse_command(&cli, argc, argv, is_group);
    }
    return run_command(&cli, argc - (words - 1), argv + (words - 1));
}
