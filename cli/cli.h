/*
 * Owns:            what the commands of `broker` share: the table's row type, options that every command takes,
 *                  opening a connection, telling failures, exit codes, output.
 * May use:         broker.h and the small parts beside it (args, json, histogram, machine).
 * Never knows:     the protocol, the daemon's insides.
 * Start reading at struct command; main.c has the table.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "args.h"
#include "json.h"

#include <broker/broker.h>

enum cli_exit {
    CLI_OK = 0,
    CLI_FAILED = 1,    /* the broker refused, or something on this side failed */
    CLI_USAGE = 2,     /* the command line is wrong */
    CLI_NO_BROKER = 3, /* cannot connect, or the connection was lost */
    CLI_TIMED_OUT = 4, /* a deadline passed, or nothing came */
};

struct cli_common { /* options of every command */
    const char *url;
    struct arg_number timeout_ms, connect_ms;
    bool json, help;
};

struct cli {
    struct cli_common common;
    const struct command *command;
    broker *broker; /* NULL until cli_connect */
};

typedef enum cli_exit command_fn(struct cli *cli, const void *options, int operand_count, char **operands);

struct command {
    const char *name;     /* "pub", "queue create" */
    const char *operands; /* "QUEUE [MESSAGE]" */
    int operands_min, operands_max;
    const char *summary;              /* one line */
    const char *details;              /* paragraphs after the options; NULL: none */
    const struct arg_option *options; /* NULL: only the common ones */
    size_t options_bytes;             /* of the struct the options fill; run gets it, zeroed and filled */
    command_fn *run;
};

/* One table of commands a file; main.c joins them. Each ends with a NULL name. */
extern const struct command pub_commands[], sub_commands[], queue_commands[], group_commands[], settle_commands[],
    status_commands[], bench_commands[], bind_commands[], peek_commands[], mend_commands[], scheduled_commands[],
    dead_commands[], pipe_commands[], definitions_commands[], backup_commands[];

/*
 * cli_connect: open cli->broker and wait until greeted: one attempt, or attempts for --connect. `tune` (NULL: none)
 * carries options of the library that the command wants set; url, name and timeout are filled in. Tells the failure.
 */
enum cli_exit cli_connect(struct cli *cli, const broker_options *tune);

/*
 * cli_fail: tell a failure ("cannot DOING: the handle's error text", a hint if there is one; or JSON) on stderr; gives
 * the exit code for it. cli_fail_saying: the same with a text that was kept; NULL or "": the error's own.
 */
__attribute__((format(printf, 4, 5))) enum cli_exit cli_fail_saying(struct cli *cli, broker_error error,
                                                                    const char *text, const char *doing, ...);
#define cli_fail(cli, error, ...) cli_fail_saying(cli, error, broker_error_text((cli)->broker), __VA_ARGS__)
/* The same for what went wrong on this side. */
__attribute__((format(printf, 3, 4))) enum cli_exit cli_complain(struct cli *cli, enum cli_exit code,
                                                                 const char *format, ...);
enum cli_exit cli_exit_of(broker_error error);

/*
 * cli_print: write the text to stdout and release it. false: it could not be written (told, unless the reader went
 * away).
 */
bool cli_print(struct cli *cli, struct text *text);
/* cli_write: all bytes to fd; false with errno. */
bool cli_write(int fd, const void *bytes, size_t len);
/* cli_confirm: on a terminal, ask unless `yes`. false: the user said no. */
bool cli_confirm(bool yes, const char *question, const char *name);

/* cli_when: args_when with the clock's now; false: told as a misuse of --`option`. */
bool cli_when(struct cli *cli, const char *option, const char *text, uint64_t *unix_ms);
uint64_t cli_now_ms(void); /* Unix time */
/* cli_told: {"queue": QUEUE, NAME: VALUE ..., "done": DONE}, or the sentence. */
enum cli_exit cli_told(struct cli *cli, const char *queue, const char *name, const char *value, const char *done);

/* "1.2 M", "12.3 MiB", "1.5 s" for people; each returns its buffer. */
struct cli_number {
    char text[32];
};
struct cli_number cli_count(double value);
struct cli_number cli_bytes(double bytes);
struct cli_number cli_time(double seconds);

/* SIGINT and SIGTERM set this after cli_catch_interrupts; a second one kills. */
extern volatile int cli_interrupted;
void cli_catch_interrupts(void);

/* What an ARG_CHOICE of "always|interval|none" means; 0 is the default. */
static inline broker_sync cli_sync(int choice)
{
    return (broker_sync)choice;
}
#define CLI_SYNC_CHOICES "always|interval|none"

#endif
