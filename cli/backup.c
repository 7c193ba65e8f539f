/* broker backup, restore: a copy of a running broker's data, and the way back. */
#include "cli.h"
#include "program.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct progress {
    const char *doing;
    bool draws, drawn;
    uint64_t bytes;
};

static bool on_progress(void *arg, uint64_t done, uint64_t total)
{
    struct progress *p = arg;
    p->bytes = done;
    if (p->draws) {
        p->drawn = true;
        fprintf(stderr, "\r%s: %s of %s, %.0f %% \033[K", p->doing, cli_bytes((double)done).text,
                cli_bytes((double)total).text, total ? 100.0 * (double)done / (double)total : 100.0);
    }
    return !cli_interrupted;
}

static enum cli_exit told(struct cli *cli, const char *done, const char *path, uint64_t bytes, const char *then)
{
    struct text out = {0};
    if (cli->common.json) {
        struct json j = {.out = &out};
        json_open(&j, '{');
        json_put_text(&j, "done", done);
        json_put_text(&j, "path", path);
        json_put_u64(&j, "bytes", bytes);
        json_close(&j, '}');
        text_add(&out, "\n", 1);
    } else {
        text_addf(&out, "%s %s: %s; %s\n", done, path, cli_bytes((double)bytes).text, then);
    }
    return cli_print(cli, &out) ? CLI_OK : CLI_FAILED;
}

/* ---- backup --------------------------------------------------------------------------------------------------------- */

static enum cli_exit run_backup(struct cli *cli, const void *options, int count, char **operands)
{
    struct progress p = {.doing = "backup", .draws = !cli->common.json && isatty(STDERR_FILENO)};
    enum cli_exit code = cli_connect(cli, NULL);
    if (code != CLI_OK)
        return code;
    cli_catch_interrupts();
    broker_error error = broker_backup(cli->broker, operands[0], on_progress, &p);
    if (p.drawn)
        fprintf(stderr, "\r\033[K");
    if (error == BROKER_CANCELLED && cli_interrupted)
        return cli_complain(cli, CLI_FAILED, "interrupted: there is no backup in '%s'", operands[0]);
    if (error != BROKER_OK)
        return cli_fail(cli, error, "back up to '%s'", operands[0]);
    return told(cli, "backup in", operands[0], p.bytes, "start on it with: broker restore, or brokerd --data");
}

/* ---- restore -------------------------------------------------------------------------------------------------------- */

static const char *const kinds[] = {"checkpoint-", "segment-", "cold-"};

struct restore {
    struct cli *cli;
    const char *from_path, *to_path;
    int from, to; /* the directories */
    struct progress progress;
    uint64_t total;
};

static bool complain(struct restore *r, const char *doing, const char *path, const char *name)
{
    cli_complain(r->cli, CLI_FAILED, "cannot %s '%s%s%s': %s", doing, path, name ? "/" : "", name ? name : "",
                 strerror(errno));
    return false;
}

/* Call fn for each entry but . and ..; stops when it returns false. */
static bool each_entry(struct restore *r, int dir, const char *path, bool (*fn)(struct restore *, const char *))
{
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d) {
        if (fd >= 0)
            close(fd);
        return complain(r, "read", path, NULL);
    }
    bool ok = true;
    for (struct dirent *e; ok && (e = readdir(d)) != NULL;) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            ok = fn(r, e->d_name);
    }
    closedir(d);
    return ok;
}

static bool must_be_empty(struct restore *r, const char *name)
{
    cli_complain(r->cli, CLI_FAILED,
                 "'%s' is not empty (there is '%s'): a restore goes into a directory that is new or empty", r->to_path,
                 name);
    return false;
}

static bool is_data(const char *name)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strncmp(name, kinds[i], strlen(kinds[i])) == 0)
            return true;
    }
    return false;
}

static bool add_size(struct restore *r, const char *name)
{
    struct stat st;
    if (fstatat(r->from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return complain(r, "look at", r->from_path, name);
    if (S_ISREG(st.st_mode) && is_data(name))
        r->total += (uint64_t)st.st_size;
    return true;
}

static bool copy_bytes(struct restore *r, int in, int out, const char *name)
{
    static char bytes[1 << 20];
    for (;;) {
        ssize_t n = read(in, bytes, sizeof bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return complain(r, "read", r->from_path, name);
        if (n == 0)
            break;
        if (!cli_write(out, bytes, (size_t)n))
            return complain(r, "write", r->to_path, name);
        if (!on_progress(&r->progress, r->progress.bytes + (uint64_t)n, r->total)) {
            cli_complain(r->cli, CLI_FAILED, "interrupted: '%s' is not complete; delete it", r->to_path);
            return false;
        }
    }
    return fsync(out) == 0 || complain(r, "sync", r->to_path, name);
}

/* Only what a data directory is made of: no lock of another daemon, nothing that a user has put beside it. */
static bool copy_file(struct restore *r, const char *name)
{
    struct stat st;
    if (!is_data(name))
        return true;
    int in = openat(r->from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (in < 0 || fstat(in, &st) < 0) {
        complain(r, "open", r->from_path, name);
        if (in >= 0)
            close(in);
        return false;
    }
    int out = openat(r->to, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool ok = out >= 0 ? copy_bytes(r, in, out, name) : complain(r, "create", r->to_path, name);
    if (out >= 0 && close(out) < 0 && ok)
        ok = complain(r, "write", r->to_path, name);
    close(in);
    return ok;
}

static bool open_backup(struct restore *r)
{
    r->from = open(r->from_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (r->from < 0)
        return complain(r, "open the backup", r->from_path, NULL);
    if (!each_entry(r, r->from, r->from_path, add_size))
        return false;
    if (r->total == 0)
        cli_complain(r->cli, CLI_FAILED, "'%s' is no backup: there is no checkpoint-... or segment-... in it",
                     r->from_path);
    return r->total > 0;
}

/* The new directory is made if it is missing. */
static bool open_target(struct restore *r)
{
    if (mkdir(r->to_path, 0700) < 0 && errno != EEXIST)
        return complain(r, "create", r->to_path, NULL);
    r->to = open(r->to_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (r->to < 0)
        return complain(r, "open", r->to_path, NULL);
    return each_entry(r, r->to, r->to_path, must_be_empty);
}

static bool restore_files(struct restore *r)
{
    if (!open_backup(r) || !open_target(r) || !each_entry(r, r->from, r->from_path, copy_file))
        return false;
    return fsync(r->to) == 0 || complain(r, "sync", r->to_path, NULL);
}

struct restore_options {
    bool no_check;
};
static const struct arg_option restore_options[] = {
    {"no-check", 0, ARG_FLAG, NULL, NULL, "do not read everything again with brokerd --fsck",
     offsetof(struct restore_options, no_check), 0, 0},
    {0},
};

static enum cli_exit run_restore(struct cli *cli, const void *options, int count, char **operands)
{
    const struct restore_options *o = options;
    struct restore r = {.cli = cli, .from_path = operands[0], .to_path = operands[1], .from = -1, .to = -1};
    r.progress = (struct progress){.doing = "restore", .draws = !cli->common.json && isatty(STDERR_FILENO)};
    cli_catch_interrupts();
    bool ok = restore_files(&r);
    if (r.progress.drawn)
        fprintf(stderr, "\r\033[K");
    if (r.from >= 0)
        close(r.from);
    if (r.to >= 0)
        close(r.to);
    if (!ok)
        return CLI_FAILED;
    if (o->no_check)
        return told(cli, "restored to", r.to_path, r.progress.bytes,
                    "not checked: broker fsck DIR; then brokerd --data DIR");
    char *argv[] = {(char *)"brokerd", (char *)"--fsck", operands[1], NULL}; /* execv does not write into them */
    int status = program_run_brokerd(argv);
    if (status < 0)
        return cli_complain(cli, CLI_FAILED,
                            "restored to '%s', but brokerd, which does the checking, was not found; check "
                            "with: brokerd --fsck %s",
                            r.to_path, r.to_path);
    if (status != 0)
        return cli_complain(cli, CLI_FAILED,
                            "restored to '%s', but it is damaged: see above; broker fsck %s says it again", r.to_path,
                            r.to_path);
    return told(cli, "restored to", r.to_path, r.progress.bytes, "checked; start on it with: brokerd --data DIR");
}

static const char backup_details[] =
    "Everything durable at one moment, messages included, while the broker goes on; DIR must not exist. The copy is a "
    "data\n"
    "directory like the broker's own, readable by its owner alone. Definitions alone: broker export.\n"
    "\n"
    "  broker backup /backup/broker-$(date +%F)\n";
static const char restore_details[] = "Copies a backup into a data directory that is new or empty, and checks it. No "
                                      "broker is asked. Which user the daemon\n"
                                      "runs as decides who must own DIR: run this as that user, or chown it.\n"
                                      "\n"
                                      "  broker restore /backup/broker-2026-01-31 /var/lib/brokerd\n";

const struct command backup_commands[] = {
    {"backup", "DIR", 1, 1, "copy all data of a running broker", backup_details, NULL, 0, run_backup},
    {"restore", "BACKUP DIR", 2, 2, "make a data directory of a backup", restore_details, restore_options,
     sizeof(struct restore_options), run_restore},
    {0},
};
