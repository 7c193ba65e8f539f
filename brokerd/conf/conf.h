/*
 * Owns:            brokerd.ini and the command line: every option's name, unit, default and range, in one table.
 * May use:         base, inih.
 * Never knows:     what an option does. main.c copies values into the other rooms' options structs.
 * Start reading at CONF_OPTIONS in options.c; then conf_parse.
 */
#ifndef CONF_H
#define CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Every number is 64 bits wide here; the table's ranges see to it that each fits where main.c puts it. Sizes are in
   bytes, times in milliseconds. Strings are owned, and never NULL. */
struct conf {
    struct {
        char *data_dir;
        uint64_t shutdown_ms;
    } broker;
    struct {
        char *listen, *unix_path; /* listen: HOST:PORT, several apart by blanks or commas */
        uint64_t unix_mode;
        uint64_t max_connections;
        uint64_t heartbeat_ms, hello_ms, frame_ms, stall_ms, linger_ms;
        uint64_t read_buffer_bytes, input_bytes, output_bytes, output_total_bytes;
    } tcp;
    struct {
        char *listen, *unix_path, *origins, *hosts;
        uint64_t unix_mode, max_connections;
        uint64_t head_ms, idle_ms, body_bytes_per_second, max_head_bytes, max_fields, max_body_bytes, chunked_bytes,
            pipelined, output_bytes, max_wait_ms;
        uint64_t page; /* 0 no, 1 yes */
        uint64_t event_heartbeat_ms, event_retry_ms, statistics_interval_ms, statistics_queues;
    } http;
    struct {
        uint64_t max_message_bytes, ping_ms, close_ms;
        uint64_t deflate; /* 0 no, 1 yes */
    } websocket;
    struct {
        uint64_t segment_bytes, window_bytes, tail_cache_bytes, read_cache_bytes, max_disk_bytes, spare_bytes;
        uint64_t sync_interval_ms, clean_below_percent, checkpoint_bytes;
        uint64_t writer; /* enum conf_writer */
    } store;
    struct {
        uint64_t max_message_bytes, max_frame_bytes, max_queues, max_groups, subscriptions, waiting_leases,
            settle_ranges, list_limit, producers, producer_ttl_ms, default_lease_ms, max_bindings, transact_parts,
            schedule_entries, compaction_keys;
    } limits;
    struct {
        uint64_t level;   /* enum log_level */
        uint64_t journal; /* enum conf_journal */
    } log;
};

enum conf_writer { CONF_WRITER_AUTO, CONF_WRITER_URING, CONF_WRITER_THREAD };
enum conf_journal { CONF_JOURNAL_AUTO, CONF_JOURNAL_YES, CONF_JOURNAL_NO };
enum { CONF_ERROR_BYTES = 512 };

/* All that can fail writes one sentence into error[CONF_ERROR_BYTES], with file and line where there is one. */
bool conf_init(struct conf *c, char *error); /* every option at its default */
void conf_release(struct conf *c);
/* `name` is what errors call the text; conf_read opens a file of up to 1 MiB. */
bool conf_parse(struct conf *c, const char *name, const char *text, size_t len, char *error);
bool conf_read(struct conf *c, const char *path, char *error);
/* One option, as if it stood in a file: "tcp.listen=127.0.0.1:7440". */
bool conf_set(struct conf *c, const char *assignment, char *error);
/* One more HOST:PORT to [tcp] or [http] listen. */
bool conf_add_listen(struct conf *c, const char *section, const char *address, char *error);
/* What one option's range cannot say: options that must fit each other. */
bool conf_check(const struct conf *c, char *error);

/* The whole file: every option with its help, unit, range and default (help), or just the values. */
void conf_print(const struct conf *c, bool help, FILE *out);

/* Takes the next HOST:PORT off a list of them; "[::1]:7440", "*:7440", ":7440" (any host) and "localhost:0" are fine. 1:
   there it is; 0: the list is at its end; -1: error. */
int conf_next_address(const char **list, char host[256], char port[16], char *error);

/* ---- the command line --------------------------------------------------------------------------------------------- */

enum conf_action {
    CONF_RUN,
    CONF_CHECK,        /* --check: is the configuration fine? */
    CONF_HELP,         /* --help */
    CONF_HELP_CONFIG,  /* --help-config: a brokerd.ini with every option */
    CONF_PRINT_CONFIG, /* --print-config: what holds after file and command line */
    CONF_VERSION,      /* --version */
    CONF_FSCK,         /* --fsck DIR */
};

struct conf_args { /* strings are argv's */
    enum conf_action action;
    const char *fsck_dir;
    bool quarantine, json;
    const char *port_file, *http_port_file, *ready_file;
};

/* Reads the file that -c names, then applies the command line on top of it, whatever their order. */
bool conf_args(struct conf *c, int argc, char **argv, struct conf_args *args, char *error);
void conf_usage(FILE *out);

#endif
